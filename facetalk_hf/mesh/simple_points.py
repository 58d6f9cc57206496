# SPDX-License-Identifier: MIT
"""Sets of grid points that grow without ever closing a ring: by simple points only.

A point is simple where adding it to a set changes neither how many parts nor how many holes the set and its complement
have. Of points side by side 26 neighbours count in the set, 6 in the complement; whether a point is simple is
then seen in its 27 neighbours alone (Bertrand and Malandain, "A new characterization of three-dimensional simple
points", 1994): what of the set is among them is in one part, and so is what of the complement touches the point.
"""

from collections.abc import Callable, Iterable

import numpy as np

from .isosurface import ends_of_crossing_edges


# Neighbourhoods are 27 bits, number x + 3 y + 9 z; bit 13 is the point itself.
_OFFSETS = np.stack([np.arange(27) % 3, np.arange(27) // 3 % 3, np.arange(27) // 9], axis=1) - 1
_DISTANCE = np.abs(_OFFSETS).sum(1)


def _bits(chosen: np.ndarray) -> np.int32:
    return np.int32(sum(1 << int(bit) for bit in np.nonzero(chosen)[0]))


_NEAR_26, _NEAR_18, _NEAR_6 = (_bits((_DISTANCE > 0) & (_DISTANCE <= most)) for most in (3, 2, 1))
# Bits that a shift by one step along an axis does not carry over the edge of the cube; along z they leave it.
_STEPS = ((1, _bits(_OFFSETS[:, 0] < 1), _bits(_OFFSETS[:, 0] > -1)),
          (3, _bits(_OFFSETS[:, 1] < 1), _bits(_OFFSETS[:, 1] > -1)),
          (9, _bits(_OFFSETS[:, 2] < 1), _bits(_OFFSETS[:, 2] > -1)))  # fmt: skip


def are_simple(neighbourhoods: np.ndarray) -> np.ndarray:
    """Tell which points may be added to a set, or taken from it, without changing its topology.

    Args:
        neighbourhoods ((n,) int32): who of the 27 points around each is in the set, bit x + 3 y + 9 z.

    Returns: (n,) bool.
    """
    among, complement = neighbourhoods & _NEAR_26, ~neighbourhoods & _NEAR_18
    touching = complement & _NEAR_6
    simple = (among != 0) & (touching != 0)
    index = np.nonzero(simple)[0]
    one_part = _part_of_lowest(among[index], among[index], _around) == among[index]
    simple[index], index = one_part, index[one_part]
    touching, complement = touching[index], complement[index]
    simple[index] = (_part_of_lowest(touching, complement, _beside) & touching) == touching
    return simple


def _part_of_lowest(seeds: np.ndarray, members: np.ndarray, spread: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Find which members are connected with the lowest bit of the seeds."""
    part = seeds & -seeds
    while True:
        wider = spread(part) & members
        if np.array_equal(wider, part):
            return part
        part = wider


def _around(part: np.ndarray) -> np.ndarray:
    """Add the 26 neighbours."""
    for step, low, high in _STEPS:
        part = part | (part & low) << step | (part & high) >> step
    return part


def _beside(part: np.ndarray) -> np.ndarray:
    """Add the 6 neighbours."""
    return np.bitwise_or.reduce([part, *((part & low) << step | (part & high) >> step for step, low, high in _STEPS)])


def grow(values: np.ndarray, start: np.ndarray, levels: Iterable[float]) -> np.ndarray:
    """Add to a set the points below one level after the other that leave its topology as it is.

    Args:
        values ((nx, ny, nz) float): what is low comes first. start ((nx, ny, nz) bool): the set to begin with.
        levels: increasing; where the set would meet itself between two of them, which point is left is by chance.

    Returns: (nx, ny, nz) bool; of the points below the last level those are missing that would close a ring or a
        shell, or that start does not reach: between two sides that meet they are a sheet one point thick.
    """
    shape = tuple(size + 2 for size in values.shape)
    grown, value = np.pad(start, 1).ravel(), np.pad(values, 1, constant_values=np.inf).ravel()
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    around = _OFFSETS[:, ::-1] @ strides
    slot = np.zeros(grown.size, np.int32)

    def once(points: np.ndarray) -> np.ndarray:
        """Keep one of each; several times as fast as a sort."""
        number = np.arange(len(points), dtype=np.int32)
        slot[points] = number
        return points[slot[points] == number]

    def fringe(points: np.ndarray, last: float) -> np.ndarray:
        near = (points[:, None] + around).ravel()
        return once(near[~grown[near] & (value[near] < last)])

    levels = list(levels)
    edge = np.nonzero(ends_of_crossing_edges(np.pad(start, 1)).ravel() & ~grown)[0]
    waiting = edge[value[edge] < levels[-1]]
    for level in levels:
        due = value[waiting] < level
        ready, waiting = once(waiting[due]), waiting[~due]
        while len(ready):
            new = []
            parities = np.bitwise_and(np.unravel_index(ready, shape), 1)
            for parity in np.ndindex(2, 2, 2):
                # No two of them are neighbours of each other, so they can be added at once.
                some = ready[(parities.T == parity).all(1)]
                bits = np.zeros(len(some), np.int32)
                for bit, offset in enumerate(around):
                    bits |= grown[some + offset].astype(np.int32) << bit
                some = some[are_simple(bits)]
                grown[some] = True
                new.append(some)
            near = fringe(np.concatenate(new), levels[-1])
            due = value[near] < level
            ready, waiting = near[due], np.concatenate([waiting, near[~due]])
    return grown.reshape(shape)[1:-1, 1:-1, 1:-1]
