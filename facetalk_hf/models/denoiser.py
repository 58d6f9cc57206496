# SPDX-License-Identifier: MIT
"""The denoiser of FaceTalk: noisy expression codes, timestep and speech features -> clean expression codes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from torch import nn

from ..errors import FaceTalkError
from .attention import AttentionPlan, plan_attention, rotary_table
from .denoiser_blocks import FaceTalkDenoiserBlock, intensity_features


SEGMENT = 4096
"""Frames that are computed at a time of a clip more than twice as long."""


@dataclass
class FaceTalkDenoiserOutput(BaseOutput):
    """Output of [`FaceTalkDenoiser`].

    Args:
        sample ((B, N, D) float): predicted clean codes x_0, normalised.
    """

    sample: torch.Tensor


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
            the paper's alignment mask delta_ij, `None` its ablation without the mask.
        timestep_conditioning (`str`, *optional*, defaults to `"film"`): `"additive"`, the paper's ablation without
            FiLM, adds the embedding of the timestep to the frames before the first block instead.
        skip_connections (`bool`, *optional*, defaults to `True`): long skips between the halves.
        film_rank (`int`, *optional*, defaults to 64): channels of the timestep's embedding. The scales and shifts of
            all blocks are linear in it, so a small rank keeps their tables small beside the blocks.
        max_timesteps (`int`, *optional*, defaults to 1000): diffusion steps of the training schedule.
        rope_theta (`float`, *optional*, defaults to 10000): base of the rotary wavelengths.
        intensity_range ((`float`, `float`), *optional*): range (a, b) of the factor r of the expression augmentation
            in training. With it r is an input of the network, which follows it; without it there is no such input.
        condition_names (sequence of `str`, *optional*): names of numbers that a motion is told beside its sound, one
            or one a frame, such as those of `facetalk_hf.conditions`; without them there is no such input.
        pose_dim (`int`, *optional*, defaults to 0): channels of the head's pose, which stand behind those of the code
            in every sample: one diffusion makes both.
    """

    config: Any  # a FrozenDict, whose entries are attributes too
    code_mean: torch.Tensor
    code_std: torch.Tensor
    pose_mean: torch.Tensor
    pose_std: torch.Tensor
    __call__: Callable[..., Any]
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
        alignment_width: int | None = 0,
        timestep_conditioning: str = "film",
        skip_connections: bool = True,
        film_rank: int = 64,
        max_timesteps: int = 1000,
        rope_theta: float = 10000.0,
        intensity_range: tuple[float, float] | None = None,
        condition_names: Sequence[str] | None = None,
        pose_dim: int = 0,
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
        if alignment_width is not None and alignment_width < 0:
            raise FaceTalkError(f"alignment_width must be 0 or more frames, or None, not {alignment_width}")
        if timestep_conditioning not in ("film", "additive"):
            raise FaceTalkError(f'timestep_conditioning must be "film" or "additive", not {timestep_conditioning!r}')
        if intensity_range is not None and not 0 <= intensity_range[0] < intensity_range[1]:
            raise FaceTalkError(f"intensity_range must be two factors (a, b), 0 <= a < b, not {intensity_range}")

        if pose_dim < 0:
            raise FaceTalkError(f"pose_dim must be 0 or more channels, not {pose_dim}")

        self.sample_in = nn.Linear(code_dim + pose_dim, hidden_size)
        self.audio_in = nn.Sequential(nn.LayerNorm(audio_dim), nn.Linear(audio_dim, hidden_size), nn.SiLU())
        self.null_audio = nn.Parameter(0.02 * torch.randn(hidden_size))
        if condition_names:
            # Of every condition its value, and a 1 for "told".
            layers = (nn.Linear(2 * len(condition_names), hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))
            self.condition_in = nn.Sequential(*layers)
        scale = cast(int, 1000 / max_timesteps)  # diffusers takes any factor, and declares it an int
        self.time_proj = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0, scale=scale)
        conditions = None if intensity_range is None else 2
        self.time_embedding = TimestepEmbedding(64, film_rank, post_act_fn="silu", cond_proj_dim=conditions)
        by_film = timestep_conditioning == "film"
        self.film = nn.Linear(film_rank, num_layers * 6 * hidden_size if by_film else hidden_size)
        half = num_layers // 2
        self.blocks = nn.ModuleList(
            FaceTalkDenoiserBlock(
                hidden_size, num_heads, ff_mult, alignment_width == 0, skip_connections and index > half
            )
            for index in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size)
        self.sample_out = nn.Linear(hidden_size, code_dim + pose_dim)
        self.register_buffer("code_mean", torch.zeros(code_dim))
        self.register_buffer("code_std", torch.ones(code_dim))
        if pose_dim:
            self.register_buffer("pose_mean", torch.zeros(pose_dim))
            self.register_buffer("pose_std", torch.ones(pose_dim))
        self.gradient_checkpointing = False
        self._init_weights()

    def _init_weights(self) -> None:
        # Untrained, the net predicts the mean code, and FiLM changes nothing. (Zeros in the last layer of every part,
        # or skips that start unheard, were tried: the loss falls more slowly.)
        told = [cast(nn.Linear, self.condition_in[-1])] if self.config.condition_names else []
        for layer in (self.film, self.sample_out, *told):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.config.intensity_range is not None:
            nn.init.zeros_(self.time_embedding.cond_proj.weight)
        if self.config.timestep_conditioning == "film":
            self.film.bias.data.view(len(self.blocks), 3, 2, -1)[:, :, 0] = 1  # scales

    @staticmethod
    def paper_config(**overrides: Any) -> dict[str, Any]:
        """Give arguments of the paper's size: NPHM's 200-d codes, wav2vec2-base features, about 35 M parameters."""
        return {"code_dim": 200, "audio_dim": 768, "hidden_size": 512, "num_layers": 9, "num_heads": 8} | overrides

    @staticmethod
    def tiny_config(**overrides: Any) -> dict[str, Any]:
        """Give the arguments of facetalk-tiny: 64-d codes, the log-mel encoder's features, about 1.1 M parameters."""
        tiny = {"code_dim": 64, "audio_dim": 192, "hidden_size": 128, "num_layers": 5, "num_heads": 4, "ff_mult": 3}
        return tiny | {"attention_mode": "causal", "window": 32, "film_rank": 32} | overrides

    def normalize(self, codes: torch.Tensor) -> torch.Tensor:
        """Scale expression codes (..., D) to zero mean and unit variance, as the diffusion needs them."""
        return (codes - self.code_mean) / self.code_std

    def denormalize(self, sample: torch.Tensor) -> torch.Tensor:
        """Scale normalised codes (..., D) back: the inverse of [`~FaceTalkDenoiser.normalize`]."""
        return sample * self.code_std + self.code_mean

    @property
    def sample_dim(self) -> int:
        """Channels of a sample: those of a code, then those of the pose."""
        return self.config.code_dim + self.config.pose_dim

    def split_sample(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Split a normalised sample (..., C) into its codes (..., D), normalised, and poses (..., P) as they are.

        Poses are in degrees and mm, see `facetalk_hf.conditions.POSE`; `None` from a denoiser that learnt none.
        """
        if not self.config.pose_dim:
            return sample, None
        codes, pose = sample.split((self.config.code_dim, self.config.pose_dim), dim=-1)
        return codes, pose * self.pose_std.to(pose) + self.pose_mean.to(pose)

    def split_intensity(self, intensity: float) -> tuple[float | None, float]:
        """Split an intensity into the factor r for `forward` and a factor of the codes that it gives.

        The network gets what lies within the range that it was trained on, the codes the rest; all of it if the
        network has no such input, for which r is `None`.
        """
        if self.config.intensity_range is None:
            return None, intensity
        low, high = self.config.intensity_range
        factor = min(max(intensity, low), high)
        return factor, intensity / factor if factor else 1.0

    def project_audio(
        self,
        audio_features: torch.Tensor,
        audio_keep: torch.Tensor | None = None,
        conditions: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Project audio and conditions for every block; the same in all steps, so compute it once a call.

        Args:
            audio_features ((B, N, A) float): speech features, one a frame.
            audio_keep ((B,) bool, *optional*): False where the learned null audio takes their place.
            conditions ((B, C) or (B, N, C) float, *optional*): as for `forward`.

        Returns:
            list of one tensor a block, for `projected_audio`: (B, N, hidden_size) float, or, where the alignment
            width is not 0, rotated keys and values (B, N, 2 * num_heads, hidden_size / num_heads).
        """
        audio = self.audio_in(audio_features)
        if audio_keep is not None:
            audio = torch.where(audio_keep[:, None, None], audio, self.null_audio.to(audio.dtype))
        return self._project(audio, conditions)

    def _project(self, audio: torch.Tensor, conditions: torch.Tensor | None) -> list[torch.Tensor]:
        audio = self.tell(audio, conditions)
        rotary = None if self.config.alignment_width == 0 else self._rotary(audio.shape[1], audio)
        return [block.audio.project(audio, rotary) for block in self.layers()]

    def tell(self, audio: torch.Tensor, conditions: torch.Tensor | None) -> torch.Tensor:
        """Add conditions (B, N, C) or (B, C) to what was made of the audio of their frames, (B, N, hidden_size)."""
        names = self.config.condition_names
        if names:
            # They join the audio of their frame, whether or not it is heard: nothing more to do in a step.
            conditions = audio.new_full((1, 1, len(names)), float("nan")) if conditions is None else conditions
            conditions = conditions[:, None] if conditions.ndim == 2 else conditions
            told = ~conditions.isnan()
            features = torch.cat((conditions.masked_fill(~told, 0).to(audio), told.to(audio)), dim=-1)
            audio = audio + self.condition_in(features)
        elif conditions is not None:
            raise FaceTalkError("this denoiser was not trained with conditions, see condition_names")
        return audio

    def layers(self) -> Iterator[FaceTalkDenoiserBlock]:
        """Iterate over the blocks, first half, middle and second half."""
        return (cast(FaceTalkDenoiserBlock, block) for block in self.blocks)

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
        intensity: torch.Tensor | float | None = None,
        conditions: torch.Tensor | None = None,
        film: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> FaceTalkDenoiserOutput | tuple[torch.Tensor]:
        """Predict the clean codes.

        Args:
            sample ((B, N, D) float): noisy codes x_t, normalised; with a `pose_dim` D counts the poses behind them.
            timestep ((B,) or scalar): diffusion step t of the samples.
            audio_features ((B, N, A) float, *optional*): speech features; without them the null audio is used.
            frame_mask ((B, N) bool, *optional*): False for padding. Padding influences nothing and comes out as 0.
                `None` where all frames are valid: attention then needs no mask for it.
            audio_keep ((B,) bool, *optional*): False for samples whose audio is replaced by the null audio.
            projected_audio (`list` of `torch.Tensor`, *optional*): result of `project_audio`, in place of
                `audio_features`, `audio_keep` and `conditions`.
            intensity ((B,) or scalar, *optional*): factor r of the codes that are wanted; `None` or NaN where it is
                open. Only with an `intensity_range`.
            conditions ((B, C) or (B, N, C) float, *optional*): of `condition_names`, for whole clips or for each
                frame; `None` or NaN where they are not told.
            film (`torch.Tensor`, *optional*): of this timestep and intensity, from `film_tables`.
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
                projected_audio = self.project_audio(audio_features, audio_keep, conditions)
            else:
                projected_audio = self._project(self.null_audio.expand(batch_size, num_frames, -1), conditions)

        splits = self.config.window is not None and self.config.alignment_width == 0
        if num_frames > 2 * SEGMENT and splits and not torch.is_grad_enabled():
            film = self._film_tables(timestep, intensity, sample) if film is None else film
            output = self._in_segments(sample, timestep, frame_mask, projected_audio, film)
            return FaceTalkDenoiserOutput(sample=output) if return_dict else (output,)

        hidden_states = self.sample_in(sample)
        film = self._film_tables(timestep, intensity, sample) if film is None else film
        if self.config.timestep_conditioning == "additive":
            hidden_states, film = hidden_states + film[:, None], self._neutral_film(sample)
        rotary = self._rotary(num_frames, hidden_states)
        causal, window, width = self.config.attention_mode == "causal", self.config.window, self.config.alignment_width
        size = (batch_size, num_frames)
        like = (hidden_states.dtype, hidden_states.device)
        plan = plan_attention(*size, window, 0 if causal else window, frame_mask, *like)
        audio_plan = AttentionPlan() if width == 0 else plan_attention(*size, width, width, frame_mask, *like)

        skips: list[torch.Tensor] = []
        half = len(self.blocks) // 2
        for index, block in enumerate(self.layers()):
            skip = skips.pop() if block.skip is not None else None
            inputs = (hidden_states, skip, film[index], projected_audio[index], rotary, plan, audio_plan)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, *inputs)
            else:
                hidden_states = block(*inputs)
            if index < half and self.config.skip_connections:
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
        film: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the result of a long sample piece by piece, so that memory does not grow with its length.

        It is the same: no frame depends on one that all windows together do not reach.
        """
        reach = len(self.blocks) * self.config.window
        parts = []
        for start in range(0, sample.shape[1], SEGMENT):
            first, end = max(0, start - reach), start + SEGMENT + reach
            part = self(
                sample[:, first:end],
                timestep,
                frame_mask=None if frame_mask is None else frame_mask[:, first:end],
                projected_audio=[item[:, first:end] for item in projected_audio],
                film=film,
            ).sample
            parts.append(part[:, start - first : start - first + SEGMENT])
        return torch.cat(parts, dim=1)

    def film_tables(
        self, timesteps: torch.Tensor, intensity: torch.Tensor | float | None, like: torch.Tensor
    ) -> Sequence[torch.Tensor]:
        """Compute `film` of `forward` for each of timesteps (S,): its large matrix is read once for all of them.

        Args:
            intensity ((B,) or scalar, *optional*): as in `forward`. like: a tensor of the device and type of samples.
        """
        count = 1
        if intensity is not None:
            intensity = torch.as_tensor(intensity, device=like.device, dtype=torch.float32).reshape(-1)
            count, intensity = len(intensity), intensity.repeat(len(timesteps))
        tables = self._film_tables(timesteps.to(like.device).repeat_interleave(count), intensity, like)
        return tables.split(count, dim=0 if self.config.timestep_conditioning == "additive" else 3)

    def _film_tables(
        self, timestep: torch.Tensor | float | int, intensity: torch.Tensor | float | None, sample: torch.Tensor
    ) -> torch.Tensor:
        """Compute scale and shift of every part of every block: (L, 3, 2, B or 1, 1, hidden_size) float.

        With additive conditioning: what the timestep adds to every frame, (B or 1, hidden_size).
        """
        timestep = torch.as_tensor(timestep, device=sample.device).reshape(-1)
        condition = intensity_features(self.config.intensity_range, intensity, sample)
        embedding = self.time_embedding(self.time_proj(timestep).to(sample.dtype), condition)
        table = self.film(embedding)
        if self.config.timestep_conditioning == "additive":
            return table
        return table.unflatten(-1, (len(self.blocks), 3, 2, 1, -1)).movedim(0, 3)

    def _neutral_film(self, sample: torch.Tensor) -> torch.Tensor:
        """Make scales of 1 and shifts of 0 in the shape of `_film_tables`."""
        return sample.new_tensor([1.0, 0.0]).view(1, 1, 2, 1, 1, 1).expand(len(self.blocks), 3, 2, 1, 1, 1)
