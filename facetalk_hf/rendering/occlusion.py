# SPDX-License-Identifier: MIT
"""Light that costs many rays, baked per vertex at a few key poses of a clip: ambient occlusion and soft shadow."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..mesh.geometry import Surface, tangents
from ..mesh.parts import EYES, MOUTH, TEETH
from .drawable import Drawable


class BakedLight:
    """Ambient occlusion and visibility of the key light for any pose of an animation.

    Both are found by rays at `count` poses that differ most, and blended vertex by vertex: the closer a vertex is to
    where it was in a key pose, the more that pose counts.

    Args:
        animation (`Drawable`), surface (`Surface`): the head.
        scene (callable): (V, 3) vertices -> an embree scene.
        eye ((3,) float, mm), key ((3,) float): where the camera is, and the direction to the key light.
        count (`int`): number of key poses; 0 leaves everything fully lit.
    """

    def __init__(
        self, animation: Drawable, surface: Surface, scene: Callable, eye: np.ndarray, key: np.ndarray, count: int
    ) -> None:
        from scipy.spatial import cKDTree  # 0.3 s of import that the other formats do without

        self.surface, self.scene, self.eye, self.key, self.base = surface, scene, eye, key, animation.base
        frames = key_frames(animation, min(count, len(animation.weights)))
        poses = list(animation.iterate(frames))
        self.poses = np.stack(poses) if poses else np.zeros((0, *animation.base.shape), np.float32)
        self.light = np.stack([self._bake(pose) for pose in poses] or [np.ones((len(animation.base), 2), np.float32)])
        self.eyes = np.flatnonzero(animation.parts == EYES)
        if len(self.eyes):
            # Eyes are only seen while their lids are open: take the most open pose for them. Lids shade a place, not
            # a vertex: a ball that turns does not carry its shade along. No place is black: light gets under lids.
            self.places = cKDTree(self.base[self.eyes])
            self.light[:, self.eyes] = np.max(
                [
                    light[self.eyes[cKDTree(pose[self.eyes]).query(self.base[self.eyes])[1]]]
                    for pose, light in zip(poses, self.light, strict=False)
                ]
                or self.light[:, self.eyes],
                axis=0,
            ).clip(0.5)
        # Teeth hardly move, yet the light that reaches them changes: let the mouth as a whole decide.
        self.mouth = np.flatnonzero((animation.parts == TEETH) | (animation.parts == MOUTH))
        # Their colours hold the shade that grows towards the throat: what a few key poses, which do not show every
        # opening of the lips, leave darker than this would be shaded twice.
        self.light[:, self.mouth] = np.maximum(self.light[:, self.mouth], 0.72)

    def at(self, vertices: np.ndarray) -> np.ndarray:
        """Return the share of ambient and of key light that reaches every vertex, (V, 2) in 0..1."""
        light = self.light[0].copy() if len(self.light) == 1 else self._blend(vertices)
        if len(self.eyes):
            here = self.places.query(vertices[self.eyes], k=3)
            share = 1.0 / (here[0] + 0.05)
            near = self.light[0, self.eyes[here[1]]]
            light[self.eyes] = np.einsum("nk,nkc->nc", share / share.sum(1, keepdims=True), near)
        return light

    def _blend(self, vertices: np.ndarray) -> np.ndarray:
        """Blend the light of the key poses by how close each vertex is to where it was in them."""
        offset = [vertices - pose for pose in self.poses]
        distance = np.stack([np.einsum("ij,ij->i", moved, moved) for moved in offset])
        if len(self.mouth):
            distance[:, self.mouth] = distance[:, self.mouth].mean(1, keepdims=True)
        share = 1.0 / (distance + 0.3) ** 2
        return np.einsum("kv,kvc->vc", share / share.sum(0), self.light)

    def _bake(self, vertices: np.ndarray, ambient: int = 20, shadow: int = 8, reach: float = 45.0) -> np.ndarray:
        """Cast the rays of one pose: the light that reaches each of its vertices, (V, 2)."""
        normals, _ = self.surface.normals(vertices)
        scene = self.scene(vertices)
        # Whatever faces away from the camera in this pose may turn a little in another; keep a margin.
        seen = np.flatnonzero(np.einsum("ij,ij->i", normals, self.eye - vertices) > -60.0)
        normal = normals[seen]
        origin = np.ascontiguousarray(vertices[seen] + normal * 0.35)
        rng = np.random.default_rng(7)
        first, second = tangents(normal)
        lit = np.zeros((len(seen), 2), np.float32)
        for step in range(ambient):
            # One stratum of the cosine lobe a pass, turned at random for every vertex.
            height = np.sqrt((step + rng.random(len(seen), np.float32)) / ambient)
            turn = 2 * np.pi * (rng.random(len(seen), np.float32) + step * 0.618)
            side = np.sqrt(1 - height**2)
            rays = (np.cos(turn) * side)[:, None] * first + (np.sin(turn) * side)[:, None] * second
            lit[:, 0] += _open(scene, origin, rays + height[:, None] * normal, reach) / ambient
        first, second = tangents(self.key[None].astype(np.float32))
        for step in range(shadow):
            # A disc of light, 15 degrees wide: shadows with a soft edge.
            turn = 2 * np.pi * (step * 0.618 + rng.random(len(seen), np.float32) * 0.3)
            size = 0.13 * np.sqrt((step + 0.5) / shadow)
            rays = self.key + size * (np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second)
            lit[:, 1] += _open(scene, origin, rays, 250.0) / shadow
        light = np.ones((len(vertices), 2), np.float32)
        light[seen] = lit
        # Averaging over neighbours takes the grain out of so few rays.
        return self.surface.smooth(light, 3)


def _open(scene: Any, origin: np.ndarray, rays: np.ndarray, reach: float) -> np.ndarray:
    """Return where a ray meets nothing within `reach` mm, (n,) bool."""
    return scene.run(origin, np.ascontiguousarray(rays, np.float32), dists=reach, query="OCCLUDED") < 0


def key_frames(animation: Drawable, count: int, longest: int = 2000) -> list[int]:
    """Choose `count` frames that differ most: farthest points in all motion, in turn with that above the eyes."""
    if count < 1:
        return []
    eyes = animation.parts == EYES
    masks: list[np.ndarray | None] = [None]
    if eyes.any():
        # Lids are small: seen on their own, a blink is as far as a wide open mouth.
        masks.append(animation.base[:, 1] > animation.base[eyes, 1].min() - 4)
    metrics = [animation.motion_metric(mask) for mask in masks]
    frames = np.arange(0, len(animation.weights), max(1, len(animation.weights) // longest))
    chosen, nearest = [0], [np.full(len(frames), np.inf) for _ in masks]
    while len(chosen) < count:
        offset = animation.weights[frames].astype(np.float64) - animation.weights[chosen[-1]]
        for index, metric in enumerate(metrics):
            nearest[index] = np.minimum(nearest[index], np.einsum("tr,tr->t", offset @ metric, offset))
        far = nearest[(len(chosen) - 1) % len(masks)]
        if far.max() < 1e-3:
            break
        chosen.append(int(frames[far.argmax()]))
    return chosen
