# SPDX-License-Identifier: MIT
"""Emotion and style that are asked for: names, text, files, curves, and what a model is told of them."""

import numpy as np
import pytest

from facetalk_hf import FaceTalkError, MotionControls
from facetalk_hf.audio.arousal import LiveArousal, arousal
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.motion.emotions import EmotionCurve, read_emotions, told_conditions


def column(name: str, controls: MotionControls, frames: int = 4, **options) -> np.ndarray:
    return told_conditions(controls, CONDITIONS, frames, 24, **options)[:, CONDITIONS.index(name)]


def test_names_and_numbers_become_columns():
    for emotion in ({"happy": 0.7, "valence": -0.5}, "happy=0.7, valence=-0.5"):
        controls = MotionControls(emotion=emotion, energy=0.25)
        controls.check_ranges()
        assert controls.acts
        np.testing.assert_allclose(column("happy", controls), 0.7)
        np.testing.assert_allclose(column("valence", controls), -0.5)
        np.testing.assert_allclose(column("energy", controls), 0.25)
        assert not column("sad", controls).any()
    row = np.linspace(0, 1, 4)
    np.testing.assert_allclose(column("sad", MotionControls(emotion={"sad": row})), row)
    assert not told_conditions(MotionControls(emotion="neutral"), CONDITIONS, 4, 24).any()
    assert not MotionControls(emotion="neutral").acts and not MotionControls().acts
    assert told_conditions(MotionControls(), None, 4, 24) is None


@pytest.mark.parametrize("emotion, words", [
    ({"merry": 1}, "'merry'"), ({"happy": 1.5}, "happy of emotion must be a number between 0 and 1, not 1.5"),
    ("happy=much", "numbers by name"), ({"sad": float("nan")}, "not nan"), (3, "numbers by name"),
    ({"valence": [0, -2]}, "valence of emotion"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(emotion, words):
    with pytest.raises(FaceTalkError, match=words) as told:
        MotionControls(emotion=emotion).check_ranges()
    assert "\n" not in str(told.value)


def test_a_file_of_keyframes(tmp_path):
    file = tmp_path / "mood.csv"
    file.write_text("time,happy,energy\n0,0,\n1,,0.5\n2,1,\n")
    curve = read_emotions(file)
    times = np.array([0.0, 0.5, 1.0, 2.0, 9.0])
    np.testing.assert_allclose(curve.at(times)["happy"], [0, 0.25, 0.5, 1, 1])
    np.testing.assert_allclose(curve.at(times)["energy"], 0.5)
    controls = MotionControls(emotion=curve, energy=-1.0)
    controls.check_ranges()
    # A stream goes on where it is: frame 24 is a second later.
    later = column("happy", controls, 2, first=24)
    np.testing.assert_allclose(later, [(24.5) / 48, 25.5 / 48], atol=1e-6)
    np.testing.assert_allclose(column("energy", controls), 0.5)
    for text, words in (
        ("happy\n1\n", "column time"), ("time,merry\n0,1\n", "merry"), ("time,happy\n0,a lot\n", "line 2"),
        ("time,happy\n1,0\n0,1\n", "rise"), ("time,happy\n0,2\n", "between 0 and 1"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(FaceTalkError, match=words):
            read_emotions(file)
    with pytest.raises(FaceTalkError, match="no emotion"):
        EmotionCurve({"merry": ([0], [1])})


def calm_then_excited(rate, half):
    time = np.arange(int(2 * half * rate)) / rate
    excited = time >= half
    beat = np.where(excited, 6.5, 3.0)
    pitch = np.where(excited, 190 * (1 + 0.3 * np.sin(2 * np.pi * 1.1 * time)), 115)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    slope = np.where(excited, 0.5, 1.6)
    voice = sum(np.sin(k * phase) / k**slope for k in range(1, 14))
    return voice * np.clip(np.sin(np.pi * np.cumsum(beat) / rate), 0, None) * np.where(excited, 0.1, 0.05)


def test_louder_higher_and_faster_speech_sounds_more_excited():
    rate = 16000
    sound = calm_then_excited(rate, 8.0)
    found = arousal(sound, rate, 384, 24)
    assert found.shape == (384,) and np.abs(found).max() <= 1
    assert found[220:].mean() > found[:160].mean() + 0.4
    np.testing.assert_allclose(arousal(0.1 * sound, rate, 384, 24), found, atol=0.05)  # the microphone does not decide
    assert not arousal(np.zeros(rate), rate, 24, 24).any()
    heard = column("arousal", MotionControls(emotion="auto"), 384, sound=(sound, rate))
    np.testing.assert_allclose(heard, found)


def live_arousal(sound, rate, chunk, fps=24, ahead=0.1):
    live, found, given = LiveArousal(rate, fps), [], 0
    for start in range(0, len(sound), chunk):
        live.push(sound[start : start + chunk])
        while (given / fps + ahead) * rate <= min(start + chunk, len(sound)):
            found.append(live.at(given / fps, round((given / fps + ahead) * rate)))
            given += 2
    assert sum(map(len, live._chunks)) <= 11.1 * rate  # of any stream
    return np.array(found)


def test_arousal_is_heard_in_a_stream_from_what_came_before():
    rate = 16000
    sound = calm_then_excited(rate, 8.0)
    found = live_arousal(sound, rate, 1600)
    assert found[108:].mean() > found[40:94].mean() + 0.4  # from a second after the change
    assert np.abs(np.diff(found)).max() < 0.25 and np.abs(found).max() <= 1  # nothing jumps
    assert np.array_equal(found, live_arousal(sound, rate, 317))
    cut = live_arousal(np.append(sound[: 8 * rate], np.zeros(8 * rate)), rate, 1600)
    assert np.array_equal(found[:94], cut[:94])  # what comes later does not matter
    assert np.abs(cut[-12:]).max() < 0.05  # nobody speaks
    assert not live_arousal(np.zeros(3 * rate), rate, 1600).any()
