# SPDX-License-Identifier: MIT
"""From a denoiser's samples to the motion that the controls ask for."""

from dataclasses import replace
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import torch

from ..animation.head_animation import HeadAnimation, neck_pivot
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from .blinks import replace_blinks
from .channels import Channels, shape_names
from .controls import BLINK_CONTRAST, MOUTH_TEMPERATURE, MotionControls, has_lids
from .editing import retime, speech_gate
from .eyes import LidMemory, keep_gaze, sees, sharpen_blinks
from .head_motion import head_motion
from .smoothing import gaussian_filter


class MotionProcessor:
    """Turns normalised samples into expression codes: `postprocess`, then `scale`, then `edit`.

    Args:
        controls ([`MotionControls`]): checked.
        denoiser ([`FaceTalkDenoiser`]): of whose samples.
        head ([`NPHMModel`], *optional*): whose shapes the codes stand for.

    Attributes:
        intensity (`float`, *optional*): the part of the intensity that the denoiser is conditioned on; the codes are
            multiplied by the rest. `None` for a denoiser without that input.
    """

    def __init__(self, controls: MotionControls, denoiser: FaceTalkDenoiser, head: NPHMModel | None) -> None:
        self.denoiser, self.head = denoiser, head
        self.intensity, rest = denoiser.split_intensity(controls.intensity)
        upper = controls.upper_face_intensity
        upper = None if upper is None else upper / (self.intensity or 1)
        self.controls = replace(controls, intensity=rest, upper_face_intensity=upper)

    @cached_property
    def channels(self) -> Channels:
        """Shapes of the head; FaceTalkError where they have no names."""
        return Channels(self.head, "a control of single shapes")

    def postprocess(self, sample: torch.Tensor, expected: torch.Tensor, lids: LidMemory | None = None) -> torch.Tensor:
        """Turn samples into codes, with the mouth's temperature lowered and half blinks decided.

        Args:
            sample ((..., T, C) float): normalised, as the denoiser gives them; poses behind the codes are left out.
            expected ((..., T, C) float): the prediction from noise alone, the mean over all samples.
            lids ([`LidMemory`], *optional*): lids before the first frame, which a stream keeps.

        Returns:
            `torch.Tensor` (..., T, D) float32 on the CPU.
        """
        place, size = self.denoiser.code_mean.device, self.denoiser.config["code_dim"]
        codes, mean = (
            self.denoiser.denormalize(item[..., :size].to(place)).float().cpu() for item in (sample, expected)
        )
        channels = None if shape_names(self.head) is None else self.channels
        codes = temper_mouth(codes, mean, self.head, self.controls.mouth_temperature, channels)
        amount = self.controls.blink_contrast
        if amount is None:
            amount = BLINK_CONTRAST if has_lids(shape_names(self.head)) else 0.0
        if amount == 0:
            return codes
        weights = self.channels.weights(codes)
        changed = torch.from_numpy(sharpen_blinks(weights.numpy(), self.channels.names, amount, lids))
        return self.channels.change(codes, changed.to(weights) - weights)

    def scale(self, codes: torch.Tensor, inverse: bool = False) -> torch.Tensor:
        """Apply the intensities to codes (..., D), or with `inverse` take them away again; a factor of 0 is kept."""
        uneven, first = self.controls.uneven, self.controls.intensity
        second = self.controls.upper_face_intensity
        second = first if second is None else second
        if inverse:
            first, second = 1 / (first or 1.0), 1 / (second or 1.0)
        scaled = codes * first
        if not uneven:
            return scaled
        upper = ~self.channels.mouth
        return self.channels.change(scaled, (second - first) * self.channels.weights(codes)[..., upper], upper)

    def poses(self, sample: torch.Tensor) -> torch.Tensor | None:
        """Take the poses (..., T, P) float32 out of a normalised sample (..., T, C), on the CPU; `None` without any.

        They are as the denoiser learnt them: `head_motion` scales them later.
        """
        poses = self.denoiser.split_sample(sample)[1]
        return None if poses is None else poses.float().cpu()

    def keep_gaze(self, codes: torch.Tensor, poses: torch.Tensor | None) -> torch.Tensor:
        """Turn the eyes back by what the head does not turn, so that they look where they were to look.

        Eyes make up for the motion of a head that was learnt; of that motion, `head_motion` decides how much is shown.

        Args:
            codes ((..., T, D) float): scaled. poses ((..., T, P) float, *optional*): as learnt.
        """
        names = shape_names(self.head) or ()
        if poses is None or self.controls.head_motion == 1 or not sees(names):
            return codes
        weights = self.channels.weights(codes).numpy()
        changed = keep_gaze(weights, names, (1 - self.controls.head_motion) * poses.numpy())
        return self.channels.change(codes, torch.from_numpy(changed - weights))

    def to_codes(self, sample: torch.Tensor) -> torch.Tensor:
        """Turn a normalised sample (..., C) into scaled codes (..., D) float32."""
        codes = sample[..., : self.denoiser.config["code_dim"]]
        return self.scale(self.denoiser.denormalize(codes.to(self.denoiser.code_mean)).float())

    def from_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Turn scaled codes (..., D) into a normalised sample; the inverse of `to_codes`."""
        return self.denoiser.normalize(self.scale(codes, inverse=True).to(self.denoiser.code_mean))

    def edit(
        self, codes: torch.Tensor, fps: float, audio: np.ndarray, sampling_rate: int, rng: np.random.Generator
    ) -> torch.Tensor:
        """Apply silence gate, smoothing and blink rate to the scaled codes of one result.

        Args:
            codes ((N, D) float32). fps (`float`): frames a second.
            audio ((S,) float), sampling_rate (`int`, Hz): the speech.
            rng (`np.random.Generator`): of `seeded_rng`; blinks are drawn from it.

        Returns:
            `torch.Tensor` (N, D) float32.
        """
        if self.controls.silence_gate:
            channels = self.channels
            closed = 1 - torch.from_numpy(speech_gate(audio, sampling_rate, len(codes), fps))[:, None]
            codes = channels.change(codes, -closed * channels.weights(codes)[:, channels.mouth], channels.mouth)
        if self.controls.smoothing:
            codes = torch.from_numpy(gaussian_filter(codes.numpy(), self.controls.smoothing * fps)).to(codes)
        if self.controls.blink_rate is not None:
            weights = self.channels.weights(codes)
            changed = replace_blinks(weights.numpy(), self.channels.names, fps, self.controls.blink_rate, rng)
            codes = self.channels.change(codes, torch.from_numpy(changed).to(weights) - weights)
        return codes


def temper_mouth(
    codes: torch.Tensor, expected: torch.Tensor, head: NPHMModel | None, temperature: float | None = None,
    channels: Channels | None = None,
) -> torch.Tensor:  # fmt: skip
    """Move the mouth of sampled codes towards the expected ones.

    What speech leaves open of a sample is noise to a listener at the lips, and life in eyes and brows.

    Args:
        codes, expected ((..., D) float): a sample, and the mean over all samples.
        head ([`NPHMModel`], *optional*): tells which shapes are those of the mouth.
        temperature (`float`, *optional*): share of the deviation that is kept; by default `MOUTH_TEMPERATURE` where
            the head names its shapes, else 1.
        channels ([`Channels`], *optional*): of the head, where they were made already.
    """
    if temperature is None:
        temperature = 1.0 if shape_names(head) is None else MOUTH_TEMPERATURE
    if temperature == 1:
        return codes
    channels = channels or Channels(head, "mouth_temperature")
    deviation = channels.weights(codes - expected)[..., channels.mouth]
    return channels.change(codes, (temperature - 1) * deviation, channels.mouth)


def finish_animation(
    animation: HeadAnimation, controls: MotionControls, rng: np.random.Generator, poses: np.ndarray | None = None
) -> HeadAnimation:
    """Add gaze and head motion to a decoded animation with its sound, and set its frame rate.

    Args:
        animation ([`HeadAnimation`]): at the model's frame rate. controls ([`MotionControls`]): checked.
        rng (`np.random.Generator`): head motion is drawn from it.
        poses ((T, 6) float32, *optional*): head motion that was learnt, scaled, in place of drawn one.
    """
    if controls.gaze is not None:
        yaw, pitch = (_angles(item) for item in controls.gaze)
        animation = animation.with_gaze(yaw, pitch)
    if controls.head_motion:
        if poses is None:
            strength = controls.head_motion
            sound = (animation.audio, animation.sampling_rate)
            poses = head_motion(*sound, animation.num_frames, animation.fps, rng, strength)
        animation = animation.replace(poses=poses, pivot=neck_pivot(animation))
    return animation if controls.fps is None else retime(animation, controls.fps)


def _angles(value: Any) -> float | np.ndarray:
    return np.asarray(value, np.float64) if np.ndim(value) else float(value)


def seeded_rng(generator: torch.Generator | list[torch.Generator] | None, index: int) -> np.random.Generator:
    """Make the random numbers of one result of a call, apart from those of its noise: drawing some changes no motion.

    They follow from the generator's seed, and of a generator that serves several results from the place among them.
    Without a generator they follow from the state of torch's own, without drawing from it.
    """
    if isinstance(generator, list):
        generator, index = generator[index], 0
    seed = crc32(torch.get_rng_state().numpy().tobytes()) if generator is None else generator.initial_seed()
    return np.random.default_rng([seed % 2**64, index])
