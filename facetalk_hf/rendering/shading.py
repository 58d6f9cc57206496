# SPDX-License-Identifier: MIT
"""Materials of skin, eyes, teeth and the mouth's inside, three lights and colour spaces, in numpy."""

import numpy as np

from ..mesh.geometry import unit
from ..mesh.parts import EYES


# Lights in the camera's frame (x right, y up, z towards the viewer): direction to the light, linear RGB.
KEY = (np.array([-0.52, 0.58, 0.72], np.float32), np.array([2.35, 2.20, 2.02], np.float32))
FILL = (np.array([0.80, 0.10, 0.65], np.float32), np.array([0.34, 0.39, 0.47], np.float32))
RIM = (np.array([0.72, 0.42, -0.62], np.float32), np.array([1.45, 1.60, 1.85], np.float32))
SKY, GROUND = np.array([0.40, 0.43, 0.48], np.float32), np.array([0.21, 0.17, 0.15], np.float32)
# How far diffuse light creeps past the terminator, per channel: red goes furthest in skin.
WRAP = np.array([[0.42, 0.22, 0.16], [0.25, 0.25, 0.25], [0.30, 0.26, 0.22], [0.2, 0.1, 0.1]], np.float32)
# Specular: strength and exponent of a broad and of a sharp lobe, by part.
GLOSS = np.array(
    [[0.055, 14, 0.030, 70], [0.02, 30, 1.30, 900], [0.05, 20, 0.32, 160], [0.02, 16, 0.05, 70]], np.float32
)


def shade(
    values: np.ndarray, view: np.ndarray, part: np.ndarray, lights: list[tuple[np.ndarray, np.ndarray]], up: np.ndarray
) -> np.ndarray:
    """Colour hits: values (n, 9) are normal, occlusion, shadow, albedo, lips; view (n, 3) points back."""
    normal = unit(values[:, :3])
    # A hit on a triangle's edge may lie a rounding error outside it, and a power of a negative number is NaN.
    ambient, shadow = np.maximum(values[:, 3:4], 0), np.maximum(values[:, 4:5], 0)
    albedo, lips = values[:, 5:8], values[:, 8]
    facing = np.clip(np.einsum("ij,ij->i", normal, view), 0, 1)
    wrap = WRAP[part]
    (key, key_color), (fill, fill_color), (rim, rim_color) = lights
    # Light bleeds into shadow and creases of skin, red first: the exponents keep both warm.
    bleed = np.array([0.75, 1.0, 1.12], np.float32)
    key_lit = np.clip((normal @ key)[:, None] * (1 / (1 + wrap)) + wrap / (1 + wrap), 0, 1)
    key_lit *= key_lit**0.35 * shadow**bleed
    fill_lit = np.clip((normal @ fill)[:, None] * 0.7 + 0.3, 0, 1)
    sky = (normal @ up)[:, None] * 0.5 + 0.5
    light = (SKY * sky + GROUND * (1 - sky) + fill_lit * fill_color) * ambient**bleed
    light += key_lit * key_color * (0.35 + 0.65 * ambient)
    edge = (1 - facing) ** 3
    rim_lit = np.clip(normal @ rim + 0.25, 0, 1) * (0.06 + 0.94 * edge) * ambient[:, 0]
    light += rim_lit[:, None] * rim_color
    color = albedo * light * np.float32(0.62)

    broad, broad_power, sharp, sharp_power = GLOSS[part].T
    broad = broad * (1 + 1.2 * lips)
    sharp = sharp * (1 + 5.0 * lips)
    shine = np.zeros((len(values), 3), np.float32)
    fresnel = 0.45 + 0.55 * (1 - facing) ** 4
    for direction, tint, visible in ((key, key_color, shadow[:, 0]), (fill, fill_color, ambient[:, 0])):
        half = unit(view + direction)
        cosine = np.clip(np.einsum("ij,ij->i", normal, half), 1e-4, 1)
        log = np.log(cosine)
        lobe = broad * np.exp(broad_power * log) + sharp * np.exp(sharp_power * log)
        shine += (lobe * visible * fresnel)[:, None] * tint
    color += shine * (part != EYES)[:, None] + shine * (part == EYES)[:, None] * 1.6
    # A shoulder instead of a hard clip: highlights roll off, mid-tones stay as painted.
    return np.where(color > 0.6, 0.6 + 0.4 * (1 - np.exp(-(color - 0.6) / 0.4)), color).clip(0, 1)


def srgb_to_linear(color: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Convert sRGB bytes, or floats in 0..1, to linear light in 0..1 of a float type (IEC 61966-2-1)."""
    color = np.asarray(color)
    value = color.astype(dtype) / (255.0 if color.dtype == np.uint8 else 1.0)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(dtype)


def linear_to_srgb(value: np.ndarray) -> np.ndarray:
    """Convert linear light in 0..1 to sRGB in 0..1 (IEC 61966-2-1)."""
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
