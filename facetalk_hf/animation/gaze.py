# SPDX-License-Identifier: MIT
"""Eyeballs turned by given angles, exactly, with lids that follow: on the arrays of an animation.

`HeadAnimation.with_gaze` applies it to an animation.
"""

from typing import NamedTuple

import numpy as np

from ..blendshapes import GAZE_PREFIX, LOOK_DEGREES
from ..errors import FaceTalkError
from ..mesh.parts import EYES, SKIN
from ..mesh.pose import axis_rotations


MAX_YAW, MAX_PITCH = LOOK_DEGREES["Out"], LOOK_DEGREES["Up"]
TOLERANCE = 0.005
"""How far, in mm, a vertex of an eyeball may be from where its rotation puts it."""


class Motion(NamedTuple):
    """Morph targets (R, V, 3) float in mm by name, and their weights over time, (T, R) float."""

    weights: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...]


class Eyeball(NamedTuple):
    """Vertex numbers (n,) of an eyeball, and its centre (3,) float32 in mm."""

    vertices: np.ndarray
    center: np.ndarray


def turn_eyes(
    base: np.ndarray, parts: np.ndarray, motion: Motion, yaw: float | np.ndarray = 0.0, pitch: float | np.ndarray = 0.0
) -> Motion:
    """Turn both eyes by the same angles.

    The weights of eyeLookUp/Down/In/Out become the angles, as shares of `LOOK_DEGREES`: they move the lids, and
    exports by ARKit's names carry the gaze. A morph target moves the vertices of an eyeball along straight lines, so
    what is missing to the rotation, a linear map of the ball for every frame, is added in as few targets (`gaze_0`,
    ..) as keep within `TOLERANCE`: one for a fixed gaze, at most eight. While an eye is shut its lids do not follow
    it.

    Args:
        base ((V, 3) float, mm), parts ((V,) uint8): the head at rest, and what its vertices belong to.
        motion (`Motion`): without gaze ([`without_gaze`]). Without targets eyeLook* the balls turn and the lids stay.
        yaw (`float` or (T,) float, degrees): towards the subject's left, at most 30 either way.
        pitch (`float` or (T,) float, degrees): upwards, at most 25 either way.

    Returns: the motion looking along (sin yaw cos pitch, sin pitch, cos yaw cos pitch), its new targets last.

    Raises:
        FaceTalkError: angles beyond the limits or not finite, another number of angles than frames, no eyeballs.
    """
    frames = len(motion.weights)
    yaw, pitch = _check_angles("yaw", yaw, MAX_YAW, frames), _check_angles("pitch", pitch, MAX_PITCH, frames)
    balls = find_eyeballs(base, parts)
    if not balls:
        raise FaceTalkError("this animation has no eyeballs to turn")
    names = {name: index for index, name in enumerate(motion.target_names)}
    weights, targets = motion.weights.copy(), motion.targets
    for side, outwards in (("L", yaw), ("R", -yaw)):
        for way, angle in (("Up", pitch), ("Down", -pitch), ("Out", outwards), ("In", -outwards)):
            if (name := f"eyeLook{way}_{side}") in names:
                weights[:, names[name]] = np.maximum(angle, 0) / LOOK_DEGREES[way]

    looks = _look_targets(motion.target_names)
    wanted = gaze_rotations(yaw, pitch) - np.eye(3)
    missing = []
    for ball, center in balls:
        inverse = np.linalg.pinv((base[ball] - center).astype(np.float64))
        # The linear map of the ball that comes closest to each target.
        maps = np.stack([(inverse @ targets[index, ball]).T for index in looks]) if looks else np.zeros((0, 3, 3))
        missing.append(wanted - np.tensordot(weights[:, looks], maps, 1))
    reach = max(float(np.linalg.norm(base[ball] - center, axis=1).max()) for ball, center in balls)
    shares, maps = _truncated_svd(np.stack(missing, 1).reshape(frames, -1), TOLERANCE / reach)
    rotating = np.zeros((len(maps), *base.shape), np.float32)
    for number, pair in enumerate(maps.reshape(len(maps), len(balls), 3, 3)):
        for (ball, center), matrix in zip(balls, pair, strict=True):
            rotating[number, ball] = (base[ball] - center) @ matrix.T

    lids = _shut_lid_corrections(parts, Motion(weights, targets, motion.target_names))
    return Motion(
        np.concatenate([weights, shares, lids.weights], 1).astype(np.float32),
        np.concatenate([targets, rotating, lids.targets]),
        (*motion.target_names, *(f"{GAZE_PREFIX}{number}" for number in range(len(maps))), *lids.target_names),
    )


def without_gaze(motion: Motion) -> Motion:
    """Remove the targets that `turn_eyes` added; the weights of eyeLook* stay."""
    kept = [index for index, name in enumerate(motion.target_names) if not name.startswith(GAZE_PREFIX)]
    if len(kept) == len(motion.target_names):
        return motion
    names = tuple(motion.target_names[index] for index in kept)
    return Motion(motion.weights[:, kept], motion.targets[kept], names)


def carry_landmarks(
    landmarks: np.ndarray, vertices: np.ndarray, parts: np.ndarray, before: Motion, after: Motion
) -> np.ndarray:
    """Move each landmark as the eyeLook* targets move the skin vertex nearest to it.

    Args:
        landmarks ((T, L, 3) float, mm): of the motion `before`; T is at least one.
        vertices ((V, 3) float, mm), parts ((V,) uint8): the head in its first frame.
        before, after (`Motion`): what `turn_eyes` was given and what it returned.

    Returns: the landmarks of the motion `after`.
    """
    looks = _look_targets(before.target_names)
    if not looks:
        return landmarks
    skin = np.flatnonzero(parts == SKIN)
    nearest = skin[[((vertices[skin] - point) ** 2).sum(1).argmin() for point in landmarks[0]]]
    change = after.weights[:, looks] - before.weights[:, looks]
    return landmarks + np.tensordot(change, before.targets[np.array(looks)[:, None], nearest], 1)


def gaze_angles(weights: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Read from the left eye's weights of eyeLook* where the eyes look.

    Args:
        weights ((T, R) float), names (R of them): the weights and names of the targets.

    Returns: yaw and pitch (2, T) in degrees, as `turn_eyes` takes them.

    Raises:
        FaceTalkError: a head without those shapes.
    """
    if any(f"eyeLook{way}_L" not in names for way in LOOK_DEGREES):
        raise FaceTalkError("the weights of this head do not say where it looks: it has no shapes eyeLook*_L")
    up, down, into, out = (
        weights[:, names.index(f"eyeLook{way}_L")] * LOOK_DEGREES[way] for way in ("Up", "Down", "In", "Out")
    )
    return np.stack([(out - into).clip(-MAX_YAW, MAX_YAW), (up - down).clip(-MAX_PITCH, MAX_PITCH)])


def gaze_rotations(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Make (T, 3, 3) rotations that turn +z to (sin yaw cos pitch, sin pitch, cos yaw cos pitch); degrees (T,).

    Pitch first, then yaw about the vertical (Fick's order), so the eye does not roll.
    """
    return axis_rotations(1, np.radians(yaw)) @ axis_rotations(0, -np.radians(pitch))


def find_eyeballs(base: np.ndarray, parts: np.ndarray) -> list[Eyeball]:
    """Find the left and the right eyeball of a head at rest, (V, 3) in mm; an empty list where there are none.

    The centre is that of the sphere through the ball's rear half, which has no cornea.
    """
    eyes = np.flatnonzero(parts == EYES)
    result = []
    for ball in (eyes[base[eyes, 0] > 0], eyes[base[eyes, 0] <= 0]):
        points = base[ball].astype(np.float64)
        if len(points) < 8:
            return []
        rear = points[points[:, 2] <= (points[:, 2].min() + points[:, 2].max()) / 2]
        # |p|^2 = 2 p.c + (r^2 - |c|^2) is linear in the centre c.
        matrix = np.concatenate([2 * rear, np.ones((len(rear), 1))], 1)
        solution = np.linalg.lstsq(matrix, (rear**2).sum(1), rcond=None)[0]
        result.append(Eyeball(ball, solution[:3].astype(np.float32)))
    return result


def _look_targets(names: tuple[str, ...]) -> list[int]:
    """Return the numbers of the targets eyeLook*, those that there are."""
    looks = (f"eyeLook{way}_{side}" for way in LOOK_DEGREES for side in "LR")
    return [names.index(name) for name in looks if name in names]


def _check_angles(name: str, value: float | np.ndarray, limit: float, frames: int) -> np.ndarray:
    """Return an angle, or one for each frame, as (T,) float64; FaceTalkError for any that an eye cannot have."""
    value = np.asarray(value, np.float64)
    if value.ndim and value.shape != (frames,):
        raise FaceTalkError(f"{name} must be one angle or one for each of {frames} frames, not {value.shape}")
    if not np.isfinite(value).all() or np.abs(value).max(initial=0) > limit + 1e-6:
        raise FaceTalkError(f"{name} must lie within {limit:g} degrees either way: the eye turns no further")
    return np.broadcast_to(value, (frames,)).astype(np.float64)


def _shut_lid_corrections(parts: np.ndarray, motion: Motion) -> Motion:
    """Make targets that hold back lids that follow the gaze while they are shut.

    Targets add up: a lid that is shut (eyeBlink) and follows a look down (eyeLookDown) as well would end on the cheek.
    So the part of eyeLook* that moves the lid is taken away again, by the product of both weights.

    Returns: these targets alone (`gaze_eyeLookDown_L`, ..), for those eyes that look away while they blink.
    """
    names = motion.target_names
    shares, targets, added = [], [], []
    for look in (f"eyeLook{way}_{side}" for way in ("Up", "Down") for side in "LR"):
        blink = f"eyeBlink_{look[-1]}"
        if look in names and blink in names:
            index = names.index(look)
            share = motion.weights[:, index] * motion.weights[:, names.index(blink)].clip(0, 1)
            if share.max(initial=0) > 0.01:
                shares.append(share)
                targets.append(np.where((parts != EYES)[:, None], -motion.targets[index], 0))
                added.append(f"{GAZE_PREFIX}{look}")
    if not added:
        return Motion(motion.weights[:, :0], motion.targets[:0], ())
    return Motion(np.stack(shares, 1), np.stack(targets), tuple(added))


def _truncated_svd(rows: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Factor rows (T, n) into shares (T, k) within -1..1 times maps (k, n), with the smallest k.

    What is left of any row is shorter than `tolerance`.
    """
    left, scale, right = np.linalg.svd(rows, full_matrices=False)
    shares = left * scale
    rest = np.sqrt(np.cumsum(shares[:, ::-1] ** 2, axis=1).max(0, initial=0.0))[::-1]
    count = int((rest > tolerance).sum())
    reach = np.abs(shares[:, :count]).max(0, initial=0.0)
    return shares[:, :count] / reach, right[:count] * reach[:, None]
