# SPDX-License-Identifier: MIT
"""training/fit_expressions.py: many sequences, in one process and two, stopped, broken, batched."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from clouds import random_field
from command import facetalk  # noqa: F401
from components import make_head
from scripts import load_script, run_ranks

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.fitting import sequence as sequence_fitting
from facetalk_hf.fitting.alignment import align_landmarks
from facetalk_hf.fitting.batched_field import FieldBatcher, SharedField
from facetalk_hf.fitting.fields import make_field
from facetalk_hf.fitting.identity import IdentityConfig, fit_identity, identity_prior
from facetalk_hf.fitting.point_clouds import read_sequence
from facetalk_hf.head.loading import load_head


pytest.importorskip("accelerate", reason='needs accelerate: pip install "facetalk_hf[train]"')
SCRIPT = Path(__file__).parents[2] / "training" / "fit_expressions.py"
FRAMES = 3  # two windows
COARSE = "window: 2\noverlap: 1\niterations: 2\npoints: 100\n"


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def head_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    random_field().head.save_pretrained(folder)
    (folder / "coarse.yaml").write_text(COARSE)
    return folder


def write_sequence(folder: Path, head_folder: Path, seed: int, frames: int = FRAMES) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    size = json.loads((head_folder / "config.json").read_text())
    number = size["glob_dim"] + (size["num_anchors"] + 1) * size["loc_dim"]
    np.savez(folder / "clouds.npz", points=100 * rng.random((frames, 120, 3), np.float32))
    np.savez(folder / "transforms.npz", s=0.004, R=np.eye(3), t=np.zeros(3))
    np.save(folder / "identity.npy", 0.1 * rng.normal(size=number).astype(np.float32))


@pytest.fixture
def scans(tmp_path, head_folder) -> Path:
    """Three sequences in mm, and one whose third frame is broken."""
    for seed, name in enumerate(("anna", "bert", "carl")):
        write_sequence(tmp_path / "scans" / name, head_folder, seed)
    write_sequence(tmp_path / "scans" / "bad", head_folder, 9)
    points = np.load(tmp_path / "scans" / "bad" / "clouds.npz")["points"]
    points[2, 7] = np.nan
    np.savez(tmp_path / "scans" / "bad" / "clouds.npz", points=points)
    return tmp_path / "scans"


def arguments(scans: Path, head: Path, output: Path, *more: str) -> list[str]:
    """The script's words: coarse steps for the head of rubbish, the usual ones for another."""
    coarse = ["--config", str(head / "coarse.yaml")] if (head / "coarse.yaml").is_file() else []
    return [
        "--scans",
        str(scans),
        "--model",
        str(head),
        "--output-dir",
        str(output),
        "--device",
        "cpu",
        *coarse,
        *more,
    ]


def fits(output: Path) -> dict[str, np.ndarray]:
    return {path.parent.name: np.load(path)["expressions"] for path in sorted(output.glob("*/fit.npz"))}


def test_two_processes_give_the_codes_of_one(script, scans, head_folder, tmp_path, capsys):
    script.main(arguments(scans, head_folder, tmp_path / "one"))
    printed = capsys.readouterr().out
    assert "3 of 4 sequences fitted" in printed
    run_ranks(2, SCRIPT, *arguments(scans, head_folder, tmp_path / "two"), ACCELERATE_USE_CPU="true")
    one, two = fits(tmp_path / "one"), fits(tmp_path / "two")
    assert set(one) == set(two) == {"anna", "bert", "carl"}
    for name, codes in one.items():
        assert codes.shape[0] == FRAMES and codes.std() > 0
        assert np.array_equal(codes, two[name])
    for output in (tmp_path / "one", tmp_path / "two"):
        summary = json.loads((output / "report.json").read_text())
        assert set(summary["fitted"]) == set(one)
        assert summary["failed"] == {
            "bad": f"{scans / 'bad' / 'clouds.npz'} frame 2: point 7 is NaN or infinite; remove such points"
        }
        assert not (output / "bad" / "fit.npz").exists()


def test_a_run_goes_on_at_the_window_where_it_was_stopped(script, scans, head_folder, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    script.main(arguments(scans, head_folder, whole))
    kept = tmp_path / "kept"
    solve, count = sequence_fitting.fit_expressions, []

    def stop(field, seen, config, folder, say):
        """Killed after the first window of the second sequence."""

        def progress(done, total):
            count.append(done)
            if len(count) == 3:
                raise KeyboardInterrupt

        return solve(field, seen, config, folder, progress)

    monkeypatch.setattr(sequence_fitting, "fit_expressions", stop)
    with pytest.raises(KeyboardInterrupt):
        script.main(arguments(scans, head_folder, kept))
    monkeypatch.setattr(sequence_fitting, "fit_expressions", solve)
    windows = list((kept / "bert" / "windows").iterdir())
    assert [path.name for path in windows] == ["window_000.npz"] and not (kept / "bert" / "fit.npz").exists()
    before = {path: path.stat().st_mtime_ns for path in [*windows, *(kept / "anna").rglob("*.npz")]}
    assert kept / "anna" / "fit.npz" in before
    script.main(arguments(scans, head_folder, kept))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    for name, codes in fits(whole).items():
        assert np.array_equal(codes, fits(kept)[name])


def test_other_points_are_fitted_again_and_a_mended_sequence_is_no_failure(script, scans, head_folder, tmp_path):
    output = tmp_path / "fits"
    script.main(arguments(scans, head_folder, output))
    first = fits(output)
    assert json.loads((output / "anna" / "report.json").read_text())["config"]["window"] == 2
    for name in ("anna", "bert"):  # as `facetalk fit` would leave it there
        (output / name / "comparison.mp4").write_bytes(b"of this run")
    points = np.load(scans / "anna" / "clouds.npz")["points"]
    np.savez(scans / "anna" / "clouds.npz", points=points + 4)
    np.savez(scans / "bad" / "clouds.npz", points=points)
    script.main(arguments(scans, head_folder, output))
    again = fits(output)
    assert not np.array_equal(first["anna"], again["anna"]) and np.array_equal(first["bert"], again["bert"])
    assert [path.parent.name for path in output.glob("*/comparison.mp4")] == ["bert"]
    assert json.loads((output / "report.json").read_text())["failed"] == {}


def test_what_is_batched_does_not_depend_on_threads_or_on_how_often_it_was_stopped(
    script, scans, head_folder, tmp_path
):
    """The path of a GPU, on the CPU. On a head of random numbers a rounding error grows to another fit: bits count."""
    for name in ("once", "again"):
        script.main(arguments(scans, head_folder, tmp_path / name, "--batch-size", "3"))
    once, again = fits(tmp_path / "once"), fits(tmp_path / "again")
    assert set(once) == set(again) == {"anna", "bert", "carl"}
    assert all(np.array_equal(codes, again[name]) for name, codes in once.items())


def test_batched_fits_are_those_of_single_ones(script, tmp_path):
    """On facetalk-tiny's head, with points on its own surface: there a rounding error stays one."""
    head = load_head(str(TINY))
    generator = torch.Generator().manual_seed(0)
    for seed, name in enumerate(("anna", "bert")):
        field = make_field(head, head.identity_codes[seed].float())
        cloud = []
        for jaw in (0.1, 0.4):
            weights = torch.zeros(field.size)
            weights[INDEX["jawOpen"]] = jaw
            points = field.posed_landmarks(weights[None])[0].repeat(3, 1)
            points = points + 0.02 * torch.randn(points.shape, generator=generator)
            for _ in range(4):
                value, gradient, _ = field.linearize(points, weights)
                points = points - value[:, None] * gradient / gradient.square().sum(-1, keepdim=True)
            cloud.append(points.numpy())
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        np.savez(folder / "clouds.npz", points=np.stack(cloud))
        np.savez(folder / "transforms.npz", s=1.0, R=np.eye(3), t=np.zeros(3))
        np.save(folder / "identity.npy", field.identity[0].numpy())
    script.main(arguments(tmp_path / "scans", Path(TINY), tmp_path / "single"))
    script.main(arguments(tmp_path / "scans", Path(TINY), tmp_path / "batched", "--batch-size", "2"))
    single, batched = fits(tmp_path / "single"), fits(tmp_path / "batched")
    assert len(single) == len(batched) == 2
    for name, codes in single.items():
        assert codes.std() > 0.02
        np.testing.assert_allclose(codes, batched[name], atol=1e-3)


def test_a_batch_answers_as_the_fields_do_and_nobody_waits_for_a_fit_that_ended():
    fields = [random_field(seed) for seed in range(2)]
    head = fields[0].head
    batcher = FieldBatcher(head, "cpu", 2)
    shared = [SharedField(head, field.identity[0], batcher, number) for number, field in enumerate(fields)]
    plain = [type(fields[0])(head, field.identity[0]) for field in fields]
    generator = torch.Generator().manual_seed(0)
    questions = [
        (field, 0.4 * torch.rand(count, 3, generator=generator), torch.rand(field.size, generator=generator))
        for field, count in zip(shared, (40, 25), strict=True)
    ]
    for kind in ("linearize", "distance"):
        answers = batcher.evaluate(kind, questions)
        for field, (_, points, weights), answer in zip(plain, questions, answers, strict=True):
            expected = getattr(field, kind)(points, weights)
            for value, true in zip(*((x if isinstance(x, tuple) else (x,)) for x in (answer, expected)), strict=True):
                assert torch.allclose(value, true, atol=1e-4 * (1 + float(true.abs().max())))
    batcher.leave()
    assert len(shared[0].distance(*questions[0][1:])) == 40  # alone now
    with pytest.raises(RuntimeError):
        shared[0].distance(questions[0][1], torch.zeros(3))  # an error comes back to the fit that asked


def test_frames_in_one_file(tmp_path):
    points = np.random.default_rng(0).random((3, 60, 3)).astype(np.float32)
    np.savez(tmp_path / "clouds.npz", points=points, landmarks=np.zeros((3, 68, 3)))
    places, clouds = read_sequence(tmp_path)
    assert [place.name for place in places] == [f"clouds.npz frame {i}" for i in range(3)]
    assert np.array_equal(clouds[1].points, points[1]) and clouds[2].landmarks.shape == (68, 3)
    np.savez(tmp_path / "frame_0000.npz", points=points[0])
    with pytest.raises(FaceTalkError, match="leave one of both"):
        read_sequence(tmp_path)
    (tmp_path / "clouds.npz").unlink()
    assert len(read_sequence(tmp_path)[1]) == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"vertices": np.zeros((3, 60, 3))}, "cannot read"),
        ({"points": np.zeros((60, 3))}, "not \\(frames, points, 3\\)"),
        ({"points": np.zeros((3, 4, 3))}, "frame 0 has 4 point"),
        ({"points": np.zeros((3, 60, 3)), "landmarks": np.zeros((2, 68, 3))}, "2 frames of landmarks for 3"),
    ],
)
def test_broken_files_are_named(tmp_path, arrays, words):
    np.savez(tmp_path / "clouds.npz", **arrays)
    with pytest.raises(FaceTalkError, match=words):
        read_sequence(tmp_path)


def test_a_folder_without_sequences_gets_one_line(script, tmp_path, head_folder):
    with pytest.raises(FaceTalkError, match="no sequences in"):
        script.main(arguments(tmp_path / "nothing", head_folder, tmp_path / "fits"))


def test_heads_that_deform_one_way_are_not_batched():
    head = make_head()
    with pytest.raises(FaceTalkError, match="leave --batch-size out"):
        SharedField(head, torch.zeros(head.identity_dim), FieldBatcher(head, "cpu", 1), 0)


def test_poses_and_people_are_found_as_by_the_command(
    script, facetalk, tmp_path, head_folder, monkeypatch  # noqa: F811
):  # fmt: skip
    coarse = partial(fit_identity, config=IdentityConfig(rounds=1, steps=5, points=100))
    monkeypatch.setattr(sequence_fitting, "fit_identity", coarse)
    clouds, rng = tmp_path / "scans" / "anna", np.random.default_rng(0)
    clouds.mkdir(parents=True)
    for index in range(FRAMES):
        normals = rng.normal(size=(120, 3))
        np.savez(clouds / f"frame_{index}.npz", points=100 * rng.random((120, 3), np.float32), normals=normals)
    head, turn = load_head(str(head_folder)), np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    marks = make_field(head, identity_prior(head)[0]).landmarks.numpy() @ turn / 0.004  # seen from the side, in mm
    marks = (marks + rng.normal(size=(FRAMES, 68, 3))).astype(np.float32)
    np.save(clouds / "landmarks.npy", marks)
    words = arguments(tmp_path / "scans", head_folder, tmp_path / "fits", "--fps", "30", "--unit", "auto")
    script.main(words)
    done = facetalk(
        "fit", clouds, "--output", tmp_path / "fit", "--model", head_folder, "--config", head_folder / "coarse.yaml",
        "--landmarks", clouds / "landmarks.npy", "--fps", 30, "--no-video",
    )  # fmt: skip
    assert done[0] == 0, done
    found = {}
    for name in ("fit.npz", "poses.npz"):
        with np.load(tmp_path / "fits" / "anna" / name) as many, np.load(tmp_path / "fit" / name) as one:
            assert all(np.array_equal(many[part], one[part]) for part in one.files)
            found |= dict(one)
    assert found["expressions"].shape[0] == FRAMES and found["fps"] == 30
    assert found["R"].shape == (FRAMES, 3, 3) and np.abs(found["R"] - turn).max() < 0.3
    person = make_field(head, torch.from_numpy(found["identity"]))  # whose shape the poses are those of
    assert np.abs(found["identity"]).max() > 0
    assert np.allclose(found["R"], align_landmarks(marks, person.landmarks.numpy(), found["s"][0]).rotations)
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("fits/anna", "fit")]
    assert reports[0]["config"] == reports[1]["config"] and reports[0]["config"]["fps"] == 30
    np.save(clouds / "identity.npy", found["identity"])
    script.main(words)
    with_normals = fits(tmp_path / "fits")["anna"]
    for path in clouds.glob("frame_*.npz"):
        with np.load(path) as data:
            points = data["points"]
        np.savez(path, points=points)
    script.main(words)
    assert not np.array_equal(fits(tmp_path / "fits")["anna"], with_normals)


def test_config_files_that_make_no_sense_get_one_line(script, tmp_path, head_folder):
    (tmp_path / "wrong.yaml").write_text("windw: 3")
    with pytest.raises(FaceTalkError, match="wrong.yaml: no setting windw"):
        script.main(arguments(tmp_path, head_folder, tmp_path / "fits", "--config", str(tmp_path / "wrong.yaml")))
