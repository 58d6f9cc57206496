# SPDX-License-Identifier: MIT
"""Small changes of a network's weights, W + up @ down, as a file of their own beside the weights (Hu et al. 2021).

Vectors and narrow matrices are changed entry by entry: there a product of two factors would save nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import FaceTalkError


WEIGHTS, CONFIG = "low_rank.safetensors", "config.json"
PROBE = 16
"""Numbers of each network's first matrix that are kept, to know it again."""


def new_change(model: torch.nn.Module, rank: int, skip: tuple[str, ...] = ()) -> dict[str, torch.nn.Parameter]:
    """A change of all parameters that leaves them as they are, to be trained.

    Args:
        model (`torch.nn.Module`): the network.
        rank (`int`): columns of `up`; at most a quarter of a matrix's shorter side.
        skip: names of parameters that stay as they are.

    Returns:
        dict of parameters: "NAME.down" (r, in) and "NAME.up" (out, r) float, or "NAME" in the parameter's own shape.
    """
    change = {}
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        if name in skip:
            continue
        own = min(rank, min(shape) // 4)
        if len(shape) != 2 or own < 1 or own * sum(shape) >= parameter.numel():
            change[name] = torch.zeros_like(parameter)
            continue
        change[f"{name}.down"] = torch.randn(own, shape[1]) / shape[1] ** 0.5
        change[f"{name}.up"] = torch.zeros(shape[0], own)
    return {name: torch.nn.Parameter(value.float().cpu()) for name, value in change.items()}


def merged(model: torch.nn.Module, change: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters that a change touches, with it added: name -> tensor, differentiable in the change.

    Raises:
        FaceTalkError: a change of another network's parameters.
    """
    parameters, result = dict(model.named_parameters()), {}
    for key, value in change.items():
        name, _, kind = key.rpartition(".")
        if kind == "up":
            continue
        name = name if kind == "down" else key
        delta = change[f"{name}.up"] @ value if kind == "down" and f"{name}.up" in change else value
        if name not in parameters or parameters[name].shape != delta.shape:
            raise FaceTalkError(f"the change belongs to another network: it does not fit {name}")
        result[name] = parameters[name].detach() + delta.to(parameters[name])
    return result


@torch.no_grad()
def merge(model: torch.nn.Module, change: Mapping[str, torch.Tensor]) -> None:
    """Add a change to a network's parameters, in place; nothing is added where it does not fit."""
    sums = merged(model, {name: value.float() for name, value in change.items()})
    for name, parameter in model.named_parameters():
        if name in sums:
            parameter.copy_(sums[name])


def _probe(model: torch.nn.Module) -> list[float]:
    first = next(parameter for parameter in model.parameters() if parameter.ndim == 2)
    return first.detach().float().flatten()[:PROBE].tolist()


def save_change(
    folder: str | Path, model: torch.nn.Module, change: Mapping[str, torch.Tensor], **config: object
) -> int:
    """Write a change in half precision, with what tells `model` from others and `config`; gives the bytes written."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().contiguous() for name, value in change.items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors keeps it to its owner, and this one is shipped
    (folder / CONFIG).write_text(json.dumps(config | {"probe": _probe(model)}, indent=2, sort_keys=True) + "\n")
    return sum((folder / name).stat().st_size for name in (WEIGHTS, CONFIG))


def load_change(folder: str | Path, model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict]:
    """The change and the configuration of `save_change`.

    Raises:
        FaceTalkError: there is none in the folder, it is damaged, or it was made for other weights than the model's.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        change = load_file(folder / WEIGHTS)
        probe = torch.tensor(config.pop("probe"))
    except FileNotFoundError as error:
        raise FaceTalkError(f"{folder} has no {Path(error.filename or WEIGHTS).name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise FaceTalkError(f"{folder} is damaged: {str(error).splitlines()[0]}") from error
    # Half precision rounds by up to 2^-9 of a number (bfloat16); weights of another training differ by far more.
    if not torch.allclose(torch.tensor(_probe(model)), probe, rtol=0.01, atol=1e-4):
        raise FaceTalkError(f"{folder} was made for other weights: train it again from these")
    return change, config
