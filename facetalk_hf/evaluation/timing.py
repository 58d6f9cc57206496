# SPDX-License-Identifier: MIT
"""Clocks, peak memory and descriptions of a machine: what the timings in benchmarks/ share.

Two clocks go side by side. The wall clock says how long one waits; processor time, summed over all threads, is what
the work costs, and hardly changes when other programs use the same machine.
"""

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import torch

from ..paths import __version__
from ..pipeline.facetalk import FaceTalkPipeline


PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "trimesh", "embreex", "numba", "av", "usd-core")


class Duration(NamedTuple):
    """Seconds on the wall clock, and of processor time over all threads."""

    wall: float
    cpu: float

    def __truediv__(self, count: float) -> "Duration":
        return Duration(self.wall / count, self.cpu / count)

    @classmethod
    def fastest(cls, durations: "list[Duration]") -> "Duration":
        """Least of each clock by itself: the runs that other programs disturbed least."""
        return cls(min(item.wall for item in durations), min(item.cpu for item in durations))


def clocks() -> Duration:
    """Read both clocks, after all that a GPU still has to do; only differences mean something."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Duration(perf_counter(), process_time())


def since(start: Duration) -> Duration:
    """Measure what has passed since `clocks()` gave `start`."""
    now = clocks()
    return Duration(now.wall - start.wall, now.cpu - start.cpu)


def best(function: Callable[[], object], repeat: int, warm_up: bool = True) -> Duration:
    """Time the fastest of `repeat` calls, after one that warms up where asked to."""
    if warm_up:
        function()
    durations = []
    for _ in range(repeat):
        start = clocks()
        function()
        durations.append(since(start))
    return Duration.fastest(durations)


def step_duration(pipe: FaceTalkPipeline, clip: np.ndarray, sampling_rate: int, steps: int) -> Duration:
    """Time the mean of all denoising steps of a call but the first, which is still warming up.

    Args:
        clip ((S,) float). sampling_rate (Hz). steps (`int`): of the call, at least 2.
    """
    marks: list[Duration] = []

    def mark(pipe: FaceTalkPipeline, step: int, timestep: Any, tensors: dict) -> dict:
        marks.append(clocks())
        return {}

    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": steps, "output_type": "expression", "generator": generator}
    pipe(clip, sampling_rate=sampling_rate, callback_on_step_end=mark, **options)
    return Duration(marks[-1].wall - marks[0].wall, marks[-1].cpu - marks[0].cpu) / (len(marks) - 1)


@dataclass
class HopDurations:
    """What a stream needs for each portion of frames.

    Args:
        delay (`float`): seconds of sound that a frame waits for, whatever the machine.
        hop (`int`): frames in a portion.
        wall, cpu ((n,) float): seconds of each portion, without the first one.
    """

    delay: float
    hop: int
    wall: np.ndarray
    cpu: np.ndarray


def hop_durations(
    pipe: FaceTalkPipeline, clip: np.ndarray, sampling_rate: int, hop: int = 2, chunk: float = 0.02, **options: Any
) -> HopDurations:
    """Feed a clip to a stream in small chunks and clock every chunk that completes frames.

    Args:
        clip ((S,) float): long enough for a few portions. sampling_rate (Hz). hop (`int`): frames made at a time.
        chunk (`float`): seconds of sound that come at a time. options: of `FaceTalkPipeline.open_stream`.

    Raises:
        FaceTalkError: a model that cannot work live.
    """
    stream = pipe.open_stream(sampling_rate, hop=hop, **options)
    size, durations = round(chunk * sampling_rate), []
    for first in range(0, len(clip), size):
        start = clocks()
        if len(stream.push(clip[first : first + size])):
            durations.append(since(start))
    return HopDurations(stream.delay, hop, *np.array(durations[1:]).reshape(-1, 2).T)


def memory() -> float:
    """Read the memory that this process has now, GB (2^30 bytes); the peak so far where the system does not say."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 2**20
    except (OSError, IndexError):
        return peak_memory()


def peak_memory() -> float:
    """Read the most memory that this process has had at a time, GB (2^30 bytes).

    On Linux from /proc: what getrusage says of a child process begins with the size of its parent.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**20
    except (OSError, IndexError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**30 if sys.platform == "darwin" else 2**20)


def cores() -> int:
    """Count the processor cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Describe what timings depend on, in words without the name of the machine."""
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    used = f"{torch.get_num_threads()} of {cores()} CPU cores{device}"
    return f"{used}, {platform.system()} {platform.machine()}, torch {torch.__version__}"


def conditions() -> dict[str, Any]:
    """Collect what timings depend on: versions, processor, cores, threads, device; date, and load of the machine."""
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return (
        {"facetalk_hf": __version__}
        | versions
        | {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu_model(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "load": round(os.getloadavg()[0], 2),
        }
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """Read the processor's name for itself, or the architecture where it has none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
