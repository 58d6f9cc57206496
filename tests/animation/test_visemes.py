# SPDX-License-Identifier: MIT
"""Visemes from ARKit's weights."""

import json

import numpy as np
from animations import living

from facetalk_hf.animation.arkit import ARKIT
from facetalk_hf.animation.viseme_weights import VISEMES, weights_to_visemes


def pose(**weights: float) -> np.ndarray:
    row = np.zeros(len(ARKIT))
    for name, value in weights.items():
        row[ARKIT.index(name)] = value
    return row


def test_the_pose_of_a_viseme_is_mostly_that_viseme():
    names = list(VISEMES)
    for name in ("PP", "CH", "aa", "ih", "oh", "ou"):
        found = weights_to_visemes(pose(**VISEMES[name])[None])[0]
        assert names[found.argmax()] == name, dict(zip(names, found, strict=True))
    rest, brows = weights_to_visemes(np.stack([pose(), pose(browInnerUp=1, eyeBlinkLeft=1)]))
    np.testing.assert_array_equal(rest, np.eye(15)[0])
    np.testing.assert_array_equal(brows, rest)


def test_visemes_stand_beside_the_weights_in_json_and_in_a_csv(tmp_path):
    animation = living()
    document = json.loads(animation.save(tmp_path / "a.json").read_text())
    table = np.array(document["visemes"])
    assert table.shape == (6, 15) and document["viseme_names"] == list(VISEMES)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-3)
    lines = animation.save(tmp_path / "a.visemes.csv").read_text().splitlines()
    assert lines[0].split(",")[2:4] == ["viseme_sil", "viseme_PP"]
    np.testing.assert_allclose(np.array([line.split(",")[2:] for line in lines[1:]], float), table, atol=1e-4)
