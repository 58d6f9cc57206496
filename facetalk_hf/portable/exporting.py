# SPDX-License-Identifier: MIT
"""A pipeline's stream as two networks in ONNX, `encoder` and `motion`, and `config.json` with all else."""

import copy
import io
import json
import os
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..animation.arkit import ARKIT, weights_to_arkit
from ..animation.glb import write_glb
from ..audio.columns import ColumnLayout, mel_filterbank, window_samples
from ..audio.encoding import look_ahead_frames
from ..audio.streaming import RunningStatistics
from ..blendshapes import INDEX, LOOK_DEGREES
from ..conditions import BOUNDS, POSE
from ..errors import FaceTalkError
from ..files import atomic_path
from ..head.decoding import make_decoder
from ..models.audio_encoder import LogMelEncoder
from ..models.lora import load_lora
from ..motion.channels import Channels, shape_names
from ..motion.eyes import LID_COMPANIONS, LID_DECISION, LID_REST, LID_SOFTNESS
from ..motion.steering import MouthSteering, MouthTarget, steerable
from ..paths import FEW_STEPS
from ..phones.tongue import tongue_rules
from ..pipeline.facetalk import FaceTalkPipeline
from ..pipeline.streaming import sampling_table
from ..pipeline.tongue import hears_tongue
from .compacting import Factors, compact, half_runs, load_onnx
from .networks import Ear, Motion, check_shares, rotary_frequencies
from .packing import pack
from .runtime import VERSION
from .visemes import viseme_table


OPSET = 18
CONFIG, HEAD = "config.json", "head.glb"
NETWORKS = ("encoder", "motion")
PRECISIONS = ("fp16", "int8")


@torch.no_grad()
def export_onnx(
    pipe: FaceTalkPipeline,
    folder: str | os.PathLike,
    hop: int = 2,
    look_ahead: float | None = None,
    opset: int = OPSET,
    precision: str = "fp16",
    plain: bool = False,
) -> dict[str, int]:
    """Write the stream of a pipeline as ONNX files for [`~facetalk_hf.portable.runtime.OnnxStream`] and browsers.

    Arithmetic is in single precision. Intensity is 1 in the network, and scales its result later.

    Args:
        pipe ([`FaceTalkPipeline`]): that can stream; its few-step weights are used.
        folder (`str` or `os.PathLike`): made where it is missing; files of these names are replaced.
        hop (`int`, *optional*, defaults to 2): frames made at a time, fixed in the files.
        look_ahead (`float`, *optional*): seconds, one that the audio encoder has learnt; by default its own.
        opset (`int`, *optional*): version of ONNX' operators.
        precision (`str`, *optional*, defaults to `"fp16"`): of the weights as stored. `"fp16"` gives PyTorch's stream
            to 1e-4; `"int8"` is about half as large, and near it (docs/onnx.md).
        plain (`bool`, *optional*): write `encoder.onnx` and `motion.onnx`, for other programs, instead of
            `encoder.onnxz` and `motion.onnxz`, the same files packed without loss (`portable.packing`).

    Returns:
        bytes of the files by their names.

    Raises:
        FaceTalkError: a pipeline that cannot stream, or has no few-step weights or named shapes.
    """
    if not isinstance(hop, int) or hop < 1:
        raise FaceTalkError(f"hop must be a whole number of frames of at least 1, not {hop}")
    if precision not in PRECISIONS:
        raise FaceTalkError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    factors = [] if precision == "int8" else _factors(pipe)
    pipe = pipe if pipe.config["is_distilled"] else pipe.few_steps()
    names, head, encoder = shape_names(pipe.head), pipe.head, copy.deepcopy(pipe.audio_encoder)
    if head is None or names is None:
        raise FaceTalkError("only a head whose shapes have names can be exported: its weights are what is made")
    if check_shares(head) > 1e-3:
        raise FaceTalkError("this head draws other shapes than its codes say, so it cannot be exported")
    pipe.open_stream(pipe.feature_extractor.sampling_rate, hop=hop, look_ahead=look_ahead)  # says what stands against
    assert isinstance(encoder, LogMelEncoder)
    encoder, denoiser = encoder.float().eval().cpu(), copy.deepcopy(pipe.denoiser).float().eval().cpu()
    ahead = look_ahead_frames(encoder, look_ahead, pipe.config["fps"]) or max(encoder.look_aheads)
    controls = pipe.resolve_controls()
    timesteps, table = sampling_table(pipe.scheduler, pipe.config["num_inference_steps"])
    steering, columns, intensity = None, None, denoiser.split_intensity(1.0)[0]
    if encoder.config.closure_threshold is not None and steerable(head):
        heard = MouthTarget(np.zeros((hop, len(INDEX))), np.zeros(hop), np.zeros(hop))
        steering = MouthSteering([heard], hop, denoiser, head, 1.0, intensity)
        columns = [INDEX[name] for name, mouth in zip(names, steering.channels.mouth, strict=True) if mouth]
    tongue = hears_tongue(encoder, head)
    ear = Ear(encoder, ahead, columns, tongue).eval()
    motion = Motion(
        denoiser, head, timesteps, table, hop, intensity, controls.mouth_temperature, steering
    ).eval()  # fmt: skip

    config, layout = denoiser.config, layout_of(pipe.feature_extractor)
    frames, heads = encoder.past_frames() + hop + ahead, config.num_heads
    channels = config.hidden_size // heads
    cache = (len(timesteps), config.num_layers, 2, heads, config.window, channels)
    told: dict[str, tuple[int, ...]] = {"features": (hop, config.audio_dim), "noise": (hop, denoiser.sample_dim)}
    told |= {"turn": (2, hop, 1, channels // 2), "bias": (hop, config.window + hop), "cache": cache}
    told |= {"conditions": (hop, len(config.condition_names))} if config.condition_names else {}
    heard_names = ("target", "contact", "least", "rest") if columns is not None else ()
    if columns is not None:
        told |= {"target": (hop, len(columns)), "contact": (hop, 1), "least": (hop,), "rest": (hop,)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"columns": (4 * frames, layout.feature_size), "mask": (frames,)}
    heard_names = (*heard_names, *(("phones",) if tongue else ()))
    made = (
        (ear, sizes, ("features", *heard_names)),
        (motion, told, ("weights", "next_cache", *(("poses",) if config.pose_dim else ()))),
    )
    files = {name: f"{name}.onnx" + ("" if plain else "z") for name in NETWORKS}
    for name, (network, inputs, outputs) in zip(NETWORKS, made, strict=True):
        model = compact(_traced(network, inputs, outputs, opset), precision, factors)
        data = model.SerializeToString()
        with atomic_path(folder / files[name]) as temporary:
            temporary.write_bytes(data if plain else pack(data, half_runs(model, data)))
    description = describe(layout, names, head) | {
        "generator": "facetalk_hf", "version": VERSION, "fps": pipe.config["fps"], "hop": hop,
        "past": encoder.past_frames(),
        "ahead": ahead, "window": config.window, "cache": list(cache), "sample_size": denoiser.sample_dim,
        "frequencies": rotary_frequencies(denoiser), "inputs": list(told), "heard": list(heard_names),
        "files": files, "precision": precision, "tongue": tongue_rules() if tongue else None,
        "conditions": {name: BOUNDS[name] for name in config.condition_names or ()},
        "poses": list(POSE[: config.pose_dim]),
    }  # fmt: skip
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(description) + "\n", encoding="utf-8")
    for name in NETWORKS:
        (folder / f"{name}.onnx{'z' if plain else ''}").unlink(missing_ok=True)  # of an earlier call
    return {name: (folder / name).stat().st_size for name in (*files.values(), CONFIG)}


def _factors(pipe: FaceTalkPipeline) -> Factors:
    """Find matrices of few steps, and their transposes, as what they are made of, where half precision holds it."""
    if not pipe.has_few_steps or pipe.model_folder is None:
        return []
    denoiser: Any = pipe.denoiser
    origin: Any = pipe._origin or denoiser
    lora, _ = load_lora(pipe.model_folder / FEW_STEPS, origin)
    result = []
    for name, weight in denoiser.named_parameters():
        if f"{name}.up" not in lora:
            continue
        parts = [part.detach().float().cpu() for part in (weight, lora[f"{name}.up"], lora[f"{name}.down"])]
        if all(torch.equal(part, part.half().float()) for part in parts):
            fused = (parts[0] + parts[1] @ parts[2]).numpy()
            base, up, down = (part.half().numpy() for part in parts)
            result += [(fused, (base, up, down)), (fused.T, (base.T, down.T, up.T))]
    return result


def layout_of(extractor: Any) -> ColumnLayout:
    """Copy the numbers of a feature extractor."""
    return ColumnLayout(**{field.name: getattr(extractor, field.name) for field in fields(ColumnLayout)})


def describe(layout: ColumnLayout, names: tuple[str, ...], head: Any) -> dict[str, Any]:
    """Gather what a program in any language needs beside the networks."""
    matrix = weights_to_arkit(np.eye(len(names)), names)
    length = window_samples(layout)
    fft_size = 1 << (length - 1).bit_length()
    bank = mel_filterbank(
        layout.feature_size - 1, fft_size, layout.sampling_rate, layout.min_frequency, layout.max_frequency
    )
    statistics, rows = RunningStatistics(layout), []
    for column in bank.T:
        heard = np.flatnonzero(column)
        rows.append([int(heard[0]), *(round(float(value), 7) for value in column[heard[0] : heard[-1] + 1])])
    return {
        "layout": asdict(layout), "bank": rows,
        "statistics": {
            "memory": len(statistics.columns), "needed": statistics.needed, "prior_level": statistics.prior_level,
            "prior_scale": statistics.prior_scale, "prior_mean": [float(value) for value in statistics.prior_mean],
        },
        "names": list(names), "arkit": list(ARKIT),
        "to_arkit": [[int(row), int(column), float(matrix[row, column])] for row, column in np.argwhere(matrix)],
        "mouth": [bool(value) for value in Channels(head, "ONNX").mouth], "look_degrees": LOOK_DEGREES,
        "lids": {
            "rest": LID_REST, "decision": LID_DECISION, "softness": LID_SOFTNESS, "companions": dict(LID_COMPANIONS),
        },
        "visemes": viseme_table(),
    }  # fmt: skip


def _traced(module: torch.nn.Module, inputs: dict[str, tuple[int, ...]], outputs: tuple[str, ...], opset: int) -> Any:
    """Trace a module into a `ModelProto`."""
    onnx, buffer = load_onnx(), io.BytesIO()
    file: Any = buffer  # the tracing exporter takes one, whatever its annotation says
    example = tuple(torch.zeros(shape) if name != "mask" else torch.ones(shape) for name, shape in inputs.items())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that tracing fixes, as is meant, and of its successor
        torch.onnx.export(
            module, example, file, input_names=list(inputs), output_names=list(outputs),
            opset_version=opset, dynamo=False, external_data=False,
        )  # fmt: skip
    return onnx.load_model_from_string(buffer.getvalue())


def export_head(pipe: FaceTalkPipeline, folder: str | os.PathLike, resolution: int = 96) -> dict[str, int]:
    """Write `head.glb`: the mean head at rest with all shapes as morph targets, by our names, for three.js and others.

    Args:
        pipe ([`FaceTalkPipeline`]): with a head that has a surface. folder (`str` or `os.PathLike`): where to.
        resolution (`int`, *optional*, defaults to 96): cells along the head.

    Returns:
        bytes of the file by its name.
    """
    if pipe.head is None:
        raise FaceTalkError("this model has no head to write")
    decoder = make_decoder(pipe.head, resolution=resolution)
    animation = decoder(np.zeros((1, pipe.denoiser.config["code_dim"]), np.float32), None)
    # One frame in which every shape is at 1 says how exact each has to be.
    path = write_glb(Path(folder) / HEAD, animation.replace(weights=np.ones_like(animation.weights)), tolerance=0.5)
    return {HEAD: path.stat().st_size}
