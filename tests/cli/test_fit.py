# SPDX-License-Identifier: MIT
"""`facetalk fit`: what it writes, how it goes on after being killed, and the one line it says about bad input."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from clouds import random_field
from command import facetalk, needs_model  # noqa: F401
from killed_training import kill_at

from facetalk_hf import TINY
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.cli.main import main
from facetalk_hf.fitting import expressions as fitting
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.head.loading import load_head


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Path:
    """A tiny head of rubbish, saved with an identity code: enough for all that does not look at the result."""
    folder = tmp_path_factory.mktemp("head")
    field = random_field()
    field.head.save_pretrained(folder)
    np.save(folder / "identity.npy", field.identity[0].numpy())
    return folder


def write_frames(folder: Path, count: int = 5, **extra: np.ndarray) -> Path:
    """Clouds of 150 points the size of a head, in metres."""
    folder.mkdir()
    for index in range(count):
        points = np.random.default_rng(index).uniform(-0.08, 0.08, (150, 3)).astype(np.float32)
        np.savez(folder / f"frame_{index:02d}.npz", points=points, **extra)
    np.savez(folder.parent / "poses.npz", s=4.0, R=np.eye(3), t=np.zeros(3))
    return folder


def options(folder: Path, head: Path, output: Path) -> list:
    quick = folder.parent / "quick.yaml"
    quick.write_text("window: 2\noverlap: 1\niterations: 2\npoints: 100\n")
    return [
        "fit", folder, "--output", output, "--model", head, "--identity", head / "identity.npy", "--config", quick,
        "--transforms", folder.parent / "poses.npz", "--no-video",
    ]  # fmt: skip


def test_killed_and_started_again_it_ends_with_the_same_codes(facetalk, head, tmp_path):  # noqa: F811
    clouds, there, killed = write_frames(tmp_path / "clouds"), tmp_path / "whole", tmp_path / "killed"
    assert facetalk(*options(clouds, head, there))[0] == 0
    child = os.fork()
    if not child:
        signal.alarm(120)  # a child that hangs must not keep the test
        try:
            kill_at(fitting, "write_window", 3, "before")
            main([str(word) for word in options(clouds, head, killed)])
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    assert sorted(path.name for path in (killed / "windows").iterdir()) == ["window_000.npz", "window_001.npz"]
    assert not (killed / "fit.npz").exists() and not (killed / "report.json").exists()
    assert facetalk(*options(clouds, head, killed))[0] == 0
    with np.load(there / "fit.npz") as expected, np.load(killed / "fit.npz") as found:
        assert all(np.array_equal(expected[name], found[name]) for name in expected.files)


def test_results_of_other_clouds_do_not_stay_behind(facetalk, head, tmp_path):  # noqa: F811
    clouds, output = write_frames(tmp_path / "clouds"), tmp_path / "fit"
    assert facetalk(*options(clouds, head, output))[0] == 0
    report = json.loads((output / "report.json").read_text())
    assert report["config"]["window"] == 2 and set(report["terms"]) >= {"sdf", "temporal", "code", "blinks"}
    assert len(report["residual_mm"]["frames"]) == 5 and (output / "report.png").is_file()
    np.save(tmp_path / "wrong.npy", np.zeros(7))
    arguments = options(clouds, head, output)
    arguments[arguments.index("--identity") + 1] = tmp_path / "wrong.npy"
    assert facetalk(*arguments)[0] == 2 and (output / "fit.npz").is_file()  # refused before anything was touched


def rewrite(name: str, **values: np.ndarray) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with np.load(folder / name) as data:
            arrays = dict(data) | values
        np.savez(folder / name, **{key: value for key, value in arrays.items() if value is not None})

    return change


def scaled(folder: Path) -> None:
    with np.load(folder / "frame_03.npz") as data:
        points = data["points"] * 1000
    np.savez(folder / "frame_03.npz", points=points)


POINTS = np.random.default_rng(0).uniform(-0.08, 0.08, (150, 3))
BAD = {
    "empty": (rewrite("frame_02.npz", points=np.zeros((0, 3))), "frame_02.npz has 0 point(s)"),
    "one point": (rewrite("frame_02.npz", points=np.zeros((1, 3))), "frame_02.npz has 1 point(s)"),
    "few points": (rewrite("frame_02.npz", points=POINTS[:20]), "fitting needs at least 50"),
    "nan": (rewrite("frame_02.npz", points=np.full((90, 3), np.nan)), "frame_02.npz: point 0 is NaN"),
    "mm in one frame": (scaled, "frame_03.npz: with"),
    "no frame": (lambda folder: (folder / "frame_02.npz").unlink(), "frame 2 is missing between frame_01.npz"),
    "landmarks' shape": (rewrite("frame_02.npz", landmarks=np.zeros((51, 3))), "frame_02.npz: landmarks have shape"),
    "landmarks of some": (rewrite("frame_02.npz", landmarks=np.zeros((68, 3))), "frame_00.npz has no landmarks"),
    "normals' shape": (rewrite("frame_02.npz", normals=np.zeros((9, 3))), "frame_02.npz: normals have shape (9, 3)"),
    "no points": (rewrite("frame_02.npz", points=None, colour=POINTS), "it holds neither points nor vertices"),
    "broken": (lambda folder: (folder / "frame_02.npz").write_bytes(b"PK"), "cannot read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_clouds_are_named(facetalk, head, tmp_path, kind):  # noqa: F811
    clouds, output = write_frames(tmp_path / "clouds"), tmp_path / "fit"
    change, message = BAD[kind]
    change(clouds)
    code, _, error = facetalk(*options(clouds, head, output))
    assert code == 2 and message in " ".join(error.split()), error
    assert not output.exists()


def test_wrong_units_are_named(facetalk, head, tmp_path):  # noqa: F811
    clouds = write_frames(tmp_path / "clouds")
    for path in clouds.iterdir():
        with np.load(path) as data:
            points = data["points"] * 1000
        np.savez(path, points=points)
    arguments = options(clouds, head, tmp_path / "fit")
    code, _, error = facetalk(*arguments)
    assert code == 2 and "frame_00.npz" in error and "seem to be in mm, not m" in " ".join(error.split())
    at = arguments.index("--transforms")
    code, _, error = facetalk(*arguments[:at], *arguments[at + 2 :], "--unit", "m")
    assert code == 2 and "frame_00.npz" in error and "they look like mm: use --unit mm" in " ".join(error.split())


def test_landmarks_of_another_number_of_frames_or_too_few(facetalk, head, tmp_path):  # noqa: F811
    clouds, marks = write_frames(tmp_path / "clouds"), np.random.default_rng(0).normal(size=(5, 68, 3)) * 0.04
    arguments = options(clouds, head, tmp_path / "fit")
    at = arguments.index("--transforms")
    arguments = [*arguments[:at], *arguments[at + 2 :], "--landmarks", tmp_path / "marks.npy"]
    np.save(tmp_path / "marks.npy", marks[:4])
    code, _, error = facetalk(*arguments)
    assert code == 2 and "for 5 frames" in " ".join(error.split())
    marks[3] = np.nan
    np.save(tmp_path / "marks.npy", marks)
    code, _, error = facetalk(*arguments)
    assert code == 2 and "frame_03.npz: frame 3 has 0 of the 15 landmarks" in " ".join(error.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [("windw: 3", "no setting windw"), ("window: 2.5", "without fraction"), ("code: -1", "at least 0"),
     ("points: 99999999999999999999", "1e12"),
     ("- 1", "is no list"), ("{", "cannot read")],
)  # fmt: skip
def test_config_files_that_make_no_sense(facetalk, head, tmp_path, text, message):  # noqa: F811
    arguments = options(write_frames(tmp_path / "clouds"), head, tmp_path / "fit")
    (tmp_path / "quick.yaml").write_text(text)
    code, _, error = facetalk(*arguments)
    assert code == 2 and message in " ".join(error.split()) and "quick.yaml" in error.replace("\n", "")


@needs_model
def test_a_person_in_mm_who_turns_is_fitted_from_a_rough_pose(facetalk, tmp_path):  # noqa: F811
    tiny = load_head(TINY)
    field = make_field(tiny, torch.zeros(tiny.identity_dim))
    truth, clouds = torch.zeros(2, field.size), tmp_path / "clouds"
    truth[:, INDEX["jawOpen"]] = torch.tensor([0.1, 0.5])
    clouds.mkdir()
    generator = torch.Generator().manual_seed(0)
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # recorded from the side
    for index, weights in enumerate(truth):
        points = (torch.rand(700, 3, generator=generator) - 0.5) * torch.tensor([0.6, 0.8, 0.1])
        points[:, 2] += 0.35 - points[:, 0] ** 2
        for _ in range(4):
            distance, gradient, _ = field.linearize(points, weights)
            points = points - distance[:, None] * gradient / gradient.square().sum(-1, keepdim=True).clamp_min(0.25)
        points = points[field.distance(points, weights).abs() < 0.002]
        assert len(points) > 400
        np.savez(clouds / f"f{index}.npz", points=((points.numpy() - [0, 0.01, 0]) @ turn) / 0.004)
    (tmp_path / "rough.json").write_text(json.dumps({"s": 0.004, "R": turn.tolist(), "t": [0, 0, 0]}))
    np.save(tmp_path / "identity.npy", np.zeros(field.head.identity_dim, np.float32))
    code, output, error = facetalk(
        "fit", clouds, "--output", tmp_path / "fit", "--identity", tmp_path / "identity.npy",
        "--rough-pose", tmp_path / "rough.json", "--points", 400,
    )  # fmt: skip
    assert code == 0, error
    with np.load(tmp_path / "fit" / "poses.npz") as poses, np.load(tmp_path / "fit" / "fit.npz") as fit:
        assert np.abs(poses["R"] - turn).max() < 0.03 and np.abs(poses["t"] - [0, 0.01, 0]).max() < 0.02
        assert np.abs(fit["weights"][:, INDEX["jawOpen"]] - truth[:, INDEX["jawOpen"]].numpy()).max() < 0.15
        assert (fit["residual"] < 0.6).all()
    assert (tmp_path / "fit" / "comparison.mp4").stat().st_size > 1000
