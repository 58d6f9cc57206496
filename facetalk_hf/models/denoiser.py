# SPDX-License-Identifier: MIT
"""The denoiser of FaceTalk: noisy expression codes, timestep and speech features -> clean expression codes."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from torch import nn

from ..errors import FaceTalkError
from .attention import AttentionPlan, attend, plan_attention, rotary_table, rotate


SEGMENT = 4096
"""Frames that are computed at a time of a clip more than twice as long."""


@dataclass
class FaceTalkDenoiserOutput(BaseOutput):
    """Output of [`FaceTalkDenoiser`].

    Args:
        sample ((B, N, D) float): predicted clean codes x_0, normalised.
    """

    sample: torch.Tensor


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

    def project(self, audio: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
        """Audio (B, N, hidden) -> what a frame adds in every step, (B, N, hidden)."""
        return self.to_out(audio)

    def forward(
        self, hidden_states: torch.Tensor, audio: torch.Tensor, rotary: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        return audio


class BandedAudio(nn.Module):
    """Cross-attention of a frame to the audio frames within the alignment width of it (ours; the paper's is 0)."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(hidden_size)
        self.to_q = nn.Linear(hidden_size, hidden_size)
        self.to_kv = nn.Linear(hidden_size, 2 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)

    def project(self, audio: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
        """Audio (B, N, hidden) -> rotated keys and values side by side, (B, N, 2 * heads, hidden / heads)."""
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

    def __init__(self, hidden_size: int, num_heads: int, ff_mult: int, alignment_width: int, skip: bool) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * hidden_size, hidden_size) if skip else None
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.attention = SelfAttention(hidden_size, num_heads)
        self.audio = BandedAudio(hidden_size, num_heads) if alignment_width else AlignedAudio(hidden_size)
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
        """`hidden_states`, `skip_states` (B, N, C); `film` (3, 2, B or 1, 1, C): scale and shift after each part."""
        if self.skip is not None:
            hidden_states = self.skip(torch.cat((hidden_states, skip_states), dim=-1))
        part = self.attention(self.norm_attention(hidden_states), rotary, plan)
        hidden_states = hidden_states + torch.addcmul(film[0, 1], part, film[0, 0])
        part = self.audio(hidden_states, audio, rotary, audio_plan)
        hidden_states = hidden_states + torch.addcmul(film[1, 1], part, film[1, 0])
        part = self.ff_out(self.ff_act(self.ff_in(self.norm_ff(hidden_states))))
        return hidden_states + torch.addcmul(film[2, 1], part, film[2, 0])


class FaceTalkDenoiser(ModelMixin, ConfigMixin):
    r"""UNet-style transformer decoder that predicts the clean expression codes of a clip (FaceTalk, section 3).

    The blocks of the first half hand their output to those of the second half by long skips (concatenate, project)
    around a middle block. Positions are rotary, so any number of frames will do. Widths, heads and depth are not
    published; the presets are ours.

    Args:
        code_dim (`int`, *optional*, defaults to 200): channels D of an expression code.
        audio_dim (`int`, *optional*, defaults to 768): channels A of a frame of speech features.
        hidden_size (`int`, *optional*, defaults to 512): width of the residual stream.
        num_layers (`int`, *optional*, defaults to 9): number of blocks, odd: two halves and a middle.
        num_heads (`int`, *optional*, defaults to 8): attention heads.
        ff_mult (`int`, *optional*, defaults to 4): width of the feed-forward layers in multiples of `hidden_size`.
        attention_mode (`str`, *optional*, defaults to `"causal"`): `"causal"`: frame i sees the frames <= i, as in
            the paper; `"local"`: it sees the frames within `window` on both sides.
        window (`int`, *optional*): reach of self-attention in frames. `None` for no limit, in causal mode only;
            with a window, memory and time are linear in the number of frames.
        alignment_width (`int`, *optional*, defaults to 0): audio frames on each side that a frame attends to; 0 is
            the paper's alignment mask delta_ij.
        film_rank (`int`, *optional*, defaults to 64): channels of the timestep's embedding. The scales and shifts of
            all blocks are linear in it, so a small rank keeps their tables small beside the blocks.
        max_timesteps (`int`, *optional*, defaults to 1000): diffusion steps of the training schedule.
        rope_theta (`float`, *optional*, defaults to 10000): base of the rotary wavelengths.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["FaceTalkDenoiserBlock"]
    _repeated_blocks = ["FaceTalkDenoiserBlock"]

    @register_to_config
    def __init__(
        self,
        code_dim: int = 200,
        audio_dim: int = 768,
        hidden_size: int = 512,
        num_layers: int = 9,
        num_heads: int = 8,
        ff_mult: int = 4,
        attention_mode: str = "causal",
        window: int | None = None,
        alignment_width: int = 0,
        film_rank: int = 64,
        max_timesteps: int = 1000,
        rope_theta: float = 10000.0,
    ) -> None:
        super().__init__()
        if attention_mode not in ("causal", "local"):
            raise FaceTalkError(f'attention_mode must be "causal" or "local", not {attention_mode!r}')
        if (window is None and attention_mode == "local") or (window is not None and window < 1):
            raise FaceTalkError(f"window must be a positive number of frames (or None in causal mode), not {window}")
        if num_layers < 1 or num_layers % 2 == 0:
            raise FaceTalkError(f"num_layers must be odd (two halves and a middle), not {num_layers}")
        if hidden_size % (2 * num_heads):
            raise FaceTalkError(f"hidden_size {hidden_size} must be a multiple of 2 * num_heads = {2 * num_heads}")
        if alignment_width < 0:
            raise FaceTalkError(f"alignment_width must be 0 or more frames, not {alignment_width}")

        self.sample_in = nn.Linear(code_dim, hidden_size)
        self.audio_in = nn.Sequential(nn.LayerNorm(audio_dim), nn.Linear(audio_dim, hidden_size), nn.SiLU())
        self.null_audio = nn.Parameter(0.02 * torch.randn(hidden_size))
        self.time_proj = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0, scale=1000 / max_timesteps)
        self.time_embedding = TimestepEmbedding(64, film_rank, post_act_fn="silu")
        self.film = nn.Linear(film_rank, num_layers * 6 * hidden_size)
        half = num_layers // 2
        self.blocks = nn.ModuleList(
            FaceTalkDenoiserBlock(hidden_size, num_heads, ff_mult, alignment_width, skip=index > half)
            for index in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size)
        self.sample_out = nn.Linear(hidden_size, code_dim)
        self.register_buffer("code_mean", torch.zeros(code_dim))
        self.register_buffer("code_std", torch.ones(code_dim))
        self.gradient_checkpointing = False
        self._init_weights()

    def _init_weights(self) -> None:
        # Untrained, the net predicts the mean code, and FiLM changes nothing. (Zeros in the last layer of every part,
        # or skips that start unheard, were tried: the loss falls more slowly.)
        for layer in (self.film, self.sample_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.film.bias.data.view(len(self.blocks), 3, 2, -1)[:, :, 0] = 1  # scales

    @staticmethod
    def paper_config(**overrides: Any) -> dict[str, Any]:
        """Arguments at the paper's size: NPHM's 200-d codes, wav2vec2-base features, about 35 M parameters."""
        return {"code_dim": 200, "audio_dim": 768, "hidden_size": 512, "num_layers": 9, "num_heads": 8} | overrides

    @staticmethod
    def tiny_config(**overrides: Any) -> dict[str, Any]:
        """Arguments of facetalk-tiny: 64-d codes, the log-mel encoder's features, about 1.1 M parameters."""
        tiny = {"code_dim": 64, "audio_dim": 192, "hidden_size": 128, "num_layers": 5, "num_heads": 4, "ff_mult": 3}
        return tiny | {"attention_mode": "local", "window": 16, "film_rank": 32} | overrides

    def normalize(self, codes: torch.Tensor) -> torch.Tensor:
        """Expression codes (..., D) -> the space that the diffusion works in, zero mean and unit variance."""
        return (codes - self.code_mean) / self.code_std

    def denormalize(self, sample: torch.Tensor) -> torch.Tensor:
        """The inverse of [`~FaceTalkDenoiser.normalize`]."""
        return sample * self.code_std + self.code_mean

    def project_audio(
        self, audio_features: torch.Tensor, audio_keep: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """What every block needs to know of the audio; the same in all denoising steps, so compute it once a call.

        Args:
            audio_features ((B, N, A) float): speech features, one a frame.
            audio_keep ((B,) bool, *optional*): False where the learned null audio takes their place.

        Returns:
            list of one tensor a block, for `projected_audio`: (B, N, hidden_size) float, or, where the alignment
            width is not 0, rotated keys and values (B, N, 2 * num_heads, hidden_size / num_heads).
        """
        audio = self.audio_in(audio_features)
        if audio_keep is not None:
            audio = torch.where(audio_keep[:, None, None], audio, self.null_audio.to(audio.dtype))
        return self._project(audio)

    def _project(self, audio: torch.Tensor) -> list[torch.Tensor]:
        rotary = self._rotary(audio.shape[1], audio) if self.config.alignment_width else None
        return [block.audio.project(audio, rotary) for block in self.blocks]

    def _rotary(self, num_frames: int, like: torch.Tensor) -> torch.Tensor:
        channels = self.config.hidden_size // self.config.num_heads
        return rotary_table(num_frames, channels, self.config.rope_theta, like.dtype, like.device)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        audio_features: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        audio_keep: torch.Tensor | None = None,
        projected_audio: list[torch.Tensor] | None = None,
        return_dict: bool = True,
    ) -> FaceTalkDenoiserOutput | tuple[torch.Tensor]:
        """Predict the clean codes.

        Args:
            sample ((B, N, D) float): noisy codes x_t, normalised.
            timestep ((B,) or scalar): diffusion step t of the samples.
            audio_features ((B, N, A) float, *optional*): speech features; without them the null audio is used.
            frame_mask ((B, N) bool, *optional*): False for padding. Padding influences nothing and comes out as 0.
                `None` where all frames are valid: attention then needs no mask for it.
            audio_keep ((B,) bool, *optional*): False for samples whose audio is replaced by the null audio.
            projected_audio (`list` of `torch.Tensor`, *optional*): result of `project_audio`, in place of
                `audio_features` and `audio_keep`.
            return_dict (`bool`, *optional*, defaults to `True`): whether to return a [`FaceTalkDenoiserOutput`].

        Returns:
            [`FaceTalkDenoiserOutput`] with x_0 (B, N, D), or a tuple of it.
        """
        batch_size, num_frames = sample.shape[:2]
        if frame_mask is not None:  # padding may hold anything, even NaN, of which no attention weight can get rid
            sample = sample.masked_fill(~frame_mask[:, :, None], 0)
            if audio_features is not None:
                audio_features = audio_features.masked_fill(~frame_mask[:, :, None], 0)
        if projected_audio is None:
            if audio_features is not None:
                projected_audio = self.project_audio(audio_features, audio_keep)
            else:
                projected_audio = self._project(self.null_audio.expand(batch_size, num_frames, -1))

        splits = self.config.window is not None and not self.config.alignment_width
        if num_frames > 2 * SEGMENT and splits and not torch.is_grad_enabled():
            output = self._in_segments(sample, timestep, frame_mask, projected_audio)
            return FaceTalkDenoiserOutput(sample=output) if return_dict else (output,)

        film = self._film_tables(timestep, sample)
        hidden_states = self.sample_in(sample)
        rotary = self._rotary(num_frames, hidden_states)
        causal, window, width = self.config.attention_mode == "causal", self.config.window, self.config.alignment_width
        size = (batch_size, num_frames)
        like = (hidden_states.dtype, hidden_states.device)
        plan = plan_attention(*size, window, 0 if causal else window, frame_mask, *like)
        audio_plan = plan_attention(*size, width, width, frame_mask, *like) if width else AttentionPlan()

        skips = []
        half = len(self.blocks) // 2
        for index, block in enumerate(self.blocks):
            skip = skips.pop() if index > half else None
            inputs = (hidden_states, skip, film[index], projected_audio[index], rotary, plan, audio_plan)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, *inputs)
            else:
                hidden_states = block(*inputs)
            if index < half:
                skips.append(hidden_states)

        output = self.sample_out(self.norm_out(hidden_states))
        if frame_mask is not None:
            output = output.masked_fill(~frame_mask[:, :, None], 0)
        return FaceTalkDenoiserOutput(sample=output) if return_dict else (output,)

    def _in_segments(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        frame_mask: torch.Tensor | None,
        projected_audio: list[torch.Tensor],
    ) -> torch.Tensor:
        """The same result for a long sample, piece by piece: no frame depends on one that all windows together do not
        reach. What is in memory at a time is that of a piece."""
        reach = len(self.blocks) * self.config.window
        parts = []
        for start in range(0, sample.shape[1], SEGMENT):
            first, end = max(0, start - reach), start + SEGMENT + reach
            part = self(
                sample[:, first:end],
                timestep,
                frame_mask=None if frame_mask is None else frame_mask[:, first:end],
                projected_audio=[item[:, first:end] for item in projected_audio],
            ).sample
            parts.append(part[:, start - first : start - first + SEGMENT])
        return torch.cat(parts, dim=1)

    def _film_tables(self, timestep: torch.Tensor | float | int, sample: torch.Tensor) -> torch.Tensor:
        """Scale and shift of every part of every block: (L, 3, 2, B or 1, 1, hidden_size) float."""
        timestep = torch.as_tensor(timestep, device=sample.device).reshape(-1)
        embedding = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        return self.film(embedding).unflatten(-1, (len(self.blocks), 3, 2, 1, -1)).movedim(0, 3)
