# SPDX-License-Identifier: MIT
"""A model that knows the answer scores perfectly, one that does not scores as it should, whatever the batch."""

import numpy as np
import pytest
import torch
from scored_rows import make_row  # noqa: F401

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipeline, NPHMModel
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus
from facetalk_hf.evaluation import scores as evaluation
from facetalk_hf.evaluation.scores import FixedMesh, evaluate


@pytest.fixture(scope="module")
def head() -> NPHMModel:
    return NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def mesh(head) -> FixedMesh:
    return FixedMesh(head, resolution=32)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [make_row(index, frames) for index, frames in enumerate((60, 75, 66))]


def oracle(rows, head, change=lambda weights, seed: weights):
    """A predictor that looks the answer up and changes it."""
    known = {corpus.decode_audio(row).tobytes(): row["weights"] for row in rows}
    basis = head.expression_basis.float().numpy()
    return lambda clips, seeds: [
        change(known[clip.tobytes()].copy(), seed) @ basis.T for clip, seed in zip(clips, seeds, strict=True)
    ]


def test_the_truth_scores_perfectly(rows, head, mesh):
    scores = evaluate(oracle(rows, head), rows, head, mesh=mesh, window=20)
    for name in ("aperture", "jaw", "pucker", "funnel", "bite", "f1", "f1_1", "open_ratio"):
        assert scores[name] == pytest.approx(1, abs=1e-3), name  # E is stored in half precision
    for name in ("lag", "lag_worst", "mve", "lve_squared", "lve_rooted", "lve_root_mean", "fdd", "fdd_absolute"):
        assert scores[name] == pytest.approx(0, abs=1e-4), name
    assert scores["lve_rooted_landmarks"] == scores["fdd_landmarks"] == 0
    for name in ("speed", "jerk", "beats"):
        assert scores[name] == pytest.approx(scores[f"{name}_target"], rel=1e-3) and scores[name] > 0
    assert scores["silence"] < 0.05 and "diversity" not in scores
    assert 0.3 < scores["seam"] < 3


def test_faults_are_seen_where_they_are(rows, head, mesh):
    def still_brows(weights, seed):
        weights[:, INDEX["browInnerUp_L"]] = 0
        return weights

    scores = evaluate(oracle(rows, head, still_brows), rows, head, mesh=mesh)
    assert scores["fdd"] > 0.01 and scores["lve_rooted"] < 0.05 and scores["aperture"] > 0.999

    def open_mouth(weights, seed):
        weights[:, INDEX["mouthClose"]] = 0
        weights[:, INDEX["jawOpen"]] += 0.3
        return weights

    scores = evaluate(oracle(rows, head, open_mouth), rows, head, mesh=mesh)
    assert scores["f1"] == 0 and scores["silence"] > 3 and scores["lve_rooted"] > 3
    late = evaluate(oracle(rows, head, lambda w, seed: np.roll(w, 2, axis=0)), rows, head, mesh=mesh)
    assert late["lag"] == 2 and late["f1"] < late["f1_1"] < 1
    assert late["lve_squared"] == pytest.approx(late["lve_root_mean"] ** 2) and late["lve_squared"] > 0.1


def test_samples(rows, head, mesh):
    def noisy(weights, seed):
        weights[:, INDEX["jawOpen"]] += 0.1 * np.random.default_rng(seed).standard_normal()
        return weights

    scores = evaluate(oracle(rows, head, noisy), rows, head, samples=3, mesh=mesh)
    assert scores["diversity_lips"] > scores["diversity"] > 0
    for name in ("mve", "lve_squared", "lve_rooted", "fdd_absolute", "lve_rooted_landmarks"):
        assert scores[f"{name}_min"] < scores[name], name
    assert scores["mve_mean_estimate"] < scores["mve"]
    same = evaluate(oracle(rows, head), rows, head, samples=2, mesh=mesh)
    assert same["diversity"] == 0 and same["mve_min"] == same["mve"]


def test_the_pipeline_and_its_regression_do_not_depend_on_the_batch(rows, mesh):
    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    pipe.set_progress_bar_config(disable=True)
    models = evaluation.pipeline_predictor(pipe, num_inference_steps=2), evaluation.regression_predictor(pipe)
    for predict in models:
        one, all_at_once = (evaluate(predict, rows, pipe.head, batch=batch, mesh=mesh) for batch in (1, 3))
        assert one == pytest.approx(all_at_once, abs=2e-3)
    other = evaluate(models[0], rows, pipe.head, mesh=mesh, seed=5)
    again = evaluate(models[0], rows, pipe.head, mesh=mesh)
    assert again == evaluate(models[0], rows, pipe.head, mesh=mesh)
    assert again["lve_rooted"] != pytest.approx(other["lve_rooted"], abs=1e-3)


def test_one_line_errors(rows, head, mesh):
    with pytest.raises(FaceTalkError, match="no clips"):
        evaluate(oracle(rows, head), [], head)
    with pytest.raises(FaceTalkError, match=r"v-0-0.*\(59, 64\), not \(60, 64\)"):
        evaluate(oracle(rows, head, lambda w, seed: w[:-1]), rows, head, mesh=mesh)
