# SPDX-License-Identifier: MIT
"""Materials of skin, eyes, teeth and the mouth's inside, three lights and colour spaces."""

import numpy as np

from ..mesh.parts import EYES
from .compiled import compiled


# Lights in the camera's frame (x right, y up, z towards the viewer): direction to the light, linear RGB.
KEY = (np.array([-0.52, 0.58, 0.72], np.float32), np.array([2.35, 2.20, 2.02], np.float32))
FILL = (np.array([0.80, 0.10, 0.65], np.float32), np.array([0.34, 0.39, 0.47], np.float32))
RIM = (np.array([0.72, 0.42, -0.62], np.float32), np.array([1.45, 1.60, 1.85], np.float32))
SKY, GROUND = np.array([0.40, 0.43, 0.48], np.float32), np.array([0.21, 0.17, 0.15], np.float32)
# How far diffuse light creeps past the terminator, per channel: red goes furthest in skin.
WRAP = np.array(
    [[0.42, 0.22, 0.16], [0.25, 0.25, 0.25], [0.30, 0.26, 0.22], [0.2, 0.1, 0.1], [0.2, 0.2, 0.2]], np.float32
)
# Specular: strength and exponent of a broad and of a sharp lobe, by part.
GLOSS = np.array(
    [[0.055, 14, 0.030, 70], [0.02, 30, 1.30, 900], [0.05, 20, 0.32, 160], [0.02, 16, 0.05, 70], [0.07, 16, 0.03, 50]],
    np.float32,
)  # a row for each of `facetalk_hf.mesh.parts`
TONE = np.array([0.3, 0.5, 0.2], np.float32)  # how bright a colour looks


@compiled
def light_vertices(
    seen: np.ndarray,
    faces: np.ndarray,
    front: np.ndarray,
    world: np.ndarray,
    screen: np.ndarray,
    near: np.ndarray,
    normals: np.ndarray,
    light: np.ndarray,
    albedo: np.ndarray,
    lips: np.ndarray,
    parts: np.ndarray,
    eye: np.ndarray,
    lights: np.ndarray,
    up: np.ndarray,
    tables: np.ndarray,
    values: np.ndarray,
    face_tone: np.ndarray,
) -> None:
    """Light the vertices that are seen: all that does not shine, which changes slowly over a surface.

    Args:
        seen, faces, front, world, screen, near, normals: as `raster.project` has them.
        light ((V, 2) float32): shares of ambient and of key light that reach a vertex.
        albedo ((V, 3) float32, linear), lips ((V,) float32), parts ((V,) uint8): what a vertex is made of.
        eye ((3,) float32), lights ((3, 2, 3) float32), up ((3,) float32): camera; directions and colours; the sky.
        tables ((4, n) float32): what `powers` returns.
        values ((V, 16) float32): written, all that pixels need of a vertex in one line of the cache: unit normal,
            linear colour, ambient, key light, lips, world, screen, near, tone.
        face_tone ((F,) float32): written for `front`: tone at one corner, and ten times the part.
    """
    last = tables.shape[1] - 1
    for v in range(len(seen)):
        if not seen[v]:
            continue
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        scale = np.float32(1.0) / np.sqrt(max(nx * nx + ny * ny + nz * nz, np.float32(1e-24)))
        nx, ny, nz = nx * scale, ny * scale, nz * scale
        x, y, z = eye[0] - world[v, 0], eye[1] - world[v, 1], eye[2] - world[v, 2]
        scale = np.float32(1.0) / np.sqrt(max(x * x + y * y + z * z, np.float32(1e-24)))
        facing = min(max((nx * x + ny * y + nz * z) * scale, np.float32(0)), np.float32(1))
        ambient, shadow = light[v, 0], light[v, 1]
        to_key = nx * lights[0, 0, 0] + ny * lights[0, 0, 1] + nz * lights[0, 0, 2]
        to_fill = nx * lights[1, 0, 0] + ny * lights[1, 0, 1] + nz * lights[1, 0, 2]
        to_rim = nx * lights[2, 0, 0] + ny * lights[2, 0, 1] + nz * lights[2, 0, 2]
        fill = min(max(to_fill * np.float32(0.7) + np.float32(0.3), np.float32(0)), np.float32(1))
        sky = (nx * up[0] + ny * up[1] + nz * up[2]) * np.float32(0.5) + np.float32(0.5)
        edge = np.float32(1) - facing
        rim = min(max(to_rim + np.float32(0.25), np.float32(0)), np.float32(1)) * ambient
        rim *= np.float32(0.06) + np.float32(0.94) * edge * edge * edge
        ambient_place = int(min(max(ambient, np.float32(0)), np.float32(1)) * last)
        shadow_place = int(min(max(shadow, np.float32(0)), np.float32(1)) * last)
        tone = np.float32(0)
        for c in range(3):
            wrap = WRAP[parts[v], c]
            key = min(max((to_key + wrap) / (np.float32(1) + wrap), np.float32(0)), np.float32(1))
            key = tables[3, int(key * last)] * tables[c, shadow_place]
            lit = SKY[c] * sky + GROUND[c] * (np.float32(1) - sky) + fill * lights[1, 1, c]
            lit = lit * tables[c, ambient_place] + rim * lights[2, 1, c]
            lit += key * lights[0, 1, c] * (np.float32(0.35) + np.float32(0.65) * ambient)
            color = albedo[v, c] * lit * np.float32(0.62)
            values[v, 3 + c] = color
            tone += color * TONE[c]
        values[v, 0], values[v, 1], values[v, 2] = nx, ny, nz
        values[v, 6], values[v, 7], values[v, 8] = ambient, shadow, lips[v]
        values[v, 9], values[v, 10], values[v, 11] = world[v, 0], world[v, 1], world[v, 2]
        values[v, 12], values[v, 13], values[v, 14] = screen[v, 0], screen[v, 1], near[v]
        values[v, 15] = np.sqrt(tone)
    for f in front:
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        face_tone[f] = min(values[a, 15], np.float32(9)) + np.float32(10) * max(parts[a], parts[b], parts[c])


@compiled
def resolve(
    buffer: np.ndarray,
    box: tuple[int, int, int, int],
    offsets: np.ndarray,
    faces: np.ndarray,
    face_tone: np.ndarray,
    values: np.ndarray,
    eye: np.ndarray,
    lights: np.ndarray,
    lobes: np.ndarray,
    shoulder: np.ndarray,
    background: np.ndarray,
    encode: np.ndarray,
    image: np.ndarray,
) -> None:
    """Colour the pixels: what shines is added, samples are averaged where they differ, light becomes sRGB.

    Args:
        buffer ((height, width, S) int64): as `raster.rasterize` writes it; cleared for the next picture.
        box (four `int`), offsets ((S, 2) int32), faces ((F, 3) uint32): what `rasterize` returned, and was given.
        values ((V, 16) float32), face_tone ((F,) float32): as `light_vertices` writes them.
        eye ((3,) float32), lights ((3, 2, 3) float32): camera; directions and colours of key, fill and rim.
        lobes ((P, n, 2) float32): what `highlights` returns. shoulder ((n,) float32): how light in 0..4 is shown.
        encode ((n,) uint8): sRGB of linear light in 0..1.
        background ((height, width, 3) float32): linear colours.
        image ((height, width, C) uint8): the background as sRGB at first, written where the head is; with four
            channels its last is the head's coverage, and the colour is the head's alone.
    """
    width, samples = buffer.shape[1], buffer.shape[2]
    last, steps = np.float32(len(encode) - 1), np.float32(lobes.shape[1] - 1) / np.sqrt(np.float32(0.5))
    see_through, per_unit = image.shape[2] == 4, np.float32(len(shoulder) / 4)
    one, zero = np.float32(1), np.float32(0)
    # Of a row: how many samples of each pixel are covered, how many are shaded, and the sum of their colours.
    cover, shaded, total = np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros((width, 3), np.float32)
    owner, place = np.empty(width * samples, np.uint32), np.empty((width * samples, 2), np.int32)
    # Twelve values of sixteen samples, side by side: what is done to all of them alike needs a sixteenth of the steps.
    lanes = 16
    eye_x, eye_y, eye_z = eye[0], eye[1], eye[2]
    key_x, key_y, key_z = lights[0, 0, 0], lights[0, 0, 1], lights[0, 0, 2]
    fill_x, fill_y, fill_z = lights[1, 0, 0], lights[1, 0, 1], lights[1, 0, 2]
    block = np.zeros(12 * lanes, np.float32)
    for row in range(box[0], box[1]):
        count = 0
        for column in range(box[2], box[3]):
            covered, begin = 0, count
            low_tone, high_tone, low_near, high_near = np.float32(99), zero, np.int64(1 << 40), np.int64(0)
            for s in range(samples):
                entry = buffer[row, column, s]
                if entry:
                    f = np.uint32(entry & 0xFFFFFFFF)
                    owner[count], place[count, 0], place[count, 1] = f, column, s
                    count, covered = count + 1, covered + 1
                    buffer[row, column, s] = 0
                    tone = face_tone[f]
                    low_tone, high_tone = min(low_tone, tone), max(high_tone, tone)
                    low_near, high_near = min(low_near, entry >> 32), max(high_near, entry >> 32)
            cover[column] = covered
            if covered == 0:
                continue
            differs = covered < samples or high_tone - low_tone > 0.045 or high_near - low_near > low_near >> 8
            # Highlights on eyes are smaller than a pixel.
            differs |= int(high_tone * np.float32(0.1)) == EYES
            if not differs:  # one sample stands for all
                middle = begin + samples // 2
                owner[begin], place[begin, 1] = owner[middle], place[middle, 1]
                count = begin + 1
            shaded[column] = count - begin
            total[column, 0] = total[column, 1] = total[column, 2] = zero
        for start in range(0, count, lanes):
            used = min(lanes, count - start)
            for j in range(used):
                f, column, s = owner[start + j], place[start + j, 0], place[start + j, 1]
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                x, y = np.float32((column << 8) + offsets[s, 0]), np.float32((row << 8) + offsets[s, 1])
                xa, ya = values[a, 12] - x, values[a, 13] - y
                xb, yb = values[b, 12] - x, values[b, 13] - y
                xc, yc = values[c, 12] - x, values[c, 13] - y
                of_a = (xb * yc - xc * yb) * values[a, 14]
                of_b = (xc * ya - xa * yc) * values[b, 14]
                of_c = (xa * yb - xb * ya) * values[c, 14]
                scale = one / (of_a + of_b + of_c)
                of_a, of_b, of_c = of_a * scale, of_b * scale, of_c * scale
                for k in range(12):
                    block[k * lanes + j] = of_a * values[a, k] + of_b * values[b, k] + of_c * values[c, k]
            for j in range(lanes):
                vx, vy, vz = eye_x - block[9 * 16 + j], eye_y - block[10 * 16 + j], eye_z - block[11 * 16 + j]
                scale = one / np.sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx * scale, vy * scale, vz * scale
                nx, ny, nz = block[j], block[16 + j], block[2 * 16 + j]
                scale = one / np.sqrt(max(nx * nx + ny * ny + nz * nz, np.float32(1e-24)))
                nx, ny, nz = nx * scale, ny * scale, nz * scale
                edge = one - min(max(nx * vx + ny * vy + nz * vz, zero), one)
                # In the place of the normal and the view: what the lobes are to be looked up by.
                block[j] = np.float32(0.45) + np.float32(0.55) * edge * edge * edge * edge
                hx, hy, hz = vx + key_x, vy + key_y, vz + key_z
                cosine = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                block[9 * 16 + j] = np.sqrt(max(one - cosine, zero)) * steps
                hx, hy, hz = vx + fill_x, vy + fill_y, vz + fill_z
                cosine = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                block[10 * 16 + j] = np.sqrt(max(one - cosine, zero)) * steps
            for j in range(used):
                column, part = place[start + j, 0], np.uint32(face_tone[owner[start + j]] * np.float32(0.1))
                fresnel, lips = block[j], block[8 * 16 + j]
                if part == EYES:
                    fresnel *= np.float32(1.6)
                broad = GLOSS[part, 0] * (one + np.float32(1.2) * lips)
                sharp = GLOSS[part, 2] * (one + np.float32(5.0) * lips)
                for light in range(2):
                    at = int(block[(9 + light) * 16 + j])
                    if at < lobes.shape[1]:
                        lobe = broad * lobes[part, at, 0] + sharp * lobes[part, at, 1]
                        lobe *= fresnel * max(block[(7 - light) * 16 + j], zero)
                        for c in range(3):
                            block[(3 + c) * 16 + j] += lobe * lights[light, 1, c]
                for c in range(3):
                    color = block[(3 + c) * 16 + j]
                    # A shoulder instead of a hard clip: highlights roll off, mid-tones stay as painted.
                    if color > 0.6:
                        color = shoulder[min(int(color * per_unit), len(shoulder) - 1)]
                    total[column, c] += max(color, zero)
        for column in range(box[2], box[3]):
            if cover[column] == 0:
                continue
            alpha = np.float32(cover[column]) / np.float32(samples)
            for c in range(3):
                mean = total[column, c] / np.float32(shaded[column])
                if not see_through:
                    mean = mean * alpha + background[row, column, c] * (one - alpha)
                image[row, column, c] = encode[int(min(mean, one) * last + np.float32(0.5))]
            if see_through:
                image[row, column, 3] = np.uint8(alpha * np.float32(255) + np.float32(0.5))


def powers(count: int = 4096) -> np.ndarray:
    """Tabulate powers of 0..1 for `light_vertices`, (4, count) float32.

    Light bleeds into shadow and creases of skin, red first: the first three exponents keep both warm.
    """
    grid = np.linspace(0, 1, count)[None]
    return (grid ** np.array([[0.75], [1.0], [1.12], [1.35]])).astype(np.float32)


def highlights(count: int = 2048) -> np.ndarray:
    """Tabulate the two lobes of each part for `resolve`, (P, count, 2) float32.

    By the root of one minus the cosine between normal and half-way vector, from 0 to that of 60 degrees, beyond which
    nothing is left of them.
    """
    cosine = 1 - np.linspace(0, np.sqrt(0.5), count)[None, :, None] ** 2
    return (cosine ** GLOSS[:, None, 1::2]).astype(np.float32)


def srgb_to_linear(color: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Convert sRGB bytes, or floats in 0..1, to linear light in 0..1 of a float type (IEC 61966-2-1)."""
    color = np.asarray(color)
    value = color.astype(dtype) / (255.0 if color.dtype == np.uint8 else 1.0)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(dtype)


def linear_to_srgb(value: np.ndarray) -> np.ndarray:
    """Convert linear light in 0..1 to sRGB in 0..1 (IEC 61966-2-1)."""
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
