# SPDX-License-Identifier: MIT
"""Fits of many videos: a folder a person, terms and consent for each, and of each video the clips that show the face.

`VIDEOS/PERSON/*.mp4`, or `VIDEOS/PERSON_NAME.mp4`; `VIDEOS/people.csv` says for each `person` the `licence` of the
recordings and the `consent` of the person. The results lie as those of clouds do, so a corpus is made of them alike.
"""

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...audio.io import read_audio
from ...data.corpus import encode_audio
from ...errors import FaceTalkError
from ...files import atomic_path
from ...models.nphm import NPHMModel
from ..many import digest_of
from .fit import FittedVideo, fit_video
from .landmarks import read_landmarks
from .reading import read_pictures
from .solver import VideoConfig
from .tracker import find_weights, track_video


SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".3gp")
PEOPLE, ABOUT = "people.csv", "about.json"
SHORTEST = 1.0
"""Seconds that the face must be seen for without a break."""


@dataclass
class Terms:
    """Terms of somebody's recordings, and how they agreed that they are used; both are words."""

    licence: str
    consent: str


@dataclass
class VideoFits:
    """What the fits of many videos share: folder of the results, tracker, settings."""

    output: Path
    tracker: Path | None = None
    config: VideoConfig = field(default_factory=VideoConfig)


@dataclass
class VideoFile:
    """A video of a person, with its terms; `name` is its place in the results."""

    path: Path
    person: str
    terms: Terms

    @property
    def name(self) -> str:
        """PERSON/VIDEO."""
        return f"{self.person}/{self.path.stem}"


def find_videos(folder: Path, licence: str | None = None, consent: str | None = None) -> list[VideoFile]:
    """List the videos of a folder by name, with the terms of `people.csv`, or else of the arguments.

    Raises:
        FaceTalkError: no video; two of one name; a person whose licence or consent is not said.
    """
    if not folder.is_dir():
        raise FaceTalkError(f"no folder {folder}")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not paths:
        raise FaceTalkError(f"no videos in {folder}: it needs PERSON/NAME.mp4, or PERSON_NAME.mp4")
    known, found, taken = read_people(folder / PEOPLE), [], dict[str, Path]()
    for path in paths:
        parts = path.relative_to(folder).parts
        person = parts[0] if len(parts) > 1 else path.stem.partition("_")[0]
        said = known.get(person, Terms("", ""))
        terms = Terms(said.licence or licence or "", said.consent or consent or "")
        for what in ("licence", "consent"):
            if not getattr(terms, what):
                raise FaceTalkError(
                    f"{path}: the {what} of {person} is not known: put it into {folder / PEOPLE} (person, licence, "
                    f"consent), or give --{what} for all"
                )
        video = VideoFile(path, person, terms)
        if (other := taken.setdefault(video.name.lower(), path)) is not path:
            raise FaceTalkError(f"{other} and {path} would have the same name: rename one of them")
        found.append(video)
    return found


def read_people(path: Path) -> dict[str, Terms]:
    """Read people.csv, if it is there.

    Raises:
        FaceTalkError: a table without these columns.
    """
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {row["person"].strip(): Terms(row["licence"].strip(), row["consent"].strip()) for row in rows}
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        raise FaceTalkError(f"{path} must be a table with the columns person, licence, consent") from error


def fit_videos(videos: Iterable[VideoFile], fits: VideoFits, head: NPHMModel) -> None:
    """Fit videos one after the other; one that cannot be fitted leaves its reason in error.txt, and others go on."""
    for video in videos:
        folder = fits.output / video.name
        failed = folder / "error.txt"
        try:
            report = fit_file(video, folder, fits, head)
            failed.unlink(missing_ok=True)
            line = f"{report['frames']} frames in {report['clips']} clips, {report['residual_mm']['mean']:.2f} mm off"
            if report["cuts_s"]:
                line += f"; it cuts at {report['cuts_s'][0]:.1f} s: see that nobody but {video.person} is shown"
        except Exception as error:
            words = str(error).splitlines() or [""]
            line = words[0] if isinstance(error, FaceTalkError) else f"{type(error).__name__}: {words[0]}"
            with atomic_path(failed) as temporary:
                temporary.write_text(line + "\n", encoding="utf-8")
            line = f"FAILED: {line}"
        print(f"{video.name}: {line}", flush=True)


def fit_file(video: VideoFile, folder: Path, fits: VideoFits, head: NPHMModel) -> dict[str, Any]:
    """Fit a video, a clip a folder; return its report, which is written last and only read where it is done.

    Raises:
        FaceTalkError: no sound, no face, or none for `SHORTEST` seconds.
    """
    with open(video.path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    settings = json.dumps(asdict(fits.config), sort_keys=True)
    key = hashlib.sha256(f"{digest} {settings}".encode() + digest_of(head)).hexdigest()
    done, kept = folder / "report.json", folder / f"landmarks-{digest[:12]}.npz"
    if done.is_file():
        report = json.loads(done.read_text(encoding="utf-8"))
        if report.get("key") == key:
            for place in sorted(folder.glob("[0-9]*/fit.npz")):
                write_terms(place.parent, video.terms)  # which may have changed since
            return report
        done.unlink()
    try:
        audio, rate = read_audio(video.path)
    except FaceTalkError as error:
        raise FaceTalkError(f"{video.path} has no sound that can be read, which a corpus needs") from error
    if not kept.is_file():
        track_video(read_pictures(video.path), find_weights(fits.tracker)).save(kept)
    marks = read_landmarks(kept)
    fitted = fit_video(head, marks, fits.config)
    clips = [span for span in fitted.segments if (span[1] - span[0]) / fitted.animation.fps >= SHORTEST]
    if not clips:
        raise FaceTalkError(f"{video.path} shows the face for less than {SHORTEST:g} s at a time")
    for number, span in enumerate(clips, 1):
        write_clip(folder / f"{number:02d}", fitted, span, (audio, rate))
        write_terms(folder / f"{number:02d}", video.terms)
    for old in folder.glob("[0-9]*"):
        if old.is_dir() and int(old.name) > len(clips):
            (old / "fit.npz").unlink(missing_ok=True)  # of other settings, which found more
    off = fitted.residual[np.isfinite(fitted.residual)]
    report = {
        "key": key, "frames": sum(b - a for a, b in clips), "clips": len(clips), "cuts_s": marks.cuts(),
        "residual_mm": {"mean": float(off.mean())}, "bad_frames": int((~np.isfinite(fitted.residual)).sum()),
    }  # fmt: skip
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def write_terms(folder: Path, terms: Terms) -> None:
    """Write about.json, which a corpus takes licence and consent from."""
    with atomic_path(folder / ABOUT) as temporary:
        temporary.write_text(json.dumps(asdict(terms), indent=1), encoding="utf-8")


def write_clip(folder: Path, fitted: FittedVideo, span: tuple[int, int], sound: tuple[np.ndarray, int]) -> None:
    """Write frames `span` of a fit as fit.npz, and their sound as sound.flac.

    `head_pose` (T, 6) is the head's motion about its middle pose: where the camera stood is not part of it.
    """
    animation, (first, last), (audio, rate) = fitted.animation, span, sound
    begin, end = (round(rate * (fitted.times[first] + shift)) for shift in (0, (last - first) / animation.fps))
    samples = audio[max(begin, 0) : end]
    samples = np.pad(samples, (0, max(0, end - max(begin, 0) - len(samples))))
    assert animation.poses is not None and animation.expressions is not None and animation.identity is not None
    pose = animation.poses[first:last]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "sound.flac") as temporary:
        temporary.write_bytes(encode_audio(samples, rate)["bytes"])
    with atomic_path(folder / "fit.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream, expressions=animation.expressions[first:last], weights=animation.weights[first:last],
            names=np.array(animation.target_names), identity=animation.identity, fps=animation.fps,
            residual=fitted.residual[first:last].astype(np.float32), head_pose=pose - np.median(pose, axis=0),
        )  # fmt: skip
