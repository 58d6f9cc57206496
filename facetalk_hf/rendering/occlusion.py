# SPDX-License-Identifier: MIT
"""Light that costs many rays, baked per vertex at a few key poses of a clip: ambient occlusion and soft shadow."""

import numpy as np

from ..errors import FaceTalkError
from ..mesh.geometry import Surface, tangents
from ..mesh.parts import EYES, MOUTH, TEETH
from .compiled import compiled
from .drawable import Drawable


class BakedLight:
    """Ambient occlusion and visibility of the key light for any pose of an animation.

    Both are found by rays at `count` poses that differ most, and blended vertex by vertex: the closer a vertex is to
    where it was in a key pose, the more that pose counts.

    Args:
        animation (`Drawable`), surface (`Surface`): the head.
        eye ((3,) float, mm), key ((3,) float): where the camera is, and the direction to the key light.
        count (`int`): number of key poses; 0 leaves everything fully lit.
    """

    def __init__(self, animation: Drawable, surface: Surface, eye: np.ndarray, key: np.ndarray, count: int) -> None:
        self.surface, self.eye, self.key, self.parts = surface, eye, key, animation.parts
        count = min(count, len(animation.weights)) if len(animation.faces) else 0
        poses = list(animation.iterate(key_frames(animation, count)))
        self.poses = np.stack(poses) if poses else animation.base[None]
        rays = Rays(animation.faces) if poses else None
        shape = (len(animation.base), 2)
        self.light = np.stack([self._bake(rays, pose) if rays else np.ones(shape, np.float32) for pose in self.poses])
        self.places = EyeLight(animation, self.poses, self.light)
        # Teeth hardly move, yet the light that reaches them changes: let the mouth as a whole decide.
        mouth = (animation.parts == TEETH) | (animation.parts == MOUTH)
        # Their colours hold the shade that grows towards the throat: what a few key poses, which do not show every
        # opening of the lips, leave darker than this would be shaded twice.
        self.light[:, mouth] = np.maximum(self.light[:, mouth], 0.72)

    def at(self, vertices: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        """Return the share of ambient and of key light that reaches every vertex, (V, 2) float32 in 0..1.

        Args: vertices ((V, 3) float32, mm), seen ((V,) bool, *optional*): those that it is told of; all where absent.
        """
        result = np.ones((len(vertices), 2), np.float32)
        seen = np.ones(len(vertices), bool) if seen is None else seen
        places = self.places
        _blend(vertices, seen, self.poses, self.light, self.parts, places.low, places.step, places.grid, result)
        return result

    def _bake(self, cast: "Rays", vertices: np.ndarray, ambient: int = 20, shadow: int = 8) -> np.ndarray:
        """Cast the rays of one pose: the light that reaches each of its vertices, (V, 2) float32."""
        normals, _ = self.surface.normals(vertices)
        cast.build(vertices)
        # Whatever faces away from the camera in this pose may turn a little in another; keep a margin.
        seen = np.flatnonzero(np.einsum("ij,ij->i", normals, self.eye - vertices) > -60.0)
        rng = np.random.default_rng(7)
        # Light varies over many vertices: every fourth, chosen at random, tells that of the others.
        seen = np.sort(rng.permutation(seen)[: max(min(len(seen), 8_000), len(seen) // 4)])
        normal = normals[seen]
        origin = np.ascontiguousarray(vertices[seen] + normal * 0.35)
        first, second = tangents(normal)
        light = np.zeros((len(vertices), 3), np.float32)
        light[seen, 2] = 1
        for step in range(ambient):
            # One stratum of the cosine lobe a pass, turned at random for every vertex.
            height = np.sqrt((step + rng.random(len(seen), np.float32)) / ambient)
            turn = 2 * np.pi * (rng.random(len(seen), np.float32) + step * 0.618)
            side = np.sqrt(1 - height**2)
            rays = (np.cos(turn) * side)[:, None] * first + (np.sin(turn) * side)[:, None] * second
            light[seen, 0] += cast.open(origin, rays + height[:, None] * normal, 45.0) / ambient
        first, second = tangents(self.key[None].astype(np.float32))
        for step in range(shadow):
            # A disc of light, 15 degrees wide: shadows with a soft edge.
            turn = 2 * np.pi * (step * 0.618 + rng.random(len(seen), np.float32) * 0.3)
            size = 0.13 * np.sqrt((step + 0.5) / shadow)
            rays = self.key + size * (np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second)
            light[seen, 1] += cast.open(origin, rays, 250.0) / shadow
        # Averaging over neighbours takes the grain out of so few rays, and fills in between.
        light = self.surface.smooth(light, 5)
        known = light[:, 2:] > 1e-3
        return np.where(known, light[:, :2] / np.maximum(light[:, 2:], 1e-3), 1).astype(np.float32)


class Rays:
    """Rays against a mesh whose vertices move: embree's trees."""

    def __init__(self, faces: np.ndarray) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore import EmbreeDevice
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise FaceTalkError("rendering needs embreex: pip install embreex") from error
        self._new_scene, self._new_mesh, self._device = EmbreeScene, TriangleMesh, EmbreeDevice()
        # embreex reads faces one Python object at a time; tuples are five times faster to read than array rows.
        self._faces = np.empty(len(faces), object)
        self._faces[:] = list(zip(*faces.T.tolist(), strict=True))

    def build(self, vertices: np.ndarray) -> None:
        """Build the tree for vertices (V, 3) float32."""
        self._scene = self._new_scene(self._device)
        self._new_mesh(self._scene, vertices, self._faces)

    def open(self, origin: np.ndarray, rays: np.ndarray, reach: float) -> np.ndarray:
        """Tell which rays (n, 3) from origins (n, 3) meet nothing within `reach` mm, (n,) bool."""
        rays = np.ascontiguousarray(rays, np.float32)
        return self._scene.run(origin, rays, dists=reach, query="OCCLUDED") < 0


class EyeLight:
    """Light on the eyeballs by place, for lids shade a place, not a vertex: a ball that turns leaves its shade behind.

    Eyes are only seen while their lids are open, so the most open key pose counts. No place is black: light gets under
    lids.

    Args:
        animation (`Drawable`), poses ((K, V, 3) float32), light ((K, V, 2) float32): the head and its key poses.

    Attributes: `low` ((2,) float32, mm) and `step` (mm): where the grid begins and its spacing, in x and y of the head
    at rest. `grid` ((rows, columns, 2) float32): the light; empty where there is no eye.
    """

    def __init__(self, animation: Drawable, poses: np.ndarray, light: np.ndarray, step: float = 0.5) -> None:
        self.low, self.step = np.zeros(2, np.float32), float(step)
        self.grid = np.zeros((0, 0, 2), np.float32)
        eyes = np.flatnonzero(animation.parts == EYES)
        if not len(eyes):
            return
        from scipy.spatial import cKDTree  # 0.3 s of import that the other formats do without

        # The front half of the balls: what lies behind is never seen, and would share x and y with it.
        front = eyes[animation.base[eyes, 2] >= np.median(animation.base[eyes, 2])]
        rest = animation.base[front, :2]
        self.low = (rest.min(0) - step).astype(np.float32)
        columns, rows = np.ceil((rest.max(0) + step - self.low) / step).astype(int) + 1
        y, x = np.mgrid[:rows, :columns] * np.float32(step)
        points = np.stack([x, y], -1).reshape(-1, 2) + self.low
        grids = []
        for pose, value in zip(poses, light, strict=True):
            far, near = cKDTree(pose[front, :2]).query(points, k=3)
            share = 1.0 / (far + 0.05)
            grids.append(np.einsum("nk,nkc->nc", share / share.sum(1, keepdims=True), value[front[near]]))
        self.grid = np.max(grids, 0).clip(0.5).reshape(rows, columns, 2).astype(np.float32)


@compiled
def _blend(
    vertices: np.ndarray,
    seen: np.ndarray,
    poses: np.ndarray,
    light: np.ndarray,
    parts: np.ndarray,
    low: np.ndarray,
    step: float,
    grid: np.ndarray,
    result: np.ndarray,
) -> None:
    """Blend the light (K, V, 2) of key poses (K, V, 3) by how close each vertex seen is to where it was in them."""
    count = len(poses)
    share, mouth, inside = np.empty(count, np.float32), np.zeros(count, np.float32), 0
    for v in range(len(vertices)):
        if parts[v] == TEETH or parts[v] == MOUTH:
            inside += 1
            for k in range(count):
                for c in range(3):
                    mouth[k] += (vertices[v, c] - poses[k, v, c]) ** 2
    rows, columns = grid.shape[:2]
    for v in range(len(vertices)):
        if not seen[v]:
            continue
        if parts[v] == EYES and rows:
            x = min(max((vertices[v, 0] - low[0]) / step, np.float32(0)), np.float32(columns - 1.001))
            y = min(max((vertices[v, 1] - low[1]) / step, np.float32(0)), np.float32(rows - 1.001))
            column, row = int(x), int(y)
            x, y = x - column, y - row
            for c in range(2):
                top = grid[row, column, c] * (1 - x) + grid[row, column + 1, c] * x
                bottom = grid[row + 1, column, c] * (1 - x) + grid[row + 1, column + 1, c] * x
                result[v, c] = top * (1 - y) + bottom * y
            continue
        total = np.float32(0)
        for k in range(count):
            if parts[v] == TEETH or parts[v] == MOUTH:
                distance = mouth[k] / inside
            else:
                distance = np.float32(0)
                for c in range(3):
                    distance += (vertices[v, c] - poses[k, v, c]) ** 2
            share[k] = 1 / (distance + np.float32(0.3)) ** 2
            total += share[k]
        for c in range(2):
            value = np.float32(0)
            for k in range(count):
                value += share[k] * light[k, v, c]
            result[v, c] = value / total


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
