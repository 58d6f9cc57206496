# SPDX-License-Identifier: MIT
"""A corpus goes to a Hub of our own and comes back: whole, by streaming, and for training."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_dataset_hub import serve_datasets
from fake_hub import client_environment
from test_corpus_building import make_corpus

from facetalk_hf import corpus


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')

CLIENT = """
import json, sys
import datasets
from facetalk_hf import FaceTalkError, corpus
from facetalk_hf.corpus_building import split_speakers

folder, result = sys.argv[1], {}
result["url"] = corpus.push_to_hub(folder, "me/faces")
data = corpus.load("me/faces")
result["ids"] = {name: part["id"][:] for name, part in data.items()}
row = data["train"].with_format("numpy")[1]
result["code"], result["samples"] = row["expression"].tolist(), len(corpus.decode_audio(data["train"][1]))
stream = corpus.load("me/faces", "train", streaming=True)
result["streamed"] = [(row["id"], len(corpus.decode_audio(row))) for row in stream]
plain = datasets.load_dataset("me/faces", split="test").cast_column("audio", datasets.Audio(decode=False))
result["plain"] = plain["id"][:]
result["read"] = [row["id"] for row in corpus.read("me/faces", ("train",))]
try:
    corpus.load("me/nothing")
except FaceTalkError as error:
    result["load_error"] = str(error)
try:
    next(corpus.read("me/nothing"))
except FaceTalkError as error:
    result["read_error"] = str(error)
print(json.dumps(result))
"""


def test_to_the_hub_and_back(tmp_path):
    folder = make_corpus(tmp_path / "faces", about="Four sentences.")
    np.save(folder / "lips.npy", np.eye(6))
    with serve_datasets(tmp_path / "hub") as (address, _):
        environment = client_environment(address, tmp_path / "home") | {"HF_TOKEN": "hf_fake"}
        environment["PYTHONPATH"] = str(Path(corpus.__file__).parents[1])
        command = [sys.executable, "-c", CLIENT, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ids"] == {"train": ["anna_one", "anna_two"], "validation": ["bob_one"], "test": ["cy_one"]}
    second = list(corpus.read(folder))[1]
    np.testing.assert_array_equal(np.float32(result["code"]), second["expression"])
    assert result["samples"] == len(corpus.decode_audio(second))
    assert result["streamed"] == [["anna_one", 16000], ["anna_two", 16000]]
    assert result["plain"] == ["cy_one"] and result["read"] == ["anna_one", "anna_two"]
    assert "me/nothing" in result["load_error"] and "me/nothing" in result["read_error"]
    repo = tmp_path / "hub" / "me" / "faces"
    assert (repo / "lips.npy").is_file() and not (repo / "corpus.json").exists()
    card = (repo / "README.md").read_text(encoding="utf-8")
    assert "Four sentences." in card and 'load_dataset("me/faces"' in card and "license: cc-by-4.0" in card
    assert "sampling_rate: 16000" in card and "config_name: default" in card  # the viewer plays the column
