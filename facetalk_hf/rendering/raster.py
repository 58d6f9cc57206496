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
    near: np.ndarray,
    normals: np.ndarray,
    seen: np.ndarray,
    front: np.ndarray,
) -> int:
    """Move and project vertices, sum their normals, and list the faces that look at the camera.

    Args:
        vertices ((V, 3) float32), pose ((3, 4) float32), faces ((F, 3) uint32): the head, mm, and its rigid motion.
        eye ((3,) float32), axes ((3, 3) float32): place of the camera, and its right, up and backward axes.
        lens ((4,) float32): `fx, fy, cx, cy` in pixels.
        world ((V, 3) float32): written: vertices in mm.
        screen ((V, 2) int32), near ((V,) float32): written: x, y in 1/256 pixels, and 1 / distance.
        normals ((V, 3) float32): written: vertex normals, weighted by area, not of length one.
        seen ((V,) bool), front ((F,) uint32): written: vertices and numbers of faces that look at the camera.

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
        # In whole numbers all that follows is exact: triangles that share an edge leave no crack.
        screen[v, 0] = np.int32(np.floor(min(max(across, -16384.0), 16384.0) * 256.0 + 0.5))
        screen[v, 1] = np.int32(np.floor(min(max(down, -16384.0), 16384.0) * 256.0 + 0.5))
        near[v] = nearness
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
        if toward > 0 and near[a] > 0 and near[b] > 0 and near[c] > 0:
            front[count] = f
            count += 1
            seen[a] = seen[b] = seen[c] = True
    return count


@compiled
def rasterize(
    faces: np.ndarray, front: np.ndarray, screen: np.ndarray, near: np.ndarray, offsets: np.ndarray, buffer: np.ndarray
) -> tuple[int, int, int, int]:
    """Find the face that each sample of a picture sees, by a buffer of depths.

    Args:
        faces ((F, 3) uint32), front ((n,) uint32): triangles, and the numbers of those to be drawn.
        screen ((V, 2) int32), near ((V,) float32): as `project` writes them.
        offsets ((S, 2) int32): where in a pixel its samples lie, in 1/256 pixels.
        buffer ((height, width, S) int64): zeros at first. Written where a face is seen: its number in the lower half,
            2^31 / distance (mm) in the upper, so that one comparison tells who is in front.

    Returns: the rows and columns that may have been written to, `(top, bottom, left, right)`; ends are not among them.
    """
    height, width, samples = buffer.shape
    lanes = 16
    across = lanes // samples  # pixels of a row that are tested at a time
    comb_x, comb_y = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
    for j in range(lanes):
        comb_x[j] = ((j // samples) << 8) + offsets[j % samples, 0]
        comb_y[j] = offsets[j % samples, 1]
    fits, flat = lanes % samples == 0, buffer.reshape(-1)
    first_row, last_row, first_column, last_column = height, -1, width, -1
    for index in range(len(front)):
        f = front[index]
        a, b, c = faces[f, 0], faces[f, 2], faces[f, 1]  # y points down: the other way around
        xa, ya = np.int64(screen[a, 0]), np.int64(screen[a, 1])
        xb, yb = np.int64(screen[b, 0]), np.int64(screen[b, 1])
        xc, yc = np.int64(screen[c, 0]), np.int64(screen[c, 1])
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        low_x, high_x = min(xa, xb, xc), max(xa, xb, xc)
        low_y, high_y = min(ya, yb, yc), max(ya, yb, yc)
        if area <= 0 or high_x < 0 or high_y < 0 or (low_x >> 8) >= width or (low_y >> 8) >= height:
            continue
        first_row, last_row = min(first_row, low_y >> 8), max(last_row, high_y >> 8)
        first_column, last_column = min(first_column, low_x >> 8), max(last_column, high_x >> 8)
        bc_x, bc_y, ca_x, ca_y = xc - xb, yc - yb, xa - xc, ya - yc
        za = near[a] * np.float32(2147483648.0)
        scale = np.float32(2147483648.0) / np.float32(area)
        zb, zc = (near[b] - near[a]) * scale, (near[c] - near[a]) * scale
        if fits and high_x - low_x < 1 << 14 and high_y - low_y < 1 << 14:
            # Small enough for 32 bits: a loop of fixed length, without a branch, becomes instructions for many lanes.
            side_bx, side_by, side_cx, side_cy = np.int32(bc_x), np.int32(bc_y), np.int32(ca_x), np.int32(ca_y)
            left, right = max(0, low_x >> 8), min(width - 1, high_x >> 8)
            for row in range(max(0, low_y >> 8), min(height - 1, high_y >> 8) + 1):
                y = row << 8
                for start in range(left, right + 1, across):
                    column = min(start, width - across)  # some are tested twice, none beyond the row
                    x = column << 8
                    base_a = np.int32(bc_x * (y - yb) - bc_y * (x - xb))
                    base_b = np.int32(ca_x * (y - yc) - ca_y * (x - xc))
                    line = flat[(row * width + column) * samples :][:lanes]
                    for j in range(lanes):
                        in_a = np.int32(base_a + np.int32(side_bx * comb_y[j]) - np.int32(side_by * comb_x[j]))
                        in_b = np.int32(base_b + np.int32(side_cx * comb_y[j]) - np.int32(side_cy * comb_x[j]))
                        in_c = np.int32(np.int32(area) - in_a - in_b)
                        close = np.int32(za + np.float32(in_b) * zb + np.float32(in_c) * zc)
                        outside = np.int64((in_a | in_b | in_c) >> 31)  # all bits, or none
                        line[j] = max(line[j], ((np.int64(close) << 32) | f) & ~outside)
            continue
        for s in range(samples):
            ox, oy = np.int64(offsets[s, 0]), np.int64(offsets[s, 1])
            left, right = max(0, (low_x - ox + 255) >> 8), min(width - 1, (high_x - ox) >> 8)
            top, bottom = max(0, (low_y - oy + 255) >> 8), min(height - 1, (high_y - oy) >> 8)
            if right < left:
                continue
            x = (left << 8) + ox
            for row in range(top, bottom + 1):
                y = (row << 8) + oy
                # How far a sample lies inside of two edges; what is left of the area is the third.
                to_a = bc_x * (y - yb) - bc_y * (x - xb)
                to_b = ca_x * (y - yc) - ca_y * (x - xc)
                for column in range(left, right + 1):
                    to_c = area - to_a - to_b
                    if (to_a | to_b | to_c) >= 0:
                        depth = np.int64(za + np.float32(to_b) * zb + np.float32(to_c) * zc)
                        buffer[row, column, s] = max(buffer[row, column, s], (depth << 32) | f)
                    to_a -= bc_y << 8
                    to_b -= ca_y << 8
    return max(first_row, 0), min(last_row + 1, height), max(first_column, 0), min(last_column + 1, width)
