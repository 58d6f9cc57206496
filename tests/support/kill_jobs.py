# SPDX-License-Identifier: MIT
"""What kills.py kills: the commands that write something, each on a tiny model or head and data made here."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fake_hub
import huggingface_hub
import numpy as np
import torch
from ball_head import make_ball_head
from clouds import random_field
from command import write_wav
from components import make_encoder, make_pipeline, speech_like
from denoiser_training import MODEL
from rows import make_corpus
from scripts import load_script

from facetalk_hf import FaceTalkPipeline, LogMelFeatureExtractor
from facetalk_hf.cli.main import main as facetalk


@dataclass(frozen=True)
class Job:
    """A command and where its results lie.

    Args:
        words: its arguments, from the folder of what `prepare` has made and the folder for the results.
        program: what is called with them.
        hub: whether its results go to the Hub.
    """

    words: Callable[[Path, Path], list]
    program: Callable[[list[str]], object] = facetalk
    hub: bool = False


def publish(words: list[str]) -> None:
    """training/publish.py."""
    load_script("training/publish.py").main(words)


def prepare(place: Path) -> None:
    """Make the inputs of all jobs."""
    torch.manual_seed(0)
    make_pipeline(head=make_ball_head()).save_pretrained(place / "model")
    for index in range(3):
        for folder in ("sounds", "codes"):
            path = place / folder / f"{'anna bob cy'.split()[index]}_one.wav"
            path.parent.mkdir(exist_ok=True)
            write_wav(path, speech_like(1.0, seed=index))
        values = np.random.default_rng(index).standard_normal((30, 6)).astype(np.float32)
        np.savez(place / "codes" / f"{path.stem}.npz", expression=values, fps=30.0)
    make_corpus(place / "corpus")
    make_encoder().save_pretrained(place / "encoder")
    LogMelFeatureExtractor().save_pretrained(place / "encoder")
    pipe = FaceTalkPipeline.from_pretrained(place / "model")
    animation = pipe(str(place / "sounds" / "anna_one.wav"), num_inference_steps=2).animations[0]
    animation.save(place / "talk.npz", geometry=True)
    # Libraries are loaded once for all children; but nothing is drawn, whose threads a forked child might wait for.
    for words in (["--version"], ["export", place / "talk.npz", "--output", place / "warm.glb"]):
        with contextlib.suppress(SystemExit):
            facetalk(list(map(str, words)))
    field = random_field()
    field.head.save_pretrained(place / "head")
    np.save(place / "identity.npy", field.identity[0].numpy())
    (place / "clouds").mkdir()
    for index in range(5):
        points = np.random.default_rng(index).uniform(-0.08, 0.08, (150, 3)).astype(np.float32)
        np.savez(place / "clouds" / f"frame_{index:02d}.npz", points=points)
    np.savez(place / "poses.npz", s=4.0, R=np.eye(3), t=np.zeros(3))
    (place / "quick.yaml").write_text("window: 2\noverlap: 1\niterations: 2\npoints: 100\n")


def _generate(place: Path, out: Path) -> list:
    sounds = sorted((place / "sounds").glob("*.wav"))[:2]
    kinds = [word for kind in ("npz", "glb", "csv", "obj") for word in ("--format", kind)]
    return ["generate", *sounds, "--output-dir", out, "--model", place / "model", "--steps", 2, "--size", 64, *kinds]


def _export(kind: str) -> Callable[[Path, Path], list]:
    return lambda place, out: ["export", place / "talk.npz", "--output", out / f"talk{kind}", "--size", 64][
        : None if kind == ".mp4" else 4
    ]


def _fit(place: Path, out: Path) -> list:
    return [
        "fit", place / "clouds", "--output", out, "--model", place / "head", "--identity", place / "identity.npy",
        "--config", place / "quick.yaml", "--transforms", place / "poses.npz", "--no-video",
    ]  # fmt: skip


def _train(place: Path, out: Path) -> list:
    return [
        "train", "--corpus", place / "corpus", "--audio-encoder", place / "encoder", "--output-dir", out,
        "--cache-dir", out.parent / ".cache", "--model-config", json.dumps(MODEL), "--segment-frames", 24,
        "--batch-size", 2, "--max-train-steps", 6, "--checkpointing-steps", 2, "--validation-steps", 3,
        "--mixed-precision", "no", "--lr-scheduler", "constant", "--preset", "tiny", "--cpu", "--resume",
    ]  # fmt: skip


def _dataset(place: Path, out: Path) -> list:
    more = ("--model", place / "model", "--steps", 2, "--shard-rows", 1)
    return ["dataset", place / "sounds", "--output-dir", out, *more]


def _publish(kind: str, source: str) -> Callable[[Path, Path], list]:
    words = [kind, "--repo-id", "someone/thing", f"--{kind if kind == 'model' else 'corpus'}"]
    return lambda place, out: [*words, place / source, "--license", "mit", "--dry-run", "--output-dir", out]


def _upload(place: Path, out: Path) -> list:
    return ["dataset", "--repo-id", "someone/thing", "--corpus", place / "corpus", "--license", "mit"]


JOBS = {
    "generate": Job(_generate),
    "export glb": Job(_export(".glb")),
    "export mp4": Job(_export(".mp4")),
    "export usdc": Job(_export(".usdc")),
    "export obj": Job(_export(".obj")),
    "fit": Job(_fit),
    "corpus": Job(lambda place, out: ["corpus", "--input", place / "codes", "--output-dir", out]),
    "train": Job(_train),
    "assemble": Job(
        lambda place, out: [
            "assemble",
            "--denoiser",
            place / "trained",
            "--audio-encoder",
            place / "encoder",
            "--output-dir",
            out,
        ]  # fmt: skip
    ),
    "dataset": Job(_dataset),
    "publish model": Job(_publish("model", "model"), publish),
    "publish dataset": Job(_publish("dataset", "corpus"), publish),
    "publish, Hub": Job(_upload, publish, hub=True),
}
"""By name; `train` is the one that goes on from a checkpoint, the Hub is the one on the loopback."""


def use_hub(address: str) -> None:
    """Take the server on the loopback for the Hub, in this process."""
    os.environ |= {"NO_PROXY": "127.0.0.1", "HF_TOKEN": fake_hub.TOKEN, "HF_HUB_DISABLE_XET": "1"}
    huggingface_hub.constants.HF_HUB_DISABLE_XET = True  # it was read from the environment when that was imported
    huggingface_hub.constants.HF_HUB_OFFLINE = False
    huggingface_hub.constants.ENDPOINT = address
