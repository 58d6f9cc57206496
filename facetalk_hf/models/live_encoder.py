# SPDX-License-Identifier: MIT
"""The audio encoder for live use: a few new frames at a time, of which no layer computes more than they need.

The same arithmetic as `LogMelEncoder.encode_between`, with what depends on the weights alone laid out beforehand and
each operation one call: of so few frames the calls take as long as the arithmetic.
"""

from typing import Any

import numpy as np
import torch

from ..units import COLUMNS_PER_FRAME
from .audio_encoder import LogMelBlock, LogMelEncoder


class LiveEncoder:
    """Encodes new frames with the weights that an encoder has when this is made.

    Args:
        encoder ([`LogMelEncoder`]): with one to three layers in the stem.
        look_ahead (`int`, *optional*): frames, one of the encoder's `look_aheads`; by default the longest.
    """

    @torch.inference_mode()
    def __init__(self, encoder: LogMelEncoder, look_ahead: int | None = None) -> None:
        config, self.past = encoder.config, encoder.past_frames()
        self.ahead = max(encoder.look_aheads) if look_ahead is None else look_ahead
        self.device, self.dtype = encoder.device, encoder.dtype
        # A window of columns lies one after the other in memory, where the weights have value after value.
        kernel = encoder.stem_in.weight.unflatten(1, (config.input_size, -1)).transpose(1, 2).flatten(1)
        self.enter = encoder.stem_in.bias, kernel.T
        bias: torch.Tensor = encoder.stem_out.bias
        if config.look_ahead_choices:
            bias = bias + encoder.look_ahead_embedding.weight[encoder.look_aheads.index(self.ahead)]
        self.join = bias, encoder.stem_out.weight.T
        stem, blocks = [encoder.stem_block, *encoder.stem_blocks], list(encoder.blocks)
        stem_rights, rights = encoder._rights(self.ahead)
        self.stem, self.blocks = _layers(stem, stem_rights), _layers(blocks, rights)
        self.norm = encoder.norm.weight, encoder.norm.bias, encoder.norm.eps
        # What only the stem needs, before and after: frames, and half frames that not even the stem does.
        self.before, self.after = (
            rim - sum(layer[side] for layer in self.blocks) for side, rim in enumerate((self.past, self.ahead))
        )
        self.spare, self.rest = (
            2 * rim - sum(layer[side] for layer in self.stem) for side, rim in enumerate((self.before, self.after))
        )

    @property
    def look_aheads(self) -> tuple[int, ...]:
        """Frames of look-ahead that can be chosen: one."""
        return (self.ahead,)

    def past_frames(self) -> int:
        """Count the frames before one that can have an influence on it."""
        return self.past

    @torch.inference_mode()
    def encode_columns(self, columns: np.ndarray, mask: np.ndarray, look_ahead: int) -> np.ndarray:
        """Encode as `LogMelEncoder.encode_columns`, with the look-ahead that was chosen."""
        values, half_mask, frame_mask = torch.from_numpy(columns).to(self.device, self.dtype), None, None
        count, size = len(values) // 2 - self.spare - self.rest, values.shape[1]
        if not mask.all():
            there = torch.from_numpy(mask)[:, None].to(values)
            values = values * there.repeat_interleave(COLUMNS_PER_FRAME, 0)
            half_mask = there.repeat_interleave(2, 0)[self.spare :][:count]
            frame_mask = there[self.before : len(there) - self.after]
        windows = values.as_strided((count, 5 * size), (2 * size, 1), 2 * (self.spare - 1) * size)
        halves = torch.addmm(self.enter[0], windows, self.enter[1])
        halves = _run(self.stem, halves if half_mask is None else halves * half_mask, half_mask)
        hidden = torch.addmm(self.join[0], halves.view(len(halves) // 2, -1), self.join[1])
        hidden = _run(self.blocks, hidden if frame_mask is None else hidden * frame_mask, frame_mask)
        hidden = torch.layer_norm(hidden, hidden.shape[1:], *self.norm)
        if not mask.all():
            hidden = hidden * there[self.past : len(there) - self.ahead]
        return hidden.float().cpu().numpy()


def live_encoder(encoder: Any, look_ahead: int | None = None) -> Any:
    """Lay an encoder out for live use, if it is one that can be."""
    return LiveEncoder(encoder, look_ahead) if isinstance(encoder, LogMelEncoder) else encoder


def _layers(blocks: list[Any], rights: list[int]) -> list[tuple]:
    return [_layer(block, right) for block, right in zip(blocks, rights, strict=True)]


def _layer(block: LogMelBlock, right: int) -> tuple:
    """Lay a block out for a look-ahead: frames before and after, the taps (K, 1, C) and what else it computes with."""
    conv, norm = block.depthwise.conv, block.norm
    left = block.depthwise.kernel - 1 - block.depthwise.right
    taps = conv.weight[:, 0, : left + 1 + right].permute(1, 2, 0).contiguous()
    inner, outer = block.pointwise_in, block.pointwise_out
    return (
        left, right, taps, conv.bias, (norm.weight.shape, norm.weight, norm.bias, norm.eps),
        (inner.bias, inner.weight.T), (outer.bias, outer.weight.T),
    )  # fmt: skip


def _run(layers: list[tuple], hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Run blocks on (N, C) float: each gives fewer frames than it takes, by those that it looks back and ahead."""
    for left, right, taps, bias, norm, (inner_bias, inner), (outer_bias, outer) in layers:
        size, count = hidden.shape[1], len(hidden) - left - right
        part = torch.mul(hidden.as_strided((left + 1 + right, count, size), (size, size, 1)), taps).sum(0).add_(bias)
        part = torch.addmm(inner_bias, torch.layer_norm(part, *norm), inner)
        hidden = torch.addmm(outer_bias, torch.nn.functional.silu(part, inplace=True), outer).add_(
            hidden.narrow(0, left, count)
        )
        if mask is not None:
            mask = mask.narrow(0, left, count)
            hidden = hidden * mask
    return hidden
