# SPDX-License-Identifier: MIT
"""Compare the motion of the rules, and of a model that hears the same, with statistics of people.

    python benchmarks/teacher_statistics.py --corpus data/speech --people real_motion_statistics.json \
        --model facetalk-tiny --page docs/training.md

The file of people holds, for each group, channels with `range_normalised` percentiles: every clip shifted by its 2nd
percentile and divided by p98 - p2, so that trackers can be compared; speeds are then in ranges a second. Jaw cycles
are peaks of that curve with a prominence of .15. A frame is of speech where it is within 25 dB of the clip's loud
parts. Blinks are peaks of the lids above .5 of a weight, their length that at half of the peak.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import find_peaks, peak_widths

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.audio.analysis import loudness
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.conditions import POSE
from facetalk_hf.data import corpus
from facetalk_hf.evaluation.studies import markdown_table, write_between_markers
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script


CHANNELS = ("jawOpen", "mouthPucker", "mouthSmile", "browInnerUp", "browDown")
GROUPS = {
    "GRID": "grid_14_talkers", "videos": "wild_and_lab_speech_video",
    "ARKit, speech": "arkit_neurosync_testset_with_audio",
}  # fmt: skip
Lines = dict[str, list[float]]


@dataclass
class Options:
    """Options of this script."""

    corpus: Path = option(REQUIRED, "of training/build_speech.py")
    people: Path = option(REQUIRED, "JSON with the statistics of people")
    clips: int = option(28, "of the corpus, from its beginning")
    model: str = option("", "a model that says the same clips, beside the rules")
    page: Path | None = option(None, "docs/training.md: write the table between its markers")


@dataclass
class Clip:
    """Weights (T, W) at `fps`, and how loud each frame is (T,), of 32 dB below the clip's loud parts."""

    weights: np.ndarray
    fps: float
    loud: np.ndarray

    def channel(self, name: str) -> np.ndarray:
        """Mean of the sides of a shape (T,)."""
        return self.weights[:, [index for shape, index in INDEX.items() if shape.split("_")[0] == name]].mean(1)


def scaled(track: np.ndarray) -> np.ndarray | None:
    """A curve in its own range, or None where it hardly moves."""
    low, high = np.percentile(track, (2, 98))
    return (track - low) / (high - low) if high - low > 0.02 else None


def measure(clips: Sequence[Clip]) -> Lines:
    """The numbers of the table, of clips."""
    lines: Lines = {}
    for name in CHANNELS:
        moving = [(track, clip.fps) for clip in clips if (track := scaled(clip.channel(name))) is not None]
        speed = np.concatenate([np.abs(np.diff(track)) * fps for track, fps in moving] or [np.full(1, np.nan)])
        lines[f"{name}, median / p90 of the speed"] = [
            float(np.median(np.concatenate([track for track, _ in moving] or [np.full(1, np.nan)]))),
            float(np.percentile(speed, 90)),
        ]
    cycles, shut, with_voice, lengths, blinks = 0, [], [], [], 0
    seconds = sum(len(clip.weights) / clip.fps for clip in clips)
    for clip in clips:
        jaw, spoken = scaled(clip.channel("jawOpen")), clip.loud > 7 / 32
        if jaw is not None:
            cycles += len(find_peaks(jaw, prominence=0.15)[0])
            shut.append(jaw[spoken] < 0.15)
            with_voice.append(np.corrcoef(jaw, clip.loud)[0, 1])
        lids = clip.channel("eyeBlink")
        peaks = find_peaks(lids, height=0.5, prominence=0.3)[0]
        blinks += len(peaks)
        lengths.append(peak_widths(lids, peaks, 0.5)[0] / clip.fps)
    lines["jaw cycles a second"] = [cycles / seconds]
    lines["share of speech with the jaw below .15"] = [float(np.concatenate(shut).mean())]
    lines["jaw with loudness, r"] = [float(np.mean(with_voice))]
    lines["blinks a minute"] = [60 * blinks / seconds]
    lines["length of a blink, s"] = [float(np.median(np.concatenate(lengths)))]
    return lines


def of_people(group: dict[str, Any]) -> Lines:
    """The same of a group of the file."""
    lines: Lines = {}
    for name in CHANNELS:
        found = group[name]["range_normalised"]
        lines[f"{name}, median / p90 of the speed"] = [found["value"]["p50"], found["abs_speed_per_s"]["p90"]]
    lines["jaw cycles a second"] = [group["jaw_cycles_per_s_prominence_0p15_of_range"]]
    lines["share of speech with the jaw below .15"] = [
        group["jawOpen"]["in_speech_range_normalised"]["share_below_0p15"]
    ]
    lines["jaw with loudness, r"] = [group["jaw_vs_audio_dB"]["r_lag0"]]
    lines["blinks a minute"] = [group["blink"]["per_min"]]
    lines["length of a blink, s"] = [group["blink"]["half_width_s_median"]]
    return lines


def generate(pipe: FaceTalkPipeline, row: dict[str, Any], number: int) -> Clip:
    """What the model makes of the sound of a clip."""
    audio, rate = corpus.decode_audio(row), int(row["sampling_rate"])
    result = pipe(audio, sampling_rate=rate, generator=torch.Generator().manual_seed(number))
    made: HeadAnimation = result.animations[0]
    return Clip(made.weights, made.fps, loudness(audio, rate, len(made), made.fps))


def head_facts(rows: Sequence[dict[str, Any]]) -> None:
    """Print how far and how fast heads turn, of a corpus that has poses."""
    for told, label in ((False, "neutral"), (True, "acted")):
        posed = [row for row in rows if row.get("head_pose") is not None]
        poses = [row["head_pose"] for row in posed if row["conditions"].any() == told]
        if poses:
            spread = np.mean([pose.std(0) for pose in poses], 0)
            moves = np.concatenate([np.abs(np.diff(pose, axis=0)) for pose in poses])
            speed = np.percentile(moves, 90, axis=0) * float(rows[0]["fps"])
            facts = (f"{name} {a:.2f} / {b:.1f}" for name, a, b in zip(POSE, spread, speed, strict=True))
            print(f"head, {label}: spread within a clip / p90 of the speed a second:", ", ".join(facts))


def main(argv: list[str] | None = None) -> None:
    """Measure and compare."""
    options = parse_config(Options, __doc__, argv)
    torch.set_num_threads(1)
    rows = [row for row, _ in zip(corpus.read(options.corpus), range(options.clips), strict=False)]
    heard = [corpus.decode_audio(row) for row in rows]
    taught = [
        Clip(row["weights"], row["fps"], loudness(audio, row["sampling_rate"], len(row["weights"]), row["fps"]))
        for row, audio in zip(rows, heard, strict=True)
    ]
    columns = {"teacher": measure(taught)}
    if options.model:
        pipe = FaceTalkPipeline.from_pretrained(options.model)
        pipe.set_progress_bar_config(disable=True)
        columns[Path(options.model).name] = measure([generate(pipe, row, i) for i, row in enumerate(rows)])
    people = json.loads(options.people.read_text())
    columns |= {short: of_people(people[name]) for short, name in GROUPS.items()}
    body = [[line, *(" / ".join(f"{x:.2f}" for x in column[line]) for column in columns.values())]
            for line in columns["teacher"]]  # fmt: skip
    minutes = sum(len(clip.weights) / clip.fps for clip in taught) / 60
    table = markdown_table([f"{len(rows)} clips, {minutes:.1f} minutes", *columns], body)
    print(table)
    head_facts(rows)
    if options.page is not None:
        write_between_markers(options.page, "people", table)


if __name__ == "__main__":
    run_script(main)
