# SPDX-License-Identifier: MIT
"""A corpus of recordings in one call: what lies in a folder is found, brought to the model's rate, and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from ..data.building import building, name_splits, write_rows
from ..errors import FaceTalkError
from ..scripts import REQUIRED, option
from ..units import Unit
from .code_files import find_codes
from .recordings import ImportOptions, Recording, find_fits, find_tracked, import_rows
from .vertex_sequences import encode_vertices, find_vertices, read_lips, read_templates


ABOUT = {
    "speech": "Synthesised speech with the motion that rules give it: scores on it are agreement with those rules.",
    "fits": "Recordings of talking people, as expression codes fitted to videos or point clouds.",
    "tracked": "Recordings of talking people, as tracked NPHM expression codes.",
    "vertices": "Recordings of talking people, as coefficients of the vertex basis in basis.npz.",
    "codes": "Recordings of talking people, as expression codes.",
}
"""First paragraph of the card for each kind of input."""


@dataclass(kw_only=True)
class CorpusOptions:
    """Build a corpus from recordings: sound with expression codes, fits, trackings or vertex sequences."""

    input: list[Path] = option([], "folder of recordings; several for fits, tracked and codes")
    output_dir: Path = option(REQUIRED, "folder of the corpus; it appears when it is complete")
    kind: Literal["auto", "codes", "fits", "tracked", "vertices"] = option(
        "auto", "what the input is; auto: by its files"
    )
    audio: Path | None = option(None, "folder of NAME.wav, where sounds lie apart")
    fps: float | None = option(None, "frames a second of the recordings; fits, and npz with fps, know their own")
    model_fps: float | None = option(24.0, "frames a second of the corpus: any rate is resampled to it")
    every: int = option(1, "keep every N-th frame before that")
    speaker: Literal["first", "last"] | None = option(None, "underscore of a name that the speaker's part ends at")
    validation: float = option(0.1, "share of the speakers")
    test: float = option(0.1, "share of the speakers")
    validation_speakers: list[str] | None = option(None, "names, in place of a share")
    test_speakers: list[str] | None = option(None, "names, in place of a share")
    seed: int = option(0, "another one gives speakers to other splits")
    name: str | None = option(None, "title of the card; the folder's name by default")
    source: str | None = option(None, "where the recordings are from; the input's name by default")
    licence: str | None = option(None, "terms of the recordings")
    consent: str | None = option(None, "how the people agreed to this use of them")
    language: str | None = option(None, "of the speech, ISO 639-1")
    components: int = option(64, "vertices: numbers of a code; 0: the displacements themselves")
    unit: Literal["auto", "mm", "cm", "m"] = option("auto", "vertices: unit of the files")
    templates: Path | None = option(None, "vertices: faces at rest, where the input has them in no usual place")
    topology: Path | None = option(None, "vertices: mesh with the triangles, where templates have none")
    lips: Path | None = option(None, "vertices: .npy or text with the indices of the lips' vertices")

    def __post_init__(self) -> None:
        if not self.input:
            raise FaceTalkError("--input is needed")
        if self.every < 1 or not all(rate is None or rate > 0 for rate in (self.fps, self.model_fps)):
            raise FaceTalkError("--fps, --model-fps and --every must be positive")


def build_corpus(options: CorpusOptions, log: Callable[[str], object] = print) -> None:
    """Build a corpus; the folder appears when all rows have been checked together.

    Raises:
        FaceTalkError: recordings that cannot be used, with file and frame; a folder that is in use.
    """
    if options.kind == "auto":
        options.kind = kind_of(options.input[0])
    if len(options.input) > 1 and options.kind == "vertices":
        raise FaceTalkError("--kind vertices takes one --input")
    with building(options.output_dir, options.name, ABOUT[options.kind]) as work:
        build_recordings(options, work, log)


def kind_of(folder: Path) -> Literal["codes", "fits", "tracked", "vertices"]:
    """Tell by its files what a folder of recordings holds.

    Raises:
        FaceTalkError: no such folder, or nothing that is known.
    """
    if not folder.is_dir():
        raise FaceTalkError(f"no folder {folder}")
    if next(folder.rglob("fit.npz"), None):
        return "fits"
    if next(folder.glob("*/nphm_tracking"), None):
        return "tracked"
    if next(folder.glob("[!.]*.npz"), None) and not next(folder.glob("templates*"), None):
        return "codes"
    if (folder / "vertices_npy").is_dir() or next(folder.glob("templates*"), None):
        return "vertices"
    if any(next(folder.glob(pattern), None) for pattern in ("*/*.ply", "*/*.obj", "*/vertices/*", "*/meshes/*")):
        return "vertices"
    raise FaceTalkError(f"cannot tell what {folder} holds: give --kind codes, fits, tracked or vertices")


def splits_of(speakers: set[str], options: Any) -> dict[str, str]:
    """Choose every speaker's split as the options say."""
    validation = options.validation if options.validation_speakers is None else options.validation_speakers
    test = options.test if options.test_speakers is None else options.test_speakers
    return name_splits(speakers, validation, test, options.seed)


def build_recordings(options: Any, work: Path, log: Callable[[str], object] = print) -> None:
    """Write the shards of recordings found by an importer, read one after the other.

    Args:
        options ([`CorpusOptions`]): or the namespace of training/build_corpus.py.
        work (`Path`): what `building` has yielded. log: gets a line when it is done.
    """
    folder, audio = options.input[0], options.audio
    source = options.source or folder.name
    rest = ImportOptions(options.fps, options.every, source, options.licence, options.language, options.model_fps)
    rest.consent = options.consent
    recordings: list[Recording] = []
    if options.kind == "vertices":
        unit: Literal["auto"] | Unit = options.unit
        sequences = find_vertices(folder, audio, options.speaker or "last")
        splits = splits_of({item.recording.speaker for item in sequences}, options)
        templates, faces = read_templates(folder, sequences, options.templates, options.topology)
        lips = read_lips(options.lips, len(next(iter(templates.values())))) if options.lips else None
        basis, recordings = encode_vertices(sequences, splits, templates, faces, options.components, unit, lips)
        basis.save(work)
        if lips is not None and options.components:
            np.save(work / "lips.npy", basis.loss_matrix())
    else:
        for folder in options.input:
            speaker = options.speaker or "first"
            if options.kind == "tracked":
                recordings += find_tracked(folder, speaker)
            else:
                recordings += (find_fits if options.kind == "fits" else find_codes)(folder, audio, speaker)
        splits = splits_of({recording.speaker for recording in recordings}, options)
    rows = import_rows(recordings, splits, rest)
    count = write_rows(tqdm(rows, total=len(recordings), desc="recordings", unit=""), work)
    log(f"{options.output_dir}: {count} sequences of {len(splits)} speakers")
