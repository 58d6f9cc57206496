# SPDX-License-Identifier: MIT
"""Surfaces of heads that deform backward: a moving level set, or one topology carried along by inverting the map."""

from collections.abc import Callable

import numpy as np
import torch

from ..errors import FaceTalkError
from ..mesh.isosurface import Field, triangulate
from ..models.nphm import NPHMModel


class SurfaceTracker:
    """Extracts the zero level of a field that changes little from frame to frame, such as `NPHMModel.posed_sdf`.

    A frame starts at the cells that held the surface in the last one and follows the surface from cell to cell, so
    that only a layer of nodes around it is evaluated. The first frame starts from a coarse grid. A piece that appears
    away from everything else, or jumps out of all its cells, is seen only after `reset`.

    Args:
        axes (`list` of three arrays): grid lines.
        coarse (`int`): every how many lines the first frame looks.
    """

    def __init__(self, axes: list[np.ndarray], coarse: int = 4):
        self.axes, self.coarse = [np.asarray(axis, np.float32) for axis in axes], coarse
        self.cells: np.ndarray | None = None
        self.evaluated = 0
        """Nodes that the last frame evaluated."""

    def reset(self) -> None:
        """Forget the last frame: the next one looks everywhere again."""
        self.cells = None

    def __call__(self, field: Field, largest: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Extract the surface of a frame.

        Args:
            field: distances (n,) at points (n, 3), negative inside.
            largest (`bool`): keep only the largest connected piece.

        Returns:
            (V, 3) float32 vertices, in the units of the axes, and (F, 3) int32 faces.
        """
        shape = tuple(len(axis) for axis in self.axes)
        values = np.full(shape, np.nan, np.float32)
        self.evaluated = 0
        if self.cells is not None:
            self._follow(values, self.cells, field)
            self.cells = _crossing(values)
        if self.cells is None or not self.cells.any():
            lines = [np.unique(np.append(np.arange(0, n, self.coarse), n - 1)) for n in shape]
            wanted = np.zeros(shape, bool)
            wanted[np.ix_(*lines)] = True
            self._fill(values, wanted & np.isnan(values), field)
            front = np.zeros([n - 1 for n in shape], bool)
            for corner in np.argwhere(_crossing(values[np.ix_(*lines)])):
                front[tuple(slice(line[i], line[i + 1]) for line, i in zip(lines, corner, strict=True))] = True
            self._follow(values, front, field)
            self.cells = _crossing(values)
        return triangulate(_fill_signs(values), self.axes, largest)

    def _follow(self, values: np.ndarray, front: np.ndarray, field: Field) -> None:
        while (wanted := _corners(front) & np.isnan(values)).any():
            self._fill(values, wanted, field)
            front = _cells_of_crossing_edges(values)

    def _fill(self, values: np.ndarray, wanted: np.ndarray, field: Field) -> None:
        index = np.nonzero(wanted)
        self.evaluated += len(index[0])
        values[index] = field(np.stack([axis[i] for axis, i in zip(self.axes, index, strict=True)], 1))


@torch.no_grad()
def posed_vertices(
    head: NPHMModel, vertices: np.ndarray, identity: torch.Tensor, expression: torch.Tensor,
    start: np.ndarray | None = None, tolerance: float = 1e-6, iterations: int = 30,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Move canonical vertices into the posed head of a backward model: solve x + F(x) = vertex, keeping the topology.

    Broyden's method for each vertex by itself, as in NPHM's fitting; it starts from the identity as Jacobian.

    Args:
        head (`NPHMModel`): `config.deformation` is "backward" or "both".
        vertices: (V, 3) canonical, model units; identity (Z,); expression (D,).
        start: (V, 3) first guess, such as the last frame; by default one step from the vertices.
        tolerance (`float`): residual, model units, at which a vertex is done.
        iterations (`int`): at most.

    Returns:
        (V, 3) float32 posed vertices and (V,) float32 residuals |x + F(x) - vertex|; a vertex that did not
        converge keeps the best x that was met.
    """
    if head.config.deformation == "forward":
        raise FaceTalkError("this head deforms forward: add head.deform to its vertices")
    identity, expression = (code.reshape(1, -1).to(head.anchor_mean) for code in (identity, expression))
    results = [
        invert(
            lambda x: head.deform_backward(x[None], identity, expression)[0, :, :3], target, x, tolerance, iterations
        )
        for target, x in zip(
            torch.from_numpy(np.asarray(vertices, np.float32)).to(head.anchor_mean).split(8192),
            torch.from_numpy(np.asarray(vertices if start is None else start, np.float32))
            .to(head.anchor_mean)
            .split(8192),
            strict=True,
        )
    ]
    points, residuals = (torch.cat(parts).float().cpu().numpy() for parts in zip(*results, strict=True))
    return points, residuals


def invert(
    offset: Callable, target: torch.Tensor, x: torch.Tensor, tolerance: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve x + offset(x) = target row by row: (n, 3) solutions and (n,) residuals.

    Broyden's method from the identity as Jacobian, for each row by itself, of `offset` (m, 3) -> (m, 3). SciPy's
    root finders solve one system, these are thousands of small ones side by side.
    """
    inverse = torch.eye(3).to(x).repeat(len(x), 1, 1)
    value = x + offset(x) - target
    best, residual = x.clone(), value.norm(dim=-1)
    rows = torch.arange(len(x), device=x.device)
    for _ in range(iterations):
        going = residual[rows] > tolerance
        rows, x, value, inverse = rows[going], x[going], value[going], inverse[going]
        if not len(rows):
            break
        step = -(inverse @ value[..., None])[..., 0]
        x = x + step
        new = x + offset(x) - target[rows]
        change = new - value
        # The rank-one update of the inverse Jacobian by Sherman and Morrison ("good" Broyden).
        moved = (inverse @ change[..., None])[..., 0]
        below = (step * moved).sum(-1, keepdim=True)
        left = (step - moved) / torch.where(below.abs() < 1e-12, torch.ones_like(below), below)
        inverse = inverse + left[..., None] * (step[:, None] @ inverse)
        value, size = new, new.norm(dim=-1)
        better = size < residual[rows]
        best[rows[better]], residual[rows[better]] = x[better], size[better]
    return best, residual


def _corner_views(values: np.ndarray) -> list[np.ndarray]:
    return [
        values[tuple(slice(o, o + n - 1) for o, n in zip(offset, values.shape, strict=True))]
        for offset in np.ndindex(2, 2, 2)
    ]


def _crossing(values: np.ndarray) -> np.ndarray:
    """Find the cells whose eight corners are known and differ in sign."""
    views = _corner_views(values)
    negative = sum((view < 0).astype(np.int8) for view in views)
    return (negative > 0) & (negative < 8) & ~np.logical_or.reduce([np.isnan(view) for view in views])


def _corners(cells: np.ndarray) -> np.ndarray:
    """Mark the nodes of cells."""
    nodes = np.zeros([n + 1 for n in cells.shape], bool)
    for view in _corner_views(nodes):
        view |= cells
    return nodes


def _cells_of_crossing_edges(values: np.ndarray) -> np.ndarray:
    """Find the cells with an edge whose ends are known and differ in sign: all that the surface is known to enter."""
    cells = np.zeros([n - 1 for n in values.shape], bool)
    for axis in range(3):
        line, view = np.moveaxis(values, axis, 0), np.moveaxis(cells, axis, 0)
        edge = (line[1:] < 0) & (line[:-1] >= 0) | (line[1:] >= 0) & (line[:-1] < 0)  # never true of NaN
        view |= edge[:, 1:, 1:] | edge[:, :-1, 1:] | edge[:, 1:, :-1] | edge[:, :-1, :-1]
    return cells


def _fill_signs(values: np.ndarray) -> np.ndarray:
    """Give unknown nodes the sign of their side: no surface lies between them and the next known node."""
    values = values.copy()
    for axis in (2, 1, 0):
        for reverse in (False, True):
            line = np.moveaxis(values, axis, -1)
            line = line[..., ::-1] if reverse else line
            known = ~np.isnan(line)
            last = np.maximum.accumulate(np.where(known, np.arange(line.shape[-1]), -1), axis=-1)
            found = ~known & (last >= 0)
            filled = np.sign(np.take_along_axis(line, last.clip(0), -1))
            line[found] = np.where(filled[found] == 0, 1, filled[found])
    return np.where(np.isnan(values), 1, values).astype(np.float32)
