# SPDX-License-Identifier: MIT
"""Whether a pipeline is still the model that it was loaded from."""

from pathlib import Path
from typing import Any

import torch


def unchanged(pipe: Any, folder: Path) -> bool:
    """Return whether a pipeline's weights are those of a folder, up to the rounding of one of the two."""
    from safetensors.torch import load_file

    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        files = sorted((folder / name).glob("*.safetensors"))
        if not files or any("-of-" in path.name for path in files):
            return False
        kept, own = load_file(files[0]), part.state_dict()
        for key, value in kept.items():
            if key not in own or own[key].shape != value.shape:
                return False
            dtype = min(own[key].dtype, value.dtype, key=lambda dtype: dtype.itemsize)
            if not torch.equal(own[key].cpu().to(dtype), value.to(dtype)):
                return False
    return True
