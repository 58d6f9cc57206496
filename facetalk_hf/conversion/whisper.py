# SPDX-License-Identifier: MIT
"""Whisper as CTranslate2 keeps it (faster-whisper) -> a folder that transformers loads."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from ..errors import FaceTalkError
from .ctranslate2 import read_ctranslate2


Tensors = dict[str, np.ndarray]


def convert_whisper(
    path: str | os.PathLike, output: str | os.PathLike | None = None
) -> WhisperForConditionalGeneration:
    """Convert a model.bin of CTranslate2 to transformers' Whisper; sizes are read from its tensors.

    Args:
        path: model.bin in float32 or float16.
        output: folder to write, with `preprocessor_config.json`; nothing is written without.

    Returns:
        Encoder and decoder, on the CPU, in the file's type.

    Raises:
        FaceTalkError: the file is missing, damaged, quantised or no Whisper.
    """
    kind, tensors = read_ctranslate2(path)
    if kind != "WhisperSpec":
        raise FaceTalkError(f"{path} holds a {kind}, not a Whisper model")
    if any(name.endswith("weight_scale") for name in tensors):
        raise FaceTalkError(f"{path} is quantised, give a model.bin in float16 or float32")
    try:
        config = _config(tensors)
        state = {f"model.{name}": value for part in ("encoder", "decoder") for name, value in _part(tensors, part)}
        state["proj_out.weight"] = tensors["decoder/projection/weight"]
    except (KeyError, ValueError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else f"its tensors don't fit ({error})"
        raise FaceTalkError(f"{path} is no Whisper model that is known here: {why}") from error
    model = WhisperForConditionalGeneration(config).eval()
    dtype = torch.from_numpy(state["proj_out.weight"][:1].copy()).dtype
    try:
        model.to(dtype).load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    except RuntimeError as error:
        raise FaceTalkError(
            f"{path} holds tensors that don't fit a Whisper model: {str(error).splitlines()[-1].strip()}"
        ) from error
    if output is not None:
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
            model.save_pretrained(output)
            WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(output)
        except OSError as error:
            raise FaceTalkError(f"cannot write to {output}: {error.strerror or error}") from error
    return model


def _config(tensors: Tensors) -> WhisperConfig:
    """Sizes of a model, from its tensors; ids of tokens are those of the multilingual or the English models."""
    width, mels, _ = tensors["encoder/conv1/weight"].shape
    vocabulary = len(tensors["decoder/embeddings/weight"])
    # <|startoftranscript|>; <|endoftext|> is the one before
    first = min(50257 if vocabulary < 51865 else 50258, vocabulary - 1)
    return WhisperConfig(
        vocab_size=vocabulary, num_mel_bins=mels, d_model=width,
        encoder_layers=_layers(tensors, "encoder"), decoder_layers=_layers(tensors, "decoder"),
        encoder_attention_heads=int(tensors["encoder/num_heads"]),
        decoder_attention_heads=int(tensors["decoder/num_heads"]),
        encoder_ffn_dim=len(tensors["encoder/layer_0/ffn/linear_0/bias"]),
        decoder_ffn_dim=len(tensors["decoder/layer_0/ffn/linear_0/bias"]),
        max_source_positions=len(tensors["encoder/position_encodings/encodings"]),
        max_target_positions=len(tensors["decoder/position_encodings/encodings"]),
        decoder_start_token_id=first, bos_token_id=first - 1, eos_token_id=first - 1, pad_token_id=first - 1,
    )  # fmt: skip


def _layers(tensors: Tensors, part: str) -> int:
    return len({name.split("/")[1] for name in tensors if name.startswith(f"{part}/layer_") and name.count("/") > 2})


Named = Iterator[tuple[str, np.ndarray]]


def _part(tensors: Tensors, part: str) -> Named:
    """Yield names of transformers and arrays of the encoder or the decoder."""

    def named(
        theirs: str, ours: str, kinds: tuple[tuple[str, str], ...] = (("weight", "weight"), ("bias", "bias"))
    ) -> Named:
        for their_kind, our_kind in kinds:
            yield f"{part}.{ours}.{our_kind}", tensors[f"{part}/{theirs}/{their_kind}"]

    def norm(theirs: str, ours: str) -> Named:
        yield from named(theirs, ours, (("gamma", "weight"), ("beta", "bias")))

    def projections(theirs: str, ours: str, names: str) -> Named:
        """Split a fused projection: keys have no bias in Whisper, CTranslate2 puts zeros."""
        for kind in ("weight", "bias"):
            rows = np.split(tensors[f"{part}/{theirs}/{kind}"], len(names))
            for name, value in zip(names, rows, strict=True):
                if (name, kind) != ("k", "bias"):
                    yield f"{part}.{ours}.{name}_proj.{kind}", value

    yield f"{part}.embed_positions.weight", tensors[f"{part}/position_encodings/encodings"]
    yield from norm("layer_norm", "layer_norm")
    if part == "encoder":
        yield from named("conv1", "conv1")
        yield from named("conv2", "conv2")
    else:
        yield "decoder.embed_tokens.weight", tensors["decoder/embeddings/weight"]
    for index in range(_layers(tensors, part)):
        theirs, ours = f"layer_{index}", f"layers.{index}"
        yield from norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
        yield from projections(f"{theirs}/self_attention/linear_0", f"{ours}.self_attn", "qkv")
        yield from named(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
        if part == "decoder":
            yield from norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            yield from projections(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn", "q")
            yield from projections(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn", "kv")
            yield from named(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
        yield from norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
        yield from named(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
        yield from named(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
