# SPDX-License-Identifier: MIT
"""Measures of a head against scans whose every number is known, and training/evaluate_head.py on them."""

import json
import sys

import numpy as np
import pytest
import torch
import trimesh
from scanned_head import head, write_scans  # noqa: F401
from scripts import load_script

from facetalk_hf import FaceTalkError
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.evaluation import head_metrics
from facetalk_hf.synthetic.expressions import sample_weights


def test_distance_is_that_of_the_surface_not_of_its_samples():
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.uniform(-10, 10, (400, 2)), np.zeros((400, 1))], 1)
    normals = np.tile([0.0, 0, 1], (400, 1))
    points = np.concatenate([rng.uniform(-8, 8, (100, 2)), np.full((100, 1), 0.3)], 1)
    np.testing.assert_allclose(head_metrics.surface_distance(points, plane, normals)[0], 0.3, atol=1e-12)
    beside = np.array([[30.0, 0, 0]])  # in the plane, but where there is no surface
    assert head_metrics.surface_distance(beside, plane, normals)[0][0] > 19


def test_samples_are_even_and_handles_are_counted():
    ball, ring = trimesh.creation.icosphere(3, radius=2.0), trimesh.creation.torus(3, 1)
    points, normals = head_metrics.even_samples(ball.vertices, ball.faces, 20_000)
    np.testing.assert_allclose((points * normals).sum(1), 2.0, atol=0.02)
    np.testing.assert_allclose([(points[:, i] > 0.5).mean() for i in range(3)], 0.375, atol=0.01)  # Archimedes
    assert head_metrics.handles(ball.vertices, ball.faces) == 0
    assert head_metrics.handles(ring.vertices, ring.faces) == 1


def test_fitted_codes_find_the_size_of_a_ball_and_leave_the_head_trainable(head, tmp_path):
    write_scans(head, tmp_path)
    scans, pool = head_metrics.read_scans(tmp_path)
    codes = head_metrics.fit_identities(head, scans, steps=60, points=200)
    scores = [head_metrics.surface_scores(head, code, scan, pool, 48) for code, scan in zip(codes, scans, strict=True)]
    assert all(score["chamfer_head"] < 4 and score["normals_head"] > 0.9 for score in scores)
    assert all(score["handles"] == 0 for score in scores)
    # The code of the smaller ball on the larger one is off by the 7.5 mm between them.
    wrong = head_metrics.surface_scores(head, codes[0], scans[1], pool, 48)
    assert wrong["chamfer_head"] == pytest.approx(7.5, abs=2.5) and 4 < wrong["chamfer_face"] < 11
    assert all(parameter.requires_grad for parameter in head.ensemble.parameters())


@pytest.mark.parametrize("size", [1.0, 1.25])
def test_motion_is_compared_with_the_true_one(head, tmp_path, size):
    write_scans(head, tmp_path, size)
    scans, pool = head_metrics.read_scans(tmp_path)
    result = head_metrics.motion_scores(head, torch.zeros(2, head.identity_dim), scans, pool, expressions=6)
    assert set(result["shapes"]) == set(EXPRESSIONS)
    np.testing.assert_allclose(list(result["shapes"].values()), 1 - 1 / size, atol=1e-3)
    assert result["lid_travel"] == pytest.approx(1 / size, abs=1e-3)
    assert result["landmarks"] == pytest.approx(0, abs=1e-3)
    assert (result["vertex_all"] < 0.01) == (size == 1.0) and (result["vertex_lips"] < 0.01) == (size == 1.0)


def test_lips_that_stay_apart_are_seen():
    """Two lips 10 mm apart that meet by one field: a prediction of 0.9 of the way leaves a gap of 1 mm."""
    line = np.linspace(-20, 20, 81)
    upper, lower = (np.stack([line, np.full(81, y), np.zeros(81)], 1) for y in (5.0, -5.0))
    place = np.concatenate([upper, lower])
    motion = np.zeros((162, 1, 3))
    motion[:, 0, 1] = -place[:, 1]
    gaps = [head_metrics.lip_gaps(place, motion, a * motion, np.ones(1), np.ones(162, bool)) for a in (1, 0.9, 1.1)]
    assert len(gaps[0]) > 80
    np.testing.assert_allclose(gaps[0], 0, atol=1e-9)
    np.testing.assert_allclose(gaps[1], 1, atol=1e-9)
    np.testing.assert_allclose(gaps[2], 0, atol=1e-9)  # overlapping lips are no gap


def test_backward_error_is_the_distance_to_the_canonical_point(head, tmp_path):
    write_scans(head, tmp_path)
    scans, pool = head_metrics.read_scans(tmp_path)
    pool["expressions"] = np.zeros_like(pool["expressions"])  # nothing moves: the error is the offset itself
    with torch.no_grad():
        code = torch.zeros(2, head.identity_dim)
        result = head_metrics.backward_scores(head, code, scans, pool, expressions=1)
        points = torch.from_numpy(pool["mean"])[None]
        offset = head.deform_backward(points, code[:1], torch.zeros(1, 64)).norm(dim=-1).mean() * 250
    assert result["backward_all"] == pytest.approx(float(offset), rel=1e-3)


def test_people_are_told_apart(head):
    result = head_metrics.identity_distances(head, torch.stack([head.identity_codes[1], head.identity_codes[0]]), 32)
    assert result["surface"].shape == (2, 2) and result["surface"][0, 1] == pytest.approx(7.5, abs=3)
    assert result["handles"] == [0, 0] and result["height"][0] > result["height"][1]


def test_random_expressions_are_seeded_and_start_neutral():
    draws = [sample_weights(40, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert (draws[0][0] == 0).all() and draws[0].min() >= 0 and draws[0].max() <= 1
    alone = (draws[0] > 0).sum(1) == 1
    closed = draws[0][~alone][:, [INDEX["mouthClose"], INDEX["jawOpen"]]]
    assert alone.any() and (closed[:, 0] <= closed[:, 1]).all()


def test_script_prints_the_table(head, tmp_path, monkeypatch, capsys):
    script = load_script("training/evaluate_head.py")
    write_scans(head, tmp_path)
    head.save_pretrained(tmp_path / "head")
    output = tmp_path / "scores.json"
    arguments = ["--data", tmp_path, "--head", tmp_path / "head", "--output", output, "--fit-steps", 3,
                 "--resolution", 32, "--expressions", 4, "--sampled", 2]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["evaluate_head.py", *map(str, arguments)])
    script.main()
    printed = capsys.readouterr().out
    scores = json.loads(output.read_text())
    # A ball has neither ears nor hair, and the table no rows of them.
    bars = {name: bar for name, bar in script.BARS.items() if "_ears" not in name and "_hair" not in name}
    assert set(bars) <= set(scores)
    assert all(text in printed for text, _, _ in bars.values())
    # A ball whose code was hardly fitted, with motion that it predicts itself.
    assert "| Chamfer-L1, head |" in printed and "**missed**" in printed
    assert script.passes(0.3, "<= 0.3") and not script.passes(0.5, "< 0.5") and script.passes(30, ">= 25")


def test_a_head_counts_by_as_much_of_its_ears_as_is_bare(head, tmp_path):
    write_scans(head, tmp_path)
    scans, pool = head_metrics.read_scans(tmp_path)
    code = torch.zeros(head.identity_dim)
    for scan, bare in zip(scans, (4000, 1000), strict=True):
        scan["coat"] = (np.arange(len(scan["surface"])) < bare).astype(np.uint8) * 2
    each = [head_metrics.surface_scores(head, code, scan, pool, 32) for scan in scans]
    assert [row["points_ears"] for row in each] == [4000, 1000]
    script = load_script("training/evaluate_head.py")
    small, large = (row["chamfer_ears"] for row in each)  # the code is that of the small ball
    assert large > small + 3
    assert script.ears_by_area([*each, {"chamfer_head": 1.0}]) == {
        "chamfer_ears_by_area": pytest.approx(0.8 * small + 0.2 * large)
    }


def test_folders_without_scans_or_normals_get_one_line(head, tmp_path):
    with pytest.raises(FaceTalkError, match="build_heads.py"):
        head_metrics.read_scans(tmp_path)
    write_scans(head, tmp_path)
    scan = dict(np.load(tmp_path / "test_0000.npz"))
    del scan["normals"]
    np.savez(tmp_path / "test_0000.npz", **scan)
    with pytest.raises(FaceTalkError, match="have no normals"):
        head_metrics.read_scans(tmp_path)
