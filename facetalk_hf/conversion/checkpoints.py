# SPDX-License-Identifier: MIT
"""Read what NPHM's and MonoNPHM's training scripts saved; whatever does not fit becomes one plain line."""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..arrays import read_npy
from ..errors import FaceTalkError
from .files import check_anchors, check_checkpoint


Tensors = dict[str, torch.Tensor]
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")  # what DataParallel and torch.compile put before a name


@dataclass
class Layers:
    """The layers of N networks of one shape: weights (N, out, in), biases (N, out), what they see, where it joins."""

    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    skip: int | None

    @property
    def sizes(self) -> list[int]:
        """Outputs of each layer."""
        return [bias.shape[1] for bias in self.biases]

    @property
    def inputs(self) -> int:
        """Numbers that the first layer sees."""
        return self.weights[0].shape[2]

    @property
    def count(self) -> int:
        """N, number of networks."""
        return len(self.biases[0])

    def bank(self, prefix: str, start: int, stop: int) -> Tensors:
        """Arrange tensors for an `MLPBank` with columns start to stop as inputs, and the others as codes."""
        columns = torch.arange(self.inputs)
        seen = (columns >= start) & (columns < stop)
        weights = list(self.weights)
        state = {f"{prefix}code_weight": weights[0][:, :, ~seen]}
        weights[0] = weights[0][:, :, seen]
        if self.skip is not None:
            hidden, joined = weights[self.skip].split([self.sizes[self.skip - 1], self.inputs], dim=2)
            weights[self.skip] = hidden
            state |= {f"{prefix}skip_weight": joined[:, :, seen], f"{prefix}skip_code_weight": joined[:, :, ~seen]}
        for layer, (weight, bias) in enumerate(zip(weights, self.biases, strict=True)):
            state |= {f"{prefix}weights.{layer}": weight, f"{prefix}biases.{layer}": bias}
        return state


class Network:
    """One state dict of a checkpoint. Tensors are taken out as they are understood; `done` complains of the rest."""

    def __init__(self, tensors: dict, path: str | os.PathLike):
        self.path = path
        self.tensors: Tensors = {}
        for name, value in tensors.items():
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                raise FaceTalkError(f"{path} is damaged: {name} is no tensor of real numbers")
            if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
                raise FaceTalkError(f"{path} is damaged: {name} has more numbers than the file")
            if not value.isfinite().all():
                raise FaceTalkError(f"{path} is damaged: {name} holds numbers that are not finite")
            self.tensors[WRAPPERS.sub("", name)] = value.detach().float()

    def has(self, prefix: str) -> bool:
        """Whether any tensor that is left has a name that starts so."""
        return any(name.startswith(prefix) for name in self.tensors)

    def take(self, name: str, dimensions: int) -> torch.Tensor:
        """Take one tensor that must have so many dimensions."""
        if name not in self.tensors:
            raise FaceTalkError(f"{self.path} has no tensor {name}: it is truncated, or of another kind of network")
        value = self.tensors.pop(name)
        self.check(value.ndim == dimensions, f"{name} has shape {tuple(value.shape)}")
        return value

    def linear(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Take weight (out, in) and bias (out,) of one layer."""
        weight, bias = self.take(f"{name}.weight", 2), self.take(f"{name}.bias", 1)
        self.check(len(weight) == len(bias), f"weight and bias of {name} don't fit")
        return weight, bias

    def stack(self, pattern: str, members: str) -> None:
        """Put tensors of like networks, which `members` finds the number of, into one tensor without a number."""
        found: dict[str, dict[int, torch.Tensor]] = {}
        for match in [match for name in self.tensors if (match := re.match(members, name))]:
            rest = match.string[match.end() :]
            found.setdefault(pattern + rest, {})[int(match.group(1))] = self.tensors.pop(match.string)
        for name, parts in found.items():
            self.check(sorted(parts) == list(range(len(parts))), f"member networks are missing from {name}")
            shapes = {tuple(part.shape) for part in parts.values()}
            self.check(len(shapes) == 1, f"the members' {name} differ in shape: {sorted(shapes)}")
            self.tensors[name] = torch.stack([parts[index] for index in range(len(parts))])

    def layers(self, pattern: str, single: bool = False) -> Layers:
        """Take the layers `pattern`.format(0, 1 ..) and find out which one sees the input again.

        Args:
            pattern (`str`): a layer's name with {} for its number; missing numbers in between are activations.
            single (`bool`): the tensors are of one network, (out, in), not of N.
        """
        numbers = sorted(
            int(match.group(1))
            for name in self.tensors
            if (match := re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)") + r"\.weight", name))
        )
        steps = {b - a for a, b in zip(numbers[:-1], numbers[1:], strict=True)}
        self.check(
            len(numbers) >= 2 and numbers[0] == 0 and len(steps) == 1, f"layers {pattern.format('*')} are missing"
        )
        weights = [self.take(f"{pattern.format(i)}.weight", 2 if single else 3) for i in numbers]
        biases = [self.take(f"{pattern.format(i)}.bias", 1 if single else 2) for i in numbers]
        if single:
            weights, biases = [w[None] for w in weights], [b[None] for b in biases]
        skip, inputs = None, weights[0].shape[2]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            name = pattern.format(numbers[layer])
            self.check(weight.shape[:2] == bias.shape, f"weight and bias of {name} don't fit")
            self.check(len(weight) == len(weights[0]), f"{name} has another number of members")
            if layer and weight.shape[2] != biases[layer - 1].shape[1]:
                joined = biases[layer - 1].shape[1] + inputs
                self.check(skip is None and weight.shape[2] == joined, f"{name} doesn't fit the layer before it")
                skip = layer
        return Layers(weights, biases, skip)

    def done(self) -> None:
        """Complain of a tensor that nothing asked for: the network is not the one that would be rebuilt."""
        if self.tensors:
            raise FaceTalkError(f"{self.path} has a tensor that this kind of network lacks: {min(self.tensors)}")

    def check(self, truth: bool, complaint: str) -> None:
        """Raise FaceTalkError with the file's name and the complaint if something is not so."""
        if not truth:
            raise FaceTalkError(f"{self.path} doesn't fit together: {complaint}")


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a file of torch.save, tensors and plain values only: nothing in it is run."""
    check_checkpoint(path)
    try:
        if not zipfile.is_zipfile(path):
            raise FaceTalkError(
                f"{path} is no checkpoint of torch.save (1.6 or newer), or it is cut short: load and save it again"
            )
        # Mapped, so that no tensor is larger than the file behind it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd in it is refused, or does not matter
            file = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FaceTalkError:
        raise
    except pickle.UnpicklingError as error:
        raise FaceTalkError(f"{path} holds more than tensors and plain values, or is no checkpoint at all") from error
    except Exception as error:  # a cut zip file raises anything from EOFError to RuntimeError
        raise FaceTalkError(f"{path} is no checkpoint of torch.save, or it is cut short") from error
    if not isinstance(file, dict):
        raise FaceTalkError(f"{path} holds no training checkpoint: a {type(file).__name__} instead of named parts")
    return file


def section(file: dict, name: str, path: str | os.PathLike, kind: str) -> dict:
    """Find a part of a checkpoint; FaceTalkError where it is missing."""
    if not isinstance(file.get(name), dict):
        there = ", ".join(map(str, list(file)[:4])) or "nothing"
        raise FaceTalkError(f"{path} is no {kind} checkpoint: it has no {name}, but {there}")
    return file[name]


def codebook(file: dict, names: Iterable[str], path: str | os.PathLike) -> torch.Tensor | None:
    """Read codes (n, size) that were learnt together with the network; None where the file was published without."""
    found: object = file
    for name in names:
        parts = found.items() if isinstance(found, dict) else ()
        found = next((part for key, part in parts if WRAPPERS.sub("", str(key)) == name), None)
    if found is None:
        return None
    return Network({".".join(names): found}, path).take(".".join(names), 2)


def read_anchors(path: str | os.PathLike, count: int) -> torch.Tensor:
    """Read mean anchors (count, 3), model units, from an .npy file, which may also have (1, count, 3) or one row.

    They are not in the checkpoints.
    """
    name = check_anchors(path, count)
    try:
        values = read_npy(path)
    except (OSError, ValueError) as error:
        raise FaceTalkError(
            f"{path} is no NumPy file with one array: give {name} of the official repository"
        ) from error
    if values.shape in ((1, count, 3), (3 * count,), (1, 3 * count)):
        values = values.reshape(count, 3)
    if values.shape != (count, 3) or values.dtype.kind != "f":
        what = f"{values.dtype} of shape {values.shape}"
        raise FaceTalkError(f"{path} holds {what}: this checkpoint needs {count} anchors, ({count}, 3) as in {name}")
    if not np.isfinite(values).all() or not 0.05 < np.abs(values).max() < 2:
        raise FaceTalkError(f"{path} doesn't hold anchors in model units (1 = 250 mm): use {name} as it is")
    return torch.from_numpy(values.astype(np.float32))
