# SPDX-License-Identifier: MIT
"""Heads by themselves: from a model's folder, a head's own, by Hub id; and identity codes from files."""

import numpy as np
import pytest
import torch
from components import make_head, make_pipeline

from facetalk_hf import FaceTalkError
from facetalk_hf.head.identity_files import read_identity_code
from facetalk_hf.head.loading import load_head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_pipeline(head=make_head().half()).save_pretrained(folder / "model")
    make_pipeline().save_pretrained(folder / "headless")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize("name", ["model", "model/head"])
def test_a_head_is_loaded_in_float32(folder, name):
    for path in (folder / name, str(folder / name)):
        head = load_head(path)
        assert head.dtype == torch.float32 and not head.training
        torch.testing.assert_close(head.anchor_mean, make_head().half().float().anchor_mean)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("headless", "has no head to animate"),
        ("empty", "neither a model_index.json nor"),
        ("file", "neither a model_index.json nor"),
        ("broken", "cannot load the head of"),
        ("missing", "no model folder"),
    ],
)
def test_what_is_no_head_is_one_line(folder, name, message):
    with pytest.raises(FaceTalkError, match=message) as caught:
        load_head(folder / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_hub_id_goes_to_the_hub():
    with pytest.raises(FaceTalkError, match="someone/nothing is not in the cache"):
        load_head("someone/nothing")
    with pytest.raises(FaceTalkError, match="no model folder nothing"):
        load_head("nothing")


def test_identity_files(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    code = read_identity_code(tmp_path / "a.npy", 4)
    assert code.dtype == np.float32 and code.tolist() == [0, 1, 2, 3]
    with pytest.raises(FaceTalkError, match="4 numbers; this head's identities have 5"):
        read_identity_code(tmp_path / "a.npy", 5)
    np.save(tmp_path / "b.npy", np.array([np.nan]))
    (tmp_path / "c.npy").write_text("rubbish")
    np.save(tmp_path / "d.npy", np.zeros((2, 2)))
    for name, message in (("b", "NaN"), ("c", "not a NumPy file"), ("d", "one row"), ("e", "that exists")):
        with pytest.raises(FaceTalkError, match=message):
            read_identity_code(tmp_path / f"{name}.npy")
