# SPDX-License-Identifier: MIT
"""Sampling that is steered by timed phones: the mouth does what they ask, all else is sampled to go with it.

Codes are z = E w, so the mouth is a linear part of them, and what phones ask of it is an observation y of that part.
In a denoising step the mean of the clean motion given x_t alone, which the denoiser predicts, becomes the mean given
x_t and y: a share v / (v + r) of what is missing is added, v the variance that x_t leaves to the mouth, r that of the
observation. These are the steps of pseudoinverse-guided diffusion (Song et al., ICLR 2023, section 3.2) without its
Jacobian, which would cost a pass backwards. With r = 0 it is the replacement of keyframes.

A frame is steered by its own target alone, so frames may come a few at a time.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import grey_opening

from ..audio.analysis import loudness
from ..blendshapes import INDEX
from ..errors import FaceTalkError
from ..models.audio_encoder import LogMelEncoder
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from ..phones.alphabets import SILENCE
from ..phones.segments import Segment
from ..phones.tongue import tongue_weights
from ..phones.visemes import LIP_SEAL, PARTING, PHONES, RULED, closed_lips, lip_contact, mouth_weights
from .channels import Channels, shape_names


APART = 0.05
"""Distance of lips that are seen apart, in units of jawOpen: 1.6 mm on the heads of ICT-FaceKit."""
RAMP = 0.2
"""Probability below the threshold over which lips come together."""
PAUSE = (0.25, 0.5)
"""Probabilities of a pause between which lips come to rest. Phones are trained with smoothed labels: .9 is certain."""
SHORT_PAUSE = 3
"""Frames below which a pause is taken for one of speech, such as the hold of a t: lips do not come to rest in it."""
AUDIO_LEAVES = 0.12
"""Variance of the mouth that is left open by the audio, as a part of its whole variance."""


class MouthTarget(NamedTuple):
    """What is asked of the mouth of one clip.

    Args:
        weights ((N, 53) float): of the shapes.
        contact ((N,) float): 0..1, where they must be met whatever the strength: m, b, p with closed lips, f, v with
            the lip at the teeth.
        least ((N,) float, *optional*): the lips come no nearer than this, in units of jawOpen. With it nothing but
            contact and distance is asked for; where there is none, the weights are.
        rest ((N,) float, *optional*): share, 0..1, of the distance between the lips that goes, and of what parts them.
        tongue ((N, 5) float, *optional*): weights of the tongue's shapes, where phones are known.
    """

    weights: np.ndarray
    contact: np.ndarray
    least: np.ndarray | None = None
    rest: np.ndarray | None = None
    tongue: np.ndarray | None = None


def mouth_target(
    segments: Sequence[Segment], frames: int, fps: float, audio: np.ndarray, sampling_rate: int
) -> MouthTarget:
    """Make the target of a clip from its phones by the rules of [`~facetalk_hf.phones.visemes`].

    Args:
        segments: of the common alphabet, without gaps, for the whole clip.
        frames (`int`), fps (`float`): of the motion.
        audio ((S,) float), sampling_rate (`int`, Hz): the jaw opens further where it is loud.
    """
    weights, _ = mouth_weights(segments, frames, fps, loudness(audio, sampling_rate, frames, fps))
    tongue = tongue_weights(segments, frames, fps)
    return MouthTarget(weights, lip_contact(segments, frames, fps), tongue=tongue)


def heard_target(
    encoder: LogMelEncoder, features: torch.Tensor, told: np.ndarray | None = None, least_pause: int = 1,
    phones: torch.Tensor | None = None,
) -> MouthTarget:  # fmt: skip
    """Make the target of a clip from the lip closures and pauses that its audio encoder hears.

    A regression of the mouth, and so the motion expected of the audio, half closes the lips where a closure is likely;
    lips do close or not. Whether they do is a question of its own, and the encoder has an answer of its own to it, as
    to whether anybody speaks: where nobody does, lips rest, unless a mood or style that is told holds them otherwise.

    Args:
        encoder ([`LogMelEncoder`]): with a `closure_threshold`. features ((N, A) float): that it made of the clip.
        told ((N, C) float, *optional*): of `motion.emotions.told_conditions`.
        least_pause (`int`): frames that a pause must last; a stream, which sees a few frames only, cannot tell.
        phones ((2 N, P) float, *optional*): logits of `predict_phones`, where they are known already.
    """
    features = features.to(encoder.device, encoder.dtype)
    motion = encoder.predict_motion(features)
    weights = motion.weights.float().cpu().numpy().clip(0, 1)
    probability = motion.closure_logits.float().sigmoid().cpu().numpy()
    contact = np.clip(1 + (probability - encoder.config.closure_threshold) / RAMP, 0, 1) ** 2
    rest = np.zeros_like(contact)
    if encoder.config.num_phones > PHONES.index(SILENCE):
        phones = encoder.predict_phones(features[None])[0] if phones is None else phones
        pause = phones.float().softmax(-1)[:, PHONES.index(SILENCE)].unflatten(0, (-1, 2)).amin(-1).cpu().numpy()
        rest = np.clip((pause - PAUSE[0]) / (PAUSE[1] - PAUSE[0]), 0, 1)
        if least_pause > 1:  # one that begins before the clip or goes on behind it may have any length
            rest = grey_opening(np.pad(rest, least_pause, mode="edge"), least_pause)[least_pause:-least_pause]
        if told is not None:
            rest = rest * ~told.any(axis=1)
    aperture = weights[:, INDEX["jawOpen"]] - weights[:, INDEX["mouthClose"]] / LIP_SEAL
    least = np.clip(0.6 * aperture, 0, APART) * (1 - np.sqrt(contact)) * (1 - rest)
    return MouthTarget(closed_lips(weights), contact, least, rest)


def steerable(head: NPHMModel | None) -> bool:
    """Tell whether a head has, by name, all shapes of the mouth that speech needs."""
    return set(RULED) <= set(shape_names(head) or ())


class MouthSteering:
    """Moves the mouth of predicted motion towards what phones ask for.

    Args:
        targets (sequence of [`MouthTarget`]): one for each element of the batch; `None` leaves an element free.
        frames (`int`): of the longest element.
        denoiser ([`FaceTalkDenoiser`]): whose predictions are steered.
        head ([`NPHMModel`], *optional*): names the shapes.
        strength (`float`): share, 0 to 1, of the way from the mouth that the audio lets expect to the one that phones
            ask for.
        intensity (`float`, *optional*): that the denoiser is conditioned on.
        channels ([`Channels`], *optional*): of the head, where they were made already.

    Raises:
        FaceTalkError: a head whose shapes have no names, or without those that speech needs.
    """

    def __init__(
        self, targets: Sequence[MouthTarget | None], frames: int, denoiser: FaceTalkDenoiser, head: NPHMModel | None,
        strength: float, intensity: float | None = None, channels: Channels | None = None,
    ) -> None:  # fmt: skip
        self.channels = channels = channels or Channels(head, "phones")
        missing = [name for name in RULED if name not in channels.names]
        if missing:
            raise FaceTalkError(f"phones cannot steer this head: it has no shape {missing[0]}")
        self.strength = strength
        # To weights of the mouth and back in one product each, from normalised codes.
        names = [name for name, mouth in zip(channels.names, channels.mouth, strict=True) if mouth]
        basis, dual = channels.basis[:, channels.mouth], channels.dual[:, channels.mouth]
        std, mean = denoiser.code_std.double().cpu(), denoiser.code_mean.double().cpu()
        self._read, self._offset = (basis * std[:, None]).float(), (mean @ basis).float()
        self._write = (dual / std[:, None]).T.float()
        # Poses stand behind the codes, and no phone has a part in them.
        padding = (0, 0, 0, denoiser.sample_dim - denoiser.config["code_dim"])
        self._read = torch.nn.functional.pad(self._read, padding)
        self._write = torch.nn.functional.pad(self._write.T, padding).T
        self._columns = [INDEX[name] for name in names]
        jaw, close = (torch.tensor([float(n == name) for n in names]) for name in ("jawOpen", "mouthClose"))
        self._closing = torch.stack((close, jaw - close / LIP_SEAL), 1)  # weights to mouthClose, distance of lips
        # What distance is lacking, less of mouthClose, and distance that goes, as changes of weights.
        self._opening = torch.stack((jaw, -jaw / LIP_SEAL - close, -jaw))
        self._parting_shapes = torch.tensor([float(name in PARTING) for name in names])
        self._intensity = 1.0 if intensity is None else intensity
        # Shapes that the rules know nothing of are the speaker's own, but for what would part closed lips.
        self._unruled = torch.tensor([name not in RULED for name in names])
        self.aim(targets, frames)

    def aim(self, targets: Sequence[MouthTarget | None], frames: int) -> None:
        """Take over targets, as the constructor does: a stream has others for every few frames."""
        goal, contact = (np.zeros((len(targets), frames, size), np.float32) for size in (len(self._columns), 1))
        least, rest = (np.full((len(targets), frames), value, np.float32) for value in (-np.inf, 0))
        for index, target in enumerate(targets):
            if target is not None:
                count = len(target.weights)
                goal[index, :count] = target.weights[:, self._columns] * self._intensity
                contact[index, :count, 0] = target.contact
                if target.least is not None:
                    least[index, :count] = target.least * self._intensity
                if target.rest is not None:
                    rest[index, :count] = target.rest
        self._parting = any(target is not None and target.least is not None for target in targets)
        free = torch.tensor([target is None or target.least is not None for target in targets])
        self._free = free[:, None, None] | self._unruled
        resting = bool(rest.any())
        self.aim_at(*(torch.from_numpy(item) for item in (goal, contact, least, rest)))
        self._resting = resting

    def aim_at(self, target: torch.Tensor, contact: torch.Tensor, least: torch.Tensor, rest: torch.Tensor) -> None:
        """Take over the tensors of targets of the same kind: (B, N, K), (B, N, 1), (B, N) and (B, N)."""
        self.target, self.contact, self.least, self.rest = target, contact, least, rest
        self._gain = torch.where(self._free, self.contact, 1.0)  # of a whole share
        self._pull = self._gain * self.target
        self._resting, self._loosened = True, rest[..., None] * self._parting_shapes

    def __call__(self, clean: torch.Tensor, noise: float = math.inf) -> torch.Tensor:
        """Steer predictions of clean, normalised codes (B, N, D).

        Args:
            noise (`float`): variance of the noise in x_t over that of the signal; infinite where there is no signal.
        """
        gain, pull = self._gain, self._pull
        if self.strength != 1:
            left = 1.0 if math.isinf(noise) else noise / (noise + AUDIO_LEAVES)
            share = left * self.strength / (left * self.strength + 1 - self.strength)
            soft = torch.where(self._free, 0.0, share)
            gain = soft + (1 - soft) * self.contact
            pull = gain * self.target
        # Few operations: in a stream every step of every portion makes them for two frames.
        weights = clean @ self._read.to(clean) + self._offset.to(clean)
        change = torch.addcmul(pull.to(clean), gain.to(clean), weights, value=-1)
        if self._parting:
            change = self._part(weights, change)
        return clean + change @ self._write.to(clean)

    def _part(self, weights: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Give a change (B, N, K) of the mouth's weights with what lips need that rest, or that are too near.

        For rest the jaw closes, and what parts lips by itself goes; lips part by less mouthClose first.
        """
        held = weights + change
        close, aperture = (held @ self._closing.to(weights)).unbind(-1)
        lacking = self.least.to(weights) - aperture
        parts = []
        if self._resting:
            parts = [self.rest.to(weights) * aperture.clamp_min(0)]
            lacking = lacking + parts[0]
            change = torch.addcmul(change, self._loosened.to(weights), held.clamp_min(0), value=-1)
        lacking = lacking.clamp_min(0)
        parts = [lacking, torch.minimum(lacking * LIP_SEAL, close.clamp_min(0)), *parts]
        return change + torch.stack(parts, -1) @ self._opening[: len(parts)].to(weights)

    def touch(self, index: int, codes: torch.Tensor, scale: float) -> torch.Tensor:
        """Make the contacts of one element exact again in scaled codes (N, D), after they were smoothed."""
        mouth, frames = self.channels.mouth, len(codes)
        target = scale * self.target[index, :frames].to(codes)
        missing = target - self.channels.weights(codes)[:, mouth]
        return self.channels.change(codes, self.contact[index, :frames].to(codes) * missing, mouth)
