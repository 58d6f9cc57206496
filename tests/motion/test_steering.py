# SPDX-License-Identifier: MIT
"""Known phones steer the mouth: exact where they must be, the rest of the face sampled to go with it."""

import json

import numpy as np
import pytest
import torch
from components import (
    CODE_DIM,
    RATE,
    codes,
    make_head,
    make_named_head,
    make_pipeline,
    make_scheduler,
    seed,
    speech_like,
)
from named_pipeline import named, weights  # noqa: F401

from facetalk_hf import FaceTalkError, Keyframes
from facetalk_hf.audio.analysis import loudness
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.motion.steering import MouthSteering, MouthTarget
from facetalk_hf.phones.segments import Segment
from facetalk_hf.phones.visemes import PHONES, RULED, lip_contact, mouth_weights
from facetalk_hf.pipeline import spoken
from facetalk_hf.pipeline.denoising import noise_to_signal


WORD = [("m", 0.1, 0.2), ("aa", 0.2, 0.45), ("f", 0.45, 0.6), ("uw", 0.6, 0.85), ("p", 0.85, 0.95)]
COMPLETE = [Segment("pau", 0.0, 0.1), *(Segment(*row) for row in WORD), Segment("pau", 0.95, 1.0)]
MOUTH = [INDEX[name] for name in RULED]
REST = [index for index, name in enumerate(EXPRESSIONS) if not name.startswith(("mouth", "jaw"))]


def rules(samples=None) -> np.ndarray:
    samples = speech_like(1.0) if samples is None else samples
    return mouth_weights(COMPLETE, 24, 24, loudness(samples, RATE, 24))[0]


@pytest.mark.parametrize("options", [
    {}, {"guidance_scale": 2.0}, {"num_inference_steps": 1}, {"mouth_temperature": 1.0}, {"blink_rate": 60},
    {"intensity": 0.5, "upper_face_intensity": 1.5},
])  # fmt: skip
def test_the_mouth_does_what_phones_ask_and_the_rest_is_sampled(named, options):
    first = weights(named, codes(named, phones=WORD, **options)[0])
    other = weights(named, codes(named, phones=WORD, **options | {"generator": seed(1)})[0])
    asked = options.get("intensity", 1.0) * rules()[:, MOUTH]
    np.testing.assert_allclose(first[:, MOUTH], asked, atol=1e-4)
    np.testing.assert_allclose(other[:, MOUTH], asked, atol=1e-4)
    assert np.abs(first - other)[:, REST].max() > 0.05
    plain = weights(named, codes(named, **options)[0])
    # The denoiser has seen the mouth: what goes with it is not what goes with another one.
    if options.get("num_inference_steps") != 1:
        assert np.abs(first - plain)[:, REST].max() > 1e-3


def test_strength_goes_from_the_sound_to_the_phones_and_contacts_stay_exact(named):
    contact = lip_contact(COMPLETE, 24)
    assert (contact == 1).sum() >= 5 and (contact == 0).sum() >= 8
    plain, asked = weights(named, codes(named)[0])[:, MOUTH], rules()[:, MOUTH]
    misses = []
    for strength in (0.0, 0.3, 0.7, 1.0):
        made = weights(named, codes(named, phones=WORD, phone_strength=strength)[0])[:, MOUTH]
        np.testing.assert_allclose(made[contact == 1], asked[contact == 1], atol=1e-4)
        misses.append(np.abs(made - asked)[contact == 0].mean())
    assert misses[0] > 1.2 * misses[1] and misses[1] > 1.5 * misses[2] and misses[3] < 1e-4
    assert misses[0] > 0.3 * np.abs(plain - asked)[contact == 0].mean()
    smooth = weights(named, codes(named, phones=WORD, smoothing=0.1, intensity=0.5)[0])[:, MOUTH]
    np.testing.assert_allclose(smooth[contact == 1], 0.5 * asked[contact == 1], atol=1e-4)
    assert np.abs(smooth - 0.5 * asked).max() > 0.05


def test_a_share_is_what_a_gaussian_posterior_would_be(named):
    """At pure noise the share is the strength; the more of the motion is seen, the less is moved. Contacts always."""
    target = MouthTarget(np.full((2, len(EXPRESSIONS)), 0.5, np.float32), np.array([0, 1], np.float32))
    steering = MouthSteering([target, None], 3, named.denoiser, named.head, 0.4)
    start = torch.zeros(2, 3, CODE_DIM)
    before = weights(named, named.denoiser.denormalize(start))
    shares = []
    for noise in (float("inf"), 1.0, 0.0):
        after = weights(named, named.denoiser.denormalize(steering(start, noise)))
        share = (after - before)[0][:, MOUTH] / (0.5 - before[0][:, MOUTH])
        np.testing.assert_allclose(share[1], 1, rtol=1e-3)
        np.testing.assert_allclose(after[1], before[1], atol=1e-6)
        np.testing.assert_allclose(after[0][:, REST], before[0][:, REST], atol=1e-5)
        assert np.ptp(share[0]) < 1e-2
        shares.append(float(share[0].mean()))
    assert shares[0] == pytest.approx(0.4, abs=1e-3) and 0.2 < shares[1] < 0.4 and shares[2] == pytest.approx(0)
    scheduler = make_scheduler()
    ratios = [noise_to_signal(scheduler, torch.tensor(t)) for t in (0, 500, 999)]
    assert 0 < ratios[0] < 0.01 < ratios[1] < 100 < ratios[2] and noise_to_signal(object(), 0) == float("inf")


def test_in_a_batch_each_clip_has_its_own_phones_and_samples(named, tmp_path):
    clips = [speech_like(0.6, seed=1), speech_like(1.0), speech_like(1.5, seed=2)]
    sources = [seed(index) for index in range(3)]
    path = tmp_path / "word.json"
    path.write_text(json.dumps(WORD))
    together = codes(named, clips, phones=[None, path, None], generator=sources)
    plain = codes(named, clips, generator=[seed(index) for index in range(3)])
    torch.testing.assert_close(together[0], plain[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[2], plain[2], atol=1e-4, rtol=1e-4)
    alone = codes(named, clips[1], phones=COMPLETE, generator=seed(1))[0]
    torch.testing.assert_close(together[1], alone, atol=1e-3, rtol=1e-3)
    for item in codes(named, clips[1], phones=WORD, num_samples=2):
        np.testing.assert_allclose(weights(named, item)[:, MOUTH], rules()[:, MOUTH], atol=1e-4)


def test_keyframes_have_the_last_word(named):
    keyframes = Keyframes().fix_channels([3], {"jawOpen": 0.9})
    made = weights(named, codes(named, phones=WORD, keyframes=keyframes)[0])
    assert made[3, INDEX["jawOpen"]] == pytest.approx(0.9, abs=1e-4)
    np.testing.assert_allclose(made[12:, MOUTH], rules()[12:, MOUTH], atol=1e-4)


def test_names_of_other_alphabets_and_texts_lead_to_the_same_motion(named, monkeypatch):
    asked = codes(named, phones=WORD)[0]
    arpabet = [(name.upper() + "1" * (name in ("aa", "uw")), start, end) for name, start, end in WORD]
    ipa = [("m", 0.1, 0.2), ("ˈɑː", 0.2, 0.45), ("f", 0.45, 0.6), ("uː", 0.6, 0.85), ("p", 0.85, 0.95)]
    for rows in (arpabet, ipa):
        torch.testing.assert_close(codes(named, phones=rows)[0], asked)

    class Found:
        phones = COMPLETE

    heard = []
    monkeypatch.setattr(spoken, "align", lambda *given: heard.append(given[1:]) or Found)
    torch.testing.assert_close(codes(named, text="ma foop", language="de")[0], asked)
    assert heard == [(RATE, "ma foop", "de")]


def test_phones_are_cut_or_filled_up_to_the_end_of_the_sound():
    fit = spoken.fit_to_sound
    assert fit(COMPLETE, 1.0) == COMPLETE
    assert fit(COMPLETE[:3], 1.0) == [*COMPLETE[:3], Segment("pau", 0.45, 1.0)]
    assert fit(COMPLETE, 0.5) == [*COMPLETE[:3], Segment("f", 0.45, 0.5)]
    with pytest.raises(FaceTalkError, match="3 of 5 phones start after the end"):
        fit(COMPLETE, 0.3)


@pytest.mark.parametrize(("options", "message"), [
    ({"phones": [("m", 0.0, 0.1), ("xyzzy", 0.1, 0.2)]}, "'xyzzy' is no phone"),
    ({"phones": [("m", 0.2)]}, "phone, start, end"),
    ({"phones": 5}, "phone, start, end"),
    ({"phones": "missing.csv"}, "missing.csv"),
    ({"phones": [("m", 10.0, 11.0), ("aa", 11.0, 12.0)]}, "after the end of the sound"),
    ({"phones": WORD, "text": "ma"}, "one of them"),
    ({"text": 3}, "text must be"),
    ({"audio": [speech_like(0.5)] * 2, "phones": WORD}, "list of 2"),
    ({"audio": [speech_like(0.5)], "phones": [WORD, WORD]}, "list of 1"),
    ({"phones": WORD, "phone_strength": 1.5}, "phone_strength"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(named, options, message):
    with pytest.raises(FaceTalkError, match=message) as told:
        codes(named, **options)
    assert "\n" not in str(told.value)


def test_heads_without_names_or_lips_are_refused_before_anything_is_aligned(monkeypatch):
    monkeypatch.setattr(spoken, "align", lambda *given: pytest.fail("aligned for nothing"))
    for head in (None, make_head()):
        with pytest.raises(FaceTalkError, match="phones needs a head whose shapes have names"):
            codes(make_pipeline(head=head), text="ma")
    few = make_named_head([name for name in EXPRESSIONS if name != "mouthClose"])
    with pytest.raises(FaceTalkError, match="no shape mouthClose"):
        codes(make_pipeline(head=few), phones=WORD)


def test_the_rules_move_the_shapes_that_they_say_and_touch_where_lips_meet():
    segments = [Segment(name, 0.2 * i, 0.2 * i + 0.2) for i, name in enumerate(PHONES)]
    frames = round(0.2 * len(PHONES) * 24)
    made, closure = mouth_weights(segments, frames)
    assert {EXPRESSIONS[index] for index in np.flatnonzero(made.any(0))} == set(RULED)
    contact = lip_contact(segments, frames)
    assert (contact >= closure).all()
    for index, name in enumerate(PHONES):
        middle = contact[int((0.2 * index + 0.1) * 24)]
        assert middle == 1 if name in ("m", "b", "p", "f", "v") else name not in ("pau",) or middle < 1
