# SPDX-License-Identifier: MIT
"""Rows of a corpus."""

from pathlib import Path

import numpy as np

from facetalk_hf.data import corpus
from facetalk_hf.data.building import building, write_rows


RNG = np.random.default_rng(0)


def make_row(name: str, split: str = "train", frames: int = 24, code_dim: int = 6, **fields) -> dict:
    speaker, sequence = name.split("_")
    audio = corpus.encode_audio(RNG.uniform(-0.1, 0.1, round(frames * 16000 / 24)), 16000)
    row = {"id": name, "speaker": speaker, "sequence": sequence, "split": split, "audio": audio, "fps": 24.0}
    row |= {"sampling_rate": 16000, "expression": RNG.standard_normal((frames, code_dim)).astype(np.float32)}
    return row | {"source": "nowhere", "licence": "CC-BY-4.0"} | fields


def make_corpus(folder: Path, **options) -> Path:
    rows = [make_row("anna_one"), make_row("anna_two"), make_row("bob_one", "validation"), make_row("cy_one", "test")]
    with building(folder, **options) as work:
        write_rows(((row, row["id"]) for row in rows), work, shard_rows=1)
    return folder
