# SPDX-License-Identifier: MIT
"""Pipelines are loaded and published: folders and Hub repositories, with one line for what is wrong with them."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..errors import FaceTalkError
from ..hub.extras import save_extras
from ..hub.fetching import check_variant, fetch_weights
from ..hub.publishing import upload, write_model
from ..models.hooks import hooked


# diffusers 0.42 warns at every `to(dtype)` of "modules that should be kept in float32: []", of which there are none.
logging.getLogger("diffusers.models.modeling_utils").addFilter(
    lambda record: "float32: []." not in record.getMessage()
)


class HubPipeline(DiffusionPipeline):
    """A pipeline that is found, fetched and published with its components, which are of several libraries."""

    _snapshot: str | None = None

    @property
    def _execution_device(self) -> torch.device:
        # As in diffusers, where it takes milliseconds, for parts without hooks: an accelerator comes first.
        parts = [item for name, item in vars(self).items() if isinstance(item, torch.nn.Module) and name[0] != "_"]
        if any(hooked(part) for part in parts):
            return super()._execution_device
        devices = [next(part.parameters()).device for part in parts]
        return next((device for device in devices if device.type not in ("cpu", "meta")), devices[0])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """Load a folder or a Hub repository; see [`DiffusionPipeline.from_pretrained`] for the arguments.

        Without `dtype=` all components are float32, whatever the files hold: left alone, diffusers would widen its
        own models and transformers would not.

        Raises:
            FaceTalkError: no such folder, repository, revision or variant, no pipeline in it, or no way to get it.
        """
        name = folder = os.fspath(pretrained_model_name_or_path)
        if not os.path.isdir(name):
            if name.count("/") > 1 or os.path.exists(name):
                raise FaceTalkError(f"no such model folder: {name}")
            folder = cls.download(name, **kwargs)
        if not os.path.isfile(os.path.join(folder, "model_index.json")):
            raise FaceTalkError(f"{name} is no model folder, it has no model_index.json")
        if folder == name:
            files = [path.relative_to(name).as_posix() for path in Path(name).glob("*/*.safetensors")]
            check_variant(name, files, kwargs.get("variant"))
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        # Once it is downloaded, a repository is loaded like any folder.
        pipe = super().from_pretrained(folder, **kwargs)
        pipe.register_to_config(_name_or_path=name)
        pipe._snapshot = folder
        return pipe

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str:
        """Fetch a Hub repository: the base class refuses components of libraries other than its own.

        Configurations, the card, and the weights of one variant (`*.fp16.safetensors` ...; those without a variant
        where none is asked for) are fetched. Code is not.

        Raises:
            FaceTalkError: the repository cannot be had, with the reason, or it has no such variant.
        """
        accepted = ("revision", "cache_dir", "token", "local_files_only", "force_download")
        options = {name: kwargs[name] for name in accepted if kwargs.get(name) is not None}
        return fetch_weights(pretrained_model_name, kwargs.get("variant"), **options)

    @property
    def model_folder(self) -> Path | None:
        """Folder that this pipeline was loaded from, in the cache or anywhere else."""
        name = self._snapshot or self.config.get("_name_or_path")
        return Path(name) if name and os.path.isdir(name) else None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device or to another precision; see [`DiffusionPipeline.to`].

        Half precision works on the CPU too, of which diffusers would warn.
        """
        return super().to(*args, **{"silence_dtype_warnings": True} | kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
        revision: str | None = None,
        **facts: Any,
    ) -> str:
        """Publish this pipeline as training/publish.py does: fp32 and fp16 weights, pipeline.py, and our model card.

        Args:
            repo_id (`str`): the repository, USER/NAME; it is made where there is none.
            commit_message, private, token, create_pr: as in [`~diffusers.utils.PushToHubMixin.push_to_hub`].
            safe_serialization, variant, subfolder: diffusers' own, only with their defaults: what goes up is always
                the same.
            revision (`str`, *optional*): a branch, made where there is none.
            facts: for the card: `license`, `datasets`, `base_model`, `measured`, ...; see
                [`facetalk_hf.hub.publishing.write_model`].

        Returns:
            `str`: address of the commit.

        Raises:
            FaceTalkError: something must not be published, or the Hub refuses.
        """
        refused = {"safe_serialization": not safe_serialization, "variant": variant, "subfolder": subfolder}
        for name, value in refused.items():
            if value:
                raise FaceTalkError(f"push_to_hub publishes whole models in fp32 and fp16: leave {name} out")
        with tempfile.TemporaryDirectory() as folder:
            write_model(self, Path(folder) / "model", repo_id=repo_id, **facts)
            return upload(
                Path(folder) / "model", repo_id, "model", private=private, token=token, revision=revision,
                create_pr=create_pr, commit_message=commit_message,
            )  # fmt: skip

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save all components in a folder; see [`DiffusionPipeline.save_pretrained`] for the arguments.

        With `push_to_hub=True` the Hub gets what [`~FaceTalkPipeline.push_to_hub`] sends. What lies beside the
        components of the model's own folder (few-step weights, styles, the card) goes along, and `pipeline.py`, see
        [`facetalk_hf.hub.extras.save_extras`].
        """
        hub = {
            name: kwargs.pop(name) for name in ("commit_message", "private", "token", "create_pr") if name in kwargs
        }
        repo_id = kwargs.pop("repo_id", os.path.basename(os.path.abspath(save_directory)))
        super().save_pretrained(save_directory, *args, **kwargs)
        save_extras(self, save_directory)
        if push_to_hub:
            self.push_to_hub(repo_id, **hub)
