# SPDX-License-Identifier: MIT
"""Weights of an ONNX model in fewer bits, and the nodes that make numbers of 32 bits of them again.

onnxruntime computes these nodes once, when it loads a file.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import FaceTalkError


Factors: TypeAlias = Sequence[tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]]
"""Matrices float32, as they may be found in a model, and float16 W, A and B of each: it is W + A @ B."""
SMALLEST = 64
"""Numbers of a tensor that is worth a node."""
MATRIX = 4096
"""Numbers of a matrix that is stored in 8 bits, where this is asked for."""


def compact(model: Any, precision: str, factors: Factors) -> Any:
    """Store the weights of a traced model in half precision, or matrices in 8 bits, in place; returns the model.

    Half precision loses nothing of checkpoints, which are in it. Weights that a LoRA was fused into are not: where it
    is known, `factors`, both are stored apart and added again. Of others what half precision loses, up to 2^-12 of a
    weight, is kept in 8 bits beside it, which leaves 2^-19. With `"int8"` the columns of matrices have a scale each.

    Args:
        model: `onnx.ModelProto`. precision (`str`): `"fp16"` or `"int8"`. factors: matrices that may be in it.
    """
    onnx = load_onnx()
    graph, front, kept = model.graph, [], []

    def keep(name: str, values: np.ndarray, cast: bool = True) -> str:
        """Store values, give the name of their float32."""
        kept.append(onnx.numpy_helper.from_array(values, f"{name}.stored" if cast else name))
        if cast:
            front.append(onnx.helper.make_node("Cast", [f"{name}.stored"], [name], to=onnx.TensorProto.FLOAT))
        return name

    def node(kind: str, *names: str) -> None:
        front.append(onnx.helper.make_node(kind, names[:-1], names[-1:]))

    for tensor in graph.initializer:
        values, name = onnx.numpy_helper.to_array(tensor), tensor.name
        if values.dtype != np.float32 or values.size < SMALLEST or not np.isfinite(values).all():
            kept.append(tensor)
            continue
        half = values.astype(np.float16)
        lost = values - half.astype(np.float32)
        if precision == "int8" and values.size >= MATRIX:
            # The exporter transposes the matrices of MatMul, those of Gemm and Conv lie (out, in ..).
            inputs = (0,) if name.startswith("onnx::MatMul") else tuple(range(1, values.ndim))
            scale = np.maximum(np.abs(values).max(inputs, keepdims=True) / 127, np.float32(1e-12))
            # Not DequantizeLinear, which onnxruntime computes again in every run.
            keep(f"{name}.steps", np.round(values / scale).astype(np.int8))
            node("Mul", f"{name}.steps", keep(f"{name}.scale", scale, cast=False), name)
        elif not lost.any():
            keep(name, half)
        elif (found := next((item for product, item in factors if np.array_equal(product, values)), None)) is not None:
            weight, *pair = (keep(f"{name}.{part}", item) for part, item in zip("wab", found, strict=True))
            node("MatMul", *pair, f"{name}.change")
            node("Add", weight, f"{name}.change", name)
        else:
            scale = np.float32(np.abs(lost).max() / 127)
            keep(f"{name}.steps", np.round(lost / scale).astype(np.int8))
            node("Mul", f"{name}.steps", keep(f"{name}.scale", np.array(scale), cast=False), f"{name}.fine")
            node("Add", keep(f"{name}.half", half), f"{name}.fine", name)
    nodes = [*front, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    _rename(graph)
    onnx.checker.check_model(model)
    return model


def _rename(graph: Any) -> None:
    """Give numbers in place of names to all but inputs and outputs: they were half of what is no weight."""
    new = {item.name: item.name for item in (*graph.input, *graph.output)} | {"": ""}
    del graph.value_info[:]
    for tensor in graph.initializer:
        tensor.name = new.setdefault(tensor.name, f"{len(new):x}")
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [new.setdefault(name, f"{len(new):x}") for name in names]


def half_runs(model: Any, data: bytes) -> list[tuple[int, int]]:
    """Find where the numbers of 16 bits lie in a serialised model: [(first byte, bytes)]."""
    runs, at = [], 0
    for tensor in model.graph.initializer:
        if tensor.data_type == load_onnx().TensorProto.FLOAT16:
            at = data.index(tensor.raw_data, at)
            runs.append((at, len(tensor.raw_data)))
            at += len(tensor.raw_data)
    return runs


def load_onnx() -> Any:
    """Import the package onnx."""
    try:
        import onnx
    except ImportError as error:
        raise FaceTalkError("writing ONNX files needs the package onnx: pip install 'facetalk_hf[onnx]'") from error
    return onnx
