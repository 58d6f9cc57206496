# SPDX-License-Identifier: MIT
"""Training losses against their formulas."""

import torch

from facetalk_hf.learning.objective import normalized_matrix, sample_loss, velocity_loss


PREDICTION, TARGET = torch.randn(2, 3, 10, 4, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(10) < torch.tensor([10, 6, 1])[:, None]


def test_sample_loss():
    torch.testing.assert_close(sample_loss(PREDICTION, TARGET), (PREDICTION - TARGET).square().mean(dim=(1, 2)))


def test_velocity_loss():
    error = PREDICTION - TARGET
    expected = torch.stack([(row[1:] - row[:-1]).square().mean() for row in error])
    torch.testing.assert_close(velocity_loss(PREDICTION, TARGET), expected)
    shifted = PREDICTION + torch.randn(3, 1, 4)
    torch.testing.assert_close(velocity_loss(shifted, TARGET), expected)
    assert velocity_loss(PREDICTION[:, :1], TARGET[:, :1]).tolist() == [0, 0, 0]


def test_padding_does_not_count():
    spoiled = PREDICTION.clone()
    spoiled[~MASK] = 1e6
    for loss in (sample_loss, velocity_loss):
        out = loss(spoiled, TARGET, MASK)
        torch.testing.assert_close(out[1], loss(PREDICTION[1:2, :6], TARGET[1:2, :6])[0])
    assert out[2] == 0  # a single frame has no velocity


def test_a_gap_spoils_no_velocity():
    gap = torch.arange(10).expand(3, 10) != 4
    spoiled = PREDICTION.clone()
    spoiled[~gap] = 1e6
    assert velocity_loss(spoiled, TARGET, gap).max() < 100


def test_errors_in_another_space():
    """With the decoder w = z M the loss is the error of w, also if the codes are normalised."""
    matrix, mean, std = torch.randn(4, 7), torch.randn(4), torch.rand(4) + 0.5
    expected = (PREDICTION @ matrix - TARGET @ matrix).square().mean(dim=(1, 2))
    torch.testing.assert_close(sample_loss(PREDICTION, TARGET, matrix=matrix), expected)
    normalized = ((x - mean) / std for x in (PREDICTION, TARGET))
    torch.testing.assert_close(sample_loss(*normalized, matrix=normalized_matrix(matrix, std)), expected)
