# SPDX-License-Identifier: MIT
"""How a pipeline is loaded: folders and Hub repositories, with one line for what is wrong with them."""

import os
from typing import Self

import torch
from huggingface_hub import snapshot_download

from .errors import FaceTalkError


class PipelineLoading:
    """The part of [`FaceTalkPipeline`] that finds and fetches its files; a mixin before `DiffusionPipeline`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Self:
        """Load a folder or a Hub repository; see [`DiffusionPipeline.from_pretrained`] for the arguments.

        Without `dtype=` all components are float32, whatever the files hold: left alone, diffusers would widen its
        own models and transformers would not.

        Raises:
            FaceTalkError: no such folder or repository, or no pipeline in it.
        """
        name = os.fspath(pretrained_model_name_or_path)
        if os.path.isdir(name):
            if not os.path.isfile(os.path.join(name, "model_index.json")):
                raise FaceTalkError(f"{name} is no model folder, it has no model_index.json")
        elif name.count("/") > 1 or os.path.exists(name):
            raise FaceTalkError(f"no such model folder: {name}")
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """Fetch a whole Hub repository: the base class refuses components of libraries other than its own.

        Weights of other variants (`*.fp16.safetensors` ...) are left out unless one is asked for, and with one the
        weights without a variant are.

        Raises:
            FaceTalkError: the repository cannot be had, with the reason.
        """
        accepted = ("revision", "cache_dir", "token", "local_files_only", "force_download")
        if kwargs.get("variant") is None:
            others = ["*.*.safetensors", "*.*-*-of-*.safetensors", "*.safetensors.index.*.json"]
        else:
            others = ["*/model.safetensors", "*/diffusion_pytorch_model.safetensors"]
        try:
            return snapshot_download(
                pretrained_model_name,
                ignore_patterns=["*.py", "*.bin", *others],
                **{name: kwargs[name] for name in accepted if kwargs.get(name) is not None},
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise FaceTalkError(f"no model folder or Hub repository {pretrained_model_name}: {reason}") from error

    def few_steps(self, folder: str | os.PathLike | None = None) -> Self:
        """This pipeline for sampling in 4 steps: another one that shares all but denoiser and scheduler with it.

        Args:
            folder (`str` or `os.PathLike`, *optional*): of training/distill_denoiser.py; by default the model's own.

        Raises:
            FaceTalkError: the model has none, or the folder's belong to other weights.
        """
        from .pipeline_few_steps import FewStepsPipeline

        return FewStepsPipeline.of(self, folder)
