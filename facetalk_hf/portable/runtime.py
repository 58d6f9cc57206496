# SPDX-License-Identifier: MIT
"""A stream on the files of `export_onnx`: sound in, ARKit weights out, with NumPy and onnxruntime alone.

    stream = OnnxStream("portable", sampling_rate=48000)
    for chunk in microphone:
        for frame in stream.push(chunk):
            ...  # frame.time, frame.arkit

Features, statistics, and what is decided of lids and gaze are the code of `pipeline.streaming`; so are the controls.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.columns import ColumnLayout, log_mel
from ..audio.streaming import FeatureStream, StreamingResampler, read_chunk
from ..blendshapes import INDEX, TONGUE
from ..conditions import STYLE
from ..errors import FaceTalkError
from ..motion.controls import BLINK_CONTRAST, MotionControls, has_lids
from ..motion.emotions import told_conditions
from ..motion.eyes import LidMemory, keep_gaze, sees, sharpen_blinks
from ..phones.tongue import heard_tongue, within_mouth
from .packing import unpack


VERSION = 2
"""Of the files' layout."""
FIXED = ("num_inference_steps", "guidance_scale", "mouth_temperature", "look_ahead", "emotion_scale")
"""Controls that were settled when the files were written."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Args:
        index (`int`): its number. time (`float`): its start in the sound, seconds.
        weights ((W,) float32): of the model's own shapes, `OnnxStream.names`.
        arkit ((52,) float32): in 0..1, in the order of `OnnxStream.arkit_names`.
        pose ((6,) float32, *optional*): yaw, pitch, roll in degrees, x, y, z in mm, scaled by `head_motion`.
        tongue ((5,) float32, *optional*): of the shapes `blendshapes.TONGUE`, from a model that hears phones.
    """

    index: int
    time: float
    weights: np.ndarray
    arkit: np.ndarray
    pose: np.ndarray | None = None
    tongue: np.ndarray | None = None


class _Ear:
    """The audio encoder of a `FeatureStream`; keeps what it has heard of closures beside the features."""

    def __init__(self, session: Any, config: dict[str, Any]) -> None:
        self.session, self.config = session, config
        self.heard: dict[str, np.ndarray] = {}
        self.look_aheads = (config["ahead"],)

    def past_frames(self) -> int:
        return self.config["past"]

    def encode_columns(self, columns: np.ndarray, mask: np.ndarray, look_ahead: int) -> np.ndarray:
        told = {"columns": columns, "mask": mask.astype(np.float32)}
        features, *heard = self.session.run(None, told)
        self.heard = dict(zip(self.config["heard"], heard, strict=True))
        return features


class OnnxStream:
    """State of one stream; its size does not grow.

    Args:
        folder (`str` or `os.PathLike`): of `export_onnx`.
        sampling_rate (`int`): of the sound, Hz.
        controls ([`MotionControls`], *optional*): those of a stream, but for `FIXED`; `intensity` scales the weights.
        seed (`int`, *optional*, defaults to 0): of the noise.
        noise (callable, *optional*): draws it instead, (hop, C) float32 for `noise(hop, C)`.
        warm_up ((S,) float, *optional*): some seconds of the same voice, at the layout's rate (16000 Hz).
        threads (`int`, *optional*, defaults to 1): of each network.
        options: fields of the controls, in their place.

    Attributes:
        names, arkit_names (tuples of `str`): of `Frame.weights` and `Frame.arkit`.
        fps (`float`): frames a second. delay (`float`): seconds of sound after the start of a frame that it needs.

    Raises:
        FaceTalkError: no such files, no onnxruntime, controls that cannot be used.
    """

    def __init__(
        self, folder: str | os.PathLike, sampling_rate: int, *, controls: MotionControls | None = None, seed: int = 0,
        noise: Callable[[int, int], np.ndarray] | None = None, warm_up: np.ndarray | None = None, threads: int = 1,
        **options: Any,
    ) -> None:  # fmt: skip
        if not isinstance(sampling_rate, (int, np.integer)) or not 1 <= sampling_rate < 2**31:
            raise FaceTalkError(f"sampling_rate must be a positive whole number of Hz, not {sampling_rate}")
        folder = Path(folder)
        try:
            self.config = config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            layout, version = ColumnLayout(**config["layout"]), config["version"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FaceTalkError(f"{folder} holds no exported stream: facetalk export-onnx writes one") from error
        if version != VERSION:
            raise FaceTalkError(f"{folder} was written by another version of facetalk export-onnx: write it again")
        self.names, self.arkit_names = tuple(config["names"]), tuple(config["arkit"])
        self.fps, self.hop, self.sampling_rate = config["fps"], config["hop"], int(sampling_rate)
        self.controls = self._checked(replace(controls or MotionControls(), **options))
        self._ear = _Ear(_session(folder / config["files"]["encoder"], threads), config)
        self._motion = _session(folder / config["files"]["motion"], threads)
        self._features = FeatureStream(self._ear, layout, self.hop)
        self._resampler = StreamingResampler(self.sampling_rate, layout.sampling_rate)
        if warm_up is not None:
            self._features.statistics.update(log_mel(layout, warm_up))
        rng = np.random.default_rng(seed)
        self._noise = noise or (lambda frames, size: rng.standard_normal((frames, size), np.float32))
        self._cache = np.zeros(config["cache"], np.float32)
        self._lids, self._frequencies = LidMemory(), np.array(config["frequencies"])
        self._to_arkit = np.zeros((len(self.names), len(self.arkit_names)), np.float32)
        for row, column, share in config["to_arkit"]:
            self._to_arkit[row, column] = share
        self._mouth = np.array(config["mouth"])
        self._said: np.ndarray | None = None  # the tongue's last weights, before they were fitted to the mouth
        self.num_frames, self.finished = 0, False

    @property
    def delay(self) -> float:
        """Delay in seconds; see the class."""
        heard = self._features.samples_for(self.hop) / self._features.extractor.sampling_rate
        return heard + self._resampler.reach / self.sampling_rate

    def act(self, **options: Any) -> None:
        """Change emotion and style of the frames that are not made yet, as `pipeline.streaming.SpeechStream.act`."""
        if other := sorted(set(options) - {"emotion", *STYLE}):
            raise FaceTalkError(f"{other[0]} cannot be changed in a stream")
        self.controls = self._checked(replace(self.controls, **options))

    def push(self, samples: np.ndarray, sampling_rate: int | None = None) -> list[Frame]:
        """Take in sound and return the frames that it completes.

        Args:
            samples: (S,) numbers, one channel; integers are scaled by the range of their type. S may be 0.
            sampling_rate (`int`, *optional*): Hz, to be checked.

        Raises:
            FaceTalkError: no row of finite numbers, another rate, or a stream that has ended; it is left as it was.
        """
        if self.finished:
            raise FaceTalkError("the stream has ended, open another one")
        waveform, step = read_chunk(samples, sampling_rate, self.sampling_rate), self.sampling_rate
        frames: list[Frame] = []
        for start in range(0, len(waveform), step):
            self._features.push(self._resampler.push(waveform[start : start + step]))
            frames += self._advance()
        return frames

    def finish(self) -> list[Frame]:
        """End the stream and return the frames that are left; silence takes the place of what is missing."""
        if self.finished:
            return []
        self.finished = True
        self._features.push(self._resampler.finish())
        self._features.finish()
        end = self._features.end or 0
        frames = [frame for frame in self._advance() if frame.index < end]
        self.num_frames = end
        return frames

    def _advance(self) -> list[Frame]:
        frames: list[Frame] = []
        while self._features.ready():
            weights, poses = self._shape(*self._infer(self._features.pull()))
            arkit, tongue = (weights @ self._to_arkit).clip(0, 1), self._place_tongue(weights)
            if tongue is not None:
                arkit[:, self.arkit_names.index("tongueOut")] = tongue[:, TONGUE.index("tongueOut")]
            for row in range(self.hop):
                index = self.num_frames + row
                pose, said = (None if item is None else item[row] for item in (poses, tongue))
                frames.append(Frame(index, index / self.fps, weights[row], arkit[row], pose, said))
            self.num_frames += self.hop
        return frames

    def _infer(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Turn features (hop, A) into the weights (hop, W) and poses (hop, P) of the next frames."""
        hop, window, first = self.hop, self.config["window"], self.num_frames
        angle = (np.arange(first, first + hop)[:, None] * self._frequencies)[:, None]
        offset = np.arange(-window, hop) - np.arange(hop)[:, None]
        seen = (offset <= 0) & (offset >= -window) & (np.arange(first - window, first + hop) >= 0)
        told = {
            "features": features,
            "noise": np.asarray(self._noise(hop, self.config["sample_size"]), np.float32),
            "turn": np.stack((np.cos(angle), np.sin(angle))).astype(np.float32),
            "bias": np.where(seen, 0, -np.inf).astype(np.float32),
            "cache": self._cache,
        } | {name: self._ear.heard[name] for name in self.config["heard"] if name != "phones"}  # fmt: skip
        if self.config["conditions"]:
            told["conditions"] = told_conditions(
                self.controls, tuple(self.config["conditions"]), hop, self.fps, first=first
            )
        weights, self._cache, *poses = self._motion.run(None, told)
        return weights, poses[0] if poses else None

    def _shape(self, weights: np.ndarray, poses: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Decide lids, apply the intensities and turn the eyes, as `motion.processing.MotionProcessor` does."""
        controls = self.controls
        amount = controls.blink_contrast
        amount = BLINK_CONTRAST * has_lids(self.names) if amount is None else amount
        if amount:
            weights = sharpen_blinks(weights, self.names, amount, self._lids)
        upper = controls.intensity if controls.upper_face_intensity is None else controls.upper_face_intensity
        weights = weights * np.where(self._mouth, np.float32(controls.intensity), np.float32(upper))
        if poses is None:
            return weights, None
        if controls.head_motion != 1 and sees(self.names):
            weights = keep_gaze(weights, self.names, (1 - controls.head_motion) * poses)
        return weights, controls.head_motion * poses

    def _place_tongue(self, weights: np.ndarray) -> np.ndarray | None:
        """Find the tongue's weights (hop, 5) in what was heard, as `pipeline.tongue` does."""
        if self.config["tongue"] is None:
            return None
        heard = heard_tongue(self._ear.heard["phones"], self._said)
        self._said, mouth = heard[-1], np.zeros((len(heard), len(INDEX)), np.float32)
        for name, values in zip(self.names, weights.T, strict=True):
            if name in INDEX:
                mouth[:, INDEX[name]] = values
        return within_mouth(heard, mouth)

    def _checked(self, controls: MotionControls) -> MotionControls:
        learnt_pose = bool(self.config["poses"])
        controls.check(self.names, "expression", tuple(self.config["conditions"]) or None, learnt_pose)
        controls.check_live(learnt_pose)
        for name in FIXED:
            if getattr(controls, name) is not None:
                raise FaceTalkError(f"{name} was settled when the stream was exported: leave it out")
        return controls


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise FaceTalkError("this needs onnxruntime: pip install 'facetalk_hf[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # shapes are fixed and small; the arena would only keep more
    # Spinning threads win microseconds and cost a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        data = path.read_bytes()
        model = unpack(data) if path.suffix == ".onnxz" else data
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has classes of its own for each of its complaints
        raise FaceTalkError(
            f"cannot load {path}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
