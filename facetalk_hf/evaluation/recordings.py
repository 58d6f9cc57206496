# SPDX-License-Identifier: MIT
"""Scores of a model on recordings whose phones are known: of people, or of engines; also by telephone, in noise."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.signal
import torch

from ..audio.io import load_audio, resample
from ..blendshapes import INDEX
from ..data import corpus
from ..errors import FaceTalkError
from ..head.decoder import HeadDecoder
from ..head.decoding import make_decoder
from ..phones.alphabets import SILENCE
from ..phones.reading import to_segments
from ..phones.segments import Segment
from ..phones.visemes import mouth_weights
from .lip_events import LipEvents, LipScores
from .metrics import correlation


if TYPE_CHECKING:
    from ..models.nphm import NPHMModel


RATE = 16000
TELEPHONE_RATE = 8000
TELEPHONE_BAND = (300.0, 3400.0)
HEADINGS = ("F1", "recall", "prec.", "open", "round", "f v", "sil.p95", "lag", "r rules", "r clean")


@dataclass(frozen=True)
class Recording:
    """A recording whose phones are known, not yet read.

    Args:
        name (`str`): of the clip. speaker (`str`): whose voice. sound (`Path` or (S,) float32 at 16 kHz).
        phones (list of [`Segment`]): common alphabet, seconds. language (`str`): ISO 639-1, empty if not known.
    """

    name: str
    speaker: str
    sound: Path | np.ndarray
    phones: list[Segment]
    language: str = ""

    def samples(self) -> np.ndarray:
        """Read the sound, (S,) float32 at 16 kHz."""
        return load_audio(self.sound, RATE) if isinstance(self.sound, Path) else self.sound


@dataclass
class RecordingScores:
    """Scores of a model on some recordings.

    Args:
        scores ([`LipScores`]): of all of them. speakers (dict): of each speaker. languages (dict): of each language,
            where several are known.
        agreement (`float`): r of the aperture with that of the rules, over all frames.
        to_clean (`float`, *optional*): r of the aperture with what the same model makes of the sound as it was.
        apertures (dict): clip -> (T,) mm.
    """

    scores: LipScores
    speakers: dict[str, LipScores]
    languages: dict[str, LipScores]
    agreement: float
    to_clean: float | None = None
    apertures: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Make a dictionary for JSON, without the apertures."""
        more: dict[str, Any] = {"agreement": self.agreement, "to_clean": self.to_clean}
        for key in ("speakers", "languages"):
            more[key] = {name: scores.as_dict() for name, scores in getattr(self, key).items()}
        return self.scores.as_dict() | more


def read_corpus(folder: Path, split: str = "test") -> list[Recording]:
    """Read the rows of a corpus's split whose phones are known, or raise [`FaceTalkError`] where there are none."""
    columns, found = ("id", "speaker", "audio", "sampling_rate", "phones", "language"), []
    for row in corpus.read(folder, (split,), columns):
        segments = [Segment(item["phone"], item["start"], item["end"]) for item in row["phones"] or []]
        if segments:
            samples = resample(corpus.decode_audio(row), row["sampling_rate"], RATE)
            found.append(Recording(row["id"], row["speaker"], samples, segments, row["language"] or ""))
    if not found:
        raise FaceTalkError(f"{folder} has no rows with phones in its split {split}")
    return found


def read_recordings(path: str | Path) -> list[Recording]:
    """Read a list of aligned recordings, as training/align_speech.py writes it, or the test voices of a corpus.

    Args:
        path (`str` or `Path`): JSON, an object name -> `file` (beside the list, or absolute), `phones` (lists of
            phone, start, end in seconds, of any alphabet that [`~facetalk_hf.phones.reading.to_segments`] tells), and
            perhaps `speaker` and `language`; or the folder of a corpus with phones.

    Raises:
        FaceTalkError: no such list, or a recording in it that lacks something; names it.
    """
    path, found = Path(path), []
    if path.is_dir():
        return read_corpus(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FaceTalkError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FaceTalkError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise FaceTalkError(f"{path} holds no recordings: it must be an object, name -> file and phones")
    for name, fields in content.items():
        if not isinstance(fields, Mapping) or "file" not in fields or "phones" not in fields:
            raise FaceTalkError(f"{path}: recording {name} lacks its file or its phones")
        sound = path.parent / str(fields["file"])
        if not sound.is_file():
            raise FaceTalkError(f"{path}: recording {name}: no file {sound}")
        rows = [tuple(row) for row in fields["phones"]]
        if any(len(row) != 3 for row in rows):
            raise FaceTalkError(f"{path}: recording {name}: phones must be lists of phone, start, end")
        segments = to_segments(rows, place=f"{path}: recording {name}")
        who = str(fields.get("speaker") or name)
        found.append(Recording(name, who, sound, segments, str(fields.get("language") or "")))
    return found


def by_telephone(samples: np.ndarray, sampling_rate: int = RATE) -> np.ndarray:
    """Send samples (S,) through a telephone line: 300 to 3400 Hz at 8 kHz, and back to their own rate.

    A Butterworth band-pass of order 4, forwards and backwards, so that nothing is delayed.
    """
    sections = scipy.signal.butter(4, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_RATE, output="sos")
    narrow = scipy.signal.resample_poly(samples.astype(np.float64), TELEPHONE_RATE, sampling_rate)
    narrow = scipy.signal.sosfiltfilt(sections, narrow, padlen=min(len(narrow) - 1, 400))
    wide = scipy.signal.resample_poly(narrow, sampling_rate, TELEPHONE_RATE)[: len(samples)]
    return np.pad(wide, (0, len(samples) - len(wide))).astype(np.float32)


def in_noise(samples: np.ndarray, decibels: float, seed: int = 0) -> np.ndarray:
    """Add white noise, `decibels` below the power of samples (S,)."""
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    return (samples + noise * samples.std() * 10 ** (-decibels / 20)).astype(np.float32)


def conditions(telephone: bool = False, noise: float | None = None) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Name what is done to the sound before a model hears it: "clean", and what else is asked for."""
    result: dict[str, Callable[[np.ndarray], np.ndarray]] = {"clean": lambda samples: samples}
    if telephone:
        result["telephone"] = by_telephone
    if noise is not None:
        result[f"noise {noise:g} dB"] = lambda samples: in_noise(samples, noise)
    return result


def rules_codes(recordings: Sequence[Recording], head: "NPHMModel", fps: float) -> list[torch.Tensor]:
    """Make the codes (T, D) that the rules give the phones: a mouth that knows them, the upper bound of the scores."""
    result = []
    for recording in recordings:
        frames = max(1, int(np.ceil(len(recording.samples()) * fps / RATE - 1e-6)))
        result.append(head.expression_from_weights(torch.from_numpy(mouth_weights(recording.phones, frames, fps)[0])))
    return result


class RecordingScorer:
    """A measure of codes on recordings: the aperture of a head in mm, rounding and bite of its weights.

    Args:
        head (`NPHMModel`): the head that codes are of. fps (`float`): of codes.
        recordings (list of [`Recording`]): what is spoken.
    """

    def __init__(self, head: "NPHMModel", recordings: Sequence[Recording], fps: float = 24.0) -> None:
        if not recordings:
            raise FaceTalkError("there are no recordings to evaluate on")
        self.recordings, self.fps, self.head = list(recordings), fps, head
        self.decoder: HeadDecoder = make_decoder(head, resolution=24)  # landmarks need no fine surface
        self._basis = head.expression_basis.float().cpu().numpy() if head.config.expression_names else None
        self._rules: np.ndarray | None = None
        if self._basis is not None:
            codes = rules_codes(self.recordings, head, fps)
            self._rules = np.concatenate([self._aperture(item) for item in codes])

    @property
    def speakers(self) -> set[str]:
        """Names of those who speak."""
        return {recording.speaker for recording in self.recordings}

    @property
    def phones(self) -> int:
        """Number of phones in all recordings, without pauses."""
        return sum(segment.phone != SILENCE for recording in self.recordings for segment in recording.phones)

    def _aperture(self, codes: np.ndarray | torch.Tensor) -> np.ndarray:
        return self.decoder.lip_aperture(codes)

    def __call__(
        self, codes: Sequence[np.ndarray | torch.Tensor], clean: RecordingScores | None = None
    ) -> RecordingScores:
        """Score codes, one (T, D) a recording; `clean`: scores of the same model on the sound as it was."""
        speakers: dict[str, LipEvents] = {}
        languages: dict[str, LipEvents] = {}
        apertures: dict[str, np.ndarray] = {}
        for recording, item in zip(self.recordings, codes, strict=True):
            aperture, tracks = self._aperture(item), {}
            if self._basis is not None:
                plain = item.detach().float().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
                weights = (plain @ self._basis).clip(0, 1)
                tracks["rounding"] = weights[:, INDEX["mouthPucker"]] + weights[:, INDEX["mouthFunnel"]]
                tracks["bite"] = weights[:, INDEX["mouthRollLower"]]
            for tally in (
                speakers.setdefault(recording.speaker, LipEvents()),
                languages.setdefault(recording.language, LipEvents()),
            ):
                tally.add(recording.phones, aperture, self.fps, **tracks)
            apertures[recording.name] = aperture
        whole = np.concatenate(list(apertures.values()))
        known = self._rules is not None and len(self._rules) == len(whole)
        return RecordingScores(
            LipEvents().merge(speakers.values()).summary(),
            {name: tally.summary() for name, tally in speakers.items()},
            {name: tally.summary() for name, tally in sorted(languages.items())} if len(languages) > 1 else {},
            correlation(whole, self._rules) if known and self._rules is not None else float("nan"),
            None if clean is None else correlation(whole, np.concatenate(list(clean.apertures.values()))),
            apertures,
        )

    def predict(
        self, predict: Callable[..., Sequence[np.ndarray | torch.Tensor]],
        change: Callable[[np.ndarray], np.ndarray] | None = None, seed: int = 0, batch: int = 8,
        with_phones: bool = False, progress: Callable[[int], object] | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Let a model predict codes of all recordings, each with the same seed.

        Args:
            predict ([`~facetalk_hf.evaluation.scores.Predictor`]): the model.
            change: what is done to the sound before. seed (`int`): of each clip, whatever else is in the list.
            batch (`int`): clips at once. progress: is told how many more are done.
            with_phones (`bool`): call `predict(clips, seeds, phones)`, with the segments of each clip.
        """
        clips = [recording.samples() for recording in self.recordings]
        order = sorted(range(len(clips)), key=lambda index: len(clips[index]))  # like lengths pad little
        made: dict[int, np.ndarray] = {}
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            heard = [clips[i] if change is None else change(clips[i]) for i in part]
            more = [[self.recordings[i].phones for i in part]] if with_phones else []
            for i, item in zip(part, predict(heard, [seed] * len(part), *more), strict=True):
                made[i] = item.detach().float().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
            if progress is not None:
                progress(len(part))
        return [made[i] for i in range(len(clips))]


def recordings_table(results: Mapping[str, RecordingScores]) -> str:
    """Write scores as text: a row a model and condition; then stops and false closures by phone, and speakers."""
    wide = max(map(len, results), default=0) + 2
    lines = [" " * wide + "".join(f"{name:>9}" for name in HEADINGS)]
    for name, result in results.items():
        s = result.scores
        values = (
            s.f1, s.recall, s.precision, s.open_auc, s.round_auc, s.bite_auc, s.silence_p95, s.lag, result.agreement,
            result.to_clean,
        )  # fmt: skip
        lines.append(f"{name:{wide}}" + "".join(" " * 9 if v is None else f"{v:9.3f}" for v in values))
    lines.append("")
    for name, result in results.items():
        s = result.scores
        recall = ", ".join(f"{phone} {value:.2f}" for phone, value in s.recall_of.items())
        false = ", ".join(f"{phone} {count}" for phone, count in list(s.false_of.items())[:8]) or "none"
        lines.append(f"{name}: recall of {recall}; false closures {sum(s.false_of.values())} of {s.runs}: {false}")
        worst = sorted(result.speakers.items(), key=lambda item: item[1].f1)[:5]
        told = ", ".join(f"{speaker} {item.f1:.2f}" for speaker, item in worst)
        half = sum(item.precision < 0.5 for item in result.speakers.values())
        if result.languages:
            each = ", ".join(f"{name or '?'} {item.f1:.3f}" for name, item in result.languages.items())
            lines.append(f"  F1 by language: {each}")
        lines.append(f"  lowest F1 of {len(result.speakers)} speakers: {told}; {half} with most closures false")
    return "\n".join(lines)
