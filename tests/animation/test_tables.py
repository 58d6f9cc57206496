# SPDX-License-Identifier: MIT
"""Plain tables of weights, read back by csv."""

import csv

import numpy as np
import pytest
from animations import head

from facetalk_hf.animation.tables import write_csv


def test_csv_names_every_channel(tmp_path):
    animation = head()
    with open(write_csv(tmp_path / "a.csv", animation), newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert float(rows[5]["time"]) == pytest.approx(0.2)
    values = [[float(row[name]) for name in animation.target_names] for row in rows]
    np.testing.assert_allclose(values, animation.weights, atol=1e-6)
