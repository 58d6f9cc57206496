# SPDX-License-Identifier: MIT
"""Cameras: one that frames a head wherever it is seen from, or a pinhole that is given."""

from dataclasses import dataclass

import numpy as np

from ..mesh.parts import EYES
from ..mesh.pose import axis_rotations
from .drawable import Drawable
from .shading import FILL, KEY, RIM


ANGLE = np.radians(12.0)  # half the angle of view: a long lens, as for a portrait


@dataclass
class Camera:
    """Pinhole camera with three lights that go with it.

    Args:
        eye ((3,) float32, mm): where it is. axes ((3, 3) float32): its right, its up and where it comes from.
        lens ((4,) float32): focal lengths across and down, and the place where its axis meets the picture, in pixels.
        lights ((3, 2, 3) float32): direction to and linear colour of key, fill and rim light.
    """

    eye: np.ndarray
    axes: np.ndarray
    lens: np.ndarray
    lights: np.ndarray

    @classmethod
    def pinhole(cls, eye: np.ndarray, axes: np.ndarray, lens: np.ndarray) -> "Camera":
        """Make a camera with the lights in their places before it."""
        lights = [((place / np.linalg.norm(place)) @ axes, color) for place, color in (KEY, FILL, RIM)]
        return cls(*(np.asarray(array, np.float32) for array in (eye, axes, lens, lights)))

    @classmethod
    def framing(
        cls, head: Drawable, width: int, height: int, yaw: float = 0.0, pitch: float = 0.0, zoom: float = 1.0
    ) -> "Camera":
        """Frame the head of `base` with a little air.

        Args:
            head (`Drawable`), width, height (pixels): what is seen, and the picture. An upright picture stands on the
                neck, too, with more air above.
            yaw, pitch (`float`, radians): how far it goes around the head to its left, and upwards.
            zoom (`float`): 1 shows the whole head, more comes closer to the middle of the face.
        """
        low, high = head.base.min(0), head.base.max(0)
        # The picture ends just above where the neck was cut, like a portrait, and never down at the shoulders.
        bottom = low[1] + 0.035 * (high[1] - low[1])
        eyes = head.parts == EYES
        if eyes.any():
            level = head.base[eyes, 1].mean()
            bottom = max(bottom, level - 1.4 * (high[1] - level))
        tall = high[1] - bottom
        center = np.array([(low[0] + high[0]) / 2, bottom + 0.53 * tall, (low[2] + high[2]) / 2])
        distance = 0.53 * tall / np.tan(ANGLE) + (high[2] - low[2]) / 8
        toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.array([np.cos(yaw), 0, -np.sin(yaw)])
        # An upright picture is filled by the head's width.
        reach = np.abs((head.base - center) @ right).max()
        wide = max(1.0, 1.12 * reach * height / (0.53 * tall * width)) if height > width else 1.0
        focal = height / 2 / np.tan(ANGLE) / wide
        axis = height - height / 2 / wide  # the bottom of the picture stays where it is
        camera = cls.pinhole(
            center + toward * distance,
            np.stack([right, np.cross(toward, right), toward]),
            np.array([focal, focal, width / 2, axis]),
        )
        if eyes.any():
            center = head.base[eyes].mean(0) - np.array([0, 0.18 * tall, 0])
        place = camera.project(center)
        # The middle of the face goes to the middle of the picture, the further the closer the camera comes.
        wanted = place + (np.array([width / 2, height / 2]) - place) * (1 - 1 / zoom)
        camera.lens[2:] = wanted + zoom * (camera.lens[2:] - place)
        camera.lens[:2] *= np.float32(zoom)
        return camera

    def turn_lights(self, turn: float, gain: float = 1.0) -> None:
        """Turn all lights about the vertical by `turn` degrees, to the picture's right, and scale them by `gain`."""
        matrix = axis_rotations(1, np.radians([turn]))[0].astype(np.float32)
        self.lights = np.stack([self.lights[:, 0] @ matrix.T, self.lights[:, 1] * np.float32(gain)], 1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) in mm to image positions (..., 2) float in pixels."""
        local = (np.asarray(points) - self.eye) @ self.axes.T
        ratio = local[..., :2] / -local[..., 2:]
        return ratio * self.lens[:2] * [1, -1] + self.lens[2:]
