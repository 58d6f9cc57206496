# SPDX-License-Identifier: MIT
"""The tongue's motion beside the codes: from what an audio encoder hears, fitted to the mouth of a result."""

from typing import Any

import numpy as np
import torch

from ..blendshapes import INDEX
from ..models.nphm import NPHMModel
from ..motion.channels import Channels
from ..motion.steering import steerable
from ..phones.tongue import heard_tongue, within_mouth


def hears_tongue(audio_encoder: Any, head: NPHMModel | None) -> bool:
    """Tell whether an audio encoder has a phone head, and the head named shapes that a tongue goes with."""
    return bool(getattr(audio_encoder.config, "num_phones", 0)) and steerable(head)


@torch.inference_mode()
def hear_phones(audio_encoder: Any, features: torch.Tensor) -> torch.Tensor | None:
    """Predict the phones of features (N, A) float: logits (2 N, P) float32 on the CPU; `None` where none are heard."""
    if not getattr(audio_encoder.config, "num_phones", 0):
        return None
    return audio_encoder.predict_phones(features[None].to(audio_encoder.device, audio_encoder.dtype))[0].float().cpu()


def hear_tongue(audio_encoder: Any, head: NPHMModel | None, phones: torch.Tensor | None) -> np.ndarray | None:
    """Find the motion of the tongue in the phones that the audio encoder hears.

    Args:
        phones ((2 N, P) float, *optional*): of `hear_phones`, of one clip.

    Returns: (N, 5) float32 in the order of `blendshapes.TONGUE`; `None` where `hears_tongue` says no.
    """
    return heard_tongue(phones.numpy()) if phones is not None and hears_tongue(audio_encoder, head) else None


def place_tongue(channels: Channels, tongue: np.ndarray, expressions: torch.Tensor) -> np.ndarray:
    """Fit the tongue's weights (N, 5) of a clip to the mouth of its codes (N, D)."""
    mouth = np.zeros((len(tongue), len(INDEX)), np.float32)
    weights = channels.weights(torch.as_tensor(expressions)).numpy()
    columns = {INDEX[name]: index for index, name in enumerate(channels.names) if name in INDEX}
    mouth[:, list(columns)] = weights[:, list(columns.values())]
    return within_mouth(tongue, mouth)
