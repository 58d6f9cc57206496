# SPDX-License-Identifier: MIT
"""Whisper in CTranslate2's format, written here from a tiny random model of transformers."""

import struct

import numpy as np
import pytest
import torch
from components import make_whisper, speech_like
from transformers import AutoFeatureExtractor, WhisperForConditionalGeneration

from facetalk_hf.audio.encoding import encode_speech
from facetalk_hf.conversion.whisper import convert_whisper
from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.errors import FaceTalkError


def tensors_of(model) -> dict[str, np.ndarray]:
    """Names and fused projections of CTranslate2's converter."""
    found = {name: value.numpy() for name, value in model.state_dict().items()}
    tensors = {}

    def layer(theirs, *ours, kinds=("weight", "bias")):
        for kind in kinds:
            width = found[f"{ours[0]}.weight"].shape[0]
            parts = [found.get(f"{name}.{kind}", np.zeros(width, np.float32)) for name in ours]
            tensors[f"{theirs}/{kind}"] = np.concatenate(parts) if len(parts) > 1 else parts[0]

    def norm(theirs, ours):
        tensors[f"{theirs}/gamma"], tensors[f"{theirs}/beta"] = found[f"{ours}.weight"], found[f"{ours}.bias"]

    for part in ("encoder", "decoder"):
        tensors[f"{part}/num_heads"] = np.array(2, np.int16)
        tensors[f"{part}/position_encodings/encodings"] = found[f"model.{part}.embed_positions.weight"]
        norm(f"{part}/layer_norm", f"model.{part}.layer_norm")
        for index in range(len(getattr(model.model, part).layers)):
            theirs, ours = f"{part}/layer_{index}", f"model.{part}.layers.{index}"
            own = f"{ours}.self_attn"
            norm(f"{theirs}/self_attention/layer_norm", f"{own}_layer_norm")
            layer(f"{theirs}/self_attention/linear_0", *(f"{own}.{name}_proj" for name in "qkv"))
            layer(f"{theirs}/self_attention/linear_1", f"{own}.out_proj")
            if part == "decoder":
                cross = f"{ours}.encoder_attn"
                norm(f"{theirs}/attention/layer_norm", f"{cross}_layer_norm")
                layer(f"{theirs}/attention/linear_0", f"{cross}.q_proj")
                layer(f"{theirs}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                layer(f"{theirs}/attention/linear_2", f"{cross}.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            layer(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            layer(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    layer("encoder/conv1", "model.encoder.conv1")
    layer("encoder/conv2", "model.encoder.conv2")
    tensors["decoder/embeddings/weight"] = found["model.decoder.embed_tokens.weight"]
    return tensors


def write(path, tensors, kind="WhisperSpec", version=6, number=None):
    def name(text):
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    numbers = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    data = struct.pack("<I", version) + name(kind) + struct.pack("<II", 3, len(tensors))
    for text, value in tensors.items():
        data += name(text) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        code = numbers[value.dtype] if number is None else number
        data += struct.pack("<BI", code, value.nbytes) + value.tobytes()
    data += struct.pack("<I", 1) + name("decoder/projection/weight") + name("decoder/embeddings/weight")
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def model():
    return make_whisper(WhisperForConditionalGeneration)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_come_back(model, tmp_path, dtype):
    tensors = tensors_of(model)
    small = {name: value.astype(dtype) if value.dtype == np.float32 else value for name, value in tensors.items()}
    converted = convert_whisper(write(tmp_path / "model.bin", small), tmp_path / "out")
    state = converted.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value.to(state[name].dtype)), name
    assert state["proj_out.weight"].dtype == (torch.float32 if dtype == np.float32 else torch.float16)
    encoder, extractor = load_audio_encoder(tmp_path / "out")
    assert isinstance(extractor, type(AutoFeatureExtractor.from_pretrained(tmp_path / "out")))
    clip = speech_like(0.4)
    made = encode_speech(encoder, extractor, [clip])[0]
    wanted = encode_speech(model.model, extractor, [clip])[0]
    assert (made - wanted).norm() < (1e-5 if dtype == np.float32 else 0.02) * wanted.norm()


def test_what_is_no_whisper_is_one_line(model, tmp_path):
    tensors, path = tensors_of(model), tmp_path / "model.bin"

    def refused(words):
        with pytest.raises(FaceTalkError, match=words):
            convert_whisper(path, tmp_path / "out")

    refused("No such file")
    write(path, tensors)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-1], whole + b"\0", whole[:30]):
        path.write_bytes(part)
        refused("are its pieces joined")
    path.write_bytes(b"PK\3\4" + bytes(100))
    refused("no model.bin of CTranslate2")
    write(path, tensors, kind="TransformerSpec")
    refused("holds a TransformerSpec")
    write(path, tensors, number=5)
    refused("bfloat16")
    write(path, tensors | {"encoder/conv1/weight_scale": np.ones(3, np.float32)})
    refused("quantised")
    write(path, {name: value for name, value in tensors.items() if name != "encoder/conv2/bias"})
    refused("encoder/conv2/bias")
    write(path, tensors | {"encoder/conv2/bias": np.zeros(5, np.float32)})
    refused("don't fit")
    assert not (tmp_path / "out").exists()
