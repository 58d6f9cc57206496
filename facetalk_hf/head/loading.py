# SPDX-License-Identifier: MIT
"""The head of a model by itself, without denoiser and audio encoder."""

import os
from pathlib import Path

import torch

from ..errors import FaceTalkError
from ..hub.fetching import fetch_weights
from ..models.nphm import NPHMModel


def load_head(model: str | os.PathLike) -> NPHMModel:
    """Load the head of a model, in float32 on the CPU.

    Args:
        model (`str` or `os.PathLike`): a model's folder, a head's own folder, or a model's Hub id.

    Raises:
        FaceTalkError: no such folder or repository, a model without a head, or damaged files.
    """
    path = Path(model)
    if not (path / "config.json").is_file():  # not a head's own folder
        if path.is_file() or path.is_dir() and not (path / "model_index.json").is_file():
            raise FaceTalkError(
                f"{model} is no model: it has neither a model_index.json nor, as a head, a config.json"
            )
        if not path.exists() and os.fspath(model).count("/") != 1:
            raise FaceTalkError(f"no model folder {model}: give a model's or a head's folder, or a Hub id (user/name)")
        path = (path if path.is_dir() else Path(fetch_weights(os.fspath(model), folder="head"))) / "head"
        if not path.is_dir():
            raise FaceTalkError(f"the model {model} has no head to animate")
    try:
        return NPHMModel.from_pretrained(path, torch_dtype=torch.float32).eval()
    except Exception as error:  # a broken folder: anything from KeyError to the classes of the libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise FaceTalkError(f"cannot load the head of {model}: {reason}") from error
