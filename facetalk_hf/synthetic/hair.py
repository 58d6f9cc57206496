# SPDX-License-Identifier: MIT
"""Hair and beards as solids on ICT-FaceKit's heads, joined to the signed distance of the head. Lengths in ICT's cm.

Hair near the skin is a coat: its thickness is painted on the template's vertices, so that it fits every identity. What
hangs (bob, long) or is tied (bun) are solids of their own, in the size of the head.
"""

from dataclasses import dataclass

import numpy as np

from ..head.appearance import polygon_distance, scalp, spline
from ..head.hair_styles import HairStyle
from ..mesh.geometry import smoothstep
from .ict_template import NECK_NORMAL, NECK_POINT, SKIN, SOCKET, Template, ear_mask


COAT = {"cropped": (0.2, 0.3), "short": (0.6, 0.8), "bob": (0.7, 0.6), "long": (0.5, 0.5), "curly": (1.2, 1.2),
        "bun": (0.3, 0.3), "receding": (0.25, 0.5), "none": (0.0, 0.0)}  # fmt: skip
"""Thickness of the coat on the scalp: the least, and how much volume adds."""


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Take the smaller of two distances, rounded where they differ by less than `width` (polynomial)."""
    return np.minimum(a, b) - 0.25 / width * np.maximum(width - np.abs(a - b), 0) ** 2


def smooth_max(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Take the larger of two distances, rounded where they differ by less than `width`."""
    return -smooth_min(-a, -b, width)


def coat_thickness(template: Template, style: HairStyle) -> np.ndarray:
    """Paint the thickness of the coat of hair and beard on the neutral template's skin, (SKIN,) cm; 0 is bare."""
    neutral = template.neutral[:SKIN]
    marks = template.neutral[template.landmarks]
    least, more = COAT[style.kind]
    # The hairline's height is changed by moving the head under it.
    lower = np.array([0, 1.6 * (style.hairline - 0.5) * (1 - 0.5 * (style.kind == "receding")), 0])
    mask = scalp(neutral - lower * smoothstep(3, 8, neutral[:, 2:3]), marks)
    high = smoothstep(4.0, 11.0, neutral[:, 1])
    if style.kind == "receding":
        # A horseshoe: bare is an egg about the front of the crown, seen from above, larger the higher the hairline is.
        reach = 0.85 + 0.3 * style.hairline
        egg = np.hypot(neutral[:, 0] / 6.2, (neutral[:, 2] - 4.0) / 10.5) / reach
        mask = mask * smoothstep(0.9, 1.15, np.where(neutral[:, 1] > 3, egg, 2.0))
    tall: float | np.ndarray = least + more * style.volume
    if style.kind == "short":
        tall = tall * (0.35 + 0.65 * high + 0.35 * high * smoothstep(0, 8, neutral[:, 2]))
        quiff = np.exp(-(((neutral[:, 0] - 2.2) / 2.2) ** 2)) * smoothstep(-4, 6, neutral[:, 2])
        tall = tall * (1 + 0.5 * quiff * high)
    elif style.kind == "curly":
        tall = tall * (0.6 + 0.4 * high)
    elif style.kind in ("bob", "long"):
        tall = tall * (1 - 0.6 * parting(neutral))
    coat = mask * tall
    coat[ear_mask(neutral)] = 0
    coat = np.maximum(coat, beard_mask(neutral, marks) * style.beard * (0.25 + 0.65 * style.beard))
    coat[SOCKET:] = 0
    return coat


def parting(points: np.ndarray) -> np.ndarray:
    """Mark with 1 the parting of the hair on points (n, 3): a line from the forehead to the crown, off the middle."""
    return np.exp(-(((points[:, 0] - 1.2) / 0.55) ** 2)) * smoothstep(-5.0, 0.0, points[:, 2]) * (points[:, 1] > 5)


def beard_mask(neutral: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Mark with up to 1.25, at the chin, where a beard grows on points (n, 3), by landmarks (68, 3)."""
    side = np.abs(neutral[:, 0])
    # Upper edge: from the sideburns down the cheek, below the cheekbone, to the moustache under the nose.
    nose = marks[33, 1]
    corner, ear = np.abs(marks[[48, 54], 0]).mean(), np.abs(marks[[0, 16], 0]).mean()
    edge = np.interp(
        side, [0, 0.75 * corner, 1.5 * corner, 0.82 * ear, ear], [nose - 0.35, nose - 0.6, nose - 1.6, -0.6, 1.2]
    )
    mask = smoothstep(0.35, -0.35, neutral[:, 1] - edge)
    mask = mask * smoothstep(-0.6, 0.6, neutral[:, 2] - np.interp(neutral[:, 1], [-4, 2], [2.0, 2.6]))
    # Down to where the neck begins, which is higher at the corners of the jaw than under the chin.
    low = np.interp(neutral[:, 2], [2.0, 5.0, marks[8, 2]], marks[8, 1] + np.array([2.6, 0.6, -1.8]))
    mask = mask * smoothstep(low, low + 1.2, neutral[:, 1])
    # Bare: lips, and what is close around them.
    lips = polygon_distance(neutral[:, :2], spline(marks[48:60], closed=True)[:, :2])
    mask = mask * smoothstep(-0.12, -0.42, lips)
    return mask * (1 + 0.25 * np.exp(-(np.linalg.norm(neutral - marks[8], axis=1) ** 2) / 6))


@dataclass
class Hair:
    """The hair of one head, as a signed distance.

    Args:
        style ([`HairStyle`]): which.
        vertices ((V, 3) float), faces ((F, 3) int): the closed head without eyeballs, canonical pose.
        neutral ((V, 3) float): the same vertices of the neutral template, where the pattern of strands is looked up.
        thickness ((V,) float): of the coat.
        seed (`int`): shifts the pattern.
    """

    style: HairStyle
    vertices: np.ndarray
    faces: np.ndarray
    neutral: np.ndarray
    thickness: np.ndarray
    seed: int = 0

    @classmethod
    def on(cls, template: Template, shape: np.ndarray, style: HairStyle, seed: int = 0) -> "Hair":
        """Grow a style on a shape (V, 3) of the template."""
        surface = template.surface
        thickness = coat_thickness(template, style)[surface.first]
        return cls(
            style, surface.vertices(shape), surface.faces, surface.vertices(template.neutral[:SKIN]),
            np.concatenate([thickness, np.zeros(len(surface.loops))]), seed,
        )  # fmt: skip

    @property
    def grows(self) -> bool:
        """Whether there is any."""
        return bool(self.thickness.any()) or self.style.kind in ("bob", "long", "bun")

    def join(self, points: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Join hair to distances (n,) of the head at points (n, 3), cut at the neck; negative inside."""
        result = np.minimum(head, self.coat(points, head)) if self.thickness.any() else head
        solids = {"bob": (self.curtain, 0.5), "long": (self.curtain, 0.5), "bun": (self.knot, 0.6)}
        if self.style.kind in solids:
            solid, width = solids[self.style.kind]
            result = smooth_min(result, solid(points), width)
        return np.maximum(result, (points - NECK_POINT) @ NECK_NORMAL)

    def coat(self, points: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Measure the distance to the coat: of the nearest hairy skin, less the thickness there."""
        import igl

        hairy = self.faces[(self.thickness[self.faces] > 0.01).any(1)]
        distance = np.empty(len(points))
        # Inside, what counts is the nearest skin of any kind: far from the scalp there is no coat.
        for chosen, faces in ((head >= 0, hairy), (head < 0, self.faces)):
            if not chosen.any():
                continue
            where = points[chosen]
            square, index, nearest = igl.point_mesh_squared_distance(
                where, self.vertices, np.ascontiguousarray(faces)
            )[:3]
            corners = faces[index]
            share = barycentric(nearest, self.vertices[corners])
            thick = (share * self.thickness[corners]).sum(1)
            place = np.einsum("nc,ncd->nd", share, self.neutral[corners])
            # Stubble has no locks: it would be stripes.
            thick = thick + np.minimum(thick, 1.0) * smoothstep(0.1, 0.3, thick) * self.strands(place)
            distance[chosen] = np.where(head[chosen] < 0, -1, 1) * np.sqrt(square) - thick
        return distance

    def strands(self, place: np.ndarray) -> np.ndarray:
        """Give the relief at points (n, 3) of the neutral scalp, as a share of the thickness: locks, or curls."""
        shift = np.random.default_rng(self.seed).uniform(0, 2 * np.pi, 3)
        if self.style.kind == "curly":
            # Waves in five oblique directions, so that the lumps lie in no rows.
            waves = np.random.default_rng(3).normal(size=(3, 5))
            waves *= 2 * np.pi / np.array([1.7, 1.9, 2.1, 2.4, 2.8]) / np.linalg.norm(waves, axis=0)
            return 0.14 * np.sin(place @ waves + shift[0]).sum(1)
        # Locks run from the whorl to the rim (a bun's to the knot): ripples of the angle about an axis through it.
        tied = self.style.kind in ("bun", "long")
        across = place[:, [0, 1]] - [0, 6] if tied else place[:, [0, 2]] - [0, -3]
        angle, radius = np.arctan2(across[:, 0], across[:, 1]), np.hypot(across[:, 0], across[:, 1])
        wave = angle + 0.06 * np.sin(0.9 * place[:, 1] + shift[0]) + 0.05 * np.sin(0.8 * radius + shift[2])
        locks = np.sin(26 * wave + shift[1]) + 0.7 * np.sin(17 * wave + shift[2])
        return 0.09 * locks * smoothstep(2, 5, radius)

    def curtain(self, points: np.ndarray) -> np.ndarray:
        """Measure the distance to hair that hangs from the crown: round the ears (bob), or behind them (long)."""
        style, long = self.style, self.style.kind == "long"
        head = self.vertices[np.linalg.norm(self.vertices - [0, 4, 0], axis=1) < 13]
        sides = np.abs(head[(head[:, 1] > 6) & (head[:, 1] < 8), 0]).max()
        top, back = head[:, 1].max(), head[:, 2].min()
        extra = (0.3 if long else 1.0) + 0.7 * style.volume
        x, y, z = points.T
        # A dome over ellipses, fuller at the height of the mouth than at the hem; the middle is that of the skull.
        middle, crown, hem = -0.6, 5.0, -40.0 if long else -2.5 - 5.0 * style.length
        flare = 1 - 0.012 * np.clip(crown - y, 0, 14)
        if not long:
            # Fullest below the ears, and turned in at the hem.
            full = 0.5 * (crown + hem)
            flare = 1 + 0.05 * smoothstep(crown, full, y) - 0.24 * smoothstep(full, hem - 1.5, y)
        radii = np.array([sides + extra + 0.5, top + extra - crown, middle - back + extra])
        scaled = np.stack(
            [x / (radii[0] * flare), np.maximum(y - crown, 0) / radii[1], (z - middle) / (radii[2] * flare)], 1
        )
        size = np.linalg.norm(scaled, axis=1)
        slope = np.linalg.norm(scaled / radii, axis=1) / np.maximum(size, 1e-6)
        around = np.arctan2(x, z - middle) + 0.08 * np.sin(0.35 * y + self.seed)
        ripple = 0.08 * np.sin(23 * around) + 0.07 * np.sin(14 * around + 0.9 * y + self.seed) + 0.35 * parting(points)
        # Locks end at different heights.
        hem = hem + 0.3 * np.sin(5 * around + self.seed) + 0.15 * np.sin(13 * around + 2 * self.seed)
        outer = (size - 1) / np.maximum(slope, 1e-3) * 0.9 - ripple
        thick = (1.5 if long else 1.2) + 0.8 * style.volume
        # Full above the ears, hollow below, where the neck is.
        shell = smooth_max(outer, -(outer + thick + 9 * smoothstep(1.5, 5.5, y)), 0.6)
        if long:
            opening = z + 1.9 + 0.08 * (y - 4)
        else:
            front = np.interp(y, [-8, 0, 5, 9], [3.2, 3.0, 4.6, 5.5])
            # Parted, it falls to both sides of the forehead.
            top = 10.4 + 1.2 * (style.hairline - 0.5) - 0.075 * (x - 1.2) ** 2
            opening = np.minimum(z - front, top - y)
        shell = smooth_max(shell, opening, 0.7)
        return smooth_max(shell, hem - y, 0.7 if long else 1.4)

    def knot(self, points: np.ndarray) -> np.ndarray:
        """Measure the distance to a bun at the back of the crown; length raises it."""
        head = self.vertices[np.linalg.norm(self.vertices - [0, 4, 0], axis=1) < 13]
        radius = 2.5 + 1.3 * self.style.volume
        tilt = np.radians(15 + 45 * self.style.length)
        direction = np.array([0, np.sin(tilt), -np.cos(tilt)])
        start = np.array([0, 5.0, -0.6])
        reach = ((head - start) @ direction).max() + 0.45 * radius
        offset = points - (start + reach * direction)
        around = np.arctan2(offset[:, 0], offset @ np.array([0, np.cos(tilt), np.sin(tilt)]))
        twist = 0.09 * np.sin(7 * around + 2.2 * (offset @ direction) + self.seed)
        squash = offset + 0.25 * (offset @ direction)[:, None] * direction
        return 0.85 * (np.linalg.norm(squash, axis=1) - radius - twist)


def barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Compute barycentric coordinates (n, 3) of points (n, 3) on triangles (n, 3, 3)."""
    a, b, c = (corners[:, 1] - corners[:, 0]), (corners[:, 2] - corners[:, 0]), points - corners[:, 0]
    aa, ab, bb, ca, cb = ((p * q).sum(1) for p, q in ((a, a), (a, b), (b, b), (c, a), (c, b)))
    scale = np.maximum(aa * bb - ab * ab, 1e-18)
    second, third = (bb * ca - ab * cb) / scale, (aa * cb - ab * ca) / scale
    return np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
