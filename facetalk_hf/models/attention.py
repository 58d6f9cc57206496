# SPDX-License-Identifier: MIT
"""Attention over the frames of a clip: rotary positions, look-ahead masks and local windows.

A window costs memory and time linear in the number of frames: the frames are folded into blocks, each of which
attends to itself and to the margin of its neighbours that the window reaches. The result is that of the band mask
over all pairs of frames, which short clips use directly.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn


MIN_BLOCK = 32
"""Fewer frames than this in a block would leave the matrix products too small to be worth their overhead."""


class AttentionPlan(NamedTuple):
    """Which frames see which; made once a forward pass by [`plan_attention`] and shared by all blocks.

    Attributes:
        bias (`torch.Tensor` or `None`): additive mask, 0 where a frame is seen and -inf where it is not;
            (1 or B, 1, N, N), or (B * blocks, 1, block, left + block + right) if folded.
        is_causal (`bool`): frame i sees the frames <= i, and no bias is needed to say so.
        block (`int`): frames in a block, 0 if the frames are not folded.
        left, right (`int`): frames that a block sees before its first and after its last one.
    """

    bias: torch.Tensor | None = None
    is_causal: bool = False
    block: int = 0
    left: int = 0
    right: int = 0


def plan_attention(
    batch_size: int,
    num_frames: int,
    left: int | None,
    right: int | None,
    frame_mask: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> AttentionPlan:
    """Choose the cheapest exact way to let frame i see the frames i - left ... i + right that are valid.

    Every frame sees itself, so that the rows of padding stay finite.

    Args:
        batch_size, num_frames (`int`): B and N of the queries.
        left, right (`int` or `None`): reach of the window in frames; `None` for no limit.
        frame_mask ((B, N) bool, *optional*): False for padding, which no other frame sees.
        dtype, device: of the queries.
    """
    sees_past = left is None or left >= num_frames - 1
    sees_future = right is None or right >= num_frames - 1
    if frame_mask is None and sees_past and (sees_future or right == 0):
        return AttentionPlan(is_causal=not sees_future)

    if left is not None and right is not None:
        block = max(MIN_BLOCK, left + right)
        if num_frames > 2 * (block + left + right):
            if frame_mask is None:
                return _plan_full_blocks(batch_size, num_frames, left, right, block, dtype, device)
            return _plan_blocks(batch_size, num_frames, left, right, block, frame_mask, dtype, device)

    index = torch.arange(num_frames, device=device)
    offset = index[None, :] - index[:, None]  # key minus query
    allowed = torch.ones_like(offset, dtype=torch.bool)
    if left is not None and not sees_past:
        allowed = allowed & (offset >= -left)
    if right is not None and not sees_future:
        allowed = allowed & (offset <= right)
    allowed = allowed[None, None]
    if frame_mask is not None:
        allowed = allowed & frame_mask[:, None, None, :] | (offset == 0)
    return AttentionPlan(bias=_additive(allowed, dtype))


def _plan_blocks(
    batch_size: int,
    num_frames: int,
    left: int,
    right: int,
    block: int,
    frame_mask: torch.Tensor,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> AttentionPlan:
    num_blocks = -(-num_frames // block)
    tail = num_blocks * block - num_frames
    query = torch.arange(block, device=device)
    key = torch.arange(-left, block + right, device=device)
    offset = key[None, :] - query[:, None]
    band = (offset >= -left) & (offset <= right)
    valid = F.pad(frame_mask, (left, right + tail)).unfold(1, left + block + right, block)  # (1 or B, blocks, keys)
    allowed = band & valid[:, :, None] | (offset == 0)
    allowed = allowed.expand(batch_size, -1, -1, -1).flatten(0, 1)[:, None]
    return AttentionPlan(_additive(allowed, dtype), block=block, left=left, right=right)


@lru_cache(maxsize=4)  # every step of a clip asks for the same
def _plan_full_blocks(
    batch_size: int,
    num_frames: int,
    left: int,
    right: int,
    block: int,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> AttentionPlan:
    with torch.inference_mode(False):  # what is kept may serve training later
        frame_mask = torch.ones(1, num_frames, dtype=torch.bool, device=device)
        return _plan_blocks(batch_size, num_frames, left, right, block, frame_mask, dtype, device)


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, float("-inf"))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
    """Compute softmax attention within `plan`, through diffusers' dispatch (so any of its backends may serve).

    Args:
        query, key, value ((B, N, H, C) float): H heads of C channels.

    Returns:
        (B, N, H, C) float.
    """
    bias = plan.bias
    if bias is not None and bias.dtype != query.dtype:  # under autocast the projections are narrower than the plan
        bias = bias.to(query.dtype)
    if not plan.block:
        return _dispatch(query, key, value, bias, plan.is_causal)
    batch_size, num_frames, num_heads, channels = query.shape
    tail = -num_frames % plan.block
    if tail:
        query = F.pad(query, (0, 0, 0, 0, 0, tail))
    query = query.reshape(-1, plan.block, num_heads, channels)
    key, value = (_fold(x, plan, tail) for x in (key, value))
    out = _dispatch(query, key, value, bias)
    return out.reshape(batch_size, num_frames + tail, num_heads, channels)[:, :num_frames]


def _dispatch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None, is_causal: bool = False
) -> torch.Tensor:
    trains_in_bf16_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad
    if not trains_in_bf16_on_cpu:
        return dispatch_attention_fn(query, key, value, attn_mask=bias, is_causal=is_causal)
    # torch 2.13's fused kernel takes four times as long as the plain products here, nearly all of it going backwards.
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    if bias is not None:
        scores = scores + bias
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


def _fold(x: torch.Tensor, plan: AttentionPlan, tail: int) -> torch.Tensor:
    """Cut (B, N, H, C) into blocks with their margins: (B * blocks, left + block + right, H, C)."""
    x = F.pad(x, (0, 0, 0, 0, plan.left, plan.right + tail))
    return x.unfold(1, plan.left + plan.block + plan.right, plan.block).movedim(-1, 2).flatten(0, 1)


@lru_cache(maxsize=4)  # every step of a clip asks for the same
def rotary_table(
    num_frames: int,
    channels: int,
    theta: float,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
    start: int = 0,
) -> torch.Tensor:
    """Tabulate cosine and sine of rotary angles (Su et al. 2021) for heads of C `channels`: (2, N, 1, C / 2) float.

    Args:
        start (`int`, *optional*, defaults to 0): position of the first of the N frames.
    """
    # In double precision: in single, the angles of an hour's last frames would be 0.004 rad off. On the CPU, because
    # not every device has doubles.
    with torch.inference_mode(False):  # what is kept may serve training later
        exponent = torch.arange(0, channels, 2, dtype=torch.float64) / channels
        angle = torch.arange(start, start + num_frames, dtype=torch.float64)[:, None] * theta**-exponent
        return torch.stack((angle.cos(), angle.sin()))[:, :, None].to(device, dtype)


def rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Turn the channel pairs (c, c + C / 2) of `x` (B, N, H, C) by the angle of their frame."""
    cos, sin = table[0], table[1]
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        (torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)), dim=-1
    )
