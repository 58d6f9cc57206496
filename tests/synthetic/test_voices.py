# SPDX-License-Identifier: MIT
"""Rows of the spoken corpus, with a made-up engine in place of programs that this machine may lack."""

from pathlib import Path

import numpy as np
import pytest

from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus
from facetalk_hf.phones.alphabets import SILENCE
from facetalk_hf.synthetic import voices
from facetalk_hf.synthetic.speech_engines import ENGINES, Speech
from facetalk_hf.synthetic.spoken_clips import FPS, silence_clip
from facetalk_hf.synthetic.voices import TEST_VOICES, VOICES, Text, silence_rows, voice_rows


TEXTS = Path(__file__).parents[2] / "training" / "texts"
RATE = 16000


def say(voice: str, texts: list[str], rng: np.random.Generator) -> list:
    """A tenth of a second for each word, /b/ and /aa/ in turn, silence around them; every seventh text fails."""
    result = []
    for index, text in enumerate(texts):
        count = len(text.split())
        samples = (0.1 * rng.standard_normal(round((0.4 + 0.1 * count) * RATE))).astype(np.float32)
        phones = [("pau", 0.0, 0.2)]
        phones += [("b" if i % 2 else "aa", 0.2 + 0.1 * i, 0.3 + 0.1 * i) for i in range(count)]
        phones.append(("pau", 0.2 + 0.1 * count, 0.4 + 0.1 * count))
        result.append(None if index % 7 == 6 else Speech(samples, phones))
    return result


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setitem(ENGINES, "flite", lambda: say)
    monkeypatch.setattr(voices, "CLIPS", 5)


def test_a_shard_is_a_function_of_voice_number_and_seed(engine):
    (rows, seconds), (again, _) = (voice_rows("flite-slt", 2, 0, TEXTS) for _ in range(2))
    assert [row["id"] for row in rows] == [f"flite-slt-002-{index:03d}" for index in range(5)]
    assert all(
        np.array_equal(a["weights"], b["weights"]) and a["audio"] == b["audio"]
        for a, b in zip(rows, again, strict=True)
    )
    others = [
        voice_rows(*place, TEXTS)[0] for place in (("flite-awb", 2, 0), ("flite-slt", 3, 0), ("flite-slt", 2, 1))
    ]
    texts = [[row["text"] for row in found] for found in (rows, *others)]
    assert all(one != other for i, one in enumerate(texts) for other in texts[:i])
    assert [row["split"] for row in rows] == ["validation", "train", "train", "train", "train"]
    assert {row["split"] for row in voice_rows("flite-rms", 0, 0, TEXTS)[0]} == {"test"}
    assert seconds == pytest.approx(sum(len(corpus.decode_audio(row)) for row in rows) / RATE)


def test_phones_fill_a_clip_and_the_mouth_follows_them(engine):
    for row in voice_rows("flite-slt", 0, 0, TEXTS)[0]:
        phones, frames = row["phones"], len(row["weights"])
        samples = corpus.decode_audio(row)
        assert frames == np.ceil(len(samples) * FPS / RATE) and np.abs(samples).max() <= 0.981
        assert phones[0]["phone"] == phones[-1]["phone"] == SILENCE
        ends, starts = [p["end"] for p in phones[:-1]], [p["start"] for p in phones[1:]]
        assert np.allclose(ends, starts, atol=1e-3) and phones[-1]["end"] == pytest.approx(len(samples) / RATE)
        middle = (np.arange(frames) + 0.5) / FPS
        said = {name: np.zeros(frames, bool) for name in ("aa", "b")}
        for phone in phones:
            if phone["phone"] in said:
                said[phone["phone"]] |= (middle > phone["start"]) & (middle < phone["end"])
        jaw = row["weights"][:, INDEX["jawOpen"]]
        assert jaw[said["aa"]].mean() > 1.8 * jaw[said["b"]].mean()
        assert row["closure"][said["b"]].mean() > 0.5 > row["closure"][said["aa"]].mean()


def test_silence_is_at_rest():
    rows = silence_rows(6, 0)
    jaw = [INDEX[name] for name in ("jawOpen", "mouthPucker", "mouthFunnel")]
    assert all(row["speaker"] == "silence" for row in rows)
    neutral = [row for row in rows if not row["conditions"].any()]
    assert neutral and all(not row["weights"][:, jaw].any() for row in neutral)
    clips = [silence_clip(np.random.default_rng(seed)) for seed in range(20)]
    assert any(not clip.any() for clip in clips) and 0 < max(np.abs(clip).max() for clip in clips) < 0.5


@pytest.mark.parametrize("language", sorted(path.stem for path in TEXTS.glob("*.txt")))
def test_every_language_has_sentences(language):
    text, rng = Text(TEXTS, language), np.random.default_rng(0)
    sentences = {text.sentence(rng) for _ in range(60)}
    assert len(sentences) > 40 and all(sentence[-1].strip() and "{" not in sentence for sentence in sentences)


def test_test_voices_are_not_among_the_others():
    spoken = {voice[:2] for voice in VOICES.values()}
    assert not spoken & {voice[:2] for voice in TEST_VOICES.values()}
    languages = {voice[2] for voice in (VOICES | TEST_VOICES).values()} - {""}
    assert languages <= {path.stem for path in TEXTS.glob("*.txt")}
