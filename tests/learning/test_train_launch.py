# SPDX-License-Identifier: MIT
"""training/train_denoiser.py as a program: killed at any moment, in two processes, with a Hub."""

import json
import os
import sys
from pathlib import Path

import fake_hub
import huggingface_hub
import pytest
import torch
from denoiser_training import SCRIPT, arguments, data, script, trained, weights  # noqa: F401
from safetensors.torch import load, load_file
from scripts import run_forked, run_ranks

from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.denoiser import upload


ROOT = SCRIPT.parents[1]
PLAIN = ("--validation-steps", "0", "--checkpointing-steps", "1000", "--lr-scheduler", "constant")


def start(*command: object, **environment: str) -> str:
    """Run a Python program to its end; what it printed."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    done = run_forked([sys.executable, *command], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_sigkill_at_any_moment_changes_nothing(script, data, tmp_path):  # noqa: F811
    """Everything that a step draws or carries on is switched on; the result is compared bit by bit."""
    more = ["--augmentation", "0.8", "1.2", "--snr-gamma", "5", "--online-audio", "--checkpoints-total-limit", "1"]
    moments = [
        ("backward", 1, "before"),  # nothing is there yet
        ("save", 1, "after"),  # half of the optimizer's state in checkpoint-2
        ("replace", 1, "before"),  # checkpoint-2 complete, but not renamed
        ("backward", 4, "before"),  # in step 4
        ("backward", 2, "after"),
        ("replace", 2, "after"),  # checkpoint-4 there, checkpoint-2 hidden but not yet removed
        ("backward", 1, "after"),
        ("save", 3, "after"),
        ("rmtree", 3, "before"),
    ]
    helper = Path(__file__).parents[1] / "support" / "killed_training.py"
    start(helper, SCRIPT, json.dumps(moments), *arguments(data, tmp_path / "killed", "--resume", *more))
    script.main(arguments(data, tmp_path / "whole", *more))
    killed, whole = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("killed", "whole")]
    assert names[0] == names[1] == ["checkpoint-6", "denoiser", "parts.json", "scheduler"]


def test_two_processes_are_one_with_twice_the_batch(script, data, tmp_path):  # noqa: F811
    more = (*PLAIN, "--augmentation", "0.8", "1.2", "--learning-rate", "1e-3")
    two = arguments(data, tmp_path / "two", *more, "--batch-size", "2")
    run_ranks(2, SCRIPT, *two, ACCELERATE_USE_CPU="true")
    script.main(arguments(data, tmp_path / "one", *more, "--batch-size", "4"))
    states = sorted(path.name for path in (tmp_path / "two" / "checkpoint-6").glob("random_states*"))
    assert states == ["random_states_0.pkl", "random_states_1.pkl"]  # there were two
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-5, rtol=1e-4)
    first = load_file(tmp_path / "two" / "checkpoint-6" / "model.safetensors")
    assert (first["sample_out.weight"] != 0).any()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_losses_go_to_a_tracker(data, tmp_path, name):  # noqa: F811
    """Without a network and without an account: each tracker writes files of its own."""
    pytest.importorskip(name, reason=f"needs the package {name}")
    run = (*PLAIN, "--validation-steps", "1", "--ema-decay", "0", "--report-to", name)
    places = {"WANDB_MODE": "offline", "WANDB_DIR": tmp_path, "TRACKIO_DIR": tmp_path / "trackio"}
    places |= {"WANDB_SILENT": "true", "HF_HUB_OFFLINE": "1"}
    start(SCRIPT, *arguments(data, tmp_path / "out", *run, steps=2), **{key: str(x) for key, x in places.items()})
    patterns = {"tensorboard": "out/**/events.out.tfevents.*", "wandb": "wandb/offline-run-*/*.wandb"}
    files = list(tmp_path.glob(patterns.get(name, "trackio/*.db")))
    written = b"".join(file.read_bytes() for file in files)
    assert b"validation" in written and b"loss" in written
    assert weights(tmp_path / "out")


def test_result_goes_to_the_hub(data, trained, monkeypatch):  # noqa: F811
    encoder, extractor = load_audio_encoder(data / "encoder")
    parts = {"audio_encoder": encoder, "feature_extractor": extractor, "fps": 24.0}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_hub.hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        upload(trained, parts, "someone/mouth", token=fake_hub.TOKEN)
        with pytest.raises(FaceTalkError, match=rf"{trained.name}.*log in"):
            upload(trained, parts, "someone/mouth", token="hf_other")
    files = hub["someone/mouth"].files()
    name = "denoiser/diffusion_pytorch_model.safetensors"
    torch.testing.assert_close(load(files[name]), load_file(trained / name), rtol=0, atol=0)
    assert "library_name: diffusers" in files["README.md"].decode() and "model_index.json" in files
    assert not [name for name in files if "checkpoint" in name or "optimizer" in name]
