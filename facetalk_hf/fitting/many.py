# SPDX-License-Identifier: MIT
"""Fits of many sequences: folders with all that lies beside their clouds, one by one or the frames of several at once.

A folder is a sequence as `facetalk fit` reads it, or with all frames in `clouds.npz`; `transforms.npz` (or .json, or
s.npy, R.npy, t.npy), `landmarks.npy` and `identity.npy` are used where they lie in it.
"""

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import FaceTalkError
from ..files import atomic_path
from ..head.identity_files import read_identity_code
from ..models.digest import weights_digest
from ..models.nphm import NPHMModel
from ..units import Unit
from .batched_field import FieldBatcher, SharedField
from .config import FittingConfig
from .fields import make_field
from .inputs import read_inputs
from .point_clouds import SEQUENCE_FILE
from .sequence import MakeField, fit_sequence


NOT_READ = ("truth.npz", "audio.flac", "sequence.json")


@dataclass
class FitOptions:
    """Settings that the fits of many sequences share.

    Args:
        output (`Path`): a folder in it for each sequence.
        config ([`FittingConfig`]): weights of the objective.
        unit (`str`): of the points.
        batch (`int`): sequences whose frames are evaluated together.
    """

    output: Path
    config: FittingConfig
    unit: Literal["auto"] | Unit = "auto"
    batch: int = 1


def find_sequences(folder: Path) -> list[Path]:
    """List the folders with sequences, by name."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."] if folder.is_dir() else []
    if not found:
        raise FaceTalkError(f"no sequences in {folder}: it needs a folder for each, with {SEQUENCE_FILE} or frames")
    return sorted(found)


@cache
def digest_of(head: NPHMModel) -> bytes:
    """Hash a head's weights, once."""
    return weights_digest(head.state_dict())


def fingerprint(folder: Path, head: NPHMModel, options: FitOptions) -> str:
    """Hash all that the fit of a sequence depends on: its files, the options, the head."""
    settings = asdict(options.config) | {"unit": options.unit, "batch": options.batch}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + digest_of(head))
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name not in NOT_READ):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def one_of(folder: Path, *names: str) -> Path | None:
    """Find the first of these files that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def fit_folder(folder: Path, output: Path, head: NPHMModel, options: FitOptions, make: MakeField) -> dict[str, Any]:
    """Fit a sequence with what lies beside its clouds; return its report, which is only read where it is done."""
    key, done = fingerprint(folder, head, options), output / "report.json"
    if done.is_file():
        report = json.loads(done.read_text())
        if report.get("key") == key:
            return report
    transforms = one_of(folder, "transforms.npz", "transforms.json")
    transforms = folder if transforms is None and (folder / "R.npy").is_file() else transforms
    inputs = read_inputs(folder, one_of(folder, "landmarks.npy"), transforms, unit=options.unit)
    code_file = one_of(folder, "identity.npy")
    if code_file is not None:
        inputs.identity = torch.from_numpy(read_identity_code(code_file, head.identity_dim))
    extra = {"key": key, "points": options.config.points}
    return fit_sequence(head, inputs, output, options.config, make, extra=extra).report


def try_sequence(folder: Path, options: FitOptions, head: NPHMModel, make: MakeField) -> None:
    """Fit a sequence; if that fails, say why in its `error.txt`, so that the others go on."""
    output = options.output / folder.name
    failed = output / "error.txt"
    try:
        report = fit_folder(folder, output, head, options, make)
        failed.unlink(missing_ok=True)
        line = f"{report['frames']} frames, residual {report['residual_mm']['mean']:.2f} mm"
        if "thread_s" in report:
            line += f", {report['thread_s'] / report['frames']:.2f} s a frame"
    except Exception as error:
        words = str(error).splitlines() or [""]
        line = words[0] if isinstance(error, FaceTalkError) else f"{type(error).__name__}: {words[0]}"
        with atomic_path(failed) as temporary:
            temporary.write_text(line + "\n")
        line = f"FAILED: {line}"
    print(f"{folder.name}: {line}", flush=True)


def fit_group(group: list[Path], options: FitOptions, head: NPHMModel, networks: NPHMModel | None = None) -> None:
    """Fit the sequences of a group, one by one or together.

    Args:
        group: folders of sequences. options ([`FitOptions`]): of the fits. head ([`NPHMModel`]): on the CPU.
        networks ([`NPHMModel`], *optional*): the same head on a device where the frames of the group are evaluated
            together; each sequence has a thread of its own then.
    """
    if networks is None:
        for folder in group:
            try_sequence(folder, options, head, make_field)
        return
    batcher = FieldBatcher(networks, networks.device, len(group))

    def work(number: int) -> None:
        try:
            try_sequence(group[number], options, head, lambda of, code: SharedField(of, code, batcher, number))
        finally:
            batcher.leave()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(group))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_summary(names: list[str], output: Path) -> dict[str, dict[str, Any]]:
    """Write report.json: every sequence's mean residual and bad frames, and why others failed."""
    summary: dict[str, dict[str, Any]] = {"fitted": {}, "failed": {}}
    for name in names:
        failed, done = output / name / "error.txt", output / name / "report.json"
        if failed.is_file():
            summary["failed"][name] = failed.read_text().strip()
        elif done.is_file():
            report = json.loads(done.read_text())
            kept = {
                key: report[key] for key in ("frames", "clips", "bad_frames", "thread_s", "wall_s") if key in report
            }
            summary["fitted"][name] = kept | {"residual_mm": report["residual_mm"]["mean"]}
        else:
            summary["failed"][name] = "not begun"
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    return summary
