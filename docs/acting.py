# SPDX-License-Identifier: MIT
"""Make docs/images/acting.jpg: seven moods x (a vowel, a shut mouth, rest), and print how far the lips are apart.

    python docs/acting.py                              # the rules that a denoiser is taught by, on the embedded head
    python docs/acting.py --clip CLIP.wav              # the model, or another one: --model DIR
    python docs/acting.py --clip CLIP.wav --film moods.mp4 --amount 0.8   # a film with sound of all seven, too

By the rules the sentence is two phones long, and everything but mouth and expression is at rest.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, HeadAnimation, load_audio
from facetalk_hf.conditions import CONDITIONS, EMOTIONS
from facetalk_hf.phones.segments import Segment
from facetalk_hf.rendering.renderer import HeadRenderer
from facetalk_hf.rendering.video import write_mp4
from facetalk_hf.synthetic.acting import perform
from facetalk_hf.synthetic.speech import RATE


OUTPUT = Path(__file__).parent / "images" / "acting.jpg"
MOODS = ("neutral", *EMOTIONS)
SENTENCE = [("pau", 0, 0.8), ("aa", 0.8, 1.2), ("m", 1.2, 1.4), ("aa", 1.4, 1.7), ("pau", 1.7, 2.6)]
MOMENTS = {"aa": 1.0, "m": 1.32, "rest": 0.4}
FPS = 24


def by_rules(pipe: FaceTalkPipeline, mood: str, amount: float, identity: int | str) -> HeadAnimation:
    """The head of the pipeline in three moments of the sentence, acted by rules."""
    frames = round(SENTENCE[-1][2] * FPS)
    told = np.zeros((frames, len(CONDITIONS)), np.float32)
    if mood != "neutral":
        told[:, CONDITIONS.index(mood)] = amount
    time = np.arange(round(SENTENCE[-1][2] * RATE)) / RATE
    voiced = (time > SENTENCE[0][2]) & (time < SENTENCE[-1][1])
    sound = 0.1 * np.sin(2 * np.pi * 120 * time) * voiced
    segments = [Segment(*item) for item in SENTENCE]
    found = perform(segments, sound, RATE, frames, FPS, told, np.random.default_rng(0))
    weights = found.weights[[round(moment * FPS) for moment in MOMENTS.values()]]
    for name in ("eyeBlink", "eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut"):
        columns = [index for index, shape in enumerate(facetalk_hf.blendshapes.EXPRESSIONS) if shape.startswith(name)]
        weights[:, columns] *= 0.0 if name != "eyeBlink" else (weights[:, columns] < 0.35)
    codes = pipe.head.expression_from_weights(torch.from_numpy(weights))
    return pipe.decode(codes, identity)


def by_model(pipe: FaceTalkPipeline, mood: str, amount: float, identity: int | str, clip: Path) -> HeadAnimation:
    """A clip that the model speaks in a mood."""
    emotion = None if mood == "neutral" else {mood: amount}
    source = torch.Generator().manual_seed(0)
    return pipe(clip, emotion=emotion, identity=identity, generator=source, head_motion=1.0).animations[0]


def moments(pipe: FaceTalkPipeline, spoken: HeadAnimation, identity: int | str) -> HeadAnimation:
    """Three moments of a clip: widest, most shut after it, and the first frame, the head still."""
    gap = np.asarray(spoken.lip_aperture)
    widest = int(gap.argmax())
    shut = widest + int(gap[widest : widest + FPS].argmin())
    return pipe.decode(torch.as_tensor(spoken.expressions[[widest, shut, 0]]), identity)


def film(path: Path, spoken: dict[str, HeadAnimation], sound: np.ndarray, size: int) -> None:
    """Write all moods side by side, in two rows, with their names and the sound they share."""
    font = ImageFont.load_default(max(8, size // 16))
    renderers = {mood: HeadRenderer(animation, size, yaw=12) for mood, animation in spoken.items()}
    wide = -(-len(renderers) // 2)

    def frames() -> Iterator[np.ndarray]:
        for index in range(min(animation.num_frames for animation in spoken.values())):
            sheet = Image.new("RGB", (wide * size, 2 * size), (32, 34, 38))
            draw = ImageDraw.Draw(sheet)
            for number, (mood, renderer) in enumerate(renderers.items()):
                corner = (number % wide * size, number // wide * size)
                sheet.paste(Image.fromarray(renderer.render(index)), corner)
                draw.text((corner[0] + 6, corner[1] + 4), mood, (235, 238, 242), font)
            yield np.asarray(sheet)

    print(f"writing {path.name}", flush=True)
    write_mp4(path, frames(), FPS, sound, RATE)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--model", default=facetalk_hf.TINY, help="folder or Hub id")
    parser.add_argument("--clip", type=Path, help="speech, for a model that was trained with emotion and style")
    parser.add_argument("--film", type=Path, help="mp4 to write, too; needs a clip")
    parser.add_argument("--amount", type=float, default=1.0, help="of every mood")
    parser.add_argument("--identity", default="zero")
    parser.add_argument("--size", type=int, default=240, help="pixels of a picture")
    args = parser.parse_args(arguments)
    if args.film and not args.clip:
        parser.error("--film needs --clip")

    pipe = FaceTalkPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    identity = int(args.identity) if args.identity.isdecimal() else args.identity
    rows, spoken = [], {}
    print(f"lips apart, mm: {', '.join(MOMENTS)}")
    for mood in MOODS:
        where = (pipe, mood, args.amount, identity)
        if args.clip:
            spoken[mood] = by_model(*where, args.clip)
            animation = moments(pipe, spoken[mood], identity)
        else:
            animation = by_rules(*where)
        print(f"{mood:10}", *(f"{value:6.2f}" for value in animation.lip_aperture), flush=True)
        renderer = HeadRenderer(animation, args.size, yaw=12, key_poses=len(MOMENTS))
        rows.append(np.concatenate([renderer.render(index) for index in range(len(MOMENTS))], axis=0))
    sheet = Image.fromarray(np.concatenate(rows, axis=1))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(8, args.size // 18))
    for column, mood in enumerate(MOODS):
        for row, moment in enumerate(MOMENTS):
            draw.text((column * args.size + 6, row * args.size + 4), f"{mood}, {moment}", (235, 238, 242), font)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.output, quality=84)
    if args.film:
        film(args.film, spoken, load_audio(args.clip, RATE), args.size)


if __name__ == "__main__":
    main()
