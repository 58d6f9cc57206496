# SPDX-License-Identifier: MIT
"""A glb with gaze and head motion, as programs of others see it: Khronos' validator and three.js, where they are.

Both are packages of npm: `npm install gltf-validator three` in any folder above, or one that NODE_PATH names.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from animations import (
    Glb,
    living,
    other,  # noqa: F401
)

from facetalk_hf.animation.retargeting import retarget_glb


CHECK = Path(__file__).parents[1] / "support" / "glb_check.mjs"


def node(path: Path, part: str, *times: float):
    """What node says of a glb; a skip that says what is missing."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: no glb was checked")
    command = ["node", str(CHECK), str(path), *(repr(float(time)) for time in times)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[part]
    if found is None:
        package = {"issues": "gltf-validator", "meshes": "three"}[part]
        pytest.skip(f"npm's {package} is not installed: no glb was checked (npm install {package}, NODE_PATH)")
    return found


def test_khronos_validator_finds_nothing(tmp_path, other):  # noqa: F811
    for path in (living().save(tmp_path / "a.glb"), retarget_glb(tmp_path / "b.glb", living(), other, True)):
        issues = node(path, "issues")
        assert not issues["messages"] and issues["numErrors"] == 0, issues


def test_three_js_plays_every_frame(tmp_path):
    animation = living()
    path = animation.save(tmp_path / "a.glb")
    stated = Glb(path.read_bytes()).json["asset"]["extras"]["geometryErrorMillimetres"]
    frames = node(path, "meshes", *(np.arange(len(animation)) / animation.fps))
    part = animation.parts[animation.faces].max(1)
    for meshes, vertices in zip(frames, animation.iterate_posed(), strict=True):
        for name, kinds in (("skin", (0, 3)), ("eyes", (1,)), ("teeth", (2,))):
            used = np.unique(animation.faces[np.isin(part, kinds)])
            (points,) = [mesh["points"] for mesh in meshes if mesh["name"] == name]
            assert np.linalg.norm(np.array(points) * 1000 - vertices[used], axis=1).max() < stated < 0.05
