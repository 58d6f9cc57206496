# SPDX-License-Identifier: MIT
"""Training data of the denoiser: clips as codes and audio features, encoded once, and random segments of them.

The audio encoder is frozen, so its features are kept: in memory, or in a folder that is mapped into memory.
"""

import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..conditions import CONDITIONS, POSE
from ..errors import FaceTalkError
from ..files import atomic_folder


def padded_cut(values: np.ndarray, start: int, length: int) -> np.ndarray:
    """Cut values[start : start + length] of (T, ...), with zeros behind the end: always (length, ...)."""
    cut = values[start : start + length]
    return cut if len(cut) == length else np.pad(cut, [(0, length - len(cut))] + [(0, 0)] * (values.ndim - 1))


class Clip(NamedTuple):
    """A clip: codes (T, D), audio features (T, A); where known also head poses (T, 6) and conditions (T, C)."""

    codes: np.ndarray
    audio: np.ndarray
    poses: np.ndarray | None = None
    conditions: np.ndarray | None = None


OPTIONAL = {"poses": len(POSE), "conditions": len(CONDITIONS)}
"""What not every clip has, with its numbers a frame; NaN stands for what is not known."""


@dataclass
class EncodedClips:
    """Clips laid end to end.

    Args:
        codes ((F, D) float32): expression codes of all frames.
        audio ((F, A) float16 or float32): audio features of all frames.
        starts ((C + 1,) int64): first frame of each clip, and F.
        poses ((F, 6) float32, *optional*): head poses of all frames, NaN where a clip has none; `None` where none has.
        conditions ((F, C) float32, *optional*): what the motion was told, in the same way.
    """

    codes: np.ndarray
    audio: np.ndarray
    starts: np.ndarray
    poses: np.ndarray | None = None
    conditions: np.ndarray | None = None

    @classmethod
    def collect(
        cls, clips: Iterable[Clip | tuple[np.ndarray, np.ndarray]], folder: str | Path | None = None
    ) -> "EncodedClips":
        """Lay clips end to end.

        Args:
            clips: of [`Clip`], or pairs of codes (T, D) and audio features (T, A); a difference of a frame in length
                is cut off.
            folder (`str` or `Path`, *optional*): write them there, whole or not at all, and map the files into
                memory. An iterator then never has to fit into it.

        Raises:
            FaceTalkError: there is no clip, or the lengths of a pair differ by more than a frame.
        """
        target = Path(folder) if folder is not None else None
        with tempfile.TemporaryDirectory() if target is None else atomic_folder(target) as place:
            work = Path(place)
            lengths: list[int] = []
            widths: dict[str, int] = {}
            known = dict.fromkeys(OPTIONAL, False)
            with ExitStack() as stack:
                files = {name: stack.enter_context(open(work / f"{name}.bin", "wb")) for name in Clip._fields}
                for clip in clips:
                    codes, audio, *_ = clip = Clip(*clip)
                    if abs(len(codes) - len(audio)) > 1:
                        raise FaceTalkError(
                            f"clip {len(lengths)} has {len(codes)} frames of codes but {len(audio)} of audio: the "
                            "frame rates of corpus and audio encoder must be the same"
                        )
                    if widths and codes.shape[1] != widths["code_dim"]:
                        raise FaceTalkError(
                            f"clip {len(lengths)} has codes of {codes.shape[1]} numbers, those before it have "
                            f"{widths['code_dim']}: they belong to another head or basis"
                        )
                    length = min(len(codes), len(audio))
                    np.ascontiguousarray(codes[:length], np.float32).tofile(files["codes"])
                    np.ascontiguousarray(audio[:length], np.float16).tofile(files["audio"])
                    for name, width in OPTIONAL.items():
                        values = getattr(clip, name)
                        known[name] |= values is not None
                        values = np.full((length, width), np.nan) if values is None else values[:length]
                        np.ascontiguousarray(values, np.float32).tofile(files[name])
                    lengths.append(length)
                    widths = {"code_dim": codes.shape[1], "audio_dim": audio.shape[1]}
            if not sum(lengths):
                raise FaceTalkError("the corpus has no clips in this split")
            for name, found in known.items():
                if not found:
                    (work / f"{name}.bin").unlink()
            np.save(work / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]))
            (work / "meta.json").write_text(json.dumps(widths))
            if target is None:
                mapped = cls.load(work)
                more = {name: np.array(getattr(mapped, name)) for name, found in known.items() if found}
                return cls(np.array(mapped.codes), np.array(mapped.audio), mapped.starts, **more)
        return cls.load(target)

    @classmethod
    def load(cls, folder: str | Path) -> "EncodedClips":
        """Map what `collect` wrote to `folder`."""
        folder = Path(folder)
        widths = json.loads((folder / "meta.json").read_text())
        codes = np.memmap(folder / "codes.bin", np.float32, "r").reshape(-1, widths["code_dim"])
        if widths["audio_dim"]:
            audio = np.memmap(folder / "audio.bin", np.float16, "r").reshape(-1, widths["audio_dim"])
        else:  # features are made elsewhere; an empty file cannot be mapped
            audio = np.zeros((len(codes), 0), np.float16)
        more = {
            name: np.memmap(folder / f"{name}.bin", np.float32, "r").reshape(-1, width)
            for name, width in OPTIONAL.items()
            if (folder / f"{name}.bin").exists()
        }
        return cls(codes, audio, np.load(folder / "starts.npy"), **more)

    def statistics(self, floor: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute mean and standard deviation of the codes over all frames, each (D,) float.

        Deviations are at least `floor` times their root mean square, so that a channel that hardly moves doesn't
        become as loud as the others when codes are normalised.
        """
        mean, std = _moments(self.codes)
        std = np.maximum(std, max(floor * np.sqrt(np.mean(std**2)), 1e-6))
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()

    def pose_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute mean and standard deviation of the poses over the frames that have one, each (6,) float."""
        if self.poses is None:
            raise FaceTalkError("no clip has head poses")
        mean, std = _moments(self.poses)
        return torch.from_numpy(mean).float(), torch.from_numpy(np.maximum(std, 1e-3)).float()


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float64 of (F, D) over the frames without NaN, a piece at a time."""
    total, square, count = np.zeros(values.shape[1]), np.zeros(values.shape[1]), 0
    for start in range(0, len(values), 1 << 16):
        part = values[start : start + (1 << 16)].astype(np.float64)
        part = part[np.isfinite(part).all(axis=1)]
        total, square, count = total + part.sum(axis=0), square + np.square(part).sum(axis=0), count + len(part)
    mean = total / max(count, 1)
    return mean, np.sqrt(np.maximum(square / max(count, 1) - mean**2, 0))


class SegmentDataset(torch.utils.data.Dataset):
    """Random segments with everything that a training step draws at random.

    Sample `index` is a function of `seed` and `index` alone. So a resumed run continues with the samples that the
    interrupted one would have drawn, whatever the number of data-loader workers, and P processes with batches of B
    see the samples of one process with batches of P * B.

    Args:
        clips ([`EncodedClips`]): where segments are cut from; clips are drawn in proportion to their length.
        num_frames (`int`, *optional*, defaults to 48): length of a segment (2 s, as in the paper, section 4).
            Shorter clips are padded.
        num_samples (`int`, *optional*, defaults to 1): length of the dataset.
        offset (`int`, *optional*, defaults to 0): index of the first sample.
        seed (`int`, *optional*, defaults to 0).
        num_timesteps (`int`, *optional*, defaults to 1000): timesteps are drawn from 0 ... `num_timesteps` - 1.
        null_probability (`float`, *optional*, defaults to 0.25): share of samples without audio (paper, section 4).
        augmentation ((`float`, `float`), *optional*, defaults to (1, 1)): range (a, b) of the factor r of the
            paper's expression augmentation; the codes become r * codes. The paper leaves a and b open.
        intensity_dropout (`float`, *optional*, defaults to 0): share of samples whose r is not told, NaN.
        condition_dropout (`float`, *optional*, defaults to 0): share of samples whose conditions are not told, NaN.
    """

    def __init__(
        self,
        clips: EncodedClips,
        num_frames: int = 48,
        num_samples: int = 1,
        offset: int = 0,
        seed: int = 0,
        num_timesteps: int = 1000,
        null_probability: float = 0.25,
        augmentation: tuple[float, float] = (1.0, 1.0),
        intensity_dropout: float = 0.0,
        condition_dropout: float = 0.0,
    ) -> None:
        self.clips = clips
        self.num_frames = num_frames
        self.num_samples = num_samples
        self.offset = offset
        self.seed = seed
        self.num_timesteps = num_timesteps
        self.null_probability = null_probability
        self.augmentation = augmentation
        self.intensity_dropout = intensity_dropout
        self.condition_dropout = condition_dropout

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[0] for key, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        """Draw a batch, stacked.

        Returns:
            dict of "codes", "noise" (B, N, D), "audio" (B, N, A), "frame_mask" (B, N), "timestep", "audio_keep",
            "intensity" (B,) and "start" (B,), the segment's first frame among those of all clips; where clips have
            them also "poses" and "pose_noise" (B, N, 6), "conditions" (B, N, C), NaN for what is not known or told.
        """
        clips, size, count = self.clips, self.num_frames, len(indices)
        codes = np.zeros((count, size, clips.codes.shape[1]), np.float32)
        noise = np.empty_like(codes)
        audio = np.zeros((count, size, clips.audio.shape[1]), np.float32)
        mask = np.zeros((count, size), bool)
        timestep, keep, intensity = np.empty(count, np.int64), np.empty(count, bool), np.empty(count, np.float32)
        starts = np.empty(count, np.int64)
        more = {name: np.full((count, size, width), np.nan, np.float32) for name, width in OPTIONAL.items()
                if getattr(clips, name) is not None}  # fmt: skip
        pose_noise = None
        if "poses" in more:
            pose_noise = more["pose_noise"] = np.empty_like(more["poses"])
        for row, index in enumerate(indices):
            # A counter-based generator: every sample has a stream of its own and costs no search for its state.
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, index + self.offset, 0]))
            frame = rng.integers(clips.starts[-1])
            clip = np.searchsorted(clips.starts, frame, side="right") - 1
            first, last = clips.starts[clip], clips.starts[clip + 1]
            # Starts beyond the ends are moved in, or the first and last frames of a clip would hardly ever be seen.
            start = first + rng.integers(-(size // 4), max(last - first - size, 0) + size // 4 + 1)
            start = max(min(start, last - size), first)
            length = min(size, last - start)
            starts[row] = start
            factor = rng.uniform(*self.augmentation)
            codes[row] = padded_cut(clips.codes[start:last], 0, size)
            codes[row] *= factor
            audio[row] = padded_cut(clips.audio[start:last], 0, size)
            mask[row, :length] = True
            timestep[row] = rng.integers(self.num_timesteps)
            keep[row] = rng.random() >= self.null_probability
            rng.standard_normal(out=noise[row], dtype=np.float32)
            intensity[row] = factor if rng.random() >= self.intensity_dropout else np.nan
            told = rng.random() >= self.condition_dropout
            for name in OPTIONAL.keys() & more.keys():
                if name == "poses" or told:
                    more[name][row, :length] = getattr(clips, name)[start : start + length]
            if pose_noise is not None:
                rng.standard_normal(out=pose_noise[row], dtype=np.float32)
        batch: dict[str, np.ndarray] = {"codes": codes, "noise": noise, "audio": audio, "frame_mask": mask}
        batch |= {"timestep": timestep, "audio_keep": keep, "intensity": intensity, "start": starts} | more
        return {key: torch.from_numpy(value) for key, value in batch.items()}


def take_batch(batch: Any) -> Any:
    """Pass a batch on: the `collate_fn` for a [`SegmentDataset`], whose batches are stacked already."""
    return batch
