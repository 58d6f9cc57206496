# SPDX-License-Identifier: MIT
"""Classifier-free guidance by sound and by conditions: which copies of a batch it needs, and how they are joined."""

import torch


def guided_copies(
    count: int, guidance_scale: float, emotion_scale: float, conditions: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Lay out the copies of a batch that `guided` joins: all told, then without sound, then without conditions.

    Args:
        count (`int`): elements B of the batch.
        guidance_scale (`float`), emotion_scale (`float`): of `guided`; where one is 1 its copy is not needed.
        conditions ((B, N, C) float, *optional*): of the batch.

    Returns:
        audio_keep (K * B,) bool and conditions (K * B, N, C) float, for `FaceTalkDenoiser.project_audio`.
    """
    silent, untold = guidance_scale != 1, emotion_scale != 1
    keep = [torch.ones(count, dtype=torch.bool)]
    told = [] if conditions is None else [conditions]
    if silent:
        keep.append(torch.zeros(count, dtype=torch.bool))
        told += told[:1]
    if untold:
        keep.append(torch.ones(count, dtype=torch.bool))
        told += [torch.full_like(item, float("nan")) for item in told[:1]]
    return torch.cat(keep), torch.cat(told) if told else None


def guided(clean: torch.Tensor, guidance_scale: float, emotion_scale: float) -> torch.Tensor:
    """Join the predictions (K, ...) of `guided_copies` to one (...).

    x_0 = G(-, c) + w (G(a, c) - G(-, c)) + (s - 1) (G(a, c) - G(a, -)) for the sound a, the conditions c, the guidance
    scale w and the emotion scale s.
    """
    full, *others = clean
    result = full
    if guidance_scale != 1:
        silent, *others = others
        result = silent + guidance_scale * (full - silent)
    if emotion_scale != 1:
        (untold,) = others
        result = result + (emotion_scale - 1) * (full - untold)
    return result
