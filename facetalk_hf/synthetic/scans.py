# SPDX-License-Identifier: MIT
"""Simulated scans of a speaking head, as a rig of depth cameras would make them, from exact motion: to test fitting.

Ground truth is ICT-FaceKit's: samples of `template.npz` moved by identity coefficients and blendshape weights, never
by our networks. Model units (1 = 250 mm) but for what is named mm.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..models.nphm import NUM_LANDMARKS
from ..units import MILLIMETRES


@dataclass
class ScanFaults:
    """Faults of a simulated scan.

    Args:
        noise (mm): standard deviation of every point in every direction.
        outliers: share of the points that lie anywhere in the head's box.
        hole: share of the points missing on one side of the face.
    """

    noise: float = 1.0
    outliers: float = 0.0
    hole: float = 0.0


class SpeakingHead:
    """One held-out person who can be posed exactly.

    Args:
        pool (`dict`): `template.npz` of build_heads.py. scan (`dict`): one of its test_*.npz.
    """

    def __init__(self, pool: dict, scan: dict):
        coefficients = scan["coefficients"].astype(np.float32)
        self.canonical = pool["mean"] + np.einsum(
            "pkc,k->pc", pool["identities"].astype(np.float32), coefficients, optimize=True
        )
        self.fields, self.region = pool["expressions"].astype(np.float32), pool["region"]
        self._skin = self.region != 4
        # One row a shape: a frame is one product then, 2 ms where the sum over `fields` takes 90.
        self._moves = self.fields[self._skin].swapaxes(0, 1).reshape(len(pool["canonical_weights"]), -1)
        self.canonical_weights = pool["canonical_weights"]
        marks = slice(-14 - NUM_LANDMARKS, -14)
        self.landmarks = scan["controls"][marks]
        self.landmark_fields = pool["control_expressions"][:, -10 - NUM_LANDMARKS : -10]
        centres, fronts = scan["controls"][-14:-12], scan["controls"][-12:-10]
        directions = np.random.default_rng(0).normal(size=(2, 3000, 3))
        directions[..., 2] = np.abs(directions[..., 2])
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        radius = np.linalg.norm(fronts - centres, axis=-1)[:, None, None]
        self.eyes = (centres[:, None] + radius * directions).reshape(-1, 3).astype(np.float32)
        # The pool is denser at eyes and lips; a camera sees every square millimetre once.
        distance = cKDTree(self.canonical).query(self.canonical, 9)[0][:, -1]
        self._area = distance**2
        self._eye_area = np.full(len(self.eyes), 4 * np.pi * float(radius.mean()) ** 2 / 2 / 3000)

    def posed(self, weights: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Move the samples by weights (53,), (P, 3)."""
        change = weights - self.canonical_weights
        return self.canonical[rows] + np.einsum("pkc,k->pc", self.fields[rows], change, optimize=True)

    def posed_landmarks(self, weights: np.ndarray) -> np.ndarray:
        """Move the landmarks by weights (53,), (68, 3)."""
        return self.landmarks + np.einsum("kpc,k->pc", self.landmark_fields, weights - self.canonical_weights)

    def scan(
        self, weights: np.ndarray, count: int, faults: ScanFaults, seed: int, with_normals: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Scan a frame as cameras from the front and both sides see it: (count, 3) float32 points.

        With normals also these, (count, 3) float32: of the plane through the 16 nearest true points, towards the
        cameras that see it, and 10 degrees off.
        """
        rng = np.random.default_rng(seed)
        moved = ((weights - self.canonical_weights).astype(np.float32) @ self._moves).reshape(-1, 3)
        points = np.concatenate([self.canonical[self._skin] + moved, self.eyes])
        area = np.concatenate([self._area[self._skin] / 8 * np.pi, self._eye_area])
        yaws = np.radians([-50, 0, 50])
        seen = np.stack([visible(points, yaw) for yaw in yaws], 1)
        share = np.where(seen.any(1), area, 0)
        if faults.hole:
            # The subject's right cheek outwards, as far as it takes.
            order = np.argsort(points[:, 0])
            gone = np.cumsum(share[order]) < faults.hole * share.sum()
            share[order[gone]] = 0
        chosen = rng.choice(len(points), round(count * (1 - faults.hole)), p=share / share.sum())
        result = points[chosen] + rng.normal(size=(len(chosen), 3)) * faults.noise / MILLIMETRES
        wild = rng.random(len(result)) < faults.outliers
        low, high = points.min(0), points.max(0)
        result[wild] = rng.uniform(low, high, (int(wild.sum()), 3))
        if not with_normals:
            return result.astype(np.float32)
        near = points[cKDTree(points).query(points[chosen], 16)[1]]
        normals = np.linalg.svd(near - near.mean(1, keepdims=True))[2][:, 2]
        cameras = seen[chosen] @ np.stack([np.sin(yaws), 0 * yaws, np.cos(yaws)], 1)
        normals *= np.where((normals * cameras).sum(1, keepdims=True) < 0, -1, 1)
        normals += rng.normal(size=normals.shape) * np.radians(10)
        normals[wild] = rng.normal(size=(int(wild.sum()), 3))
        return result.astype(np.float32), (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)


def visible(points: np.ndarray, yaw: float, cell: float = 0.012, depth: float = 0.016) -> np.ndarray:
    """(P,) bool: points (P, 3) with nothing in front of them, seen from afar, `yaw` radians off the front.

    A point is hidden if another within its cell of the image is nearer by more than `depth`.
    """
    side = points[:, 0] * np.cos(yaw) - points[:, 2] * np.sin(yaw)
    near = points[:, 0] * np.sin(yaw) + points[:, 2] * np.cos(yaw)
    cells = np.stack([side, points[:, 1]], 1)
    cells = np.floor((cells - cells.min(0)) / cell).astype(int)
    index = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
    front = np.full(index.max() + 1, -np.inf)
    np.maximum.at(front, index, near)
    return near > front[index] - depth
