# SPDX-License-Identifier: MIT
"""Fit expression codes to many sequences of point clouds, or many videos, spread over processes and machines.

    python training/fit_expressions.py --scans data/scans --model HEAD --output-dir data/fits
    python training/fit_expressions.py --videos videos --licence WORDS --consent WORDS --output-dir data/fits
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 training/fit_expressions.py ...
    accelerate launch --multi_gpu --num_processes 8 training/fit_expressions.py --batch-size 32 ...

Every folder in --scans is a sequence as `facetalk fit` reads it, or with all frames in `clouds.npz`; `transforms.npz`
(or .json, or s.npy, R.npy, t.npy), `landmarks.npy` and `identity.npy` are used where they lie in it. OUTPUT_DIR/NAME
gets fit.npz, identity.npy, poses.npz and report.json, and windows/ as they are solved. Started again, it skips what is
done and goes on at the first window that is not. A sequence that cannot be fitted is one line of
OUTPUT_DIR/report.json.

--videos holds PERSON/NAME.mp4 or PERSON_NAME.mp4, and people.csv (person, licence, consent) where terms differ.
OUTPUT_DIR/PERSON/NAME/NN gets fit.npz and sound.flac of every clip in which the face is seen.
"""

import argparse
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.fitting.config import read_config, read_settings
from facetalk_hf.fitting.many import FitOptions, find_sequences, fit_group, write_summary
from facetalk_hf.fitting.video.many import VideoFits, find_videos, fit_videos
from facetalk_hf.fitting.video.solver import VideoConfig
from facetalk_hf.head.loading import load_head
from facetalk_hf.scripts import run_script
from facetalk_hf.units import UNITS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, help="folder with a folder a sequence")
    parser.add_argument("--videos", type=Path, help="folder of videos, in place of --scans")
    parser.add_argument("--tracker", type=Path, help="videos: face_landmarker.task")
    parser.add_argument("--licence", help="videos: terms of the recordings, where people.csv does not say them")
    parser.add_argument("--consent", help="videos: how the people agreed to this use, likewise")
    parser.add_argument("--model", default=str(TINY), help="model, or folder of a head alone")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--points", type=int, default=1600, help="points a frame that are used")
    parser.add_argument("--unit", default="auto", choices=("auto", *UNITS))
    parser.add_argument("--fps", type=float, default=24.0, help="frames a second, written into fit.npz")
    parser.add_argument(
        "--config", type=Path, help="weights of the objective as yaml or json: FittingConfig, VideoConfig"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences whose frames are evaluated together")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise FaceTalkError(f"--batch-size must be at least 1, not {options.batch_size}")
    if (options.scans is None) == (options.videos is None):
        raise FaceTalkError("give --scans or --videos, one of the two")
    if options.videos is not None:
        fit_many_videos(options)
        return
    config = read_config(options.config, options.points, options.fps)
    fits = FitOptions(options.output_dir, config, options.unit, options.batch_size)
    torch.set_num_threads(1)  # small networks: more threads wait for each other
    on_cpu = options.device == "cpu" or not torch.cuda.is_available()
    if options.device == "cuda" and on_cpu:
        raise FaceTalkError("there is no GPU that PyTorch can use: --device cpu, or an installation with CUDA")
    # Whoever is done first waits for the others, however long they take.
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=30))
    device = torch.device("cpu") if on_cpu else state.device
    head, folders = load_head(str(options.model)), find_sequences(options.scans)
    networks = None if on_cpu and options.batch_size == 1 else load_head(str(options.model)).to(device)
    # Groups are made before they are spread, so that what is batched together is the same for any number of processes.
    groups = [folders[i : i + fits.batch] for i in range(0, len(folders), fits.batch)]
    with state.split_between_processes(groups) as mine:
        for group in mine:
            fit_group(group, fits, head, networks)
    state.wait_for_everyone()
    if state.is_main_process:
        report([folder.name for folder in folders], fits.output)
    state.destroy_process_group()


def fit_many_videos(options: argparse.Namespace) -> None:
    """Videos are spread over processes, too; each is tracked and fitted by one, on the CPU."""
    videos = find_videos(options.videos, options.licence, options.consent)
    config = VideoConfig(**read_settings(options.config, VideoConfig()))
    torch.set_num_threads(1)
    state, head = PartialState(cpu=True, timeout=timedelta(days=30)), load_head(str(options.model))
    with state.split_between_processes(videos) as mine:
        fit_videos(mine, VideoFits(options.output_dir, options.tracker, config), head)
    state.wait_for_everyone()
    if state.is_main_process:
        report([video.name for video in videos], options.output_dir)
    state.destroy_process_group()


def report(names: list[str], output: Path) -> None:
    """Say what was fitted and what was not."""
    summary = write_summary(names, output)
    print(f"{len(summary['fitted'])} of {len(names)} sequences fitted: {output / 'report.json'}")
    for name, line in summary["failed"].items():
        print(f"  {name}: {line}")


if __name__ == "__main__":
    run_script(main)
