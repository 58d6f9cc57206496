# SPDX-License-Identifier: MIT
"""Training losses of the denoiser: pure functions, one value a sequence, so that weights and means are the caller's.

Taking the mean over each sequence first, and then over the sequences, gives the same result however a batch is
split among processes or accumulation steps.
"""

import torch


def masked_mean(values: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the valid frames of each sequence, 0 where none is valid.

    Args:
        values ((B, N) float): one value a frame.
        frame_mask ((B, N) bool, *optional*): False for frames that don't count.

    Returns:
        (B,) float.
    """
    if frame_mask is None:
        return values.mean(dim=1)
    return values.masked_fill(~frame_mask, 0).sum(dim=1) / frame_mask.sum(dim=1).clamp(min=1)


def squared_error(error: torch.Tensor, matrix: torch.Tensor | None = None) -> torch.Tensor:
    r"""Mean squared error of a frame, if asked for in another space than that of the codes.

    .. math:: q(e) = \frac{1}{D} \lVert e \rVert^2 \qquad\text{or}\qquad q_M(e) = \frac{1}{K} \lVert e M \rVert^2

    With a decoder that is linear in the codes, or linearised at the neutral face, M is its matrix, and q_M the error
    of the decoded quantity: M = E for blendshape weights w = z E, or E times the blendshapes of the lip vertices for
    an error in squared units of length.

    Args:
        error ((..., D) float): difference of two codes.
        matrix ((D, K) float, *optional*): M.

    Returns:
        (...) float.
    """
    if matrix is not None:
        error = error @ matrix
    return error.square().mean(dim=-1)


def sample_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    matrix: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""The paper's loss ||x_0 - G(x_t, t, A)||^2 as a mean: L = mean over valid frames i of q(x̂_i - x_i).

    Args:
        prediction, target ((B, N, D) float): x̂_0 and x_0.
        frame_mask ((B, N) bool, *optional*): False for padding.
        matrix ((D, K) float, *optional*): see [`squared_error`]. If the codes are normalised and M is made for plain
            ones, pass `normalized_matrix(M, code_std)`.

    Returns:
        (B,) float.
    """
    return masked_mean(squared_error(prediction - target, matrix), frame_mask)


def velocity_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    matrix: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Error of the change from frame to frame: L = mean over i of q((x̂_{i+1} - x̂_i) - (x_{i+1} - x_i)).

    Pairs with a frame of padding don't count; a sequence of one frame has loss 0. Arguments as for [`sample_loss`].

    Returns:
        (B,) float.
    """
    error = prediction - target
    if error.shape[1] < 2:
        return error.sum(dim=(1, 2)) * 0
    pair_mask = None if frame_mask is None else frame_mask[:, 1:] & frame_mask[:, :-1]
    return masked_mean(squared_error(error[:, 1:] - error[:, :-1], matrix), pair_mask)


def normalized_matrix(matrix: torch.Tensor, code_std: torch.Tensor) -> torch.Tensor:
    """The matrix that does to normalised codes what `matrix` (D, K) does to codes of deviation `code_std` (D,)."""
    return code_std[:, None] * matrix
