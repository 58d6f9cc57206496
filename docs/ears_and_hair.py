# SPDX-License-Identifier: MIT
"""Make docs/images/ears.jpg and hair.jpg: ears on the old and the new grid, and training heads with hair.

python docs/ears_and_hair.py --ict ICT-FaceKit/FaceXModel
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from trimesh import Trimesh

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head import blendshape_decoder
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.hair_styles import HAIR_KINDS, random_style
from facetalk_hf.mesh.geometry import smoothstep
from facetalk_hf.synthetic.hair import Hair
from facetalk_hf.synthetic.head_scans import fit_sphere, hair_surface, signed_distance
from facetalk_hf.synthetic.ict_template import ORIGIN, SCLERA, UNIT, Template


IMAGES = Path(__file__).parent / "images"
EAR = np.array([0.36, 0.03, -0.27])
PLAIN = ((), (), ()), (1.0, 1.0, 1.0)


def picture(
    vertices: np.ndarray,
    faces: np.ndarray,
    colors: np.ndarray,
    yaw: float,
    center: np.ndarray,
    reach: float,
    size: int,
) -> np.ndarray:
    """Draw flat triangles, seen in parallel from `yaw` degrees to the subject's left: (size, size, 3) uint8."""
    angle = np.radians(yaw)
    ahead = np.array([-np.sin(angle), 0, -np.cos(angle)])
    right, up = np.array([np.cos(angle), 0, -np.sin(angle)]), np.array([0.0, 1, 0])
    side = np.linspace(-reach, reach, size)
    x, y = np.meshgrid(side, -side)
    origin = (center - 4 * reach * ahead + x[..., None] * right + y[..., None] * up).reshape(-1, 3)
    hit = Trimesh(vertices, faces, process=False).ray.intersects_first(origin, np.tile(ahead, (len(origin), 1)))
    seen = hit >= 0
    corners = vertices[faces[hit[seen]]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    light = -ahead + 0.6 * up - 0.5 * right
    shade = 0.2 + 0.8 * np.clip(normals @ light / np.linalg.norm(light), 0, 1)
    image = np.full((size * size, 3), 235, np.uint8)
    image[seen] = shade[:, None] * colors[faces[hit[seen]]].mean(1)
    return image.reshape(size, size, 3)


def ears(identities: list[int], size: int) -> np.ndarray:
    """Draw the left ear of named identities from three sides, on the grid without and with lines for ears."""
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head", torch_dtype=torch.float32).eval()
    with_ears, columns = (blendshape_decoder.EARS, blendshape_decoder.CELLS), []
    for identity in identities:
        for name, grid in (("before", PLAIN), ("after", with_ears)):
            blendshape_decoder.EARS, blendshape_decoder.CELLS = grid
            start = time.process_time()
            vertices, faces = BlendshapeDecoder(head).canonical_surface(head.identity_codes[identity][None])
            print(
                f"identity {identity}, {name}: {len(faces)} triangles, {time.process_time() - start:.1f} s", flush=True
            )
            skin = np.full(vertices.shape, (230.0, 190, 170))
            columns.append([picture(vertices, faces, skin, yaw, EAR, 0.18, size) for yaw in (90, 0, 150)])
    return np.concatenate([np.concatenate(column) for column in columns], 1)


def hair(template: Template, size: int) -> np.ndarray:
    """Draw a training head of every kind of hair, each another person, from four sides."""
    rows, rng = [], np.random.default_rng(1)
    for number, kind in enumerate(HAIR_KINDS):
        style = random_style(rng, kind)
        shape = template.canonical + np.tensordot(rng.normal(0, 0.8, 100), template.identities, 1)
        head, triangles = template.surface.vertices(shape), template.surface.faces
        eyes = [fit_sphere(shape[part]) for part in SCLERA]
        grown = Hair.on(template, shape, style, number)
        vertices, faces = hair_surface(
            lambda points, data=(head, triangles, eyes, grown): signed_distance(points, *data)
        )
        off = signed_distance(vertices.astype(float), head, triangles, eyes)
        share = smoothstep(0.02, 0.12, off)[:, None]
        colors = share * (110.0, 75, 50) + (1 - share) * (225.0, 180, 155)
        place = (vertices - ORIGIN) / UNIT
        middle = -ORIGIN / UNIT
        rows.append(
            np.concatenate([picture(place, faces, colors, yaw, middle, 0.68, size) for yaw in (0, 40, 90, 180)], 1)
        )
        print(style, flush=True)
    return np.concatenate([np.concatenate(rows[:4]), np.concatenate(rows[4:])], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, help="FaceXModel folder of ICT-FaceKit; without it, ears only")
    parser.add_argument(
        "--identities", type=int, nargs="*", default=[0, 30], help="named identities whose ears are drawn"
    )
    parser.add_argument("--size", type=int, default=200, help="pixels of a picture")
    options = parser.parse_args()
    if options.identities:
        Image.fromarray(ears(options.identities, options.size)).save(IMAGES / "ears.jpg", quality=80)
    if options.ict:
        Image.fromarray(hair(Template(options.ict), options.size)).save(IMAGES / "hair.jpg", quality=80)


if __name__ == "__main__":
    main()
