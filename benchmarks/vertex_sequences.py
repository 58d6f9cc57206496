# SPDX-License-Identifier: MIT
"""Vertex sequences end to end, without a head: ICT-FaceKit's meshes in VOCASET's form -> corpus -> denoiser -> meshes.

    python benchmarks/vertex_sequences.py --ict ICT-FaceKit/FaceXModel --corpus data/corpus --work out/vertices

Every speaker of the synthetic corpus gets a random face, which the corpus' blendshape weights move; nothing of heads
or codes goes on from there. Then the scripts of training/ are run as a user would run them, and the voices that were
never heard in training are compared with their own vertices. What is there already is kept.
"""

import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile  # noqa: TID251  writes the wav files of a data set, as a recording would be
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

import facetalk_hf
from facetalk_hf import FaceTalkDenoiser, FaceTalkPipeline
from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.data import corpus
from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.evaluation.metrics import lip_vertex_error, mean_vertex_error
from facetalk_hf.files import atomic_path
from facetalk_hf.head.regions import region_masks
from facetalk_hf.importers.vertex_basis import VertexBasis
from facetalk_hf.importers.vertex_sequences import read_mesh
from facetalk_hf.rendering.renderer import HeadRenderer
from facetalk_hf.scripts import run_script


TRAINING = Path(__file__).resolve().parents[1] / "training"
TRAIN = ("awb", "slt", "kal", "ked", "ona", "lp", "mv", "dita", "krb", "ph")
VALIDATION, TEST = ("machac",), ("rms", "pc", "lj")
USED = (slice(0, 11248), slice(11248, 13294), slice(17039, 21451), slice(21451, 22221), slice(23021, 23791))
"""Vertices of ICT-FaceKit: skin, mouth socket, teeth, the two eyes."""
PARTS = (0, 3, 2, 1, 1)
"""What these are in `HeadAnimation.parts`."""
COLORS = ((217, 167, 141), (168, 92, 88), (236, 228, 214), (240, 238, 236), (240, 238, 236))
CM = 0.01  # ICT-FaceKit's unit in metres, which VOCASET is in


def make_sequences(ict: Path, source: Path, folder: Path, each: int, seconds: float) -> None:
    """Write VOCASET's form: vertices_npy/SPEAKER_sentenceNN.npy (T, 3 V) in metres, wav/, templates/, lips.txt."""
    rows = np.concatenate([np.arange(30000)[part] for part in USED])
    new = np.full(30000, -1)
    new[rows] = np.arange(len(rows))
    neutral, faces = read_mesh(ict / "generic_neutral_mesh.obj")
    faces = new[faces]
    faces = faces[(faces >= 0).all(axis=1)]
    shapes = np.stack([read_mesh(ict / f"{name}.obj")[0] - neutral for name in EXPRESSIONS])[:, rows]
    people = np.stack([read_mesh(ict / f"identity{i:03d}.obj")[0] - neutral for i in range(40)])[:, rows]
    landmarks = neutral[json.loads((ict / "vertex_indices.json").read_text())["idx_to_landmark_verts"]]
    parts = np.repeat(PARTS, [part.stop - part.start for part in USED]).astype(np.uint8)
    lips = region_masks(10 * neutral[rows], 10 * landmarks, parts)["lips"]
    (folder / "vertices_npy").mkdir(parents=True)
    (folder / "wav").mkdir()
    (folder / "templates").mkdir()
    np.savez(folder / "looks.npz", parts=parts, colors=paint(neutral[rows], parts))
    counts = dict.fromkeys((*TRAIN, *VALIDATION, *TEST), 0)
    for row in corpus.read(source, ("train", "test"), ("speaker", "audio", "sampling_rate", "weights", "fps", "text")):
        who, frames = row["speaker"], round(seconds * row["fps"])
        if counts.get(who, each) >= each or len(row["weights"]) < frames:
            continue
        counts[who] += 1
        rng = np.random.default_rng(zlib.crc32(who.encode()))
        template = neutral[rows] + np.tensordot(rng.normal(0, 0.8, len(people)), people, 1)
        name = f"{who}_sentence{counts[who]:02d}"
        if counts[who] == 1:
            with open(folder / "templates" / f"{who}.obj", "w") as file:
                np.savetxt(file, CM * template, "v %.7f %.7f %.7f")
                np.savetxt(file, faces + 1, "f %d %d %d")
        vertices = template + np.tensordot(row["weights"][:frames], shapes, 1)
        np.save(folder / "vertices_npy" / f"{name}.npy", (CM * vertices).astype(np.float32).reshape(frames, -1))
        samples = corpus.decode_audio(row)[: round(seconds * row["sampling_rate"])]
        soundfile.write(folder / "wav" / f"{name}.wav", samples, row["sampling_rate"])
        (folder / "wav" / f"{name}.txt").write_text(row["text"], encoding="utf-8")
    np.savetxt(folder / "lips.txt", np.flatnonzero(lips), "%d")
    print(f"{folder}: {sum(counts.values())} sequences, {len(rows)} vertices, {int(lips.sum())} of the lips")


def paint(vertices: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Colours (V, 3) uint8: the parts', with iris and pupil around the foremost point of either eye."""
    colors = np.repeat(np.uint8(COLORS), [part.stop - part.start for part in USED], axis=0)
    for side in (1, -1):
        eye = np.flatnonzero((parts == 1) & (side * vertices[:, 0] > 0))
        distance = np.linalg.norm(vertices[eye] - vertices[eye[vertices[eye, 2].argmax()]], axis=1)
        colors[eye[distance < 0.55]] = (92, 116, 128)
        colors[eye[distance < 0.25]] = (16, 16, 18)
    return colors


def run(script: str, *arguments: object) -> None:
    command = [sys.executable, str(TRAINING / script), *map(str, arguments)]
    print("python " + " ".join([f"training/{script}", *command[2:]]), flush=True)
    if subprocess.run(command).returncode:
        raise SystemExit(f"{script} failed")


def evaluate(options: argparse.Namespace, data: Path, folder: Path, pipe: FaceTalkPipeline) -> dict[str, dict]:
    """LVE (mean over frames of the worst lip vertex, mm) and MVE (mm) of every held-out voice, and of all together."""
    basis = VertexBasis.load(folder)
    train = np.concatenate([row["expression"] for row in corpus.read(folder, ("train",), ("expression",))])
    average = train.mean(axis=0)
    pooled: dict[str, dict[str, list]] = {}
    for row in corpus.read(folder, ("test",)):
        codes, who = row["expression"], row["speaker"]
        truth = np.load(data / "vertices_npy" / f"{row['id']}.npy")[: len(codes)].reshape(len(codes), -1, 3) * 1000
        seeds = [torch.Generator().manual_seed(i) for i in range(options.samples)]
        sampled = pipe(
            corpus.decode_audio(row), sampling_rate=row["sampling_rate"], num_samples=options.samples,
            num_inference_steps=options.steps, generator=seeds, output_type="expression",
        ).expressions  # fmt: skip
        sampled = [item.numpy()[: len(codes)] for item in sampled]
        motions = {
            "face at rest": [np.zeros_like(codes)], "mean face": [np.tile(average, (len(codes), 1))],
            "denoiser": sampled, "its samples' mean": [np.mean(sampled, axis=0)], "basis (bound)": [codes],
        }  # fmt: skip
        for name, items in motions.items():
            for group in (who, "all"):
                pooled.setdefault(group, {}).setdefault(name, [])
            for item in items:
                vertices = basis.decode(item, who)
                score = (
                    lip_vertex_error(vertices, truth, basis.lips, "rooted"),
                    lip_vertex_error(vertices, truth, basis.lips), mean_vertex_error(vertices, truth),
                )  # fmt: skip
                for group in (who, "all"):
                    pooled[group][name].append(score)
    keys = ("LVE mm", "LVE mm^2", "MVE mm")
    return {
        group: {
            name: dict(zip(keys, np.mean(values, axis=0).round(3).tolist(), strict=True))
            for name, values in rows.items()
        }
        for group, rows in pooled.items()
    }


def show(options: argparse.Namespace, data: Path, folder: Path, pipe: FaceTalkPipeline) -> None:
    """A held-out voice as ply, obj, glb and mp4, and a picture: what it should be above what was sampled."""
    basis, painted = VertexBasis.load(folder), np.load(data / "looks.npz")
    row = next(row for row in corpus.read(folder, ("test",)) if row["speaker"] == options.show)
    samples = corpus.decode_audio(row)
    looks = {"colors": painted["colors"], "parts": painted["parts"], "fps": row["fps"]}
    codes = pipe(
        samples, sampling_rate=row["sampling_rate"], generator=torch.Generator().manual_seed(0),
        num_inference_steps=options.steps, output_type="expression",
    ).expressions[0].numpy()  # fmt: skip
    sound = {"audio": samples, "sampling_rate": row["sampling_rate"]}
    truth = basis.animate(row["expression"], row["speaker"], **looks, **sound)
    animation = basis.animate(codes, row["speaker"], **looks, **sound)
    target = options.work / "show"
    for name in ("speech.mp4", "speech.glb", "speech.npz"):
        animation.save(target / name)
    animation.replace(weights=animation.weights[:12], expressions=None, audio=None).save(target / "ply")
    animation.replace(weights=animation.weights[:2], expressions=None, audio=None).save(target / "obj", format="obj")
    moved = np.abs(row["expression"]).sum(axis=1)  # the frames that should be furthest from rest
    frames = [part[np.argmax(moved[part])] for part in np.array_split(np.arange(len(codes)), 6)]
    pictures = [[HeadRenderer(item, 256, yaw=15.0).render(int(i)) for i in frames] for item in (truth, animation)]
    image = np.concatenate([np.concatenate(line, axis=1) for line in pictures])
    Image.fromarray(image).save(target / "frames.png")
    print(f"{target}: {len(codes)} frames of {row['id']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    add("--corpus", type=Path, required=True, help="corpus of training/build_corpus.py or build_speech.py")
    add("--encoder", type=Path, default=Path(facetalk_hf.TINY), help="folder with audio_encoder and feature_extractor")
    add("--work", type=Path, required=True)
    add("--each", type=int, default=4, help="sequences of a speaker")
    add("--seconds", type=float, default=4.0, help="length of a sequence")
    add("--components", type=int, default=48)
    add("--train-steps", type=int, default=600)
    add("--steps", type=int, default=15, help="denoising steps")
    add("--samples", type=int, default=3, help="of each held-out clip")
    add("--show", default="rms", help="held-out voice to be drawn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, folder, output = options.work / "data", options.work / "corpus", options.work / "denoiser"
    if not data.exists():
        make_sequences(options.ict, options.corpus, data, options.each, options.seconds)
    if not folder.exists():
        run(
            "build_corpus.py", "--from", "vertices", "--input", data, "--output", folder, "--fps", 24,
            "--components", options.components, "--lips", data / "lips.txt", "--validation-speakers", *VALIDATION,
            "--test-speakers", *TEST, "--licence", "MIT",
        )  # fmt: skip
    encoder, extractor = options.encoder / "audio_encoder", options.encoder / "feature_extractor"
    if not (output / "denoiser").exists():
        run(
            "train_denoiser.py", "--corpus", folder, "--audio-encoder", encoder, "--feature-extractor", extractor,
            "--output-dir", output, "--preset", "tiny", "--batch-size", 16, "--max-train-steps", options.train_steps,
            "--learning-rate", 2e-3, "--lr-scheduler", "cosine", "--lr-warmup-steps", 100, "--adam-beta2", 0.99,
            "--velocity-weight", 1, "--loss-matrix", folder / "lips.npy", "--loss-matrix-weight", 0.3,
            "--ema-decay", 0.99, "--validation-steps", 200, "--checkpointing-steps", 200, "--resume", "--cpu",
        )  # fmt: skip
    audio_encoder, feature_extractor = load_audio_encoder(encoder, extractor)
    pipe = FaceTalkPipeline(
        denoiser=FaceTalkDenoiser.from_pretrained(output / "denoiser"), head=None, fps=24.0,
        scheduler=DPMSolverMultistepScheduler.from_pretrained(output / "scheduler"),
        audio_encoder=audio_encoder, feature_extractor=feature_extractor,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    scores = evaluate(options, data, folder, pipe)
    for group, rows in scores.items():
        for name, values in rows.items():
            print(f"{group:8} {name:20} " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    settings = {
        key: getattr(options, key) for key in ("each", "seconds", "components", "train_steps", "steps", "samples")
    }
    with atomic_path(options.work / "scores.json") as temporary:
        temporary.write_text(json.dumps({"settings": settings, "scores": scores}, indent=1))
    show(options, data, folder, pipe)


if __name__ == "__main__":
    run_script(main)
