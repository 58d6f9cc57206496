# SPDX-License-Identifier: MIT
"""Make heads.jpg, the pictures of the Space's gallery: the mean head and all named ones, in rows of 11.

python spaces_app/draw_heads.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.rendering.renderer import HeadRenderer


OUTPUT = Path(__file__).parent / "heads.jpg"
COLUMNS, SIZE = 11, 112


def main() -> None:
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    decoder = make_decoder(head, resolution=96, cache_size=1)
    rest = np.zeros((1, head.config.expression_dim), np.float32)
    names = ["zero", *range(len(head.identity_codes))]
    sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(names) // COLUMNS) * SIZE))
    for index, name in enumerate(names):
        picture = HeadRenderer(decoder(rest, name), SIZE, yaw=12, key_poses=1).render(0)
        sheet.paste(Image.fromarray(picture), (index % COLUMNS * SIZE, index // COLUMNS * SIZE))
    sheet.save(OUTPUT, quality=80)


if __name__ == "__main__":
    main()
