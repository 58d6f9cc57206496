# SPDX-License-Identifier: MIT
"""What a user may ask of a generated motion, checked before the work and applied after it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import torch

from ..animation.head_animation import HeadAnimation, neck_pivot
from ..blendshapes import LOOK_DEGREES, MOUTH
from ..errors import FaceTalkError
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from .blinks import LidMemory, replace_blinks, sharpen_blinks
from .editing import retime, speech_gate
from .head_motion import head_motion
from .smoothing import gaussian_filter


FASTEST_BLINKS = 60.0
"""Blinks a minute; beyond it the lids would not have opened before they close again."""


MOUTH_TEMPERATURE = 0.4
"""By default; docs/sampling.md has the numbers."""

BLINK_CONTRAST = 1.0
"""By default; docs/control.md has the numbers."""


class Channels:
    """Expression codes by the names of a head's shapes: z = E w has the inverse w = E^T z.

    Columns of E are orthonormal up to the rounding of a stored checkpoint. With D = E (E^T E)^-1, `z + D_k d` changes
    the weight k by d, and no other by anything.

    Args:
        head ([`NPHMModel`], *optional*): the head.

    Raises:
        FaceTalkError: no head, or one whose shapes have no names.
    """

    def __init__(self, head: NPHMModel | None, purpose: str) -> None:
        if head is None or head.config.expression_names is None:
            raise FaceTalkError(f"{purpose} needs a head whose shapes have names, such as that of facetalk-tiny")
        self.names: tuple[str, ...] = tuple(head.config.expression_names)
        self.basis = head.expression_basis.detach().double().cpu()
        self.dual = self.basis @ torch.linalg.inv(self.basis.T @ self.basis)
        self.mouth = torch.tensor([name in MOUTH for name in self.names])

    def weights(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (..., D) -> weights (..., W)."""
        return codes @ self.basis.to(codes)

    def change(
        self, codes: torch.Tensor, difference: torch.Tensor, columns: torch.Tensor | slice = slice(None)
    ) -> torch.Tensor:
        """Codes (..., D) whose weights of `columns` are larger by `difference` (..., n)."""
        return codes + difference @ self.dual[:, columns].to(codes).T


@dataclass
class MotionControls:
    """The options of [`FaceTalkPipeline`] that shape what was generated; see there for each.

    Codes are changed in the order intensity, silence gate, smoothing, blinks; then keyframes are made exact; the
    decoded animation gets gaze, head motion and its frame rate.
    """

    intensity: float = 1.0
    upper_face_intensity: float | None = None
    silence_gate: bool = False
    smoothing: float = 0.0
    blink_rate: float | None = None
    gaze: tuple | None = None
    head_motion: float = 0.0
    fps: float | None = None
    mouth_temperature: float | None = None
    blink_contrast: float | None = None

    def check(self, head: NPHMModel | None, output_type: str) -> None:
        """Raise [`FaceTalkError`] for what cannot be done, before anything is computed."""
        for name, low, high in (
            ("intensity", 0, math.inf), ("upper_face_intensity", 0, math.inf), ("smoothing", 0, math.inf),
            ("blink_rate", 0, FASTEST_BLINKS), ("head_motion", 0, 2), ("mouth_temperature", 0, 1),
            ("blink_contrast", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                bounds = f"at least {low}" if high == math.inf else f"between {low} and {high:g}"
                raise FaceTalkError(f"{name} must be a number {bounds}, not {value}")
        if self.fps is not None and not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise FaceTalkError(f"fps must be above 0 and at most 1000, not {self.fps:g}")
        if self.gaze is not None:
            angles = [np.asarray(angle, np.float64) for angle in self.gaze]
            if len(angles) != 2 or any(angle.ndim > 1 for angle in angles):
                raise FaceTalkError("gaze must be two angles in degrees, to the subject's left and up")
            for name, angle, limit in zip(
                ("yaw", "pitch"), angles, (LOOK_DEGREES["Out"], LOOK_DEGREES["Up"]), strict=True
            ):
                if not (np.abs(angle) <= limit).all():
                    raise FaceTalkError(
                        f"the {name} of gaze must be within {limit:g} degrees, the eye turns no further"
                    )
        if self.uneven:
            Channels(head, "upper_face_intensity other than intensity")
        if self.silence_gate:
            Channels(head, "silence_gate")
        if self.mouth_temperature not in (None, 1):
            Channels(head, "mouth_temperature other than 1")
        if self.blink_rate is not None and not has_lids(Channels(head, "blink_rate").names):
            raise FaceTalkError("blink_rate needs a head with the shapes eyeBlink_L and eyeBlink_R")
        if self.blink_contrast and not has_lids(Channels(head, "blink_contrast").names):
            raise FaceTalkError("blink_contrast needs a head with the shapes eyeBlink_L and eyeBlink_R")
        for name in ("gaze", "head_motion", "fps"):
            if getattr(self, name) and output_type != "animation":
                raise FaceTalkError(f'{name} changes animations, not codes: use output_type="animation"')

    def check_length(self, frames: int) -> None:
        """Raise [`FaceTalkError`] where gaze is given for another number of frames than a clip has."""
        for angle in self.gaze or ():
            if np.ndim(angle) and len(angle) != frames:
                raise FaceTalkError(f"gaze has {len(angle)} angles, the clip has {frames} frames")

    @property
    def uneven(self) -> bool:
        """Whether mouth and upper face are to move by different factors."""
        return self.upper_face_intensity is not None and self.upper_face_intensity != self.intensity

    def cool(self, codes: torch.Tensor, expected: torch.Tensor, head: NPHMModel | None) -> torch.Tensor:
        """Sampled codes (..., D) whose mouth is moved towards the expected one, (..., D).

        What speech leaves open of a sample is noise to a listener at the lips, and life in eyes and brows.
        """
        temperature = self.mouth_temperature
        if temperature is None:
            temperature = 1.0 if head is None or head.config.expression_names is None else MOUTH_TEMPERATURE
        if temperature == 1:
            return codes
        channels = Channels(head, "mouth_temperature")
        departure = channels.weights(codes - expected)[..., channels.mouth]
        return channels.change(codes, (temperature - 1) * departure, channels.mouth)

    def settle(
        self, codes: torch.Tensor, expected: torch.Tensor, head: NPHMModel | None, lids: LidMemory | None = None
    ) -> torch.Tensor:
        """Sampled codes (..., T, D) with the mouth cooled and the blinks decided; a stream keeps `lids`."""
        codes = self.cool(codes, expected, head)
        amount = self.blink_contrast
        if amount is None:
            names = None if head is None else head.config.expression_names
            amount = BLINK_CONTRAST if has_lids(names or ()) else 0.0
        if amount == 0:
            return codes
        channels = Channels(head, "blink_contrast")
        weights = channels.weights(codes)
        changed = torch.from_numpy(sharpen_blinks(weights.numpy(), channels.names, amount, lids))
        return channels.change(codes, changed.to(weights) - weights)

    def split_intensity(self, denoiser: FaceTalkDenoiser) -> tuple[float | None, "MotionControls"]:
        """The factor that the denoiser is told, and these controls with the factors that are left for the codes."""
        told, rest = denoiser.split_intensity(self.intensity)
        upper = self.upper_face_intensity
        return told, replace(self, intensity=rest, upper_face_intensity=None if upper is None else upper / (told or 1))

    def scale(self, codes: torch.Tensor, head: NPHMModel | None, inverse: bool = False) -> torch.Tensor:
        """Codes (..., D) with the intensities applied, or with `inverse` taken away again; a factor of 0 is kept."""
        first, second = self.intensity, self.upper_face_intensity if self.uneven else self.intensity
        if inverse:
            first, second = 1 / (first or 1.0), 1 / (second or 1.0)
        scaled = codes * first
        if not self.uneven:
            return scaled
        channels = Channels(head, "upper_face_intensity")
        upper = ~channels.mouth
        return channels.change(scaled, (second - first) * channels.weights(codes)[..., upper], upper)

    def shape(
        self,
        codes: torch.Tensor,
        head: NPHMModel | None,
        fps: float,
        audio: np.ndarray,
        sampling_rate: int,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """What happens to the scaled codes (N, D) of one result before it is decoded."""
        if self.silence_gate:
            channels = Channels(head, "silence_gate")
            closed = 1 - torch.from_numpy(speech_gate(audio, sampling_rate, len(codes), fps))[:, None]
            codes = channels.change(codes, -closed * channels.weights(codes)[:, channels.mouth], channels.mouth)
        if self.smoothing:
            codes = torch.from_numpy(gaussian_filter(codes.numpy(), self.smoothing * fps)).to(codes)
        if self.blink_rate is not None:
            channels = Channels(head, "blink_rate")
            weights = channels.weights(codes)
            changed = replace_blinks(weights.numpy(), channels.names, fps, self.blink_rate, rng)
            codes = channels.change(codes, torch.from_numpy(changed).to(weights) - weights)
        return codes

    def finish(self, animation: HeadAnimation, rng: np.random.Generator) -> HeadAnimation:
        """What happens to a decoded animation with its sound."""
        if self.gaze is not None:
            animation = animation.with_gaze(yaw=self.gaze[0], pitch=self.gaze[1])
        if self.head_motion:
            poses = head_motion(
                animation.audio, animation.sampling_rate, animation.num_frames, animation.fps, rng, self.head_motion
            )
            animation = animation.replace(poses=poses, pivot=neck_pivot(animation))
        return animation if self.fps is None else retime(animation, self.fps)


def seeded_rng(generator: torch.Generator | list[torch.Generator] | None, index: int) -> np.random.Generator:
    """The random numbers of one result of a call, apart from those of its noise: drawing some changes no motion.

    They follow from the generator's seed, and of a generator that serves several results from the place among them.
    Without a generator they follow from the state of torch's own, without drawing from it.
    """
    if isinstance(generator, list):
        generator, index = generator[index], 0
    seed = crc32(torch.get_rng_state().numpy()) if generator is None else generator.initial_seed()
    return np.random.default_rng([seed % 2**64, index])


def has_lids(names: Sequence[str]) -> bool:
    """Whether both lids are among a head's named shapes."""
    return {"eyeBlink_L", "eyeBlink_R"} <= set(names)
