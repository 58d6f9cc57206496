# SPDX-License-Identifier: MIT
"""What is fuzzed: for every reader some good files, made here, and the call that reads one."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import fuzz_media
import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
import torch
from animations import head, talk
from safetensors.numpy import save_file

from facetalk_hf.animation.gltf import read_glb
from facetalk_hf.animation.npz import load_animation
from facetalk_hf.animation.retargeting import glb_can_turn, glb_shape_names, read_obj_rig, retarget_glb
from facetalk_hf.audio.io import load_audio
from facetalk_hf.cli.common import read_model_index
from facetalk_hf.cli.info import count_parameters, describe_result
from facetalk_hf.conversion.checkpoints import Network, codebook, read_anchors, read_checkpoint, section
from facetalk_hf.data import corpus
from facetalk_hf.fitting.config import read_config
from facetalk_hf.fitting.inputs import read_landmarks
from facetalk_hf.fitting.point_clouds import read_cloud, read_sequence
from facetalk_hf.fitting.poses import read_transforms
from facetalk_hf.head.identity_files import read_identity_code
from facetalk_hf.importers.recordings import read_code_file, read_fit
from facetalk_hf.importers.vertex_basis import VertexBasis
from facetalk_hf.importers.vertex_sequences import map_array, read_arrays, read_frame, read_lips, read_mesh
from facetalk_hf.motion.keyframes import read_keyframes


Reader = tuple[dict[str, bytes], Callable[[Path], object]]
RNG = np.random.default_rng(0)


def _sound() -> Reader:
    tone = np.sin(np.arange(8000) * 0.1) * 0.5
    seeds = {}
    for name, subtype, channels in (
        ("a.wav", "PCM_16", 1), ("b.wav", "FLOAT", 2), ("c.wav", "IMA_ADPCM", 1), ("a.flac", "PCM_16", 2),
        ("a.ogg", "VORBIS", 1), ("a.mp3", None, 1), ("a.aiff", "PCM_16", 1), ("a.au", "PCM_16", 1),
        ("a.w64", "PCM_16", 1), ("a.caf", "PCM_16", 2), ("a.rf64", "PCM_16", 1),
    ):  # fmt: skip
        buffer = io.BytesIO()
        samples = np.stack([tone] * channels, 1)
        kind = {"a.ogg": "OGG"}.get(name, name.rpartition(".")[2].upper())
        soundfile.write(buffer, samples, 16000, format=kind, subtype=subtype)
        seeds[name] = buffer.getvalue()
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "aac"), ("a.webm", "libopus")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format={"a.mp4": "mp4", "a.mkv": "matroska"}.get(name, "webm")) as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            frame = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        seeds[name] = buffer.getvalue()
    return seeds, lambda path: load_audio(path, longest=60)


def _saved(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npz() -> Reader:
    folder = Path.cwd()
    seeds = {
        "animation.npz": head(3).save(folder / "seed.npz").read_bytes(),
        "whole.npz": head(2).save(folder / "seed.npz", geometry=True).read_bytes(),
        "keys.npz": _saved(frames=np.arange(3), weights=RNG.random((3, 2)), names=np.array(["jawOpen", "tongueOut"])),
        "codes.npz": _saved(frames=np.arange(3), expression=RNG.random((3, 8)).astype(np.float32)),
        "cloud.npz": _saved(points=RNG.random((60, 3)), normals=RNG.random((60, 3)), landmarks=RNG.random((68, 3))),
        "clouds.npz": _saved(points=RNG.random((3, 60, 3)), landmarks=RNG.random((3, 68, 3))),
        "poses.npz": _saved(s=1.0, R=np.eye(3), t=np.zeros(3)),
        "fit.npz": _saved(expressions=RNG.random((3, 8)), fps=24.0, identity=RNG.random(4), names=np.array(["a"])),
        "basis.npz": _saved(mean=RNG.random((4, 3)), speakers=np.array(["a"])),
    }

    def read(path: Path) -> None:
        calls = [
            lambda: load_animation(path), lambda: describe_result(path), lambda: read_keyframes(path),
            lambda: read_cloud(path), lambda: read_transforms(path, 3), lambda: read_code_file(path),
            lambda: VertexBasis.load(path), lambda: read_arrays(path),
        ]  # fmt: skip
        for name in ("clouds.npz", "fit.npz"):
            path.with_name(name).write_bytes(path.read_bytes())
        attempt(*calls, lambda: read_sequence(path.parent), lambda: read_fit(path.parent))

    return seeds, read


def _npy() -> Reader:
    def made(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, version)
        return buffer.getvalue()

    seeds = {
        "code.npy": made(RNG.random(9).astype(np.float32)), "marks.npy": made(RNG.random((2, 68, 3))),
        "anchors.npy": made(RNG.random((39, 3)).astype(np.float32)), "lips.npy": made(np.arange(5)),
        "vertices.npy": made(RNG.random((2, 12)).astype(np.float32), (2, 0)),
        "fortran.npy": made(np.asfortranarray(RNG.random((4, 5, 3)))),
    }  # fmt: skip

    def read(path: Path) -> None:
        attempt(
            lambda: read_identity_code(path), lambda: read_landmarks(path, [None, None], []),
            lambda: read_anchors(path, 39), lambda: read_lips(path, 100), lambda: np.array(map_array(path)[:1]),
            lambda: read_frame(path),
        )  # fmt: skip

    return seeds, read


def _glb() -> Reader:
    folder = Path.cwd()
    names = ("jawOpen", "mouthFunnel", "eyeLookUp_L", "MouthClose", "viseme_aa")
    glb = head(3).replace(target_names=names).save(folder / "seed.glb")
    document, binary = read_glb(glb)
    nodes, skins = document["nodes"], {"skins": [{"joints": [len(document["nodes"])]}]}
    skinned = json.loads(json.dumps(document)) | skins
    skinned["nodes"] = [node | ({"skin": 0} if "mesh" in node else {}) for node in nodes] + [{"name": "Head"}]
    from facetalk_hf.animation.gltf import pack_glb

    linked = json.loads(json.dumps(document))
    import base64

    linked["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    seeds = {"a.glb": glb.read_bytes(), "b.glb": pack_glb(skinned, binary), "a.gltf": json.dumps(linked).encode()}
    motion = talk(3).replace(poses=np.ones((3, 6), np.float32), pivot=np.zeros(3, np.float32))

    def read(path: Path) -> None:
        attempt(
            lambda: retarget_glb(path.with_name("out.glb"), motion, path, True), lambda: glb_shape_names(path),
            lambda: glb_can_turn(path),
        )  # fmt: skip

    return seeds, read


def _obj() -> Reader:
    lines = [f"v {x:.3f} {y:.3f} {z:.3f} 1 0.5 0" for x, y, z in RNG.random((60, 3))]
    seeds = {
        "a.obj": ("\n".join(lines) + "\nvn 0 0 1\nf 1/1/1 2/2/1 3/3/1 4/4/1\nf -1 -2 -3\n").encode(),
        "cloud.obj": "\n".join(line + f"\nvn {line[2:]}" for line in lines).encode(),
    }

    def read(path: Path) -> None:
        rig = path.parent / "rig"
        rig.mkdir(exist_ok=True)
        for name in ("neutral", "jawOpen"):
            (rig / f"{name}.obj").write_bytes(path.read_bytes())
        attempt(lambda: read_cloud(path), lambda: read_obj_rig(rig), lambda: read_mesh(path))

    return seeds, read


def _ply() -> Reader:
    points = RNG.random((60, 3)).astype(np.float32)
    head_ = "ply\nformat {}\nelement vertex 60\nproperty float x\nproperty float y\nproperty float z\n{}end_header\n"
    face = "element face 2\nproperty list uchar int vertex_indices\n"
    text = "\n".join(" ".join(map(str, row)) for row in points.tolist())
    triangles = b"".join(struct.pack("<B3i", 3, *row) for row in ((0, 1, 2), (2, 1, 3)))
    seeds = {
        "ascii.ply": (head_.format("ascii 1.0", face) + text + "\n3 0 1 2\n4 2 1 3 4\n").encode(),
        "cloud.ply": head_.format("binary_little_endian 1.0", "").encode() + points.tobytes(),
        "mesh.ply": head_.format("binary_little_endian 1.0", face).encode() + points.tobytes() + triangles,
        "big.ply": head_.format("binary_big_endian 1.0", "").encode() + points.astype(">f4").tobytes(),
    }
    return seeds, lambda path: attempt(lambda: read_cloud(path), lambda: read_mesh(path))


def _text() -> Reader:
    seeds = {
        "keys.csv": b"frame,jawOpen,mouthSmileLeft\n0,0.5,\n12,0.25,1\n",
        "keys.json": b'{"frames": {"12": {"jawOpen": 0.4}}, "channels": {"eyeBlinkLeft": [0, 0.1, null]}}',
        "poses.json": json.dumps({"s": 1.0, "R": np.eye(3).tolist(), "t": [0, 0, 0]}).encode(),
        "model_index.json": json.dumps({"_class_name": "FaceTalkPipeline", "fps": 24.0, "head": ["a", "b"]}).encode(),
        "settings.yaml": b"temporal: 0.1\npoints: 1600\n",
        "lips.txt": b"1 2 3, 4\n5",
    }  # fmt: skip

    def read(path: Path) -> None:
        (path.parent / "model_index.json").write_bytes(path.read_bytes())
        (path.parent / "config.json").write_bytes(path.read_bytes())
        attempt(
            lambda: read_keyframes(path), lambda: read_transforms(path, 3), lambda: read_lips(path, 10),
            lambda: read_model_index(path.parent), lambda: read_config(path, 1600, 24.0),
        )  # fmt: skip

    return seeds, read


def _checkpoint() -> Reader:
    buffer = io.BytesIO()
    state = {"module.lin0.weight": torch.randn(4, 3), "module.lin0.bias": torch.randn(4)}
    codes = {"weight": torch.randn(2, 3)}
    torch.save({"epoch": 7, "decoder_state_dict": state, "latent_codes_state_dict": codes}, buffer)
    legacy = io.BytesIO()
    torch.save({"decoder_state_dict": state}, legacy, _use_new_zipfile_serialization=False)
    arrays = {"anna": RNG.random((4, 3)), "bob": RNG.random((4, 3))}
    folder = Path.cwd()
    save_file({"weight": RNG.random((4, 3)).astype(np.float32)}, folder / "seed.safetensors")
    seeds = {
        "checkpoint.tar": buffer.getvalue(), "legacy.tar": legacy.getvalue(),
        "templates.pkl": pickle.dumps(arrays, 2), "new.pkl": pickle.dumps(arrays),
        "model.safetensors": (folder / "seed.safetensors").read_bytes(),
    }  # fmt: skip

    def convert(path: Path) -> None:
        file = read_checkpoint(path)
        network = Network(section(file, "decoder_state_dict", path, "identity"), path)
        network.linear("lin0")
        network.done()
        codebook(file, ("latent_codes_state_dict", "weight"), path)

    def read(path: Path) -> None:
        (path.parent / "model.safetensors").write_bytes(path.read_bytes())
        attempt(lambda: convert(path), lambda: read_arrays(path), lambda: count_parameters(path.parent))

    return seeds, read


def _corpus() -> Reader:
    audio = corpus.encode_audio(np.sin(np.arange(2000) * 0.1), 16000)
    row = {
        "id": "a", "speaker": "a", "split": "train", "audio": audio, "sampling_rate": 16000, "fps": 24.0,
        "expression": RNG.random((3, 4)).tolist(), "text": "Bob.",
    }  # fmt: skip
    seeds = {}
    for name, packed in (("plain.parquet", "NONE"), ("packed.parquet", "snappy")):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row] * 3), buffer, compression=packed)
        seeds[name] = buffer.getvalue()
    seeds["corpus.json"] = json.dumps({"shards": {"a.parquet": 3}}).encode()
    good = seeds["plain.parquet"]

    def read(path: Path) -> None:
        folder = path.parent / "corpus"
        folder.mkdir(exist_ok=True)
        shard = path.suffix == ".parquet"
        (folder / "a.parquet").write_bytes(path.read_bytes() if shard else good)
        (folder / "corpus.json").write_bytes(b'{"shards": {"a.parquet": 3}}' if shard else path.read_bytes())
        for found in corpus.read(folder):
            corpus.decode_audio(found)

    return seeds, read


def attempt(*calls: Callable[[], object]) -> None:
    """Make several calls; what the first of them refused is raised again once all were made."""
    from facetalk_hf.errors import FaceTalkError

    refused = None
    for call in calls:
        try:
            call()
        except FaceTalkError as error:
            check_cause(error)
            refused = refused or error
    if refused is not None:
        raise refused


def check_cause(error: BaseException) -> None:
    """Raise MemoryError where one hides behind another error: somebody asked for what a header promised."""
    cause: BaseException | None = error
    while cause is not None:
        # FFmpeg says so of a number beyond a limit of its own, for which it asked for nothing.
        ours = not isinstance(cause, av.FFmpegError)
        if ours and (isinstance(cause, MemoryError) or "allocate memory" in str(cause)):
            raise MemoryError(f"behind the message {error}") from error
        cause = cause.__cause__ or cause.__context__


READERS: dict[str, Callable[[], Reader]] = {
    "sound": _sound, "npz": _npz, "npy": _npy, "glb": _glb, "obj": _obj, "ply": _ply, "text": _text,
    "checkpoint": _checkpoint, "corpus": _corpus, "video": fuzz_media.video, "phones": fuzz_media.phones,
}  # fmt: skip
"""Name -> function that makes good files in the working folder, and the call that reads one."""
