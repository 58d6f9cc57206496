# SPDX-License-Identifier: MIT
"""Feature vectors of any rate at the frame rate."""

import torch


def resample_to_frames(features: torch.Tensor, offset: float, hop: float, frames: int, fps: float) -> torch.Tensor:
    """Interpolate feature vectors linearly in time at the centres of the video frames.

    Feature j stands at `offset + j * hop` seconds, frame i at `(i + 0.5) / fps`; outside the first and last feature
    their value holds. Unlike stretching one length to the other (FaceFormer), this keeps its time when a clip is cut.

    Args:
        features: (L, C) float.

    Returns:
        `torch.Tensor`: (N, C) float.
    """
    position = (torch.arange(frames, dtype=torch.float64, device=features.device) + 0.5) / fps
    position = ((position - offset) / hop).clamp(0, len(features) - 1)
    left = position.floor().long()
    right = (left + 1).clamp_max(len(features) - 1)
    weight = (position - left).to(features.dtype)[:, None]
    return features[left] * (1 - weight) + features[right] * weight
