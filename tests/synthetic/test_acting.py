# SPDX-License-Identifier: MIT
"""The teacher that acts: lips come first under any emotion, and head, eyes and brows go with the speech."""

import numpy as np
import pytest

from facetalk_hf.blendshapes import INDEX
from facetalk_hf.conditions import BOUNDS, CONDITIONS, EMOTIONS
from facetalk_hf.phones.segments import Segment
from facetalk_hf.phones.visemes import mouth_weights
from facetalk_hf.synthetic.acting import draw_conditions, perform
from facetalk_hf.synthetic.emotions import expression_of, prototype
from facetalk_hf.synthetic.gaze import saccades


FPS, RATE = 24, 16000
SEGMENTS = [
    Segment("pau", 0, 0.6), Segment("aa", 0.6, 0.9), Segment("m", 0.9, 1.05), Segment("aa", 1.05, 1.35),
    Segment("w", 1.35, 1.55), Segment("aa", 1.55, 1.8), Segment("f", 1.8, 1.95), Segment("aa", 1.95, 2.2),
    Segment("pau", 2.2, 3.0),
]  # fmt: skip
FRAMES = 72


def frame(phone: str) -> int:
    (segment,) = [item for item in SEGMENTS if item.phone == phone]
    return round((segment.start + segment.end) / 2 * FPS - 0.5)


def told(**values: float) -> np.ndarray:
    result = np.zeros((FRAMES, len(CONDITIONS)))
    for name, value in values.items():
        result[:, CONDITIONS.index(name)] = value
    return result


def mouth(**values: float) -> tuple[np.ndarray, np.ndarray]:
    conditions = told(**values)
    return mouth_weights(SEGMENTS, FRAMES, FPS, None, expression_of(conditions, FPS), values.get("articulation", 0.0))


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_lips_come_first_under_any_emotion(emotion):
    (neutral, closure), (shown, same) = mouth(), mouth(**{emotion: 1.0})
    np.testing.assert_array_equal(closure, same)
    shut, bitten, round_ = (frame(phone) for phone in "mfw")
    assert closure[shut] == 1
    for name in ("mouthLowerDown_L", "mouthUpperUp_R", "mouthFunnel", "mouthShrugUpper"):
        assert shown[shut, INDEX[name]] == 0  # nothing parts the lips
    seal = shown[shut, INDEX["mouthClose"]] / shown[shut, INDEX["jawOpen"]]
    assert seal == pytest.approx(neutral[shut, INDEX["mouthClose"]] / neutral[shut, INDEX["jawOpen"]])
    assert shown[bitten, INDEX["mouthRollLower"]] >= 0.95 * neutral[bitten, INDEX["mouthRollLower"]]
    assert shown[round_, INDEX["mouthPucker"]] >= 0.8 * neutral[round_, INDEX["mouthPucker"]]
    # At rest the expression is shown in full, whatever speech has done before.
    rest, full = shown[4], prototype(emotion)
    columns = [INDEX[name] for name in ("mouthSmile_L", "mouthFrown_R", "mouthStretch_L", "noseSneer_L", "jawOpen")]
    np.testing.assert_allclose(rest[columns], full[columns], atol=1e-6)
    assert (shown != neutral).any()


def test_corners_give_way_to_round_lips_and_grow_with_the_emotion():
    smiles = [mouth(happy=amount)[0][:, INDEX["mouthSmile_L"]] for amount in (0, 0.25, 0.5, 0.75, 1)]
    vowel = [smile[frame_of] for smile in smiles for frame_of in [round(1.2 * FPS)]]
    assert all(b > a + 0.02 for a, b in zip(vowel, vowel[1:], strict=False))
    assert smiles[-1][frame("w")] < 0.6 * vowel[-1]


def test_articulation_changes_vowels_and_leaves_closures_alone():
    (mumbled, first), (crisp, second) = mouth(articulation=-1.0), mouth(articulation=1.0)
    jaw = INDEX["jawOpen"]
    assert crisp[round(1.2 * FPS), jaw] > 1.8 * mumbled[round(1.2 * FPS), jaw] > 0
    np.testing.assert_array_equal(first, second)


def test_prototypes_are_those_of_emfacs():
    assert prototype("happy")[INDEX["mouthSmile_L"]] > 0.5 < prototype("happy")[INDEX["cheekSquint_R"]]
    assert prototype("angry")[INDEX["browDown_L"]] > 0.5 and prototype("sad")[INDEX["browInnerUp_L"]] > 0.5
    everything = np.stack([prototype(name) for name in EMOTIONS])
    distances = np.linalg.norm(everything[:, None] - everything, axis=-1)
    assert distances[~np.eye(len(EMOTIONS), dtype=bool)].min() > 0.8


def act(seed: int = 0, **values: float):
    time = np.arange(FRAMES * RATE // FPS) / RATE
    stressed = np.exp(-(((time - 1.2) / 0.1) ** 2))  # one vowel is louder and higher
    sound = (0.05 + 0.2 * stressed) * np.sin(2 * np.pi * np.cumsum(110 + 60 * stressed) / RATE)
    sound *= (time > 0.6) & (time < 2.2)
    return perform(SEGMENTS, sound, RATE, FRAMES, FPS, told(**values), np.random.default_rng(seed))


def test_heads_nod_on_the_accent_and_never_jump():
    poses = np.stack([act(seed).pose for seed in range(40)])
    assert poses.shape == (40, FRAMES, 6) and np.isfinite(poses).all()
    pitch = poses[:, :, 1] - np.median(poses[:, :, 1], axis=1, keepdims=True)
    peak = round(1.2 * FPS)
    assert pitch[:, peak - 1 : peak + 2].mean() < pitch[:, peak + 14 : peak + 18].mean() - 0.3
    assert np.abs(np.diff(poses[..., :3], axis=1)).max() < 2.5  # degrees a frame, 60 a second
    assert np.linalg.norm(poses[..., :3], axis=-1).max() < 14
    still, lively = (np.stack([act(seed, energy=value).pose for seed in range(10)]).std(1).mean() for value in (-1, 1))
    assert lively > 1.5 * still


def test_eyes_make_up_for_the_head_and_brows_rise_on_the_accent():
    made, raised = [], []
    for seed in range(30):
        found = act(seed)
        look = 30 * (found.weights[:, INDEX["eyeLookOut_L"]] - found.weights[:, INDEX["eyeLookIn_L"]])
        made.append((np.median(look), np.median(found.pose[:, 0])))
        raised.append(found.weights[:, INDEX["browInnerUp_L"]])
    looks, turns = np.array(made).T
    assert np.corrcoef(looks, turns)[0, 1] < -0.7
    raised = np.stack(raised).mean(0)
    assert raised[round(1.2 * FPS)] > raised[: round(0.5 * FPS)].mean() + 0.03


def test_gaze_is_mutual_most_of_the_time():
    gaze = np.concatenate([saccades(24 * 30, FPS, np.random.default_rng(seed))[0] for seed in range(10)])
    away = np.abs(gaze).max(1) > 4
    assert 0.05 < away.mean() < 0.35 and np.abs(gaze).max() < 26
    jumps = np.abs(np.diff(gaze, axis=0)).max(1)
    assert (jumps < 2).mean() > 0.9  # fixations, with saccades between


def test_conditions_are_drawn_within_bounds_and_half_are_neutral():
    drawn = [draw_conditions(48, FPS, np.random.default_rng(seed)) for seed in range(200)]
    neutral = np.mean([not item.any() for item in drawn])
    assert 0.4 < neutral < 0.6
    values = np.concatenate(drawn)
    for column, name in zip(values.T, CONDITIONS, strict=True):
        assert column.min() >= BOUNDS[name][0] and column.max() <= BOUNDS[name][1] and column.any(), name
    assert any(item.any() and np.ptp(item, axis=0).max() > 0.1 for item in drawn)  # some change over time
