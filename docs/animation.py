# SPDX-License-Identifier: MIT
"""Make docs/images/demo.webp, the moving picture of the README: two heads speak the shipped clip, over its sound.

python docs/animation.py
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, HeadAnimation
from facetalk_hf.rendering.renderer import render_frames


CLIP = Path(facetalk_hf.__file__).parent / "assets" / "demo.wav"
OUTPUT = Path(__file__).parent / "images" / "demo.webp"
# Number of the head, degrees from which one looks.
VIEWS = ((7, 0.0), (2, 30.0))


def strip(animation: HeadAnimation, frame: int, width: int, height: int) -> np.ndarray:
    """The sound as grey bars, bright up to now, and the opening of the lips so far as a line: (H, W, 3) uint8."""
    scale = 2  # drawn larger, then averaged: smooth lines
    image = Image.new("RGB", (scale * width, scale * height), (38, 42, 50))
    draw = ImageDraw.Draw(image)
    now = scale * width * (frame + 1) / animation.num_frames
    parts = np.array_split(np.abs(animation.audio), width // 3)
    loudness = np.sqrt([np.mean(part**2) for part in parts])
    for index, tall in enumerate(0.44 * loudness / loudness.max()):
        x = (index + 0.5) * image.width / len(parts)
        color = (150, 160, 175) if x < now else (78, 85, 97)
        ends = (image.height * (0.5 - tall) - 1, image.height * (0.5 + tall) + 1)
        draw.line([(x, ends[0]), (x, ends[1])], color, 2 * scale)
    aperture = animation.lip_aperture / animation.lip_aperture.max()
    x = (np.arange(frame + 1) + 0.5) * image.width / animation.num_frames
    y = image.height * (0.94 - 0.84 * aperture[: frame + 1])
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), (255, 138, 76), 2 * scale, joint="curve")
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="a .webp")
    parser.add_argument("--audio", type=Path, default=CLIP, help="what they say")
    parser.add_argument("--size", type=int, default=288, help="pixels of a head")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps")
    parser.add_argument("--resolution", type=int, default=128, help="grid cells along the head")
    parser.add_argument("--quality", type=int, default=50, help="of the pictures, 0 to 100")
    args = parser.parse_args(arguments)

    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    pipe.decoder.resolution = args.resolution
    films = []
    for identity, yaw in VIEWS:
        generator = torch.Generator().manual_seed(0)
        output = pipe(args.audio, identity=identity, num_inference_steps=args.steps, generator=generator)
        animation = output.animations[0]
        films.append(list(render_frames(animation, args.size, yaw=yaw, progress=False)))
    frames = []
    for index, heads in enumerate(zip(*films, strict=True)):
        row = np.concatenate(heads, axis=1)
        frames.append(Image.fromarray(np.concatenate([row, strip(animation, index, row.shape[1], args.size // 5)])))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    # Whole milliseconds: the ends of the frames are rounded, not their lengths, so nothing drifts.
    ends = np.round(1000 * np.arange(len(frames) + 1) / animation.fps).astype(int)
    options = {"save_all": True, "append_images": frames[1:], "duration": np.diff(ends).tolist(), "loop": 0}
    frames[0].save(args.output, quality=args.quality, method=4, **options)
    print(f"{args.output}: {len(frames)} frames, {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
