# SPDX-License-Identifier: MIT
"""The voices of the spoken corpus: which there are, what they say, and the rows that they make."""

import zlib
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..phones.alphabets import SILENCE, normalise_all
from ..phones.segments import Segment
from .kokoro import HELD_OUT, LANGUAGES
from .speech_engines import ENGINES, ESPEAK_ENGLISH, ESPEAK_VARIANTS, ESPEAK_WORLD, RATE, Speech
from .spoken_clips import assemble_clip, make_row, silence_clip
from .texts import Text


CLIPS = 40
"""Clips of a voice in a shard."""
# name: (engine, engine's voice, language, speaker, share of the hours); flite's slt, kal16 are festival's slt, kal.
VOICES = {
    "flite-awb": ("flite", "awb", "en", "awb", 1.0),
    "flite-slt": ("flite", "slt", "en", "slt", 0.6),
    "flite-kal": ("flite", "kal16", "en", "kal", 0.4),
    "festival-slt": ("festival", "cmu_us_slt_arctic_hts", "en", "slt", 0.6),
    "festival-kal": ("festival", "kal_diphone", "en", "kal", 0.6),
    "festival-ked": ("festival", "ked_diphone", "en", "ked", 1.0),
    "festival-ona": ("festival", "upc_ca_ona_hts", "ca", "ona", 1.0),
    "festival-lp": ("festival", "lp_diphone", "it", "lp", 1.0),
    "festival-mv": ("festival", "hy_fi_mv_diphone", "fi", "mv", 1.0),
    "festival-dita": ("festival", "czech_dita", "cs", "dita", 0.7),
    "festival-krb": ("festival", "czech_krb", "cs", "krb", 0.6),
    "festival-machac": ("festival", "czech_machac", "cs", "machac", 0.6),
    "festival-ph": ("festival", "czech_ph", "cs", "ph", 0.6),
    "espeak-en": ("espeak", "", "en", "espeak", 1.8),
    "espeak-world": ("espeak", "", "", "espeak", 3.0),
}
# Kept for evaluation; no training script may read them.
TEST_VOICES = {
    "flite-rms": ("flite", "rms", "en", "rms", 0),
    "festival-pc": ("festival", "pc_diphone", "it", "pc", 0),
    "festival-lj": ("festival", "suo_fi_lj_diphone", "fi", "lj", 0),
}
# All voices of Kokoro (docs/corpus.md, "Neural voices").
_KOKORO = (
    "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam "
    "am_echo am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily "
    "bm_daniel bm_fable bm_george bm_lewis ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara "
    "im_nicola jf_alpha jf_gongitsune jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni "
    "zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi zm_yunxia zm_yunyang"
).split()


def _neural(voices: list[str], share: float) -> dict[str, tuple[str, str, str, str, float]]:
    """Make rows of Kokoro's voices or blends; every one is a speaker."""
    return {f"kokoro-{name}": ("kokoro", name, LANGUAGES[name[0]][:2], name, share) for name in voices}


_TRAINED = [name for name in _KOKORO if name not in HELD_OUT]
_PAIRS = [pair for pair in pairwise(_TRAINED) if LANGUAGES[pair[0][0]] == LANGUAGES[pair[1][0]]]
NEURAL_VOICES = _neural(_TRAINED, 1.0) | _neural([f"{a}50_{b}50" for a, b in _PAIRS], 0.5)
"""Rows as in `VOICES`: voices of Kokoro, and blends of neighbours within a language."""
NEURAL_TEST_VOICES = _neural([name for name in _KOKORO if name in HELD_OUT], 0)
"""Rows as in `TEST_VOICES`: voices that no blend contains."""
_ALL_TEST = TEST_VOICES | NEURAL_TEST_VOICES
_ALL = VOICES | NEURAL_VOICES | _ALL_TEST
ALPHABET = {"en": "english", "ca": "catalan", "it": "italian", "fi": "finnish", "cs": "czech"}
LICENCE = {
    "flite": "CMU Flite licence",
    "festival": "X11 / LGPL / GPL, see the Debian package",
    "espeak": "GPL-3.0 program",
    "kokoro": "Apache-2.0 weights; GPL-3.0 program (espeak-ng) for the spelling",
}


def speak(name: str, texts: list[tuple[str, str]], rng: np.random.Generator) -> list[Speech | None]:
    """Synthesise texts with one voice, with phones of the common alphabet; `None` for a failure.

    Args:
        name (`str`): of `VOICES`, `TEST_VOICES` or the neural ones.
        texts: pairs of a voice of the engine and a sentence.
        rng (`np.random.Generator`): all chance comes from it.
    """
    kind, _, language, _, _ = _ALL[name]
    engine, made = ENGINES[kind](), []
    for voice, group in groupby(texts, key=lambda pair: pair[0]):
        made += engine(voice, [text for _, text in group], rng)
    espeak = "ipa-english" if language == "en" else "ipa"
    alphabet = {"espeak": espeak, "kokoro": "common"}.get(kind) or ALPHABET[language]
    return [speech and Speech(speech.samples, normalise_all(speech.phones, alphabet)) for speech in made]


def voice_rows(
    name: str, number: int, seed: int, texts: Path, clips: int | None = None
) -> tuple[list[dict[str, Any]], float]:
    """Make the clips of a shard of a voice; all chance comes from the voice, the shard's number and the seed.

    Args:
        name (`str`): of `VOICES`, `TEST_VOICES` or the neural ones.
        number (`int`): of the shard. seed (`int`): of the corpus.
        texts (`Path`): folder of the languages' sentences.
        clips (`int`, *optional*): rows of the shard, `CLIPS` by default.

    Returns:
        rows, the first of a training voice for the validation, and their seconds.
    """
    rng = np.random.default_rng([seed, number, zlib.crc32(name.encode())])
    engine, voice, language, speaker, _ = _ALL[name]
    plans = []
    for _ in range(CLIPS if clips is None else clips):
        if engine == "espeak":
            dialects = ESPEAK_ENGLISH if language == "en" else ESPEAK_WORLD
            voice = f"{rng.choice(dialects)}+{rng.choice(ESPEAK_VARIANTS)}"
        spoken = language or voice[:2]
        text = Text(texts, spoken)
        plans.append((voice, spoken, [text.sentence(rng) for _ in range(rng.choice([1, 2, 2, 3]))]))
    flat = [(voice, text) for voice, _, said in plans for text in said]
    made = iter(speak(name, flat, rng))
    result, seconds = [], 0.0
    for index, (voice, spoken, said) in enumerate(plans):
        pieces = [piece for piece in [next(made) for _ in said] if piece is not None and len(piece[1]) > 2]
        if not pieces:
            continue
        audio, segments = assemble_clip(pieces, rng)
        split = "test" if name in _ALL_TEST else "validation" if index == 0 else "train"
        fields = {"language": spoken, "engine": engine, "licence": LICENCE[engine], "split": split}
        fields |= {"text": " ".join(said), "speaker": f"espeak {voice}" if engine == "espeak" else speaker}
        result.append(make_row(audio, segments, rng, id=f"{name}-{number:03d}-{index:03d}", **fields))
        seconds += len(audio) / RATE
    return result, seconds


def silence_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Make clips of silence for the training, from the seed."""
    rng = np.random.default_rng([seed, 7])
    fields = {"language": "", "engine": "none", "licence": "MIT", "split": "train", "text": "", "speaker": "silence"}
    result = []
    for index in range(count):
        clip = silence_clip(rng)
        silence = [Segment(SILENCE, 0, len(clip) / RATE)]
        result.append(make_row(clip, silence, rng, id=f"silence-000-{index:03d}", **fields))
    return result
