# SPDX-License-Identifier: MIT
"""Make docs/images/heads.jpg: four heads of the embedded model in five poses, from in front and in three quarters.

python docs/contact_sheet.py
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import facetalk_hf
from facetalk_hf import NPHMModel
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.rendering.renderer import HeadRenderer


OUTPUT = Path(__file__).parent / "images" / "heads.jpg"
POSES = {
    "neutral": {},
    "jaw open": {"jawOpen": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "smile": {"mouthSmile_L": 1.0, "mouthSmile_R": 1.0},
    "blink": {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0},
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--identities", type=int, nargs="+", default=[0, 5, 9, 14], help="numbers of named identities")
    parser.add_argument("--size", type=int, default=240, help="pixels of a picture")
    parser.add_argument("--resolution", type=int, default=128, help="grid cells along the head")
    args = parser.parse_args(arguments)

    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head")
    decoder = make_decoder(head, resolution=args.resolution, facial_smoothing=False)
    weights = np.zeros((len(POSES), len(INDEX)), np.float32)
    for row, pose in zip(weights, POSES.values(), strict=True):
        row[[INDEX[name] for name in pose]] = list(pose.values())
    rows = []
    for identity in args.identities:
        still = decoder(np.zeros((len(POSES), head.config.expression_dim), np.float32), identity)
        for yaw in (0.0, 35.0):
            renderer = HeadRenderer(still.replace(weights=weights), args.size, yaw=yaw, key_poses=len(POSES))
            rows.append([renderer.render(index) for index in range(len(POSES))])
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(8, args.size // 22))
    for row in range(len(rows)):
        for column, name in enumerate(POSES):
            label = f"identity {args.identities[row // 2]}, {name}" if column == 0 else name
            draw.text((column * args.size + 6, row * args.size + 4), label, (235, 238, 242), font)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.output, quality=84)


if __name__ == "__main__":
    main()
