# SPDX-License-Identifier: MIT
"""The blocks of the denoiser: self-attention, audio, feed-forward, each followed by FiLM (FaceTalk, section 3)."""

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import FaceTalkError
from .attention import AttentionPlan, attend, rotate


class SelfAttention(nn.Module):
    """Multi-head attention among the frames, with rotary positions; one product makes query, key and value."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor, rotary: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
        qkv = self.to_qkv(hidden_states).unflatten(-1, (3 * self.num_heads, -1))
        query, key = rotate(qkv[:, :, : 2 * self.num_heads], rotary).chunk(2, dim=2)
        return self.to_out(attend(query, key, qkv[:, :, 2 * self.num_heads :], plan).flatten(-2))


class AlignedAudio(nn.Module):
    """Cross-attention in which the key of a frame is that frame's own audio (alignment mask delta_ij of the paper).

    A softmax over one key is 1, so queries and keys have no effect, and the value and output projections are one
    linear map of the audio frame. `project` makes its result once a clip; nothing is left to do in a denoising step.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.to_out = nn.Linear(hidden_size, hidden_size)

    def project(self, audio: torch.Tensor, rotary: torch.Tensor | None = None) -> torch.Tensor:
        """Map audio (B, N, hidden) to what a frame adds in every step, (B, N, hidden)."""
        return self.to_out(audio)

    def forward(
        self, hidden_states: torch.Tensor, audio: torch.Tensor, rotary: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        return audio


class BandedAudio(nn.Module):
    """Cross-attention of a frame to the audio frames within the alignment width of it (ours; the paper's is 0).

    Without a width it sees all of the audio, as in the paper's ablation without the alignment mask.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(hidden_size)
        self.to_q = nn.Linear(hidden_size, hidden_size)
        self.to_kv = nn.Linear(hidden_size, 2 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)

    def project(self, audio: torch.Tensor, rotary: torch.Tensor | None) -> torch.Tensor:
        """Map audio (B, N, hidden) to rotated keys, then values, (B, N, 2 * heads, hidden / heads)."""
        assert rotary is not None  # only aligned audio goes without
        key, value = self.to_kv(audio).unflatten(-1, (2 * self.num_heads, -1)).chunk(2, dim=2)
        return torch.cat((rotate(key, rotary), value), dim=2)

    def forward(
        self, hidden_states: torch.Tensor, audio: torch.Tensor, rotary: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        query = rotate(self.to_q(self.norm(hidden_states)).unflatten(-1, (self.num_heads, -1)), rotary)
        key, value = audio.chunk(2, dim=2)
        return self.to_out(attend(query, key, value, plan).flatten(-2))


class FaceTalkDenoiserBlock(nn.Module):
    """Self-attention, cross-attention to the audio and feed-forward, each followed by FiLM(t) (paper section 3).

    Every part reads the normalised residual stream h and adds to it: h <- h + scale(t) * part(norm(h)) + shift(t).
    """

    def __init__(self, hidden_size: int, num_heads: int, ff_mult: int, aligned: bool, skip: bool) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * hidden_size, hidden_size) if skip else None
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.attention = SelfAttention(hidden_size, num_heads)
        self.audio = AlignedAudio(hidden_size) if aligned else BandedAudio(hidden_size, num_heads)
        self.norm_ff = nn.LayerNorm(hidden_size)
        self.ff_in = nn.Linear(hidden_size, ff_mult * hidden_size)
        self.ff_act = nn.GELU()
        self.ff_out = nn.Linear(ff_mult * hidden_size, hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        skip_states: torch.Tensor | None,
        film: torch.Tensor,
        audio: torch.Tensor,
        rotary: torch.Tensor,
        plan: AttentionPlan,
        audio_plan: AttentionPlan,
    ) -> torch.Tensor:
        """Apply the block to `hidden_states` (B, N, C), in a block with a skip also to `skip_states` (B, N, C).

        `film` (3, 2, B or 1, 1, C) is the scale and the shift after each part.
        """
        if self.skip is not None and skip_states is not None:
            hidden_states = self.skip(torch.cat((hidden_states, skip_states), dim=-1))
        part = self.attention(self.norm_attention(hidden_states), rotary, plan)
        hidden_states = hidden_states + torch.addcmul(film[0, 1], part, film[0, 0])
        part = self.audio(hidden_states, audio, rotary, audio_plan)
        hidden_states = hidden_states + torch.addcmul(film[1, 1], part, film[1, 0])
        part = self.ff_out(self.ff_act(self.ff_in(self.norm_ff(hidden_states))))
        return hidden_states + torch.addcmul(film[2, 1], part, film[2, 0])


def intensity_features(
    between: Sequence[float] | None, intensity: torch.Tensor | float | None, like: torch.Tensor
) -> torch.Tensor | None:
    """Encode the factor r of codes for the embedding of timesteps: (B or 1, 2) float of the type of `like`.

    -1 ... 1 over the range `between`, and a 1 for "known"; zeros where r is open, so that the embedding of the
    timestep alone is the learned null condition. `None` for a denoiser that was not trained with an intensity.

    Raises:
        FaceTalkError: such a denoiser is told one.
    """
    if between is None:
        if intensity is not None:
            raise FaceTalkError("this denoiser was not trained with an intensity, see intensity_range")
        return None
    low, high = between
    intensity = float("nan") if intensity is None else intensity
    intensity = torch.as_tensor(intensity, device=like.device, dtype=torch.float32).reshape(-1)
    position = (2 * intensity - low - high) / (high - low)
    features = torch.stack((position, torch.ones_like(position)), dim=-1)
    return torch.where(intensity.isnan()[:, None], 0.0, features).to(like.dtype)
