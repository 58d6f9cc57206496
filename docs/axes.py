# SPDX-License-Identifier: MIT
"""Make docs/images/axes.jpg: the axes of every mesh that the package writes, drawn into a picture of the mean head.

python docs/axes.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.rendering.renderer import HeadRenderer


OUTPUT = Path(__file__).parent / "images" / "axes.jpg"
# Direction, where the arrow begins and ends in mm, colour, name.
AXES = (
    ((1, 0, 0), 84, 150, (235, 92, 80), "+x"),
    ((0, 1, 0), 62, 112, (110, 225, 110), "+y"),
    ((0, 0, 1), 108, 185, (120, 175, 255), "+z"),
)


def main() -> None:
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    still = make_decoder(head)(np.zeros((1, head.config.expression_dim), np.float32))
    renderer = HeadRenderer(still, size=(720, 440), yaw=38, pitch=14, key_poses=1)
    image = Image.fromarray(renderer.render(0))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    for direction, begin, end, color, text in AXES:
        (x0, y0), (x1, y1) = renderer.project(np.outer([begin, end], direction))
        draw.line([(x0, y0), (x1, y1)], color, 4)
        along = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
        across = np.array([-along[1], along[0]])
        tip = np.array([x1, y1])
        draw.polygon([tuple(tip + 14 * along), tuple(tip + 7 * across), tuple(tip - 7 * across)], color)
        draw.text(tuple(tip + 32 * along), text, color, font, anchor="mm")
    image.save(OUTPUT, quality=84)


if __name__ == "__main__":
    main()
