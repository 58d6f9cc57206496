# SPDX-License-Identifier: MIT
"""Sequences of made-up meshes: found, coded, trained on without a head, sampled, and meshes again."""

import json
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import trimesh
from diffusers import DPMSolverMultistepScheduler
from scripts import load_script

from facetalk_hf import FaceTalkDenoiser, FaceTalkError, FaceTalkPipeline
from facetalk_hf.audio.log_mel import LogMelFeatureExtractor
from facetalk_hf.audio_features import LogMelEncoder, LogMelEncoderConfig
from facetalk_hf.data import corpus
from facetalk_hf.evaluation.metrics import lip_vertex_error
from facetalk_hf.importers.vertex_basis import VertexBasis
from facetalk_hf.importers.vertex_sequences import encode_vertices, find_vertices, read_mesh, read_templates


pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
TRAINING = Path(__file__).parents[2] / "training"
BALL = trimesh.creation.icosphere(subdivisions=1, radius=0.1)
COUNT, FACES = len(BALL.vertices), np.asarray(BALL.faces)
SHAPES = np.random.default_rng(5).standard_normal((2, COUNT, 3)) * [[[0.02]], [[0.004]]]
LIPS = [1, 3, 7]


def template(speaker: str) -> np.ndarray:
    """A ball as large as a head in metres, stretched differently for everybody."""
    return np.asarray(BALL.vertices) * (1 + 0.1 * (ord(speaker[0]) - ord("a")) * np.array([1, 0, 0]))


def motion(speaker: str, number: int, frames: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Loudness (T,), and vertices (T, V, 3) in metres that follow it."""
    rng = np.random.default_rng([ord(speaker[0]), number])
    loudness = np.repeat(rng.random(frames // 6) > 0.5, 6).astype(float)
    slow = np.sin(np.arange(frames) / 9 + number)
    return loudness, template(speaker) + np.tensordot(np.stack([loudness, slow], 1), SHAPES, 1)


def make_set(folder: Path, speakers: str = "abc", each: int = 2, rate: int = 22050, frames: int = 48) -> Path:
    """FaceFormer's form of VOCASET: flat vertices, wav, pickled templates, and a mesh with the triangles."""
    for name in ("vertices_npy", "wav"):
        (folder / name).mkdir(parents=True)
    for who in (f"{letter}_x" for letter in speakers):
        for number in range(each):
            loudness, vertices = motion(who, number, frames)
            np.save(folder / "vertices_npy" / f"{who}_sentence{number}.npy", vertices.reshape(frames, -1))
            noise = np.random.default_rng(number).standard_normal(frames * rate // 24)
            at = np.minimum(np.arange(len(noise)) * 24 // rate, frames - 1)
            soundfile.write(folder / "wav" / f"{who}_sentence{number}.wav", 0.1 * noise * loudness[at], rate)
    (folder / "templates.pkl").write_bytes(pickle.dumps({f"{who}_x": template(who) for who in speakers}, protocol=2))
    BALL.export(folder / "SAMPLE.ply")
    return folder


def run_script(monkeypatch, name: str, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(TRAINING / name), run_name="__main__")


def coded(folder: Path, components: int = 8, **options) -> tuple:
    sequences = find_vertices(folder)
    templates, faces = read_templates(folder, sequences)
    splits = {item.recording.speaker: "train" for item in sequences} | {"c_x": "test"}
    return encode_vertices(sequences, splits, templates, faces, components, **options)


def test_a_denoiser_learns_vertices_without_a_head(tmp_path, monkeypatch):
    """From a folder of vertex sequences to meshes of a voice that training has not heard."""
    data = make_set(tmp_path / "data", each=6)
    (data / "lips.txt").write_text("\n".join(map(str, LIPS)))
    folder, encoder = tmp_path / "corpus", tmp_path / "encoder"
    run_script(
        monkeypatch, "build_corpus.py", "--from", "vertices", "--input", data, "--output-dir", folder,
        "--test-speakers", "c_x", "--validation-speakers", "--lips", data / "lips.txt",
    )  # fmt: skip
    assert {row["speaker"] for row in corpus.read(folder)} == {"a_x", "b_x"}
    basis = VertexBasis.load(folder)
    assert basis.code_dim == 2 and np.flatnonzero(basis.lips).tolist() == LIPS  # two shapes move the ball

    torch.manual_seed(0)
    LogMelEncoder(LogMelEncoderConfig(stem_size=8, hidden_size=12, num_hidden_layers=2)).save_pretrained(encoder)
    LogMelFeatureExtractor().save_pretrained(encoder)
    model = {"hidden_size": 16, "num_layers": 3, "num_heads": 2, "ff_mult": 2, "window": 4, "film_rank": 8}
    script = load_script("training/train_denoiser.py")
    options = {"corpus": folder, "audio_encoder": encoder, "output_dir": tmp_path / "out", "preset": "tiny"}
    options |= {"model_config": json.dumps(model), "batch_size": 8, "max_train_steps": 150, "learning_rate": 1e-2}
    options |= {"validation_steps": 0, "checkpointing_steps": 150, "loss_matrix": folder / "lips.npy"}
    script.main(
        [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))] + ["--cpu"]
    )

    pipe = FaceTalkPipeline(
        denoiser=FaceTalkDenoiser.from_pretrained(tmp_path / "out" / "denoiser"), head=None,
        scheduler=DPMSolverMultistepScheduler.from_pretrained(tmp_path / "out" / "scheduler"),
        audio_encoder=LogMelEncoder.from_pretrained(encoder), feature_extractor=LogMelFeatureExtractor(),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    errors = []
    for number in range(3):
        sound, seed = data / "wav" / f"c_x_sentence{number}.wav", torch.Generator().manual_seed(number)
        codes = pipe(sound, num_inference_steps=6, generator=seed, output_type="expression").expressions[0].numpy()
        truth = 1000 * motion("c_x", number)[1]
        rest = np.broadcast_to(basis.template("c_x"), truth.shape)
        made = basis.decode(codes, "c_x")
        errors.append([lip_vertex_error(item, truth, LIPS, "rooted") for item in (made, rest)])
    made, rest = np.mean(errors, axis=0)
    assert made < 0.6 * rest

    animation = basis.animate(codes, "c_x", fps=24.0)
    animation.save(tmp_path / "c.glb")
    animation.save(tmp_path / "ply")
    points, faces = read_mesh(sorted((tmp_path / "ply").glob("*.ply"))[7])
    np.testing.assert_allclose(points, basis.decode(codes, "c_x")[7], atol=1e-3)
    assert np.array_equal(faces, FACES) and len(trimesh.load_mesh(tmp_path / "c.glb").faces) == len(FACES)
    with pytest.raises(FaceTalkError, match="no head to animate"):
        pipe(sound, num_inference_steps=2)


def test_components_give_the_vertices_back(tmp_path):
    basis, recordings = coded(make_set(tmp_path / "data"))
    for recording in recordings:  # the voice that the basis was not made of moves by the same two shapes
        fields = recording.read()
        truth = 1000 * motion(recording.speaker, int(recording.sequence[-1]))[1]
        np.testing.assert_allclose(basis.decode(fields["expression"], recording.speaker), truth, atol=0.01)
        assert fields["residual"].max() < 0.01
    one, _ = coded(tmp_path / "data", 1)
    fields = recordings[0].read()
    assert one.code_dim == 1 and 0.5 < one.encode(truth, "c_x")[1].mean() < 10  # mm
    codes = np.random.default_rng(0).standard_normal((5, 2))
    moved = np.square(basis.decode(codes) - basis.template()).sum(-1).mean(1)
    np.testing.assert_allclose(np.square(codes).sum(1), moved, rtol=1e-4)  # a coefficient of 1 is 1 mm


def test_the_basis_knows_nothing_of_test_voices(tmp_path):
    path = make_set(tmp_path / "data") / "vertices_npy" / "c_x_sentence0.npy"
    np.save(path, np.load(path) + 0.005 * np.random.default_rng(0).standard_normal((48, 3 * COUNT)))
    basis, recordings = coded(tmp_path / "data")
    assert basis.code_dim == 2
    residual = {item.name: item.read()["residual"].mean() for item in recordings}
    assert 5 < residual.pop("c_x_sentence0") < 10 and max(residual.values()) < 0.01  # mm


def test_codes_may_be_the_displacements(tmp_path):
    basis, recordings = coded(make_set(tmp_path / "data"), 0)
    codes = recordings[0].read()["expression"]
    truth = 1000 * motion("a_x", 0)[1]
    assert basis.code_dim == 3 * COUNT and codes.shape == (48, 3 * COUNT)
    np.testing.assert_allclose(codes.reshape(48, -1, 3) + basis.template("a_x"), truth, atol=1e-3)
    animation = basis.animate(codes, "a_x")
    assert np.abs(animation.vertices(9) - truth[9]).max() < 0.05
    basis.save(tmp_path)
    np.testing.assert_array_equal(VertexBasis.load(tmp_path).decode(codes, "a_x"), basis.decode(codes, "a_x"))


def test_basis_file_and_lips(tmp_path):
    basis, _ = coded(make_set(tmp_path / "data"), lips=np.isin(np.arange(COUNT), LIPS))
    path = basis.save(tmp_path / "basis.npz")
    back = VertexBasis.load(path)
    for name in ("templates", "faces", "components", "lips", "speakers"):
        np.testing.assert_array_equal(getattr(back, name), getattr(basis, name))
    codes = np.random.default_rng(0).standard_normal((5, basis.code_dim)).astype(np.float32)
    lips = (basis.decode(codes) - basis.template())[:, LIPS]
    np.testing.assert_allclose(np.square(codes @ basis.loss_matrix()).mean(1), np.square(lips).mean((1, 2)), rtol=1e-3)
    for call, message in (
        (lambda: basis.template("nobody"), "no template of nobody; there are a_x"),
        (lambda: basis.template(np.zeros((5, 3))), r"must be \(42, 3\), not \(5, 3\)"),
        (lambda: basis.decode(codes[:, :1]), r"codes of this basis are \(T, 2\), not \(5, 1\)"),
        (lambda: basis.encode(np.zeros((2, 5, 3))), r"vertices must be \(T, 42, 3\)"),
        (lambda: VertexBasis.load(tmp_path / "none"), "is no basis of vertices"),
        (lambda: VertexBasis(basis.templates, ("a",), FACES), "3 templates need as many different names"),
        (lambda: coded(tmp_path / "data")[0].loss_matrix(), "matrix of the lips needs components and the lips"),
    ):
        with pytest.raises(FaceTalkError, match=message):
            call()


@pytest.mark.parametrize("form", ["ply", "obj", "npy", "single", "authors"])
def test_other_layouts(tmp_path, form):
    """A folder a sequence, with a mesh a frame; among them the authors' FLAME tracking."""
    expected = {}
    for name in ("a_one", "b_one"):
        _, vertices = motion(name, 0, 12)
        place = tmp_path / name / ("flame_2023_tracking/flame_meshes" if form == "authors" else "meshes")
        place.mkdir(parents=True)
        expected[name] = vertices
        for i, points in enumerate(vertices):
            path = place / f"frame_{i:03d}"
            if form == "npy":
                np.save(path, points)
            elif form != "single":
                trimesh.Trimesh(points, FACES, process=False).export(
                    path.with_suffix(".obj" if form == "obj" else ".ply")
                )
        if form == "single":
            np.save(place / "vertices.npy", vertices)
        sound = tmp_path / name / ("audio/cleaned_audio.wav" if form == "authors" else "speech.wav")
        sound.parent.mkdir(exist_ok=True)
        soundfile.write(sound, np.zeros(8000), 16000)
        if form == "authors":
            still = trimesh.Trimesh(template(name), FACES, process=False)
            still.export(tmp_path / name / "flame_2023_tracking" / "flame_2023_template.ply")
    if form != "authors":
        (tmp_path / "templates").mkdir()
        for name in expected:
            trimesh.Trimesh(template(name), FACES, process=False).export(tmp_path / "templates" / f"{name[0]}.ply")
    sequences = find_vertices(tmp_path)
    templates, faces = read_templates(tmp_path, sequences)
    assert np.array_equal(faces, FACES) and set(templates) == {"a", "b"}
    for item in sequences:
        np.testing.assert_allclose(item.vertices(COUNT), expected[item.recording.name], atol=1e-5)
        assert item.recording.audio.suffix == ".wav" and item.recording.sequence == "one"
    if form == "ply":
        (tmp_path / "b_one" / "meshes" / "frame_004.ply").unlink()
        with pytest.raises(FaceTalkError, match="frame 4 is missing between frame_003.ply and frame_005.ply"):
            find_vertices(tmp_path)


def test_vertices_that_cannot_be_used(tmp_path):
    folder = make_set(tmp_path / "data")
    path = folder / "vertices_npy" / "a_x_sentence1.npy"
    good = np.load(path)

    def fails(message: str) -> None:
        with pytest.raises(FaceTalkError, match=message):
            for recording in coded(folder)[1]:
                recording.read()

    bad = good.copy()
    bad[13, 5] = np.nan
    np.save(path, bad)
    fails("a_x_sentence1.npy: frame 13 has vertices that are NaN")
    np.save(path, good[:, :30])
    fails("a_x_sentence1.npy: frame 0 has 10 vertices, the template has 42")
    np.save(path, good[:, :31])
    fails(r"must be \(T, V, 3\) or \(T, 3 V\), not \(48, 31\)")
    np.save(path, good)
    pickle_file = folder / "templates.pkl"
    pickle_file.write_bytes(pickle.dumps({"a_x": template("a")}))
    fails("templates.pkl has no template of b_x, only of a_x")
    pickle_file.write_bytes(pickle.dumps({"a_x": Path("x")}))
    fails("holds no arrays by name: pathlib.* is no array")
    pickle_file.write_bytes(pickle.dumps({f"{who}_x": 30 * template(who) for who in "abc"}))
    fails("the template: the points are .* across, no head")
    pickle_file.unlink()
    fails("no template of the faces at rest")
    (folder / "wav" / "a_x_sentence0.wav").unlink()
    fails("no sound of a_x_sentence0: no a_x_sentence0.wav in")
    with pytest.raises(FaceTalkError, match="no vertex sequences in"):
        find_vertices(folder / "wav")
