# SPDX-License-Identifier: MIT
"""Compare the motion of a corpus that was made by rules with statistics of people: speeds, rests, blinks, head.

    python benchmarks/teacher_statistics.py --corpus data/speech --people real_motion_statistics.json

The file of people holds, for each group, channels with `range_normalised` percentiles: every clip shifted by its 2nd
percentile and divided by p98 - p2, so that trackers can be compared; speeds are then in ranges a second.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from facetalk_hf.blendshapes import INDEX
from facetalk_hf.conditions import POSE
from facetalk_hf.data import corpus


CHANNELS = ("jawOpen", "browInnerUp", "browOuterUp", "browDown", "mouthSmile", "mouthPucker", "eyeBlink")
MEASURES = ("value p50", "value p75", "speed p50", "speed p90", "share < .15")


def measures(tracks: list[np.ndarray], fps: float) -> list[float]:
    """Those of `MEASURES` of one channel over clips (T,)."""
    values, speeds = [], []
    for track in tracks:
        low, high = np.percentile(track, (2, 98))
        if high - low > 0.02:
            scaled = (track - low) / (high - low)
            values.append(scaled)
            speeds.append(np.abs(np.diff(scaled)) * fps)
    if not values:
        return [float("nan")] * len(MEASURES)
    value, speed = np.concatenate(values), np.concatenate(speeds)
    return [*np.percentile(value, (50, 75)), *np.percentile(speed, (50, 90)), float((value < 0.15).mean())]


def of_people(group: dict) -> list[float]:
    """The same of a channel of the file."""
    found = group["range_normalised"]
    value, speed = found["value"], found["abs_speed_per_s"]
    return [value["p50"], value["p75"], speed["p50"], speed["p90"], found["share_below_0p15"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="of training/build_speech.py")
    parser.add_argument("--people", type=Path, help="JSON with the statistics of people")
    parser.add_argument("--clips", type=int, default=200, help="of the corpus, from its beginning")
    args = parser.parse_args()

    columns = ("weights", "head_pose", "conditions", "fps")
    rows = [row for row, _ in zip(corpus.read(args.corpus, columns=columns), range(args.clips), strict=False)]
    fps = float(rows[0]["fps"])
    people = json.loads(args.people.read_text()) if args.people else {}
    print(f"{len(rows)} clips. Channel, who: {', '.join(MEASURES)}")
    for name in CHANNELS:
        sides = [index for shape, index in INDEX.items() if shape.split("_")[0] == name]
        tracks = [row["weights"][:, sides].mean(1) for row in rows]
        lines = {"teacher": measures(tracks, fps)}
        lines |= {who: of_people(group[name]) for who, group in people.items() if name in group and who[0] != "_"}
        for who, numbers in lines.items():
            print(f"{name:12} {who:36}", *(f"{number:7.3f}" for number in numbers))
    lids = [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]
    shut = [(row["weights"][:, lids].mean(1) > 0.6).astype(int) for row in rows]
    minutes = sum(map(len, shut)) / fps / 60
    print(f"blinks a minute: teacher {sum((np.diff(item) > 0).sum() for item in shut) / minutes:.1f}")
    for who, group in people.items():
        if isinstance(group, dict) and group.get("blink"):
            print(f"                 {who} {group['blink']['per_min']}")
    for told, label in ((False, "neutral"), (True, "acted")):
        poses = [row["head_pose"] for row in rows if row["conditions"].any() == told]
        if poses:
            spread = np.mean([pose.std(0) for pose in poses], 0)
            speed = np.percentile(np.concatenate([np.abs(np.diff(pose, axis=0)) for pose in poses]), 90, axis=0) * fps
            facts = (f"{name} {a:.2f} / {b:.1f}" for name, a, b in zip(POSE, spread, speed, strict=True))
            print(f"head, {label}: spread within a clip / p90 of the speed a second:", ", ".join(facts))


if __name__ == "__main__":
    main()
