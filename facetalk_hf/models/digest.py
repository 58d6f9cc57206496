# SPDX-License-Identifier: MIT
"""What tells the weights of a network from others, for the names of what was made with them."""

import hashlib
from collections.abc import Mapping

import torch


def weights_digest(weights: Mapping[str, torch.Tensor]) -> bytes:
    """Hash the names and values of a network's `state_dict()` by sha256, whatever the device that they are on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()
