# SPDX-License-Identifier: MIT
"""docs/contact_sheet.py and docs/animation.py draw what they say, from the embedded model."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from command import write_wav
from components import speech_like
from PIL import Image


def test_a_sheet_has_a_row_for_every_head_and_a_column_for_every_pose(tmp_path):
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "contact_sheet.py"))
    small = ["--identities", "3", "7", "--size", "64", "--resolution", "48", "--quality", "95"]
    script["main"](["--output", str(tmp_path), *small])
    tiles = []
    for view in ("front", "three-quarters", "profile"):
        sheet = np.asarray(Image.open(tmp_path / f"heads-{view}.jpg")).astype(int)
        assert sheet.shape == (20 + 2 * 64, 4 * 64, 3)
        tiles += list(sheet[20:].reshape(2, 64, 4, 64, 3)[:, 12:].swapaxes(1, 2).reshape(8, -1))
    different = np.abs(np.array(tiles)[:, None] - np.array(tiles)[None]).mean(-1) + 9 * np.eye(24)
    assert different.min() > 0.05


def test_the_film_has_the_length_of_the_sound_and_moves(tmp_path):
    pytest.importorskip("embreex", reason="needs embreex, the ray caster")
    write_wav(tmp_path / "clip.wav", speech_like(0.4))
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "animation.py"))
    path = tmp_path / "demo.webp"
    small = ["--size", "40", "--steps", "1", "--resolution", "32"]
    script["main"](["--output", str(path), "--audio", str(tmp_path / "clip.wav"), *small])
    film = Image.open(path)
    frames, lasts = [], []
    for index in range(film.n_frames):
        film.seek(index)
        frames.append(np.asarray(film.convert("RGB")).astype(int))
        lasts.append(film.info["duration"])
    assert film.size == (80, 48) and sum(lasts) == round(1000 * 10 / 24)
    change = np.abs(frames[0] - frames[-1])
    assert change[:40].mean() > 0.05 and change[40:].max() > 60  # heads, and the sound's strip
