# SPDX-License-Identifier: MIT
"""Make facetalk_hf/assets/template.npz, the topology of exported heads, from ICT-FaceKit's FaceXModel folder.

    python training/make_template.py --facexmodel ICT-FaceKit/FaceXModel

Skin and mouth socket of its generic head above the neck's cut: quads, texture coordinates (the square of the face and
that of the rest, side by side), the mean head with its mouth open, and which vertices the 68 landmarks are.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetalk_hf.blendshapes import INDEX
from facetalk_hf.files import atomic_path
from facetalk_hf.paths import LIBRARY
from facetalk_hf.scripts import REQUIRED, option, parse_config, run_script
from facetalk_hf.synthetic.ict_template import NECK_NORMAL, NECK_POINT, ORIGIN, SKIN, SOCKET, UNIT, Template
from facetalk_hf.template.topology import OPENING
from facetalk_hf.units import MILLIMETRES


FACE_WIDTH = 0.68
"""Share of the texture's width that the face gets; the back of the head and the mouth's inside have the rest."""


@dataclass
class Options:
    """Options of this script."""

    facexmodel: Path = option(REQUIRED, "ICT-FaceKit's folder FaceXModel")
    output: Path = option(LIBRARY / "assets" / "template.npz", "the template")


def main() -> None:
    options = parse_config(Options, __doc__)
    template = Template(options.facexmodel)
    quads, corners, uv = read_quads(options.facexmodel / "generic_neutral_mesh.obj")
    above = (template.neutral - NECK_POINT) @ NECK_NORMAL < -0.05
    # The last row reaches over the cut, so that it ends on the surface's rim.
    kept = (quads < SKIN).all(1) & above[quads].any(1)
    quads, corners = quads[kept], corners[kept]
    # One vertex for each pair of a place and its texture coordinates: a seam has two.
    pairs, corners = np.unique(np.stack([quads, corners], -1).reshape(-1, 2), axis=0, return_inverse=True)
    places, owner = np.unique(pairs[:, 0], return_inverse=True)
    uv = uv[pairs[:, 1]]
    back = uv[:, 0] > 1
    uv[:, 0] = np.where(back, FACE_WIDTH + (uv[:, 0] - 1) * (1 - FACE_WIDTH), uv[:, 0] * FACE_WIDTH)
    shape = template.neutral + OPENING * template.expressions[INDEX["jawOpen"]]
    shape = (shape[places] - ORIGIN) / UNIT * MILLIMETRES
    lookup = np.full(len(template.neutral), -1)
    lookup[places] = np.arange(len(places))
    landmarks = lookup[template.landmarks]
    if (landmarks < 0).any():
        raise SystemExit("a landmark lies below the neck's cut")
    with atomic_path(options.output) as temporary:
        np.savez_compressed(
            temporary,
            shape=np.round(shape * 50).astype(np.int16),  # steps of 0.02 mm
            quads=corners.reshape(-1, 4).astype(np.uint16),
            owner=owner.astype(np.uint16),
            uv=np.round(uv * 65535).astype(np.uint16),
            socket=(places >= SOCKET),
            landmarks=landmarks.astype(np.uint16),
        )
    print(f"{options.output}: {len(places)} vertices, {len(uv)} with seams, {len(quads)} quads")


def read_quads(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read quads (Q, 4), their texture vertices (Q, 4) and texture coordinates (n, 2) of an obj; triangles go."""
    uv, quads, corners = [], [], []
    for line in path.read_text().splitlines():
        if line.startswith("vt "):
            uv.append(line.split()[1:3])
        elif line.startswith("f ") and len(tokens := line.split()[1:]) == 4:
            pair = [token.split("/") for token in tokens]
            quads.append([int(item[0]) - 1 for item in pair])
            corners.append([int(item[1]) - 1 for item in pair])
    return np.array(quads), np.array(corners), np.array(uv, float)


if __name__ == "__main__":
    run_script(main)
