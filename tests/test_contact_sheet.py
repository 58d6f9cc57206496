# SPDX-License-Identifier: MIT
"""docs/contact_sheet.py draws what it says, from the embedded model."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_the_sheet_has_a_row_for_every_view_and_a_column_for_every_pose(tmp_path):
    pytest.importorskip("embreex", reason="needs embreex, the ray caster")
    script = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "contact_sheet.py"))
    path = tmp_path / "heads.png"
    script["main"](["--output", str(path), "--identities", "3", "--size", "64", "--resolution", "48"])
    sheet = np.asarray(Image.open(path)).astype(int)
    assert sheet.shape == (2 * 64, 5 * 64, 3)
    tiles = sheet.reshape(2, 64, 5, 64, 3)[:, 12:].swapaxes(1, 2).reshape(10, -1)
    different = np.abs(tiles[:, None] - tiles[None]).mean(-1) + 9 * np.eye(10)
    assert different.min() > 0.05
