# SPDX-License-Identifier: MIT
"""Engines of speech: what they ask of their programs, and what they make of the answers.

The programs are stand-ins, since a machine may lack them: they write a tone, and one phone a word.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from facetalk_hf.synthetic.speech_engines import ENGINES, RATE, Speech


FLITE = """
import sys
settings = " ".join(sys.argv)
assert "duration_stretch=" in settings and "int_f0_target_mean=" in settings
assert "-psdur" in sys.argv
text = sys.argv[sys.argv.index("-t") + 1]
tone(sys.argv[sys.argv.index("-o") + 1], len(text.split()))
print(" ".join(f"{word[0]}:{0.1 * (i + 1):.1f}" for i, word in enumerate(text.split())))
"""
FESTIVAL = """
import re, sys
script = open(sys.argv[2], encoding="iso-8859-2").read()
assert script.startswith("(voice_czech_dita)")
for text, seg, wav in re.findall(r'Utterance Text "(.*?)".*?save.segs utt "(.*?)".*?save.wave utt "(.*?)"', script):
    if "fails" in text:
        continue
    tone(wav, len(text.split()))
    rows = "".join(f"{0.1 * (i + 1):.1f} 100 {word[0]}\\n" for i, word in enumerate(text.split()))
    open(seg, "w", encoding="iso-8859-2").write("separator ;\\n#\\n" + rows)
"""
TONE = f"""#!{sys.executable}
import wave
def tone(path, words):
    with wave.open(path, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes(b"\\x00\\x10" * (1600 * words))
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("flite", FLITE), ("festival", FESTIVAL)):
        path = tmp_path / name
        path.write_text(TONE + code)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(("name", "voice"), [("flite", "slt"), ("festival", "czech_dita")])
def test_engines_give_samples_and_phones_with_their_times(programs, name, voice):
    texts = ["mama řekla ano", "fails" if name == "festival" else "no", "bob"]
    made = ENGINES[name]()(voice, texts, np.random.default_rng(0))
    assert len(made) == 3 and (made[1] is None) == (name == "festival")
    first = made[0]
    assert isinstance(first, Speech) and first.samples.dtype == np.float32 and len(first.samples) == 0.3 * RATE
    assert [phone for phone, _, _ in first.phones] == ["m", "ř", "a"]
    assert np.allclose([row[1:] for row in first.phones], [[0, 0.1], [0.1, 0.2], [0.2, 0.3]])


def test_espeak_is_made_once_a_process():
    try:
        engine = ENGINES["espeak"]()
    except OSError:
        pytest.skip("needs libespeak-ng1")
    assert engine is ENGINES["espeak"]()
    speech, unknown = engine("en-us+f1", ["Mama."], np.random.default_rng(0)), engine("xx", ["a"], None)
    assert unknown == [None] and speech[0].phones[-1][2] <= len(speech[0].samples) / RATE + 1e-3
