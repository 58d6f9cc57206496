# SPDX-License-Identifier: MIT
"""How long after a sound its face is there, in a stream and in a conversation that sound comes to in uneven chunks.

    python benchmarks/conversation.py                     # an hour of sound
    python benchmarks/conversation.py --seconds 60        # a quick look

The hour is not waited for: the clock of the world is reckoned, the processor time of every computation is measured,
which is the time on the clock of a core that does nothing else. A chunk has
come when its last sample was spoken and a delay of the network, drawn anew for each, has passed. Computation begins
when the chunk is there and the one before has been dealt with; a frame is late by what passed between the moment
that its own sound began to be spoken and the moment that its weights were there. One thread. The table goes to
docs/live.md between its markers (--place).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, LogMelEncoder, MotionControls, load_audio
from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers
from facetalk_hf.evaluation.timing import machine
from facetalk_hf.live.conversation import Conversation
from facetalk_hf.pipeline.few_steps import prefers_few_steps
from facetalk_hf.scripts import run_script


ROOT = Path(__file__).resolve().parents[1]
RATE = 16000


def load(model: Path, choices: list[int]) -> tuple[FaceTalkPipeline, str]:
    """The model; where its ear has learnt one look-ahead alone, and `choices` are asked for, one of the same size."""
    pipe, note = FaceTalkPipeline.from_pretrained(model), ""
    if choices and not pipe.audio_encoder.config.look_ahead_choices:
        config = pipe.audio_encoder.config.to_dict()
        config["look_ahead_choices"] = choices
        ear = LogMelEncoder(type(pipe.audio_encoder.config).from_dict(config))
        ear.load_state_dict(pipe.audio_encoder.state_dict(), strict=False)
        pipe.audio_encoder = ear.eval()
        note = " Its ear has not learnt to look so little ahead: one of the same size stands in for the times."
    return pipe, note


def uneven(seconds: float, low: float, high: float, jitter: float, seed: int) -> list[tuple[int, int, float]]:
    """First and last sample of chunks of `low` to `high` s, and when each has come, up to `jitter` s late."""
    rng, chunks, at, before = np.random.default_rng(seed), [], 0, 0.0
    while at < seconds * RATE:
        stop = at + round(rng.uniform(low, high) * RATE)
        before = max(before, stop / RATE + rng.uniform(0, jitter))  # no chunk overtakes another
        chunks.append((at, stop, before))
        at = stop
    return chunks


def stream_delays(pipe: FaceTalkPipeline, clip: np.ndarray, chunks: list, look_ahead: float | None, hop: int) -> tuple:
    """Delays of frames in s, processor time in s, and the delay that the look-ahead alone makes."""
    controls = MotionControls(look_ahead=look_ahead)
    pipe = pipe.few_steps() if prefers_few_steps(pipe, controls) else pipe
    stream = pipe.open_stream(RATE, controls=controls, generator=torch.Generator().manual_seed(0), hop=hop)
    free, delays, begun = 0.0, [], process_time()
    for start, stop, come in chunks:
        began, first = process_time(), stream.num_frames
        codes = stream.push(np.take(clip, range(start, stop), mode="wrap"))
        if len(codes):
            pipe.arkit(codes)
        free = max(free, come) + process_time() - began
        delays += [free - index / stream.fps for index in range(first, first + len(codes))]
    return delays, process_time() - begun, stream.delay


def conversation_delays(pipe: FaceTalkPipeline, clip: np.ndarray, chunks: list, delay: float) -> tuple:
    """The same of a conversation that is said every chunk; its frames come at a fixed rate, whatever has come."""
    conversation = Conversation(pipe, RATE, delay=delay)
    fps, begun, free = conversation.fps, process_time(), 0.0
    starts: list[int | None] = [None] * (conversation.latency - 1)  # first sample of the sound of frames to come
    delays, queue, said, end = [], 0, 0, chunks[-1][2]
    for tick in range(1, round(end * fps)):
        now = tick / fps
        while queue < len(chunks) and chunks[queue][2] <= now:
            said = chunks[queue][1]
            conversation.say(np.take(clip, range(*chunks[queue][:2]), mode="wrap"))
            queue += 1
        waiting = round(conversation.waiting * RATE)
        starts.append(said - waiting if waiting else None)
        began = process_time()
        conversation.step()
        free = max(free, now) + process_time() - began
        if (start := starts.pop(0)) is not None:
            delays.append(free - start / RATE)
    return delays, process_time() - begun, conversation.delay


def row(name: str, measure: Callable[[], tuple], seconds: float) -> list:
    """One row of the table."""
    delays, cpu, least = measure()
    quantiles = np.quantile(delays, (0.5, 0.95, 0.99, 0.999, 1))
    print(name, len(delays), "frames:", *(f"{value:.3f}" for value in quantiles), f"{cpu / seconds:.3f}", flush=True)
    return [name, round(least, 3), *(round(float(value), 3) for value in quantiles), round(cpu / seconds, 3)]


def main(argv: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, default=Path(facetalk_hf.TINY))
    add("--seconds", type=float, default=3600.0, help="of sound")
    add(
        "--choices",
        type=int,
        nargs="*",
        default=[1, 2, 5, 10],
        help="look-aheads of a stand-in, frames; none for none",
    )
    add("--look-aheads", type=int, nargs="+", help="to be measured, frames; default: all")
    add("--chunk", type=float, nargs=2, default=(0.01, 0.04), metavar=("LOW", "HIGH"), help="lengths of chunks, s")
    add("--jitter", type=float, default=0.02, help="a chunk comes up to so many s late")
    add("--seed", type=int, default=0)
    add("--page", type=Path, default=ROOT / "docs" / "live.md")
    add("--place", default="conversation", help="name of the markers on the page")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    pipe, note = load(args.model, args.choices)
    pipe.set_progress_bar_config(disable=True)
    clip = load_audio(Path(facetalk_hf.__file__).parent / "assets" / "demo.wav")
    chunks = uneven(args.seconds, *args.chunk, args.jitter, args.seed)
    rows = []
    for frames in args.look_aheads or sorted(pipe.audio_encoder.look_aheads):
        ahead = frames / pipe.config["fps"]
        name = f"stream, look-ahead {ahead:.3f} s, hop 1"
        rows.append(row(name, lambda ahead=ahead: stream_delays(pipe, clip, chunks, ahead, 1), args.seconds))
    rows.append(row("conversation, delay 0.2 s", lambda: conversation_delays(pipe, clip, chunks, 0.2), args.seconds))
    head = ["", "by look-ahead alone, s", "median", "p95", "p99", "p99.9", "worst", "part of real time"]
    low, high = (1000 * value for value in args.chunk)
    text = (
        f"{args.seconds:g} s of sound in chunks of {low:g} to {high:g} ms, up to {1000 * args.jitter:g} ms late, seed "
        f"{args.seed}; s from sound to weights.{note} `{command()}`; {machine()}."
    )
    write_between_markers(args.page, args.place, f"{text}\n\n{markdown_table(head, rows)}")


if __name__ == "__main__":
    run_script(main)
