# SPDX-License-Identifier: MIT
"""Windows, masks and rotary positions of models/attention.py."""

import pytest
import torch

from facetalk_hf.models.attention import attend, plan_attention, rotary_table, rotate


def reference(query, key, value, left, right, frame_mask=None):
    """Softmax over an explicit band, frame by frame."""
    out = torch.empty_like(query)
    for b in range(query.shape[0]):
        for i in range(query.shape[1]):
            first = 0 if left is None else max(i - left, 0)
            last = query.shape[1] if right is None else i + right + 1
            seen = torch.arange(first, min(last, query.shape[1]))
            if frame_mask is not None:
                seen = seen[frame_mask[b, seen] | (seen == i)]
            scores = torch.einsum("hc,nhc->hn", query[b, i], key[b, seen]) * query.shape[-1] ** -0.5
            out[b, i] = torch.einsum("hn,nhc->hc", scores.softmax(-1), value[b, seen])
    return out


def qkv(batch_size=2, num_frames=20, num_heads=2, channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, batch_size, num_frames, num_heads, channels, generator=generator)


@pytest.mark.parametrize(
    ("left", "right", "num_frames", "folded"),
    [
        (3, 3, 150, True),
        (2, 5, 97, True),
        (6, 0, 128, True),
        (1, 1, 160, True),
        (3, 3, 20, False),
        (30, 30, 20, False),
        (None, 0, 30, False),
        (None, None, 30, False),
    ],
)
@pytest.mark.parametrize("padded", [False, True])
def test_every_plan_is_the_band_mask(left, right, num_frames, folded, padded):
    query, key, value = qkv(num_frames=num_frames)
    mask = torch.arange(num_frames) < torch.tensor([num_frames, num_frames * 2 // 3])[:, None] if padded else None
    plan = plan_attention(2, num_frames, left, right, mask)
    assert bool(plan.block) == folded
    expected = reference(query, key, value, left, right, mask)
    torch.testing.assert_close(attend(query, key, value, plan), expected, atol=1e-5, rtol=1e-4)


def test_gradients_of_folded_windows():
    inputs = qkv(num_frames=100).requires_grad_()
    attend(*inputs, plan_attention(2, 100, 2, 2)).square().sum().backward()
    folded, inputs.grad = inputs.grad, None
    reference(*inputs, 2, 2).square().sum().backward()
    torch.testing.assert_close(folded, inputs.grad, atol=1e-5, rtol=1e-4)


def test_no_mask_where_none_is_needed():
    for left, right, causal in ((None, 0, True), (50, 0, True), (19, 19, False), (None, None, False)):
        plan = plan_attention(2, 20, left, right)
        assert plan.bias is None and plan.is_causal == causal
    assert plan_attention(2, 20, 5, 5).bias is not None


def test_windows_cost_linear_memory():
    """10 minutes at 24 fps: a mask over all pairs of frames would have 207 million entries."""
    sizes = [plan_attention(1, num_frames, 16, 16).bias.numel() for num_frames in (1440, 14400)]
    assert sizes[1] == 10 * sizes[0] < 1e6


def test_rotary_positions_are_relative():
    query, key, _ = qkv(num_frames=40)
    table = rotary_table(40, 4, 10000.0, torch.float32)
    query, key = (rotate(x[:, :1].expand_as(x), table) for x in (query, key))
    scores = torch.einsum("bihc,bjhc->bhij", query, key)
    torch.testing.assert_close(scores[..., 7, 3], scores[..., 27, 23])
    assert not torch.allclose(scores[..., 7, 3], scores[..., 7, 5])
    torch.testing.assert_close(rotate(query, table).norm(dim=-1), query.norm(dim=-1))


@pytest.mark.parametrize(("left", "right"), [(3, 3), (3, 0), (None, 0), (None, None)])
def test_bf16_training_on_cpu_gives_what_the_dispatch_gives(left, right):
    inputs = qkv(num_frames=90).bfloat16()
    plan = plan_attention(2, 90, left, right)
    expected = attend(*inputs, plan)
    trained = attend(*inputs.requires_grad_(), plan)
    assert trained.requires_grad
    torch.testing.assert_close(trained, expected, atol=0.02, rtol=0.02)
