# SPDX-License-Identifier: MIT
"""Videos of rendered people whose motion is known, fitted: what comes back of mouth, lids, gaze and head.

    python benchmarks/video_fitting.py --recordings RECORDINGS --cache CACHE --tracker face_landmarker.task
    python benchmarks/video_fitting.py --real VIDEOS --cache CACHE --tracker face_landmarker.task

People, light, cameras and backgrounds differ and none of the people helped to make the map of landmarks; every video
is 1280 x 720 h264. Videos and the tracker's landmarks are kept in --cache. The table goes to docs/fitting.md.
With --real it is videos of people: the aperture against the tracker's own, and whether m, b, p of the words in
NAME.txt beside a video close, timed by forced alignment (extra `align`).
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from facetalk_hf import TINY, FaceTalkError, FaceTalkPipeline
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.audio.io import load_audio
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.evaluation.studies import markdown_table, write_between_markers
from facetalk_hf.files import atomic_path
from facetalk_hf.fitting.video.camera import HeadPoses
from facetalk_hf.fitting.video.fit import FittedVideo, fit_video, relative_poses
from facetalk_hf.fitting.video.landmarks import EYE_CORNERS, FaceLandmarks, read_landmarks
from facetalk_hf.fitting.video.reading import read_pictures
from facetalk_hf.fitting.video.tracker import find_weights, track_video
from facetalk_hf.head.loading import load_head
from facetalk_hf.mesh.pose import axis_rotations
from facetalk_hf.phones.alignment import align
from facetalk_hf.phones.visemes import STOPS
from facetalk_hf.rendering.renderer import HeadRenderer, write_mp4
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script


WIDTH, HEIGHT, FPS, CRF = 1280, 720, 24, 30
FIRST_SEED = 900
SHAPES = ("mouthSmile_L", "mouthFunnel", "jawOpen")
DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass
class Options:
    """Options of this script."""

    cache: Path = option(REQUIRED, "folder that videos and landmarks are kept in, outside of the repository")
    recordings: Path | None = option(None, "folder with recordings of people talking, one for each head")
    real: Path | None = option(None, "folder with videos of people and their words in place of rendered ones")
    tracker: Path | None = option(None, "face_landmarker.task")
    heads: int = option(8, "people")
    seconds: float = option(3.0, "length of each video")
    output: Path = option(DOCS / "results" / "video_fitting.json", "all numbers as JSON")
    page: Path | None = option(None, "docs/fitting.md: write the table between its markers")


def speak(pipe: FaceTalkPipeline, recording: Path, number: int, seconds: float) -> HeadAnimation:
    """A held-out person says the beginning of a recording, blinks often, and looks about."""
    audio = load_audio(recording)[8000 : 8000 + int(16000 * seconds)]
    result = pipe(
        audio, sampling_rate=16000, identity=f"random:{FIRST_SEED + number}", blink_rate=40.0,
        generator=torch.Generator().manual_seed(number), blink_contrast=1.0,
    )  # fmt: skip
    return result.animations[0]


def head_poses(frames: int, rng: np.random.Generator, base: np.ndarray, focal: float) -> HeadPoses:
    """Turns up to 30 degrees of yaw, nods, and sway, in front of a camera that shows the head 360 pixels tall."""
    at = np.arange(frames) / FPS
    wave = lambda top, rate: top * np.sin(2 * np.pi * (rate * rng.uniform(0.7, 1.3) * at + rng.random()))  # noqa: E731
    yaw, pitch, roll = (
        wave(rng.uniform(12, 30), 0.22),
        rng.uniform(-5, 5) + wave(rng.uniform(4, 9), 0.5),
        wave(6, 0.17),
    )
    turn = axis_rotations(1, np.radians(yaw)) @ axis_rotations(0, -np.radians(pitch))
    turn = turn @ axis_rotations(2, -np.radians(roll))
    middle = np.array([0, 0, 0.0])
    distance = np.ptp(base[:, 1]) * focal / 380
    place = np.stack([rng.uniform(-60, 60) + wave(12, 0.2), wave(8, 0.3), -distance + wave(10, 0.2)], 1)
    return HeadPoses(turn, place - turn @ middle)


def film(animation: HeadAnimation, path: Path, number: int) -> None:
    """Render a person as a camera would see them, and what is true of it."""
    rng = np.random.default_rng(FIRST_SEED + number)
    focal = float(rng.uniform(0.8, 1.8) * WIDTH)
    poses = head_poses(len(animation), rng, animation.base, focal)
    renderer = HeadRenderer(animation, (WIDTH, HEIGHT), key_poses=3, samples=2)
    renderer.film(np.zeros(3), focal)
    renderer.light_from(float(rng.uniform(-50, 70)), float(rng.uniform(0.65, 1.1)))
    matrix = np.eye(4)
    matrix[2, 3] = 9000  # behind the camera: the backdrop alone
    empty = renderer.render(animation.vertices(0), matrix).astype(int)
    room = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH, 3)), (25, 25, 0))
    room = (rng.uniform(60, 190, 3) + 35 * room / room.std()).clip(0, 255).astype(np.uint8)

    def pictures():
        for index in tqdm(range(len(animation)), desc=path.stem):
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = poses.rotations[index], poses.translations[index]
            image = renderer.render(animation.vertices(index), pose)
            behind = np.abs(image.astype(int) - empty).max(2) <= 1
            image = np.where(behind[..., None], room, image)
            yield (image + rng.normal(0, 2.5, image.shape)).clip(0, 255).astype(np.uint8)

    write_mp4(path, pictures(), FPS, animation.audio, animation.sampling_rate, crf=CRF)
    with atomic_path(path.with_suffix(".truth.npz")) as temporary:
        np.savez(
            temporary, weights=animation.weights, aperture=animation.lip_aperture, identity=animation.identity,
            rotations=poses.rotations, translations=poses.translations, focal=focal,
        )  # fmt: skip


def recall(true: np.ndarray, found: np.ndarray, reach: int = 1) -> tuple[int, int]:
    """How many of the true flag's runs touch a found frame within `reach`, and how many there are."""
    edges = np.diff(np.concatenate([[0], true.astype(int), [0]]))
    runs = list(zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True))
    return sum(bool(found[max(a - reach, 0) : b + reach].any()) for a, b in runs), len(runs)


def score(fitted: FittedVideo, truth: dict, marks: FaceLandmarks) -> dict:
    """Numbers of one video."""
    animation, count = fitted.animation, min(len(fitted.animation), len(truth["weights"]))
    ours, true = animation.weights[:count], truth["weights"][:count]
    gap, true_gap = animation.lip_aperture[:count], truth["aperture"][:count]
    correlate = lambda a, b: float(np.corrcoef(a, b)[0, 1])  # noqa: E731
    lids, true_lids = (w[:, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]].mean(1) > 0.5 for w in (ours, true))
    # A stop: the lips meet after they were apart, under 1 mm as in the rules for speech.
    stops = recall((true_gap < 1.0) & (np.maximum.accumulate(true_gap) > 2.0), gap < 1.0)
    false = recall((gap < 1.0) & (np.maximum.accumulate(gap) > 2.0), true_gap < 1.5)
    angles = relative_poses(fitted.head_poses, np.zeros(3))[:count, :3]
    wanted = relative_poses(HeadPoses(truth["rotations"], truth["translations"]), np.zeros(3))[:count, :3]
    off = np.abs(angles - wanted)
    look = lambda w: w[:, INDEX["eyeLookOut_L"]] - w[:, INDEX["eyeLookIn_L"]]  # noqa: E731
    hits, hits_back = recall(true_lids, lids), recall(lids, true_lids)
    return {
        "found": float(marks.found.mean()), "aperture r": correlate(gap, true_gap),
        "aperture error": float(np.abs(gap - true_gap).mean()), "stops": stops, "stops back": false,
        "pucker r": correlate(*(w[:, INDEX["mouthPucker"]] for w in (ours, true))),
        "blinks": hits, "blinks back": hits_back, "gaze r": correlate(look(ours), look(true)),
        "angle error": off.mean(0).tolist(), "angle error 95": np.percentile(off, 95, axis=0).tolist(),
        "angle r": [correlate(a, b) for a, b in zip(angles.T, wanted.T, strict=True)],
        **{f"{name} r": correlate(ours[:, INDEX[name]], true[:, INDEX[name]]) for name in SHAPES},
        "residual": float(np.nanmean(fitted.residual)), "focal": fitted.camera.focal / float(truth["focal"]),
        "rest": float(gap[true_gap < 0.5].mean()) if (true_gap < 0.5).any() else None,
    }  # fmt: skip


def ratio(rows: list[dict], name: str) -> float:
    """Share of hits over all videos."""
    return sum(row[name][0] for row in rows) / max(sum(row[name][1] for row in rows), 1)


def summary(rows: list[dict]) -> list[tuple[str, str, str]]:
    """Rows of the table: what, measured, bar."""
    mean = lambda name: float(np.mean([row[name] for row in rows]))  # noqa: E731
    blink = 2 / (1 / max(ratio(rows, "blinks"), 1e-9) + 1 / max(ratio(rows, "blinks back"), 1e-9))
    angle = np.mean([row["angle error"] for row in rows], 0)
    return [
        ("frames with the face", f"{mean('found'):.3f}", "0.99"),
        ("aperture r, mean (worst)", f"{mean('aperture r'):.3f} ({min(r['aperture r'] for r in rows):.3f})", "0.97"),
        ("aperture error, mm", f"{mean('aperture error'):.2f}", "1.5"),
        ("stops recalled, of", f"{ratio(rows, 'stops'):.2f}, {sum(r['stops'][1] for r in rows)}", "0.90"),
        ("stops that are true", f"{ratio(rows, 'stops back'):.2f}", "–"),
        ("pucker r", f"{mean('pucker r'):.3f}", "0.90"),
        ("blinks F1, of", f"{blink:.2f}, {sum(r['blinks'][1] for r in rows)}", "0.90"),
        ("yaw, pitch, roll error, degrees", ", ".join(f"{value:.2f}" for value in angle), "2"),
        ("gaze r", f"{mean('gaze r'):.2f}", "–"),
        ("smile, funnel, jaw r", ", ".join(f"{mean(name + ' r'):.2f}" for name in SHAPES), "–"),
        ("CPU seconds a frame: read and track, fit", f"{mean('track s'):.3f} + {mean('fit s'):.3f}", "0.15"),
    ]  # fmt: skip


def tracked(path: Path, options: Options, name: str) -> tuple[FaceLandmarks, float]:
    """Landmarks of a video, kept in the cache, and the seconds of processor time that a frame took."""
    kept, clock = options.cache / f"{name}.marks.npz", options.cache / f"{name}.seconds"
    if not kept.is_file():
        begin = time.process_time()
        marks = track_video(read_pictures(path), find_weights(options.tracker))
        clock.write_text(str((time.process_time() - begin) / len(marks.times)))
        marks.save(kept)
    return read_landmarks(kept), float(clock.read_text())


def compare_real(options: Options) -> None:
    """Fit videos of people: aperture against the tracker's, closures of the words that are said, jumps."""
    head, table, closed = load_head(TINY), [], []
    for path in sorted(item for item in options.real.iterdir() if item.suffix in (".mpg", ".mp4", ".mov", ".webm")):
        marks, _ = tracked(path, options, path.stem)
        fitted = fit_video(head, marks)
        gap, lips = fitted.animation.lip_aperture, marks.points[:, 13, :2] - marks.points[:, 14, :2]
        corners = marks.points[:, EYE_CORNERS, :2]
        seen = np.linalg.norm(lips, axis=1) / np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
        count, least = min(len(gap), len(seen)), []
        words = path.with_suffix(".txt")
        if words.is_file():
            for phone, start, end in align(load_audio(path), 16000, words.read_text()).phones:
                first, last = int(start * marks.fps) - 1, int(np.ceil(end * marks.fps)) + 2
                least += [float(gap[max(first, 0) : last].min())] if phone in STOPS else []
        r, jump = np.corrcoef(seen[:count], gap[:count])[0, 1], np.abs(np.diff(gap)).max()
        closed += [value < 1 for value in least]
        shut = ", ".join(f"{value:.2f}" for value in least)
        cost = f"{fitted.cpu_seconds / len(gap):.3f}"
        table.append((path.name, f"{r:.3f}", shut, f"{jump:.1f}", f"{np.nanmean(fitted.residual):.2f}", cost))
    heads = ("video", "aperture r", "least aperture at m, b, p, mm", "largest change a frame, mm", "off, mm", "CPU-s")
    print(markdown_table(heads, table))
    print(f"{sum(closed)} of {len(closed)} m, b, p come within 1 mm")


def main(argv: list[str] | None = None) -> None:
    """Render, track, fit, compare."""
    options = parse_config(Options, __doc__, argv)
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    if (options.real is None) == (options.recordings is None):
        raise FaceTalkError("give either --recordings or --real")
    if options.real is not None:
        return compare_real(options)
    recordings = sorted(path for path in options.recordings.iterdir() if path.suffix in (".flac", ".wav", ".mp3"))
    chosen = recordings[:: max(1, len(recordings) // options.heads)][: options.heads]
    pipe, head, rows = None, load_head(TINY), []
    for number, recording in enumerate(chosen):
        path = options.cache / f"head_{number:02d}.mp4"
        if not path.with_suffix(".truth.npz").is_file():
            if pipe is None:
                pipe = FaceTalkPipeline.from_pretrained(TINY)
                pipe.set_progress_bar_config(disable=True)
            film(speak(pipe, recording, number, options.seconds), path, number)
        marks, seconds = tracked(path, options, path.stem)
        fitted = fit_video(head, marks)
        with np.load(path.with_suffix(".truth.npz")) as file:
            row = score(fitted, dict(file), marks)
        row |= {"fit s": fitted.cpu_seconds / len(fitted.animation), "track s": seconds}
        rows.append(row)
        print(number, {name: round(value, 3) for name, value in row.items() if isinstance(value, float)})
    table = markdown_table([f"{len(rows)} videos of {options.seconds:g} s", "measured", "bar"], summary(rows))
    print(table)
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps({"heads": len(rows), "seconds": options.seconds, "rows": rows}, indent=1))
    if options.page is not None:
        write_between_markers(options.page, "video", table)


if __name__ == "__main__":
    run_script(main)
