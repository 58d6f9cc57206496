# SPDX-License-Identifier: MIT
"""Plot what a model does with recordings: spectrogram, lip aperture, closures, silence; and a table of lags.

    python docs/real_speech.py FOLDER [--model DIR] [--output out/real_speech]

There is no truth for a recording, so this is for looking: lips should meet (orange) where the spectrogram has the gap
of a p or b or the weak murmur of an m, follow the loudness (grey) without delay, and rest in silence (blue).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipeline
from facetalk_hf.audio.analysis import loudness
from facetalk_hf.audio.io import load_audio
from facetalk_hf.evaluation import metrics
from facetalk_hf.evaluation.scores import lips_closed
from facetalk_hf.head.decoding import make_decoder


RATE = 16000
SECONDS, WIDTH, LEFT = 4.5, 1000, 46  # of a row
TALL, LOW = 150, 84  # of the spectrogram and of the curves
INK, CLOSED, QUIET, ENERGY = (20, 20, 30), (255, 140, 40), (205, 222, 250), (150, 150, 150)


def spectrogram(audio: np.ndarray, columns: int) -> np.ndarray:
    """(TALL, columns) uint8, dark is loud: 0 to 6 kHz upwards, windows of 12 ms, 55 dB below the clip's loudest."""
    size, width = 512, round(0.012 * RATE)
    at = (np.arange(columns) + 0.5) * len(audio) / columns
    padded = np.pad(audio, (width // 2, width))
    frames = padded[at.astype(int)[:, None] + np.arange(width)] * np.hanning(width)
    level = 20 * np.log10(np.abs(np.fft.rfft(frames, size))[:, : round(6000 / RATE * size)] + 1e-6)
    shade = (level - level.max() + 55).clip(0, 55) / 55
    rows = np.linspace(shade.shape[1] - 1, 0, TALL)
    image = np.stack([np.interp(rows, np.arange(shade.shape[1]), column) for column in shade], 1)
    return (255 - 16 * np.round(image * 15)).astype(np.uint8)


def treble(audio: np.ndarray, frames: int) -> np.ndarray:
    """Level above 1 kHz of each frame, (frames,) dB: next to none while the lips are closed, be it for p, b or m."""
    spectra = [np.abs(np.fft.rfft(part * np.hanning(len(part)), 1024)) ** 2 for part in np.array_split(audio, frames)]
    return 10 * np.log10(np.array(spectra)[:, 64:].sum(1) + 1e-9)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and behind-the-last frame of every stretch of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def plot(audio: np.ndarray, tracks: dict[str, np.ndarray], fps: float) -> Image.Image:
    """The picture of one clip, `SECONDS` a row; tracks "aperture" (mm), "energy" (0..1), "closed" and "silent"."""
    aperture, energy, closed, silent = (tracks[name] for name in ("aperture", "energy", "closed", "silent"))
    count = max(1, int(np.ceil(len(audio) / RATE / SECONDS)))
    row_height = TALL + LOW + 34
    image = Image.new("RGB", (WIDTH, count * row_height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    scale = (WIDTH - LEFT - 6) / SECONDS
    shades = spectrogram(audio, max(1, round(len(audio) / RATE * scale)))
    top_value = max(12.0, float(np.ceil(aperture.max())))
    for row in range(count):
        start, top = row * SECONDS, row * row_height + 4
        base = top + TALL + 6 + LOW
        first = round(start * scale)
        part = shades[:, first : first + round(SECONDS * scale)]
        image.paste(Image.fromarray(part), (LEFT, top))

        def x(seconds: float, start: float = start) -> float:
            return LEFT + (min(max(seconds - start, 0), SECONDS)) * scale

        def y(value: float, base: float = base) -> float:
            return base - (value + 2) / (top_value + 2) * LOW

        for flags, color in ((silent, QUIET), (closed, CLOSED)):
            for begin, end in runs(flags):
                if end / fps > start and begin / fps < start + SECONDS:
                    draw.rectangle((x(begin / fps), top + TALL + 6, x(end / fps), base), fill=color)
                    if flags is closed:
                        draw.rectangle((x(begin / fps), top, x(end / fps), top + 5), fill=color)
                        for edge in (begin, end):
                            draw.line((x(edge / fps), top, x(edge / fps), top + TALL), fill=CLOSED)
        for values, color, width in ((energy * top_value, ENERGY, 1), (aperture, INK, 2)):
            points = [(x((t + 0.5) / fps), y(value)) for t, value in enumerate(values)
                      if start - 1 / fps <= (t + 0.5) / fps <= start + SECONDS + 1 / fps]  # fmt: skip
            draw.line(points, fill=color, width=width)
        draw.rectangle((LEFT, top + TALL + 6, WIDTH - 6, base), outline=ENERGY)
        for value in (0, top_value):
            draw.text((4, y(value) - 7), f"{value:.0f} mm", fill=INK, font=font)
        for hertz in (0, 3, 6):
            draw.text((4, top + TALL - 6 - hertz / 6 * (TALL - 8) - 4), f"{hertz} kHz", fill=INK, font=font)
        for tick in np.arange(np.ceil(start * 2) / 2, start + SECONDS, 0.5):
            draw.line((x(tick), base, x(tick), base + 4), fill=INK)
            draw.text((x(tick) + 2, base + 3), f"{tick:.1f} s", fill=INK, font=font)
    return image.quantize(24, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of wav, flac or mp3 files")
    parser.add_argument("--model", default=facetalk_hf.TINY)
    parser.add_argument("--output", type=Path, default=Path("out/real_speech"), help="folder of the plots")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in options.folder.iterdir() if path.suffix in (".wav", ".flac", ".mp3"))
    if not paths:
        raise FaceTalkError(f"no wav, flac or mp3 file in {options.folder}")
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    decoder, fps = make_decoder(pipe.head, resolution=32), pipe.config.fps
    options.output.mkdir(parents=True, exist_ok=True)
    heads = ("seconds", "lag, frames", "r to loudness", "silence, mm", "closures", "treble there, dB")
    print(f"{'file':24}" + "".join(f"{head:>17}" for head in heads))
    for path in paths:
        audio = load_audio(path)
        generator = torch.Generator().manual_seed(options.seed)
        codes = pipe(audio, sampling_rate=RATE, generator=generator, output_type="expression").expressions[0]
        aperture = decoder(codes).lip_aperture
        energy = loudness(audio, RATE, len(codes), fps)
        silent = energy < 0.1
        closed = lips_closed(pipe.head.weights_from_expression(codes.to(pipe.head.expression_basis)).float().numpy())
        tracks = {"aperture": aperture, "energy": energy, "closed": closed, "silent": silent}
        plot(audio, tracks, fps).save(options.output / f"{path.stem}.png", optimize=True)
        level = treble(audio, len(codes))
        speaking = ~silent & ~closed
        both = closed.any() and speaking.any()
        drop = np.median(level[closed]) - np.median(level[speaking]) if both else np.nan
        rest = metrics.silence_aperture(aperture, silent)
        values = (len(audio) / RATE, metrics.lag(aperture, energy), metrics.correlation(aperture, energy), rest)
        print(f"{path.name:24}" + "".join(f"{value:17.2f}" for value in (*values, len(runs(closed)), drop)))


if __name__ == "__main__":
    try:
        main()
    except FaceTalkError as error:
        raise SystemExit(str(error)) from None
