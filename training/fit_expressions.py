# SPDX-License-Identifier: MIT
"""Fit expression codes to many sequences of point clouds, spread over processes and machines.

    python training/fit_expressions.py --scans data/scans --model HEAD --output data/fits
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 training/fit_expressions.py ...
    accelerate launch --multi_gpu --num_processes 8 training/fit_expressions.py --batch 32 ...

Every folder in --scans is a sequence as `facetalk fit` reads it, or with all frames in `clouds.npz`; `transforms.npz`
(or .json, or s.npy, R.npy, t.npy), `landmarks.npy` and `identity.npy` are used where they lie in it. OUTPUT/NAME gets
fit.npz, identity.npy, poses.npz and report.json, and windows/ as they are solved. Started again, it skips what is done
and goes on at the first window that is not. A sequence that cannot be fitted is one line of OUTPUT/report.json.
"""

import argparse
import hashlib
import json
import threading
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
from accelerate import PartialState

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.cli.fit import load_head, read_code
from facetalk_hf.files import atomic_path
from facetalk_hf.fitting.batched_field import FieldBatcher, SharedField
from facetalk_hf.fitting.config import read_config
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.fitting.inputs import read_inputs
from facetalk_hf.fitting.point_clouds import SEQUENCE_FILE
from facetalk_hf.fitting.sequence import MakeField, fit_sequence
from facetalk_hf.models.nphm import NPHMModel


NOT_READ = ("truth.npz", "audio.flac", "sequence.json")


def find_sequences(folder: Path) -> list[Path]:
    """Folders with sequences, by name."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."] if folder.is_dir() else []
    if not found:
        raise FaceTalkError(f"no sequences in {folder}: it needs a folder for each, with {SEQUENCE_FILE} or frames")
    return sorted(found)


@cache
def digest_of(head: NPHMModel) -> bytes:
    """A hash of a head's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(head.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.digest()


def fingerprint(folder: Path, head: NPHMModel, options: argparse.Namespace) -> str:
    """A hash of all that the fit of a sequence depends on: its files, the options, the head."""
    settings = asdict(options.config) | {"unit": options.unit, "batch": options.batch}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + digest_of(head))
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name not in NOT_READ):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def one_of(folder: Path, *names: str) -> Path | None:
    """The first of these files that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def fit_folder(folder: Path, output: Path, head: NPHMModel, options: argparse.Namespace, make: MakeField) -> dict:
    """Fit a sequence with what lies beside its clouds; the report. One that is done is only read."""
    key, done = fingerprint(folder, head, options), output / "report.json"
    if done.is_file():
        report = json.loads(done.read_text())
        if report.get("key") == key:
            return report
    transforms = one_of(folder, "transforms.npz", "transforms.json")
    transforms = folder if transforms is None and (folder / "R.npy").is_file() else transforms
    inputs = read_inputs(folder, one_of(folder, "landmarks.npy"), transforms, unit=options.unit)
    code_file = one_of(folder, "identity.npy")
    inputs.identity = None if code_file is None else read_code(code_file, head.identity_dim)
    extra = {"key": key, "points": options.config.points}
    return fit_sequence(head, inputs, output, options.config, make, extra=extra).report


def try_sequence(folder: Path, options: argparse.Namespace, head: NPHMModel, make: MakeField) -> None:
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


def fit_group(group: list[Path], options: argparse.Namespace, head: NPHMModel, networks: NPHMModel | None) -> None:
    """Fit the sequences of a group: one by one, or with the work of `networks`, the head on its device, batched."""
    if networks is None:
        for folder in group:
            try_sequence(folder, options, head, make_field)
        return
    batcher = FieldBatcher(networks, networks.device, len(group))

    def work(number: int) -> None:
        try:
            try_sequence(group[number], options, head, lambda *given: SharedField(*given, batcher, number))
        finally:
            batcher.leave()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(group))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_summary(folders: list[Path], output: Path) -> dict:
    """OUTPUT/report.json: every sequence's mean residual and bad frames, and why others failed."""
    summary = {"fitted": {}, "failed": {}}
    for folder in folders:
        failed, done = output / folder.name / "error.txt", output / folder.name / "report.json"
        if failed.is_file():
            summary["failed"][folder.name] = failed.read_text().strip()
        elif done.is_file():
            report = json.loads(done.read_text())
            kept = {name: report[name] for name in ("frames", "bad_frames", "thread_s", "wall_s") if name in report}
            summary["fitted"][folder.name] = kept | {"residual_mm": report["residual_mm"]["mean"]}
        else:
            summary["failed"][folder.name] = "not begun"
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    return summary


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True, help="folder with a folder a sequence")
    parser.add_argument("--model", default=str(TINY), help="model, or folder of a head alone")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--points", type=int, default=1600, help="points a frame that are used")
    parser.add_argument("--unit", default="auto", choices=("auto", "m", "cm", "mm", "model"))
    parser.add_argument("--fps", type=float, default=24.0, help="frames a second, written into fit.npz")
    parser.add_argument("--config", type=Path, help="weights of the objective, FittingConfig as yaml or json")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is")
    parser.add_argument("--batch", type=int, default=1, help="sequences whose frames are evaluated together")
    options = parser.parse_args(arguments)
    if options.batch < 1:
        raise FaceTalkError(f"--batch must be at least 1, not {options.batch}")
    options.config = read_config(options.config, options.points, options.fps)
    torch.set_num_threads(1)  # small networks: more threads wait for each other
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    if options.device == "cuda" and on_cpu:
        raise FaceTalkError("there is no GPU that PyTorch can use: --device cpu, or an installation with CUDA")
    # Whoever is done first waits for the others, however long they take.
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=30))
    device = torch.device("cpu") if on_cpu else state.device
    head, folders = load_head(str(options.model)), find_sequences(options.scans)
    networks = None if on_cpu and options.batch == 1 else load_head(str(options.model)).to(device)
    # Groups are made before they are spread, so that what is batched together is the same for any number of processes.
    groups = [folders[i : i + options.batch] for i in range(0, len(folders), options.batch)]
    with state.split_between_processes(groups) as mine:
        for group in mine:
            fit_group(group, options, head, networks)
    state.wait_for_everyone()
    if state.is_main_process:
        summary = write_summary(folders, options.output)
        print(f"{len(summary['fitted'])} of {len(folders)} sequences fitted: {options.output / 'report.json'}")
        for name, line in summary["failed"].items():
            print(f"  {name}: {line}")
    state.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(f"fit_expressions.py: {error}") from None
