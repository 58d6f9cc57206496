# SPDX-License-Identifier: MIT
"""The components of FaceTalk's pipeline, and the steps before and after sampling that call and stream share."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import torch
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..animation.arkit import weights_to_arkit, with_tongue_out
from ..animation.head_animation import HeadAnimation
from ..audio.encoding import encode_speech
from ..audio.io import read_clips, resample
from ..errors import FaceTalkError
from ..head.decoder import HeadDecoder, Identity
from ..head.decoding import make_decoder
from ..models.denoiser import FaceTalkDenoiser
from ..models.guidance import guided_copies
from ..models.hooks import placement
from ..models.nphm import NPHMModel
from ..motion.blinks import blinks
from ..motion.channels import Channels, shape_names
from ..motion.controls import MotionControls
from ..motion.emotions import told_conditions
from ..motion.keyframes import LEAD, Constraint, Keyframes
from ..motion.processing import finish_animation, seeded_rng
from ..motion.steering import SHORT_PAUSE, MouthTarget, heard_target, mouth_target, steerable
from .denoising import Generators, SamplingScheduler
from .loading import HubPipeline
from .schedulers import check_scheduler
from .spoken import one_a_clip, spoken_segments


Codes = torch.Tensor | np.ndarray

OUTPUT_TYPES = ("animation", "arkit", "expression", "pt")
"""What a call or a stream gives: heads; ARKit's weights; codes, which diffusers' programs call "pt"."""

PLAYBACK_RATES = (16000, 22050, 24000, 32000, 44100, 48000)
"""Sampling rates, Hz, that video containers take as they are: the animation then keeps the recording's own samples."""


class FaceTalkComponents(HubPipeline):
    """Denoiser, scheduler, audio encoder and head, with a model's own defaults; arguments of [`FaceTalkPipeline`]."""

    model_cpu_offload_seq = "audio_encoder->denoiser->head"  # type: ignore[assignment]  # None in diffusers
    _optional_components = ["head"]
    _callback_tensor_inputs = ["latents"]

    denoiser: FaceTalkDenoiser
    scheduler: SamplingScheduler
    audio_encoder: Any  # what the encoders have in common is not among the types of their base classes
    feature_extractor: Any
    head: NPHMModel | None

    def __init__(
        self,
        denoiser: FaceTalkDenoiser,
        scheduler: SchedulerMixin,
        audio_encoder: PreTrainedModel,
        feature_extractor: SequenceFeatureExtractor,
        head: NPHMModel | None = None,
        fps: float = 24.0,
        num_inference_steps: int = 30,
        guidance_scale: float = 1.25,
        mouth_temperature: float | None = None,
        is_distilled: bool = False,
        emotion_scale: float = 1.0,
    ):
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, head=head)
        self.register_modules(audio_encoder=audio_encoder, feature_extractor=feature_extractor)
        self.register_to_config(fps=fps, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
        self.register_to_config(mouth_temperature=mouth_temperature, is_distilled=is_distilled)
        self.register_to_config(emotion_scale=emotion_scale)
        self._decoder: tuple[NPHMModel, HeadDecoder] | None = None
        self._origin: FaceTalkDenoiser | None = None  # the denoiser before few-step weights and styles came into it

    @property
    def learnt_pose(self) -> bool:
        """Whether the denoiser moves the head as well."""
        return self.denoiser.config["pose_dim"] > 0

    @property
    def decoder(self) -> HeadDecoder:
        """Decoder of the head, which keeps the geometry of the last identities.

        It may be set to another one, coarser or of a copy of the head on the CPU; a new head gets a new decoder.
        """
        if self.head is None:
            raise FaceTalkError('this pipeline has no head to animate, use output_type="expression"')
        if self._decoder is None or self._decoder[0] is not self.head:
            self._decoder = self.head, make_decoder(self.head)
        return self._decoder[1]

    @decoder.setter
    def decoder(self, decoder: HeadDecoder) -> None:
        if self.head is None:
            raise FaceTalkError("this pipeline has no head to decode")
        self._decoder = self.head, decoder

    def resolve_controls(self, controls: MotionControls | None = None) -> MotionControls:
        """Fill in the model's own defaults where controls leave the choice to it.

        Raises:
            FaceTalkError: another guidance, emotion scale or mouth temperature than those that distilled weights hold.
        """
        controls = controls or MotionControls()
        held = {
            "guidance_scale": "guidance",
            "mouth_temperature": "mouth's temperature",
            "emotion_scale": "emotion's scale",
        }
        for name, words in held.items():
            if self.config["is_distilled"] and getattr(controls, name) not in (None, self.config[name]):
                raise FaceTalkError(f"few-step weights hold the {words}: leave {name} out, or sample in many steps")
        own = ("num_inference_steps", "guidance_scale", "mouth_temperature", "emotion_scale")
        return replace(controls, **{name: self.config[name] for name in own if getattr(controls, name) is None})

    def check_inputs(
        self,
        controls: MotionControls,
        identity: Identity = None,
        output_type: str = "expression",
        callback_on_step_end_tensor_inputs: Sequence[str] = (),
    ) -> None:
        """Raise [`FaceTalkError`] for arguments that cannot be used, before anything is computed."""
        controls.check(shape_names(self.head), output_type, self.denoiser.config["condition_names"], self.learnt_pose)
        check_scheduler(self.scheduler, controls.num_inference_steps)
        if output_type not in OUTPUT_TYPES:
            raise FaceTalkError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        if output_type in ("animation", "arkit"):
            self.decoder.check(identity, self.denoiser.config["code_dim"])
        if output_type == "arkit":
            self.arkit(np.zeros((0, self.denoiser.config["code_dim"]), np.float32))
        unknown = [name for name in callback_on_step_end_tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise FaceTalkError(
                f"callback_on_step_end_tensor_inputs must be among {self._callback_tensor_inputs}, not {unknown}"
            )

    def arkit(self, expressions: Codes, tongue: np.ndarray | None = None) -> np.ndarray:
        """Compute ARKit's weights (N, 52) float32 in the order of `ARKIT`, of codes (N, D) and a tongue's (N, 5).

        Raises:
            FaceTalkError: no head, or one whose shapes are not ARKit's.
        """
        result = weights_to_arkit(self.decoder.weights(expressions), self.decoder.target_names)
        return result if tongue is None else with_tongue_out(result, tongue)

    @torch.no_grad()
    def encode_audio(
        self, audio: Any, sampling_rate: int | None = None, look_ahead: float | None = None
    ) -> torch.Tensor:
        """Encode speech as features, one vector a video frame.

        Args:
            audio: a clip or a list of clips, as in `__call__`.
            sampling_rate (`int`, *optional*): of clips given as arrays, Hz.
            look_ahead (`float`, *optional*): seconds, as in `__call__`.

        Returns:
            `torch.Tensor`: (B, N, A) float on the pipeline's device, zero beyond the end of the shorter clips.
        """
        rate = self.feature_extractor.sampling_rate
        waveforms = [resample(*recording, rate) for recording in read_clips(audio, sampling_rate)]
        features, _ = encode_speech(
            self.audio_encoder, self.feature_extractor, waveforms, self.config["fps"], rate, look_ahead
        )
        return features.to(self._execution_device)

    @torch.no_grad()
    def heard_lips(
        self, features: torch.Tensor, frames: list[int], told: torch.Tensor | None = None, phones: Any = None
    ) -> list[MouthTarget | None]:
        """Find the lip closures and pauses that the audio encoder hears in features (B, N, A) of clips of some frames.

        Returns a target for each clip, `None` from an encoder that leaves them to the denoiser, or without a head with
        named shapes. `told` (B, N, C) is of `prepare_acting`, `phones` a list from `hear_phones`, where known.
        """
        threshold = getattr(self.audio_encoder.config, "closure_threshold", None)
        if threshold is None or not steerable(self.head):
            return [None] * len(frames)
        acting = [None if told is None else told[index, :count].numpy() for index, count in enumerate(frames)]
        return [
            heard_target(self.audio_encoder, clip[:count], acted, SHORT_PAUSE, said)
            for clip, count, acted, said in zip(features, frames, acting, phones or [None] * len(frames), strict=True)
        ]

    def prepare_conditions(
        self,
        features: torch.Tensor,
        num_samples: int,
        guidance_scale: float,
        intensity: float | None,
        told: torch.Tensor | None = None,
        emotion_scale: float = 1.0,
    ) -> dict[str, Any]:
        """Compute what the denoiser is conditioned on, once for all steps.

        Args:
            features: (B, N, A) float of `encode_audio`.
            num_samples (`int`): results of each, side by side in the batch.
            guidance_scale (`float`): unless it is 1 the batch holds every element with and then without audio.
            intensity (`float`, *optional*): of [`MotionProcessor`].
            told ((B, N, C) float, *optional*): of `prepare_acting`, of every clip.
            emotion_scale (`float`, *optional*, defaults to 1): unless it is 1 every element is there untold as well.

        Returns:
            `dict`: arguments of the denoiser, on the pipeline's device.
        """
        features = features.repeat_interleave(num_samples, dim=0)
        told = None if told is None else told.repeat_interleave(num_samples, dim=0)
        keep, told = guided_copies(len(features), guidance_scale, emotion_scale, told)
        copies, device, (place, dtype) = len(keep) // len(features), features.device, placement(self.denoiser)
        # Under offloading the denoiser still lies on the CPU here.
        features = features.repeat(copies, 1, 1).to(place, dtype)
        projected = self.denoiser.project_audio(features, keep.to(place), None if told is None else told.to(place))
        return {"projected_audio": [item.to(device) for item in projected], "intensity": intensity}

    def prepare_acting(
        self, controls: MotionControls, waveforms: list[np.ndarray], frames: list[int]
    ) -> tuple[torch.Tensor | None, float]:
        """Lay out what the motion of every clip is told, (B, max N, C) float, and the emotion scale that it needs.

        A model without such inputs is told nothing. Where nobody asks for emotion or style it is told that there is
        none, and the scale is 1: what is neutral need not be pronounced, and costs no more.
        """
        names, rate = self.denoiser.config["condition_names"], self.feature_extractor.sampling_rate
        if not names:
            return None, 1.0
        rows = [
            told_conditions(controls, names, count, self.config["fps"], (waveform, rate))
            for waveform, count in zip(waveforms, frames, strict=True)
        ]
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        return padded, self.acting_scale(controls)

    def acting_scale(self, controls: MotionControls) -> float:
        """Choose the emotion scale to sample with: 1 where the weights hold it, or where nobody asks for emotion."""
        if self.config["is_distilled"] or not controls.acts or controls.emotion_scale is None:
            return 1.0
        return controls.emotion_scale

    def prepare_latents(
        self, frames: list[int], generator: Generators, latents: torch.Tensor | list[torch.Tensor] | None,
        device: torch.device | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Draw the noise to start from, for each element on its own, in order.

        Args:
            frames (`list[int]`): N of every element.
            generator: one for all elements, or one for each.
            latents: (B, N, C) float or list of (N, C) float, to be used in place of drawn noise.
            device (`torch.device`, *optional*): for them; the pipeline's by default.

        Returns:
            `torch.Tensor`: (B, max N, C) float32, zero beyond an element's end.
        """
        device, size = device or self._execution_device, self.denoiser.sample_dim
        if isinstance(generator, list) and len(generator) != len(frames):
            raise FaceTalkError(f"generator must be a list of {len(frames)}, one a result, not of {len(generator)}")
        if latents is None:
            generators = generator if isinstance(generator, list) else [generator] * len(frames)
            # Noise comes in groups of 16 numbers; drawn in whole groups it is that of a stream.
            block = 16 // math.gcd(16, size) if self.learnt_pose else 1
            noise = [
                randn_tensor((-(-count // block) * block, size), source, device, torch.float32)[:count]
                for count, source in zip(frames, generators, strict=True)
            ]
        else:
            noise = [item.to(device, torch.float32) for item in latents]
            shapes, wanted = [tuple(item.shape) for item in noise], [(count, size) for count in frames]
            if isinstance(latents, torch.Tensor):
                wanted = [(max(frames), size)] * len(frames)
            if shapes != wanted:
                raise FaceTalkError(f"latents must be of shapes {wanted}, not {shapes}")
            noise = [item[:count] for item, count in zip(noise, frames, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(noise, batch_first=True) * self.scheduler.init_noise_sigma

    def resolve_keyframes(
        self, keyframes: Keyframes | list[Keyframes | None] | None, frames: list[int]
    ) -> list[Constraint | None]:
        """Fit keyframes to the clips, of `frames` frames each; FaceTalkError where they do not fit."""
        each = keyframes if isinstance(keyframes, (list, tuple)) else [keyframes] * len(frames)
        if len(each) != len(frames):
            raise FaceTalkError(f"keyframes must be a list of {len(frames)}, one a clip, not of {len(each)}")
        size, reach = self.denoiser.config["code_dim"], round(LEAD * self.config["fps"])
        return [
            given.resolve(self.head, count, size, reach) if given else None
            for given, count in zip(each, frames, strict=True)
        ]

    def resolve_phones(
        self, phones: Any, text: Any, language: str, waveforms: list[np.ndarray], frames: list[int], batch: bool
    ) -> list[MouthTarget | None]:
        """Turn what is said in clips into what their mouths are to do; FaceTalkError where that cannot be.

        Args:
            phones, text, language: as in `__call__`.
            waveforms: (S,) float at the audio encoder's rate. frames (`list[int]`): of the clips.
            batch (`bool`): whether the clips came as a list, and so phones and texts.
        """
        count, rate = len(frames), self.feature_extractor.sampling_rate
        each = zip(one_a_clip(phones, count, batch, "phones"), one_a_clip(text, count, batch, "text"), strict=True)
        targets: list[MouthTarget | None] = []
        for (given, words), waveform, length in zip(each, waveforms, frames, strict=True):
            if given is not None or words is not None:
                Channels(self.head, "phones")  # before anything is aligned
            segments = spoken_segments(given, words, waveform, rate, language)
            made = segments and mouth_target(segments, length, self.config["fps"], waveform, rate)
            targets.append(made or None)
        return targets

    @overload
    def decode(self, expressions: Codes, identity: Identity = None) -> HeadAnimation: ...

    @overload
    def decode(self, expressions: list[Any] | tuple[Any, ...], identity: Identity = None) -> list[HeadAnimation]: ...

    def decode(
        self, expressions: Codes | list[Any] | tuple[Any, ...], identity: Identity = None
    ) -> HeadAnimation | list[HeadAnimation]:
        """Decode expression codes into a moving head. What depends on the identity alone is computed once and kept.

        Args:
            expressions: (N, D) float, or a list of such.
            identity: `None` or `"zero"` for the mean head, the number of one of the head's named identities, or an
                identity code (Z,) float.

        Returns:
            [`HeadAnimation`], or a list of them for a list.

        Raises:
            FaceTalkError: codes or an identity of the wrong size, or no head in the pipeline.
        """
        if isinstance(expressions, (list, tuple)):
            return [self.decode(item, identity) for item in expressions]
        return self.decoder(expressions, identity).replace(fps=self.config["fps"])

    def animate(
        self,
        expressions: Sequence[Codes],
        recordings: Sequence[tuple[np.ndarray, int]] = (),
        identity: Identity = None,
        generator: Generators = None,
        controls: MotionControls | None = None,
        poses: Sequence[np.ndarray] | None = None,
        tongue: Sequence[np.ndarray | None] | None = None,
    ) -> list[HeadAnimation]:
        """Decode expression codes into finished animations: the last step of a call.

        With the arguments of a call, and the codes that it gave at the model's frame rate, the animations are its own.

        Args:
            expressions: list of (N, D) float at the model's frame rate; samples of one clip stand side by side.
            recordings: samples (S,) float and their rate in Hz, of each clip, as `facetalk_hf.audio.io.read_audio`
                gives them; none for animations without sound.
            identity: as in `decode`.
            generator (`torch.Generator` or a list of them, *optional*): of the call; its seed is noted, and head
                motion follows from it.
            controls ([`MotionControls`], *optional*): gaze, head motion and frame rate are added; a blink rate is
                part of the codes already.
            poses (sequence of (N, 6) float32, *optional*): of the call, where the model moves the head.
            tongue (sequence of (N, 5) float32 or `None`, *optional*): of the call, where phones are known or heard.

        Returns:
            list of [`HeadAnimation`], with their sound.

        Raises:
            FaceTalkError: codes, an identity or controls that cannot be used, or no head in the pipeline.
        """
        controls = controls or MotionControls()
        controls.check_ranges()
        controls.check_length({len(item) for item in expressions})
        if recordings and len(expressions) % len(recordings):
            raise FaceTalkError(f"{len(expressions)} motions do not belong to {len(recordings)} recordings")
        each = len(expressions) // max(len(recordings), 1)
        rate, animations = self.feature_extractor.sampling_rate, []
        for index, animation in enumerate(self.decode(list(expressions), identity)):
            source = generator[index] if isinstance(generator, list) else generator
            facts: dict[str, Any] = {"seed": None if source is None else source.initial_seed()}
            if recordings:
                samples, native_rate = recordings[index // each]
                if native_rate not in PLAYBACK_RATES:
                    samples, native_rate = resample(samples, native_rate, rate), rate
                facts |= {"audio": samples, "sampling_rate": native_rate}
            animation = animation.replace(**facts)
            animation = animation.with_tongue(None if tongue is None else tongue[index])
            rng = seeded_rng(generator, index)
            if controls.blink_rate is not None:
                # These numbers have made the blinks: head motion is drawn from those after them.
                blinks(animation.num_frames, animation.fps, rng, controls.blink_rate)
            animations.append(finish_animation(animation, controls, rng, None if poses is None else poses[index]))
        return animations
