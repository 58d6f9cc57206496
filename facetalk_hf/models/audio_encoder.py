# SPDX-License-Identifier: MIT
"""The small audio encoder of the default model: log-mel columns to one feature vector a video frame."""

import math
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..errors import FaceTalkError
from ..units import COLUMNS_PER_FRAME


class LogMelEncoderConfig(PreTrainedConfig):
    r"""
    Configuration of [`LogMelEncoder`].

    Args:
        input_size (`int`, *optional*, defaults to 41): values a log-mel column.
        stem_size (`int`, *optional*, defaults to 96): channels at twice the frame rate.
        num_stem_layers (`int`, *optional*, defaults to 1): residual blocks at twice the frame rate.
        hidden_size (`int`, *optional*, defaults to 192): channels A of the output.
        num_hidden_layers (`int`, *optional*, defaults to 6): residual blocks at the frame rate.
        kernel_size (`int`, *optional*, defaults to 9): frames under the depthwise convolution of a block.
        expansion (`int`, *optional*, defaults to 2): width of a block's hidden layer over `hidden_size`.
        look_ahead_frames (`int`, *optional*, defaults to 10): frame i knows nothing of the columns of later frames
            than i + this one. 10 frames at 24 fps are 0.42 s. At least 1, or 2 with several layers in the stem; at
            most that + layers * (kernel - 1).
        look_ahead_choices (`list[int]`, *optional*): look-aheads in frames, each up to `look_ahead_frames`, that the
            encoder has learnt to do with; it is told which (see `LogMelEncoder.forward`). `None` for no choice.
        num_motion (`int`, *optional*, defaults to 53): blendshape weights of the motion head.
        num_phones (`int`, *optional*, defaults to 0): phones that the phone head tells apart at twice the frame rate,
            which trains the encoder; 0 for no such head.
        closure_threshold (`float`, *optional*): probability above which lips that are heard to close are closed in
            the motion, too; `None` leaves them to the denoiser.
        dropout (`float`, *optional*, defaults to 0.1): in the blocks, in training only.
        layer_norm_eps (`float`, *optional*, defaults to 1e-5).
    """

    model_type = "facetalk_logmel"

    input_size: int = 41
    stem_size: int = 96
    num_stem_layers: int = 1
    hidden_size: int = 192
    num_hidden_layers: int = 6
    kernel_size: int = 9
    expansion: int = 2
    look_ahead_frames: int = 10
    look_ahead_choices: list[int] | None = None
    num_motion: int = 53
    num_phones: int = 0
    closure_threshold: float | None = None
    dropout: float = 0.1
    layer_norm_eps: float = 1e-5


FEW_COLUMNS = 160
"""Columns below which a sum over the kernel costs less than the call of a convolution: those of a stream."""


class DepthwiseConv(nn.Module):
    """Depthwise convolution along time of (B, T, C) float that sees `right` columns ahead, `kernel - 1 - right` back.

    Told to look `ahead` fewer columns, it leaves out the weights beyond.

    Written as a 2D convolution whose input is channels-last in memory already: on a CPU that is four times as fast as
    `nn.Conv1d`, forward and backward.
    """

    def __init__(self, size: int, kernel: int, right: int):
        super().__init__()
        self.kernel, self.right = kernel, right
        self.conv = nn.Conv2d(size, size, (kernel, 1), groups=size)

    def forward(self, hidden_states: torch.Tensor, ahead: int | None = None) -> torch.Tensor:
        ahead = self.right if ahead is None else ahead
        return self.between(F.pad(hidden_states, (0, 0, self.kernel - 1 - self.right, ahead)), ahead)

    def between(self, hidden_states: torch.Tensor, ahead: int) -> torch.Tensor:
        """Convolve without padding: `kernel - 1 - right` columns at the front and `ahead` at the end are none."""
        weight = self.conv.weight[:, :, : self.kernel - self.right + ahead]
        few = hidden_states.shape[:2].numel() <= FEW_COLUMNS
        if few and not torch.is_grad_enabled() and not torch.jit.is_tracing():
            count, taps = hidden_states.shape[1] + 1 - weight.shape[2], weight[:, 0, :, 0].T.contiguous().unbind()
            assert self.conv.bias is not None
            total = torch.addcmul(self.conv.bias, hidden_states[:, :count], taps[0])
            for first, tap in enumerate(taps[1:], 1):
                total.addcmul_(hidden_states[:, first : first + count], tap)
            return total
        hidden_states = hidden_states.transpose(1, 2).unsqueeze(-1)
        return F.conv2d(hidden_states, weight, self.conv.bias, groups=self.conv.groups).squeeze(-1).transpose(1, 2)


class LogMelBlock(nn.Module):
    """ConvNeXt block along time: depthwise convolution, norm, two pointwise layers, added to its input."""

    def __init__(self, size: int, kernel: int, right: int, expansion: int, dropout: float, eps: float):
        super().__init__()
        self.depthwise = DepthwiseConv(size, kernel, right)
        self.norm = nn.LayerNorm(size, eps=eps)
        self.pointwise_in = nn.Linear(size, expansion * size)
        self.pointwise_out = nn.Linear(expansion * size, size)
        # Whole channels of a clip: drawing one number a value would cost as much as the matrix products.
        self.dropout = nn.Dropout1d(dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, ahead: int | None = None
    ) -> torch.Tensor:
        residual = F.silu(self.pointwise_in(self.norm(self.depthwise(hidden_states, ahead))))
        residual = self.dropout(residual.transpose(1, 2)).transpose(1, 2)
        hidden_states = hidden_states + self.pointwise_out(residual)
        # The next convolution must see zeros beyond the end of a clip, as it does where the clip is alone.
        return hidden_states if mask is None else hidden_states * mask


class MotionPrediction(NamedTuple):
    """Output of [`LogMelEncoder.predict_motion`].

    Attributes:
        weights: (B, N, 53) float, blendshape weights in the order of `blendshapes.EXPRESSIONS`; not clamped to 0..1.
        closure_logits: (B, N) float, logit of "the lips are closed in this frame".
    """

    weights: torch.Tensor
    closure_logits: torch.Tensor


class LogMelEncoder(PreTrainedModel):
    r"""
    Log-mel columns to one feature vector a video frame: two strided convolutions, then residual blocks of depthwise
    and pointwise convolutions with a limited look-ahead. The audio encoder of the default model, in the place where
    the paper has wav2vec 2.0.

    A linear motion head on top gives mouth motion without any diffusion: it trains the encoder, and is the
    deterministic baseline.
    """

    config_class = LogMelEncoderConfig
    base_model_prefix = "logmel"
    main_input_name = "input_features"

    def __init__(self, config: LogMelEncoderConfig):
        super().__init__(config)
        stem, hidden, layers = config.stem_size, config.hidden_size, config.num_hidden_layers
        # The first layer of the stem looks one frame ahead, all of them two; what remains is dealt out to the blocks,
        # the early ones first.
        deepest = layers * (config.kernel_size - 1)
        for ahead in {config.look_ahead_frames, *(config.look_ahead_choices or ())}:
            least = 1 if config.num_stem_layers == 1 or ahead == 1 else 2
            if not least <= ahead <= min(config.look_ahead_frames, least + deepest):
                raise FaceTalkError(
                    f"a look-ahead of {ahead} frames does not lie between {least} and {least + deepest}"
                )
        shared = (config.expansion, config.dropout, config.layer_norm_eps)
        stem_rights, rights = self._rights(config.look_ahead_frames)
        self.stem_in = nn.Linear(5 * config.input_size, stem)  # a convolution, kernel 5, stride 2
        self.stem_block = LogMelBlock(stem, 5, 1, *shared)
        self.stem_blocks = nn.ModuleList(LogMelBlock(stem, 5, right, *shared) for right in stem_rights[1:])
        self.stem_out = nn.Linear(2 * stem, hidden)  # a convolution, kernel 2, stride 2
        if config.look_ahead_choices:
            self.look_ahead_embedding = nn.Embedding(len(config.look_ahead_choices), hidden)
        self.blocks = nn.ModuleList(LogMelBlock(hidden, config.kernel_size, right, *shared) for right in rights)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.motion_head = nn.Linear(hidden, config.num_motion + 1)
        if config.num_phones:
            self.phone_head = nn.Linear(hidden, 2 * config.num_phones)
        self.post_init()

    def _rights(self, look_ahead: int) -> tuple[list[int], list[int]]:
        """Deal a look-ahead in frames out to the layers of the stem (in half frames) and to the blocks."""
        stem, layers = self.config.num_stem_layers, self.config.num_hidden_layers
        all_ahead = look_ahead > 1 or stem == 1
        rest = look_ahead - (1 if stem == 1 or look_ahead == 1 else 2)
        return (
            [1, *[int(all_ahead)] * (stem - 1)],
            [rest // layers + (index < rest % layers) for index in range(layers)],
        )

    @property
    def look_aheads(self) -> tuple[int, ...]:
        """Frames of look-ahead that can be chosen."""
        return tuple(self.config.look_ahead_choices or (self.config.look_ahead_frames,))

    def past_frames(self) -> int:
        """Count the frames before one that can have an influence on it."""
        config = self.config
        stem_rights, rights = self._rights(config.look_ahead_frames)
        half_frames = sum(4 - right for right in stem_rights)
        return sum(config.kernel_size - 1 - right for right in rights) + -(-(half_frames + 1) // 2)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, std=math.sqrt(1 / module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
        look_ahead: int | None = None,
    ) -> BaseModelOutput | tuple[torch.Tensor]:
        """
        Encode log-mel columns.

        Args:
            input_features: (B, 4 N, M + 1) float from [`LogMelFeatureExtractor`].
            attention_mask: (B, N) bool, *optional*: False for frames that only pad the batch. They have no influence
                on the others, and their features are zero.
            look_ahead (`int`, *optional*): frames, one of `look_aheads`; by default the longest.

        Returns:
            `BaseModelOutput`, or a tuple, with `last_hidden_state` (B, N, A) float.

        Raises:
            FaceTalkError: a look-ahead that the encoder has not learnt.
        """
        look_ahead = max(self.look_aheads) if look_ahead is None else look_ahead
        if look_ahead not in self.look_aheads:
            raise FaceTalkError(
                f"this audio encoder can look {', '.join(map(str, self.look_aheads))} frames ahead, not {look_ahead}"
            )
        stem_rights, rights = self._rights(look_ahead)
        mask = column_mask = half_mask = None
        if attention_mask is not None:
            mask = attention_mask.unsqueeze(-1).to(input_features.dtype)
            half_mask = mask.repeat_interleave(2, dim=1)
            column_mask = mask.repeat_interleave(COLUMNS_PER_FRAME, dim=1)
            input_features = input_features * column_mask
        hidden_states = self.stem(input_features, half_mask, stem_rights)
        hidden_states = self.stem_out(hidden_states.unflatten(1, (-1, 2)).flatten(2))
        if self.config.look_ahead_choices:
            hidden_states = hidden_states + self.look_ahead_embedding.weight[self.look_aheads.index(look_ahead)]
        hidden_states = hidden_states if mask is None else hidden_states * mask
        for block, right in zip(self.blocks, rights, strict=True):
            hidden_states = block(hidden_states, mask, right)
        hidden_states = self.norm(hidden_states)
        hidden_states = hidden_states if mask is None else hidden_states * mask
        if not (self.config.return_dict if return_dict is None else return_dict):
            return (hidden_states,)
        return BaseModelOutput(last_hidden_state=hidden_states)

    def stem(self, input_features: torch.Tensor, half_mask: torch.Tensor | None, rights: list[int]) -> torch.Tensor:
        """Encode masked columns (B, 4 N, M + 1) at twice the frame rate, (B, 2 N, C); `rights` are its look-aheads."""
        padded, last = F.pad(input_features, (0, 0, 2, 1)), input_features.shape[1] - 1
        columns = torch.stack([padded[:, first : first + last : 2] for first in range(5)], dim=-1)
        hidden_states = self.stem_in(columns.flatten(2))  # `unfold` would do, but cannot be exported
        hidden_states = hidden_states if half_mask is None else hidden_states * half_mask
        hidden_states = self.stem_block(hidden_states, half_mask)
        for block, right in zip(self.stem_blocks, rights[1:], strict=True):
            hidden_states = block(hidden_states, half_mask, right)
        return hidden_states

    def encode_between(self, columns: torch.Tensor, mask: torch.Tensor | None, look_ahead: int) -> torch.Tensor:
        """Encode the frames that all they can hear is there of: no block is run for more than what these need.

        Args:
            columns: (B, 4 N, M + 1) float of the frames, of `past_frames` before them and `look_ahead` after them.
            mask: (B, N, 1) float, 0 beyond the clip; `None` within it.

        Returns: (B, N - past - look-ahead, A) float, as `forward` gives them.
        """
        (stem_rights, rights), half_mask = self._rights(look_ahead), None
        if mask is not None:
            half_mask = mask.repeat_interleave(2, dim=1)
            columns = columns * mask.repeat_interleave(COLUMNS_PER_FRAME, dim=1)
        halves = self.stem(columns, half_mask, stem_rights)
        hidden = self.stem_out(halves.unflatten(1, (-1, 2)).flatten(2))
        if self.config.look_ahead_choices:
            hidden = hidden + self.look_ahead_embedding.weight[self.look_aheads.index(look_ahead)]
        blocks = [cast(LogMelBlock, block) for block in self.blocks]
        lefts = [block.depthwise.kernel - 1 - block.depthwise.right for block in blocks]
        first, end = self.past_frames() - sum(lefts), hidden.shape[1] - look_ahead + sum(rights)
        hidden = hidden[:, first:end]
        if mask is not None:
            mask = mask[:, first:end]
            hidden = hidden * mask
        for block, left, right in zip(blocks, lefts, rights, strict=True):
            part = block.pointwise_in(block.norm(block.depthwise.between(hidden, right)))
            end = hidden.shape[1] - right
            hidden = hidden[:, left:end] + block.pointwise_out(F.silu(part))
            if mask is not None:
                mask = mask[:, left:end]
                hidden = hidden * mask
        hidden = self.norm(hidden)
        return hidden if mask is None else hidden * mask

    @torch.inference_mode()
    def encode_columns(self, columns: np.ndarray, mask: np.ndarray, look_ahead: int) -> np.ndarray:
        """Encode normalised columns (4 N, M + 1) float32 and mask (N,) bool: `encode_between`, (n, A) float32."""
        values = torch.from_numpy(columns)[None].to(self.device, self.dtype)
        there = None if mask.all() else torch.from_numpy(mask)[None, :, None].to(values)
        return self.encode_between(values, there, look_ahead)[0].float().cpu().numpy()

    def predict_motion(self, last_hidden_state: torch.Tensor) -> MotionPrediction:
        """Predict mouth motion by regression: features (B, N, A) to weights (B, N, 53), closure logits (B, N)."""
        motion = self.motion_head(last_hidden_state)
        return MotionPrediction(motion[..., :-1], motion[..., -1])

    def predict_phones(self, last_hidden_state: torch.Tensor) -> torch.Tensor:
        """Predict phones: features (B, N, A) to logits (B, 2 N, P) of each half frame."""
        logits = self.phone_head(last_hidden_state)
        return logits.unflatten(-1, (2, -1)).flatten(1, 2)
