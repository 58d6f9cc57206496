# SPDX-License-Identifier: MIT
"""Make docs/images/demo.jpg, the picture of the README: frames of the shipped clip, spoken by the embedded model.

python docs/strip.py
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.rendering.renderer import HeadRenderer


CLIP = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
OUTPUT = Path(__file__).parent / "images" / "demo.jpg"


def main() -> None:
    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    rows = []
    for identity, yaw in ((7, 0.0), (2, 30.0)):
        animation = pipe(CLIP, identity=identity, generator=torch.Generator().manual_seed(0)).animations[0]
        renderer = HeadRenderer(animation, size=320, yaw=yaw)
        # At rest, then where the mouth is widest, most closed and most open again within equal parts of the clip.
        aperture, parts = animation.lip_aperture, np.array_split(np.arange(animation.num_frames), 5)
        frames = [0] + [
            part[pick(aperture[part])] for part, pick in zip(parts, (np.argmax, np.argmin) * 3, strict=False)
        ]
        rows.append(np.concatenate([renderer.render(int(index)) for index in frames], axis=1))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(OUTPUT, quality=82)


if __name__ == "__main__":
    main()
