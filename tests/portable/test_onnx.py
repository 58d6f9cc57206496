# SPDX-License-Identifier: MIT
"""ONNX files give PyTorch's stream, without torch; without onnxruntime one line says what to install."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from components import RATE, make_encoder, make_pipeline, seed, speech_like
from portable_models import ACTING, DISTILLED, PLAIN, make

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipeline, load_audio
from facetalk_hf.motion.steering import heard_target
from facetalk_hf.phones.visemes import PHONES
from facetalk_hf.portable import compacting
from facetalk_hf.portable.compacting import compact, half_runs, load_onnx
from facetalk_hf.portable.exporting import export_onnx
from facetalk_hf.portable.networks import heard_closures
from facetalk_hf.portable.packing import unpack
from facetalk_hf.portable.runtime import OnnxStream


pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install facetalk_hf[onnx]")
pytest.importorskip("onnx", reason="needs onnx: pip install facetalk_hf[onnx]")

LIBRARY = Path(facetalk_hf.__file__).parent
CLIPS = [LIBRARY / "assets" / "demo.wav", *sorted((LIBRARY.parent / "spaces_app" / "clips").glob("*.mp3"))]
ACTED = {"emotion": {"happy": 0.8}, "energy": 0.5, "head_motion": 0.6, "upper_face_intensity": 0.7}


class TorchNoise:
    """Draws what `SpeechStream` draws: whole groups of 16 numbers."""

    def __init__(self):
        self.generator, self.left = seed(), None

    def __call__(self, hop, size):
        block = 16 // np.gcd(16, size)
        self.left = torch.zeros(0, size) if self.left is None else self.left
        while len(self.left) < hop:
            self.left = torch.cat((self.left, torch.randn(block, size, generator=self.generator)))
        noise, self.left = self.left[:hop], self.left[hop:]
        return noise.numpy()


def both(pipe, folder, clip, rate=RATE, hop=2, threads=1, look_ahead=None, tongue_atol=1e-4, **options):
    """ARKit weights and poses of PyTorch's stream, and of the exported one."""
    torch_options = options | ({} if look_ahead is None else {"look_ahead": look_ahead})
    chunks = np.array_split(clip, 5)
    outputs = list(pipe.stream(chunks, rate, generator=seed(), output_type="arkit", hop=hop, **torch_options))
    stream = OnnxStream(folder, rate, noise=TorchNoise(), threads=threads, **options)
    frames = [frame for chunk in np.array_split(clip, 3) for frame in stream.push(chunk)] + stream.finish()
    assert [frame.index for frame in frames] == list(range(stream.num_frames))
    poses = None if outputs[0].poses is None else np.concatenate([output.poses for output in outputs])
    expected = np.concatenate([output.arkit for output in outputs])
    if outputs[0].tongue is None:
        assert frames[0].tongue is None
    else:
        tongue = np.concatenate([output.tongue for output in outputs])
        np.testing.assert_allclose(np.stack([frame.tongue for frame in frames]), tongue, atol=tongue_atol)
        assert tongue.std() > 0.01
    assert stream.delay == pytest.approx(pipe.open_stream(rate, hop=hop, **torch_options).delay)
    return expected, np.stack([frame.arkit for frame in frames]), poses, [frame.pose for frame in frames]


@pytest.mark.parametrize(("opset", "hop", "threads", "rate"), [(17, 1, 2, RATE), (18, 2, 1, 22050), (20, 3, 1, RATE)])
def test_is_the_stream(tmp_path, opset, hop, threads, rate):
    pipe = make(PLAIN)
    export_onnx(pipe, tmp_path, hop=hop, opset=opset)
    expected, found, poses, _ = both(pipe, tmp_path, speech_like(1.3), rate, hop, threads)
    assert poses is None and 0.05 < expected.std()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("look_ahead", [None, 2 / 24])
def test_acts_moves_and_closes_lips_as_the_stream(tmp_path, look_ahead):
    pipe = make(ACTING)
    export_onnx(pipe, tmp_path, look_ahead=look_ahead)
    clip = speech_like(1.5)
    expected, found, poses, moved = both(pipe, tmp_path, clip, look_ahead=look_ahead, **ACTED)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.stack(moved), poses, atol=1e-3)
    assert poses.std() > 0.01
    _, calm, _, _ = both(pipe, tmp_path, clip, look_ahead=look_ahead)
    assert np.abs(calm - found).max() > 0.01
    pipe.audio_encoder.config.closure_threshold = None
    apart, _, _, _ = both(pipe, tmp_path, clip, look_ahead=look_ahead, tongue_atol=1, **ACTED)
    assert np.abs(apart - expected).max() > 0.01  # closures were heard


@torch.no_grad()
def test_closures_and_pauses_are_heard_as_in_numpy():
    encoder = make_encoder(closure_threshold=0.45, num_phones=len(PHONES))
    encoder.motion_head.weight.mul_(30)
    encoder.phone_head.bias.view(2, -1)[:, PHONES.index("pau")] = 4.0
    features = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (200, 24)).astype(np.float32))
    wanted = heard_target(encoder, features)
    assert wanted.rest.std() > 0.1 and wanted.contact.std() > 0.1
    for found, value in zip(heard_closures(encoder, features, 0.45), wanted[:4], strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The embedded model, its few-step pipeline and its exported stream."""
    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    folder = tmp_path_factory.mktemp("portable")
    return pipe.few_steps(), folder, export_onnx(pipe, folder)


def test_shipped_model_is_small(shipped):
    assert sum(shipped[2].values()) < 6e6


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_plain_files_for_other_programs(tmp_path, precision, monkeypatch):
    """They hold what the packed ones hold; 8 bits are smaller, and near."""
    import onnxruntime

    monkeypatch.setattr(compacting, "MATRIX", 256)
    pipe, clip = make(ACTING), speech_like(1.0)
    packed = export_onnx(pipe, tmp_path / "packed", precision=precision)
    plain = export_onnx(pipe, tmp_path / "plain", precision=precision, plain=True)
    assert {"encoder.onnx", "motion.onnx", "config.json"} == set(plain) and sum(packed.values()) < sum(plain.values())
    assert (
        unpack((tmp_path / "packed" / "motion.onnxz").read_bytes())
        == (tmp_path / "plain" / "motion.onnx").read_bytes()
    )
    onnxruntime.InferenceSession(tmp_path / "plain" / "encoder.onnx")
    expected, found, _, _ = both(pipe, tmp_path / "plain", clip, tongue_atol=0.2)
    lost = np.abs(found - expected)
    assert lost.max() < 1e-4 if precision == "fp16" else lost.max() > 1e-4 and lost.mean() < 0.02
    export_onnx(pipe, tmp_path / "plain")
    assert not (tmp_path / "plain" / "motion.onnx").exists()  # of two forms one is there


def test_few_steps_are_stored_as_they_were_made(tmp_path):
    """W + A B of half precision, apart, is nearer to W' and smaller than W' itself in 16 bits and 8."""
    rng = np.random.default_rng(0)
    weight, up, down = (rng.normal(0, 0.1, size).astype(np.float16) for size in ((96, 64), (96, 2), (2, 64)))
    parts = [torch.from_numpy(part).float() for part in (weight, up, down)]
    fused = (parts[0] + parts[1] @ parts[2]).numpy()

    def made(factors):
        onnx = load_onnx()
        shape = [onnx.helper.make_tensor_value_info(name, 1, [1, size]) for name, size in (("x", 96), ("y", 64))]
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = onnx.helper.make_graph([node], "g", shape[:1], shape[1:], [onnx.numpy_helper.from_array(fused, "w")])
        opset = [onnx.helper.make_opsetid("", 18)]
        return compact(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), "fp16", factors)

    import onnxruntime

    apart, beside = made([(fused, (weight, up, down))]), made([])
    for model in (apart, beside):
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (found,) = session.run(None, {"x": np.eye(96, dtype=np.float32)[:1]})
        np.testing.assert_allclose(found, fused[:1], atol=1e-6)
    assert sum(length for _, length in half_runs(apart, apart.SerializeToString())) == 2 * (96 * 64 + 2 * (96 + 64))
    assert len(apart.SerializeToString()) < len(beside.SerializeToString())


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_shipped_clips(shipped, path):
    """Their first 2 s; benchmarks/portable.py does them whole."""
    expected, found, _, _ = both(shipped[0], shipped[1], load_audio(path)[: 2 * RATE])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_needs_no_torch(shipped):
    program = """
import sys, numpy as np
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "diffusers", "transformers", "scipy", "av", "soundfile", "trimesh"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from facetalk_hf import OnnxStream
stream = OnnxStream(sys.argv[1], 44100)
frames = stream.push(np.zeros(44100, np.int16)) + stream.finish()
print(len(frames), frames[3].arkit.shape, frames[3].time)
"""
    done = subprocess.run([sys.executable, "-c", program, shipped[1]], capture_output=True, text=True, check=False)
    assert done.stdout == "24 (52,) 0.125\n", done.stderr


def test_bad_input(tmp_path, shipped):
    with pytest.raises(FaceTalkError, match="export-onnx"):
        OnnxStream(tmp_path, RATE)
    with pytest.raises(FaceTalkError, match="settled"):
        OnnxStream(shipped[1], RATE, look_ahead=0.2)
    plain = make(PLAIN)
    export_onnx(plain, tmp_path / "plain")
    with pytest.raises(FaceTalkError, match="not trained with emotion"):
        OnnxStream(tmp_path / "plain", RATE, emotion={"happy": 1})
    stream = OnnxStream(shipped[1], RATE)
    with pytest.raises(FaceTalkError, match="finite|NaN"):
        stream.push(np.full(100, np.nan, np.float32))
    stream.finish()
    with pytest.raises(FaceTalkError, match="ended"):
        stream.push(np.zeros(10, np.float32))
    config = (shipped[1] / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "encoder.onnxz").write_bytes(b"no network")
    with pytest.raises(FaceTalkError, match=r"encoder\.onnx"):
        OnnxStream(tmp_path, RATE)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(config) | {"version": 1}))
    with pytest.raises(FaceTalkError, match="another version"):
        OnnxStream(tmp_path, RATE)
    with pytest.raises(FaceTalkError, match="precision"):
        export_onnx(plain, tmp_path, precision="int4")
    with pytest.raises(FaceTalkError, match="names"):
        export_onnx(make_pipeline(**DISTILLED), tmp_path)
