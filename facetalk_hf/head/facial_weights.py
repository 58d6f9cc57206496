# SPDX-License-Identifier: MIT
"""How far a vertex belongs to the face."""

import numpy as np


def facial_weights(
    vertices: np.ndarray,
    mouth: np.ndarray,
    sigma: tuple[float, float, float] = (75.0, 48.0, 75.0),
    up: float = 2.25,
    plateau: float = 1.45,
    fade: float = 0.2,
) -> np.ndarray:
    """Compute the share of an expression's motion for every vertex: 1 over the face, 0 at scalp, nape and neck.

    FaceTalk section 4 ("facial smoothing") weights the predicted deformation by a 3D Gaussian centred at the mouth,
    so that regions no speech ever moves stay still. A plain Gaussian would damp brows and lids too; ours is flat
    within `plateau` standard deviations, reaches further upwards, as a face does from its mouth, and then falls fast.

        w = exp(-max(0, |(v - mouth) / sigma| - plateau)^2 / (2 fade^2)),   sigma_y times `up` above the mouth

    Args:
        vertices ((..., 3) float): points of the rest pose, in the units of `sigma`.
        mouth ((3,) float): centre of the mouth.
        sigma (three `float`, defaults to (75, 48, 75)): scale along x, y, z; millimetres.
        up (`float`): factor on the vertical scale above the mouth.
        plateau, fade (`float`): radius of full motion and width of the fall beyond it, in units of `sigma`.

    Returns: (...,) float32 in 0..1.
    """
    offset = (np.asarray(vertices, np.float32) - np.asarray(mouth, np.float32)) / np.asarray(sigma, np.float32)
    offset[..., 1] = np.where(offset[..., 1] > 0, offset[..., 1] / up, offset[..., 1])
    beyond = np.maximum(np.linalg.norm(offset, axis=-1) - plateau, 0.0) / fade
    return np.exp(-0.5 * beyond**2).astype(np.float32)
