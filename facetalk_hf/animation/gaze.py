# SPDX-License-Identifier: MIT
"""Where the eyes look: eyeballs turned by given angles, exactly, with lids that follow."""

from typing import TYPE_CHECKING

import numpy as np

from ..blendshapes import GAZE_PREFIX, LOOK_DEGREES
from ..errors import FaceTalkError


if TYPE_CHECKING:
    from .head_animation import HeadAnimation

EYE = 1
MAX_YAW, MAX_PITCH = LOOK_DEGREES["Out"], LOOK_DEGREES["Up"]


def apply_gaze(
    animation: "HeadAnimation", yaw: float | np.ndarray = 0.0, pitch: float | np.ndarray = 0.0
) -> "HeadAnimation":
    """Turn both eyes by the same angles, in place of whatever gaze the motion had.

    The weights of eyeLookUp/Down/In/Out become the angles, as shares of `LOOK_DEGREES`: they move the lids, and
    exports by ARKit's names carry the gaze. A morph target turns a ball along a chord, so what is missing to the
    rotation, a linear map of the ball for every frame, is added in as few targets (`gaze_0`, ..) as keep within
    0.005 mm: one for a fixed gaze, at most eight. While an eye is shut its lids do not follow it.

    Args:
        animation (`HeadAnimation`): any motion. Where its targets are anonymous the balls turn and the lids stay.
        yaw (`float` or (T,) float, degrees): towards the subject's left, at most 30 either way.
        pitch (`float` or (T,) float, degrees): upwards, at most 25 either way.

    Returns: the animation looking along (sin yaw cos pitch, sin pitch, cos yaw cos pitch). Expression codes stay as
    they were.

    Raises:
        FaceTalkError: angles beyond the limits or not finite, another number of angles than frames, no eyeballs.
    """
    frames = animation.num_frames
    yaw, pitch = _angles("yaw", yaw, MAX_YAW, frames), _angles("pitch", pitch, MAX_PITCH, frames)
    animation = without_gaze(animation)
    balls = eye_vertices(animation)
    if not balls:
        raise FaceTalkError("this animation has no eyeballs to turn")
    names = {name: index for index, name in enumerate(animation.target_names)}
    weights = animation.weights.copy()
    for side, outwards in (("L", yaw), ("R", -yaw)):
        for way, angle in (("Up", pitch), ("Down", -pitch), ("Out", outwards), ("In", -outwards)):
            if (name := f"eyeLook{way}_{side}") in names:
                weights[:, names[name]] = np.maximum(angle, 0) / LOOK_DEGREES[way]
    looks = [names[f"eyeLook{way}_{side}"] for way in LOOK_DEGREES for side in "LR" if f"eyeLook{way}_{side}" in names]

    wanted = rotations(yaw, pitch) - np.eye(3)
    targets, missing = animation.targets, []
    for ball, center in balls:
        local = animation.base[ball] - center
        inverse = np.linalg.pinv(local.astype(np.float64))
        chords = np.stack([(inverse @ targets[k, ball]).T for k in looks]) if looks else np.zeros((0, 3, 3))
        missing.append(wanted - np.tensordot(weights[:, looks], chords, 1))
    lid_shares, lids = _open_lids(animation, weights, names)
    reach = max(float(np.linalg.norm(animation.base[ball] - center, axis=1).max()) for ball, center in balls)
    shares, maps = _fewest(np.stack(missing, 1).reshape(frames, -1), 0.005 / reach)
    extra = np.zeros((len(maps), *animation.base.shape), np.float32)
    for number, pair in enumerate(maps.reshape(len(maps), len(balls), 3, 3)):
        for (ball, center), matrix in zip(balls, pair, strict=True):
            extra[number, ball] = (animation.base[ball] - center) @ matrix.T

    added = (*(f"{GAZE_PREFIX}{number}" for number in range(len(maps))), *lids)
    landmarks = animation.landmarks
    if landmarks is not None and frames and looks:
        # Each landmark goes with the skin next to it.
        skin = np.flatnonzero(animation.parts == 0)
        first = animation.vertices(0)[skin]
        nearest = skin[[((first - point) ** 2).sum(1).argmin() for point in landmarks[0]]]
        change = weights[:, looks] - animation.weights[:, looks]
        landmarks = landmarks + np.tensordot(change, targets[np.ix_(looks, nearest)], 1)
    return animation.replace(
        weights=np.concatenate([weights, shares, lid_shares], 1),
        targets=np.concatenate([targets, extra, *(target[None] for target in lids.values())]),
        target_names=(*animation.target_names, *added),
        landmarks=landmarks,
    )


def without_gaze(animation: "HeadAnimation") -> "HeadAnimation":
    """The animation without the targets that `apply_gaze` added; the weights of eyeLook* stay."""
    kept = [i for i, name in enumerate(animation.target_names) if not name.startswith(GAZE_PREFIX)]
    if len(kept) == len(animation.target_names):
        return animation
    return animation.replace(
        weights=animation.weights[:, kept],
        targets=animation.targets[kept],
        target_names=tuple(animation.target_names[i] for i in kept),
    )


def gaze_angles(animation: "HeadAnimation") -> np.ndarray:
    """Yaw and pitch (2, T) in degrees that the left eye's weights of eyeLook* stand for, as `apply_gaze` takes them.

    Raises:
        FaceTalkError: a head without those shapes.
    """
    names = animation.target_names
    if any(f"eyeLook{way}_L" not in names for way in LOOK_DEGREES):
        raise FaceTalkError("the weights of this head do not say where it looks: it has no shapes eyeLook*_L")
    up, down, into, out = (
        animation.weights[:, names.index(f"eyeLook{way}_L")] * LOOK_DEGREES[way] for way in ("Up", "Down", "In", "Out")
    )
    return np.stack([(out - into).clip(-MAX_YAW, MAX_YAW), (up - down).clip(-MAX_PITCH, MAX_PITCH)])


def rotations(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """(T, 3, 3) rotations that turn +z to (sin yaw cos pitch, sin pitch, cos yaw cos pitch); angles (T,) in degrees.

    Pitch first, then yaw about the vertical (Fick's order), so the eye does not roll.
    """
    yaw, pitch = np.radians(yaw), np.radians(pitch)
    a, b, c, d = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    none = np.zeros_like(a)
    return np.stack([b, -a * c, a * d, none, d, c, -a, -b * c, b * d], -1).reshape(*a.shape, 3, 3)


def eye_vertices(animation: "HeadAnimation") -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertex numbers (n,) and centre (3,) in mm of the left and the right eyeball; empty where there are none.

    The centre is that of the sphere through the ball's rear half, which has no cornea.
    """
    eyes = np.flatnonzero(animation.parts == EYE)
    result = []
    for ball in (eyes[animation.base[eyes, 0] > 0], eyes[animation.base[eyes, 0] <= 0]):
        points = animation.base[ball].astype(np.float64)
        if len(points) < 8:
            return []
        rear = points[points[:, 2] <= (points[:, 2].min() + points[:, 2].max()) / 2]
        # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the centre c.
        matrix = np.concatenate([2 * rear, np.ones((len(rear), 1))], 1)
        solution = np.linalg.lstsq(matrix, (rear**2).sum(1), rcond=None)[0]
        result.append((ball, solution[:3].astype(np.float32)))
    return result


def _angles(name: str, value: float | np.ndarray, limit: float, frames: int) -> np.ndarray:
    value = np.asarray(value, np.float64)
    if value.ndim and value.shape != (frames,):
        raise FaceTalkError(f"{name} must be one angle or one for each of {frames} frames, not {value.shape}")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0) > limit + 1e-6:
        raise FaceTalkError(f"{name} must lie within {limit:g} degrees either way: the eye turns no further")
    return np.broadcast_to(value, (frames,)).astype(np.float64)


def _open_lids(animation: "HeadAnimation", weights: np.ndarray, names: dict[str, int]) -> tuple[np.ndarray, dict]:
    """What takes the share of a blink away from a lid that follows the gaze: weights (T, k) and k targets by name.

    A lid that is shut and looks down as well would end on the cheek, since targets add up.
    """
    shares, lids = [], {}
    for name in (f"eyeLook{way}_{side}" for way in ("Up", "Down") for side in "LR"):
        blink = names.get(f"eyeBlink_{name[-1]}")
        if name in names and blink is not None:
            share = weights[:, names[name]] * weights[:, blink].clip(0, 1)
            if share.max(initial=0) > 0.01:
                shares.append(share)
                lids[f"{GAZE_PREFIX}{name}"] = np.where(
                    (animation.parts != EYE)[:, None], -animation.targets[names[name]], 0
                )
    return np.stack(shares, 1) if lids else np.zeros((len(weights), 0), np.float32), lids


def _fewest(rows: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows (T, n) as shares (T, k) within -1..1 times maps (k, n), the fewest that leave less than `tolerance`."""
    left, scale, right = np.linalg.svd(rows, full_matrices=False)
    shares = left * scale
    rest = np.sqrt(np.cumsum(shares[:, ::-1] ** 2, axis=1).max(0, initial=0.0))[::-1]
    count = int((rest > tolerance).sum())
    reach = np.abs(shares[:, :count]).max(0, initial=0.0)
    return shares[:, :count] / reach, right[:count] * reach[:, None]
