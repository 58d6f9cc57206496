# SPDX-License-Identifier: MIT
"""What every sample of a picture sees: vertices projected, triangles drawn into a buffer of depths."""

import numpy as np

from .compiled import compiled


@compiled
def project(
    vertices: np.ndarray,
    pose: np.ndarray,
    faces: np.ndarray,
    eye: np.ndarray,
    axes: np.ndarray,
    lens: np.ndarray,
    world: np.ndarray,
    screen: np.ndarray,
    normals: np.ndarray,
    seen: np.ndarray,
    front: np.ndarray,
) -> int:
    """Move and project vertices, sum their normals, and list the faces that look at the camera.

    Args:
        vertices ((V, 3) float32), pose ((3, 4) float32), faces ((F, 3) int32): the head, mm, and its rigid motion.
        eye ((3,) float32), axes ((3, 3) float32): place of the camera, and its right, up and backward axes.
        lens ((4,) float32): `fx, fy, cx, cy` in pixels.
        world ((V, 3) float32), screen ((V, 3) float32): written: vertices in mm, and x, y in pixels and 1 / distance.
        normals ((V, 3) float32): written: vertex normals, weighted by area, not of length one.
        seen ((V,) bool), front ((F,) int32): written: vertices and numbers of faces that look at the camera.

    Returns: how many faces look at the camera. Those that reach behind it are left out.
    """
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        wx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]
        wy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]
        wz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]
        world[v, 0], world[v, 1], world[v, 2] = wx, wy, wz
        x, y, z = wx - eye[0], wy - eye[1], wz - eye[2]
        distance = -(axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z)
        nearness = np.float32(1.0) / distance if distance > 1.0 else np.float32(0.0)
        across = lens[0] * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z) * nearness + lens[2]
        down = lens[3] - lens[1] * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z) * nearness
        # On a grid of 1/256 pixel, products of coordinates are exact: triangles that share an edge leave no crack.
        screen[v, 0] = np.floor(min(max(across, -16384.0), 16384.0) * 256.0 + 0.5) * 0.00390625
        screen[v, 1] = np.floor(min(max(down, -16384.0), 16384.0) * 256.0 + 0.5) * 0.00390625
        screen[v, 2] = nearness
        normals[v, 0], normals[v, 1], normals[v, 2], seen[v] = 0, 0, 0, False
    count = 0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = world[b, 0] - world[a, 0], world[b, 1] - world[a, 1], world[b, 2] - world[a, 2]
        vx, vy, vz = world[c, 0] - world[a, 0], world[c, 1] - world[a, 1], world[c, 2] - world[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
        toward = nx * (eye[0] - world[a, 0]) + ny * (eye[1] - world[a, 1]) + nz * (eye[2] - world[a, 2])
        # Faces that look away are never the first to be seen of a closed head.
        if toward > 0 and screen[a, 2] > 0 and screen[b, 2] > 0 and screen[c, 2] > 0:
            front[count] = f
            count += 1
            seen[a] = seen[b] = seen[c] = True
    return count


@compiled
def rasterize(
    faces: np.ndarray,
    front: np.ndarray,
    screen: np.ndarray,
    offsets: np.ndarray,
    nearest: np.ndarray,
    owner: np.ndarray,
) -> None:
    """Find the face that each sample of a picture sees, by a buffer of depths.

    Args:
        faces ((F, 3) int32), front ((n,) int32): triangles, and the numbers of those to be drawn.
        screen ((V, 3) float32): as `project` writes it.
        offsets ((S, 2) float32): where in a pixel its samples lie, in multiples of 1/256.
        nearest ((height, width, S) float32): 1 / distance of what is seen; zeros at first.
        owner ((height, width, S) int32): written where a face is seen: its number.
    """
    height, width, samples = nearest.shape
    for index in range(len(front)):
        f = front[index]
        a, b, c = faces[f, 0], faces[f, 2], faces[f, 1]  # y points down: the other way around
        xa, ya = np.float64(screen[a, 0]), np.float64(screen[a, 1])
        xb, yb = np.float64(screen[b, 0]), np.float64(screen[b, 1])
        xc, yc = np.float64(screen[c, 0]), np.float64(screen[c, 1])
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area <= 0:
            continue
        low_x, high_x = min(xa, xb, xc), max(xa, xb, xc)
        low_y, high_y = min(ya, yb, yc), max(ya, yb, yc)
        if high_x < 0 or high_y < 0 or low_x > width or low_y > height:
            continue
        ab_x, ab_y, bc_x, bc_y, ca_x, ca_y = xb - xa, yb - ya, xc - xb, yc - yb, xa - xc, ya - yc
        za = screen[a, 2]
        zb, zc = (screen[b, 2] - za) / area, (screen[c, 2] - za) / area
        for s in range(samples):
            ox, oy = np.float64(offsets[s, 0]), np.float64(offsets[s, 1])
            left, right = max(0, int(np.ceil(low_x - ox))), min(width - 1, int(np.floor(high_x - ox)))
            top, bottom = max(0, int(np.ceil(low_y - oy))), min(height - 1, int(np.floor(high_y - oy)))
            for row in range(top, bottom + 1):
                y = row + oy
                for column in range(left, right + 1):
                    x = column + ox
                    to_c = ab_x * (y - ya) - ab_y * (x - xa)
                    to_a = bc_x * (y - yb) - bc_y * (x - xb)
                    to_b = ca_x * (y - yc) - ca_y * (x - xc)
                    if to_a >= 0 and to_b >= 0 and to_c >= 0:
                        z = np.float32(za + to_b * zb + to_c * zc)
                        if z > nearest[row, column, s]:
                            nearest[row, column, s] = z
                            owner[row, column, s] = f
