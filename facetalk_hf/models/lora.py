# SPDX-License-Identifier: MIT
"""Low-rank adaptation (LoRA, Hu et al. 2021): W + up @ down, kept as a file of its own beside the weights.

Vectors and narrow matrices are changed entry by entry: there a product of two factors would save nothing. peft wraps
layers and adapts matrices alone, so it cannot read these files.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import FaceTalkError


WEIGHTS, CONFIG = "low_rank.safetensors", "config.json"
PROBE = 16
"""Numbers of each network's first matrix that are kept, to know it again."""


def init_lora(model: torch.nn.Module, rank: int, skip: tuple[str, ...] = ()) -> dict[str, torch.nn.Parameter]:
    """Make a LoRA of all parameters that leaves them as they are, to be trained.

    Args:
        model (`torch.nn.Module`): the network.
        rank (`int`): columns of `up`; at most a quarter of a matrix's shorter side.
        skip: names of parameters that stay as they are.

    Returns:
        dict of parameters: "NAME.down" (r, in) and "NAME.up" (out, r) float, or "NAME" in the parameter's own shape.
    """
    lora = {}
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        if name in skip:
            continue
        own = min(rank, min(shape) // 4)
        if len(shape) != 2 or own < 1 or own * sum(shape) >= parameter.numel():
            lora[name] = torch.zeros_like(parameter)
            continue
        lora[f"{name}.down"] = torch.randn(own, shape[1]) / shape[1] ** 0.5
        lora[f"{name}.up"] = torch.zeros(shape[0], own)
    return {name: torch.nn.Parameter(value.float().cpu()) for name, value in lora.items()}


def fused_parameters(model: torch.nn.Module, lora: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the parameters that a LoRA touches, with it added: name -> tensor, differentiable in the LoRA.

    Raises:
        FaceTalkError: a LoRA of another network's parameters.
    """
    parameters, result = dict(model.named_parameters()), {}
    for key, value in lora.items():
        name, _, kind = key.rpartition(".")
        if kind == "up":
            continue
        name = name if kind == "down" else key
        delta = lora[f"{name}.up"] @ value if kind == "down" and f"{name}.up" in lora else value
        if name not in parameters or parameters[name].shape != delta.shape:
            raise FaceTalkError(f"the LoRA belongs to another network: it does not fit {name}")
        result[name] = parameters[name].detach() + delta.to(parameters[name])
    return result


class LoraAdapter(torch.nn.Module):
    """A network that stays as it is, called with a LoRA of its parameters that is trained; alone it is neither.

    Args:
        network (`torch.nn.Module`): frozen; no part of this module's own parameters.
        rank (`int`): of the LoRA of a matrix.
        skip: names of parameters that stay as they are.
    """

    def __init__(self, network: torch.nn.Module, rank: int, skip: tuple[str, ...] = ("null_audio",)) -> None:
        super().__init__()
        lora = init_lora(network, rank, skip)
        self.network = (network,)  # in a tuple, or it would be trained and saved as well
        self.names = tuple(lora)  # they have dots, which names of parameters cannot have
        self.values = torch.nn.ParameterList(lora.values())

    def lora(self) -> dict[str, torch.Tensor]:
        """Give the tensors by the names of `init_lora`."""
        return dict(zip(self.names, self.values, strict=True))

    def forward(self, *args: object, **kwargs: object) -> object:
        """Call the network with the LoRA added."""
        (network,) = self.network
        return torch.func.functional_call(network, fused_parameters(network, self.lora()), args, kwargs)


@torch.no_grad()
def fuse_lora(model: torch.nn.Module, lora: Mapping[str, torch.Tensor], strength: float = 1.0) -> None:
    """Add a LoRA, `strength` times, to a network's parameters, in place; nothing is added where it does not fit."""
    lora = {name: value.float() * (1 if name.endswith(".down") else strength) for name, value in lora.items()}
    sums = fused_parameters(model, lora)
    for name, parameter in model.named_parameters():
        if name in sums:
            parameter.copy_(sums[name])


def _probe(model: torch.nn.Module) -> list[float]:
    first = next(parameter for parameter in model.parameters() if parameter.ndim == 2)
    return first.detach().float().flatten()[:PROBE].tolist()


def save_lora(
    folder: str | os.PathLike, model: torch.nn.Module, lora: Mapping[str, torch.Tensor], **config: object
) -> int:
    """Write a LoRA in half precision, with what tells `model` from others and `config`; return the bytes written."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().contiguous() for name, value in lora.items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors keeps it to its owner, and this one is shipped
    (folder / CONFIG).write_text(json.dumps(config | {"probe": _probe(model)}, indent=2, sort_keys=True) + "\n")
    return sum((folder / name).stat().st_size for name in (WEIGHTS, CONFIG))


def load_lora(folder: str | os.PathLike, model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the LoRA and the configuration that `save_lora` wrote.

    Raises:
        FaceTalkError: there is none in the folder, it is damaged, or it was made for other weights than the model's.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        lora = load_file(folder / WEIGHTS)
        probe = torch.tensor(config.pop("probe"))
    except FileNotFoundError as error:
        raise FaceTalkError(f"{folder} has no {Path(error.filename or WEIGHTS).name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise FaceTalkError(f"{folder} is damaged: {str(error).splitlines()[0]}") from error
    # Half precision rounds by up to 2^-9 of a number (bfloat16); weights of another training differ by far more.
    if not torch.allclose(torch.tensor(_probe(model)), probe, rtol=0.01, atol=1e-4):
        raise FaceTalkError(f"{folder} was made for other weights: train it again from these")
    return lora, config
