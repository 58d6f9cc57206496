# SPDX-License-Identifier: MIT
"""FaceTalk's pipeline: speech to expression codes by diffusion, and to a moving head."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import replace_example_docstring
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, SequenceFeatureExtractor

from ..animation.head_animation import HeadAnimation
from ..audio.encoding import encode_speech
from ..audio.io import num_frames, read_clips, resample
from ..errors import FaceTalkError
from ..head.decoder import HeadDecoder
from ..head.decoding import make_decoder
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from ..motion.controls import MotionControls, seeded_rng
from ..motion.keyframes import LEAD, Constraint, Keyframes, constrain_batch
from .denoising import denoise
from .loading import PipelineLoading
from .output import FaceTalkPipelineOutput
from .streaming import StreamingMixin


PLAYBACK_RATES = (16000, 22050, 24000, 32000, 44100, 48000)
"""Sampling rates, Hz, that video containers take as they are: the animation then keeps the recording's own samples."""

EXAMPLE_DOC_STRING = """
    Examples:
        ```py
        >>> import torch
        >>> import facetalk_hf
        >>> from facetalk_hf import FaceTalkPipeline

        >>> pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
        >>> output = pipe("speech.wav", generator=torch.Generator().manual_seed(0))
        >>> output.expressions[0].shape  # (frames, code size)
        >>> output.animations[0].save("speech.mp4")
        ```
"""


class FaceTalkPipeline(StreamingMixin, PipelineLoading, DiffusionPipeline):
    r"""
    Speech to the motion of a neural parametric head (FaceTalk, Aneja et al., CVPR 2024).

    Check [`DiffusionPipeline`] for the methods that all pipelines have (saving, devices, offloading, ...).

    Args:
        denoiser ([`FaceTalkDenoiser`]): predicts the clean expression codes x_0.
        scheduler ([`~diffusers.SchedulerMixin`]): any scheduler of diffusers with `prediction_type="sample"`.
        audio_encoder ([`~transformers.PreTrainedModel`]): [`LogMelEncoder`], or `Wav2Vec2Model`, `HubertModel`,
            `WavLMModel`.
        feature_extractor ([`~transformers.SequenceFeatureExtractor`]): the one that belongs to the audio encoder.
        head ([`NPHMModel`], *optional*): decodes the codes. Without it only `output_type="expression"` is possible.
        fps (`float`, *optional*, defaults to 24.0): video frames a second.
    """

    model_cpu_offload_seq = "audio_encoder->denoiser->head"
    _optional_components = ["head"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        denoiser: FaceTalkDenoiser,
        scheduler: SchedulerMixin,
        audio_encoder: PreTrainedModel,
        feature_extractor: SequenceFeatureExtractor,
        head: NPHMModel | None = None,
        fps: float = 24.0,
    ):
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, head=head)
        self.register_modules(audio_encoder=audio_encoder, feature_extractor=feature_extractor)
        self.register_to_config(fps=fps)
        self._decoder = None

    @property
    def decoder(self) -> HeadDecoder:
        """Decoder of the head, which keeps the geometry of the last identities."""
        if self.head is None:
            raise FaceTalkError('this pipeline has no head to animate, use output_type="expression"')
        if self._decoder is None or self._decoder.head is not self.head:
            self._decoder = make_decoder(self.head)
        return self._decoder

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    def check_inputs(
        self,
        identity: str | int | np.ndarray | torch.Tensor | None,
        num_inference_steps: int,
        guidance_scale: float,
        num_samples: int,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Raise [`FaceTalkError`] for arguments that cannot be used, before anything is computed."""
        limit = self.scheduler.config.num_train_timesteps
        if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
            raise FaceTalkError(f"num_inference_steps must be a whole number of at least 1, not {num_inference_steps}")
        if num_inference_steps > limit:
            raise FaceTalkError(f"num_inference_steps must be at most {limit}, not {num_inference_steps}")
        if not isinstance(num_samples, int) or num_samples < 1:
            raise FaceTalkError(f"num_samples must be a whole number of at least 1, not {num_samples}")
        if not (math.isfinite(guidance_scale) and guidance_scale >= 0):
            raise FaceTalkError(f"guidance_scale must be a number of at least 0, not {guidance_scale}")
        if self.scheduler.config.get("prediction_type") != "sample":
            raise FaceTalkError(
                f"{type(self.scheduler).__name__} is not set up for this denoiser, which predicts x_0: make it by "
                'from_config(pipe.scheduler.config, prediction_type="sample")'
            )
        if output_type not in ("animation", "expression"):
            raise FaceTalkError(f'output_type must be "animation" or "expression", not {output_type!r}')
        if output_type == "animation":
            self.decoder.check(identity, self.denoiser.config.code_dim)
        unknown = [name for name in callback_on_step_end_tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise FaceTalkError(
                f"callback_on_step_end_tensor_inputs must be among {self._callback_tensor_inputs}, not {unknown}"
            )

    @torch.no_grad()
    def encode_audio(self, audio: Any, sampling_rate: int | None = None) -> torch.Tensor:
        """Speech features, one vector a video frame.

        Args:
            audio: a clip or a list of clips, as in `__call__`.
            sampling_rate (`int`, *optional*): of clips given as arrays, Hz.

        Returns:
            `torch.Tensor`: (B, N, A) float on the pipeline's device, zero beyond the end of the shorter clips.
        """
        rate = self.feature_extractor.sampling_rate
        waveforms = [resample(*recording, rate) for recording in read_clips(audio, sampling_rate)]
        features, _ = encode_speech(self.audio_encoder, self.feature_extractor, waveforms, self.config.fps, rate)
        return features.to(self._execution_device)

    def prepare_latents(
        self,
        frames: list[int],
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """Noise to start from, drawn for each element on its own, in order.

        Args:
            frames (`list[int]`): N of every element.
            generator: one for all elements, or one for each.
            latents: (B, N, D) float or list of (N, D) float, to be used in place of drawn noise.

        Returns:
            `torch.Tensor`: (B, max N, D) float32, zero beyond an element's end.
        """
        device, size = self._execution_device, self.denoiser.config.code_dim
        if isinstance(generator, list) and len(generator) != len(frames):
            raise FaceTalkError(f"generator must be a list of {len(frames)}, one a result, not of {len(generator)}")
        if latents is None:
            generators = generator if isinstance(generator, list) else [generator] * len(frames)
            noise = [
                randn_tensor((count, size), generator=source, device=device, dtype=torch.float32)
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
        """The keyframes of each clip of `frames` frames; FaceTalkError where they do not fit it."""
        each = keyframes if isinstance(keyframes, (list, tuple)) else [keyframes] * len(frames)
        if len(each) != len(frames):
            raise FaceTalkError(f"keyframes must be a list of {len(frames)}, one a clip, not of {len(each)}")
        size, reach = self.denoiser.config.code_dim, round(LEAD * self.config.fps)
        return [
            given.resolve(self.head, count, size, reach) if given else None
            for given, count in zip(each, frames, strict=True)
        ]

    def decode(
        self,
        expressions: torch.Tensor | np.ndarray | list[torch.Tensor | np.ndarray],
        identity: str | int | np.ndarray | torch.Tensor | None = None,
    ) -> HeadAnimation | list[HeadAnimation]:
        """Expression codes to a moving head. What depends on the identity alone is computed once and kept.

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
        return self.decoder(expressions, identity).replace(fps=self.config.fps)

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        identity: str | int | np.ndarray | torch.Tensor | None = None,
        num_inference_steps: int = 30,
        guidance_scale: float = 1.25,
        num_samples: int = 1,
        mouth_temperature: float | None = None,
        intensity: float = 1.0,
        upper_face_intensity: float | None = None,
        silence_gate: bool = False,
        smoothing: float = 0.0,
        blink_contrast: float | None = None,
        blink_rate: float | None = None,
        gaze: tuple[float | np.ndarray, float | np.ndarray] | None = None,
        head_motion: float = 0.0,
        fps: float | None = None,
        keyframes: Keyframes | list[Keyframes | None] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | list[torch.Tensor] | None = None,
        output_type: str = "animation",
        return_dict: bool = True,
        callback_on_step_end: Callable[["FaceTalkPipeline", int, Any, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006  as in all of diffusers
    ) -> FaceTalkPipelineOutput | tuple:
        r"""
        Animate one clip or a batch of clips of any lengths. No result depends on what else is in the batch.

        Args:
            audio (`str`, `os.PathLike`, `bytes`, `np.ndarray`, `torch.Tensor`, or a list of these): path or content
                of an audio or video file, or (S,) samples.
            sampling_rate (`int`, *optional*): of clips given as arrays, Hz.
            identity (`str`, `int`, `np.ndarray` or `torch.Tensor`, *optional*): `None` or `"zero"` for the mean head,
                the number of one of the head's named identities, or an identity code (Z,) float.
            num_inference_steps (`int`, *optional*, defaults to 30): denoising steps.
            guidance_scale (`float`, *optional*, defaults to 1.25): w of
                `x = G(null) + w * (G(audio) - G(null))`. At 1 the null condition is not computed at all.
            num_samples (`int`, *optional*, defaults to 1): different motions for each clip.
            mouth_temperature (`float`, *optional*): how much of a sample's own departure from the motion that the
                audio lets expect the mouth keeps, 0 to 1; by default 0.4 where a head names its shapes, else 1.
            intensity (`float`, *optional*, defaults to 1.0): below 1 calmer, above 1 livelier. A denoiser with an
                `intensity_range` is told it, as far as it was trained; beyond that it is a factor of the codes.
            upper_face_intensity (`float`, *optional*): another factor for all but mouth and jaw.
            silence_gate (`bool`, *optional*, defaults to `False`): rest the mouth where nobody speaks.
            smoothing (`float`, *optional*, defaults to 0): Gaussian over time, of so many seconds; 0.02 to 0.04 calms.
            blink_contrast (`float`, *optional*): how far half blinks are shut or left out, 0 to 1; by default 1 where
                a head names its lids.
            blink_rate (`float`, *optional*): blinks a minute, at most 60, in place of those generated; 0 for none.
            gaze (two `float` or (N,) arrays, *optional*): degrees to the subject's left and up.
            head_motion (`float`, *optional*, defaults to 0): strength of seeded sway and nods, at most 2; 1 is usual.
            fps (`float`, *optional*): frame rate of the animations, and of the codes with them; the speed is the same.
            keyframes ([`Keyframes`] or a list, one a clip, *optional*): frames and channels that are fixed, at the
                pipeline's own rate; the rest is generated to go with them.
            generator (`torch.Generator` or a list of them, *optional*): seeds. One generator serves the results in
                order, so what a clip gets depends on those before it; with a list each result has its own, and a clip
                gets in any batch what it gets alone.
            latents (`torch.Tensor` or a list of them, *optional*): (B * num_samples, N, D) float, or a list of
                (N, D) float: unit Gaussian noise in place of the generator's.
            output_type (`str`, *optional*, defaults to `"animation"`): `"expression"` stops at the codes and needs no
                head.
            return_dict (`bool`, *optional*, defaults to `True`): whether to return a [`FaceTalkPipelineOutput`].
            callback_on_step_end (`Callable`, *optional*): called after each step as
                `callback(pipe, step, timestep, tensors)`; returns a dict of the tensors to be replaced.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): which tensors it gets; there is `latents`.

        Examples:

        Returns:
            [`FaceTalkPipelineOutput`], or the tuple `(expressions, animations)`.

        Raises:
            FaceTalkError: audio that cannot be read, or an argument that cannot be used.
        """
        # 1. Check inputs
        tensors = callback_on_step_end_tensor_inputs
        self.check_inputs(identity, num_inference_steps, guidance_scale, num_samples, output_type, tensors)
        controls = MotionControls(
            intensity, upper_face_intensity, silence_gate, smoothing, blink_rate, gaze, head_motion, fps,
            mouth_temperature, blink_contrast,
        )  # fmt: skip
        controls.check(self.head, output_type)
        self._guidance_scale = guidance_scale
        device = self._execution_device

        # 2. Read the audio; what is fixed must fit its length
        recordings = read_clips(audio, sampling_rate)
        rate = self.feature_extractor.sampling_rate
        waveforms = [resample(*recording, rate) for recording in recordings]
        frames = [num_frames(len(waveform), rate, self.config.fps) for waveform in waveforms]
        constraints = self.resolve_keyframes(keyframes, frames)
        for count in frames:
            controls.check_length(count)
        frames, constraints = ([item for item in items for _ in range(num_samples)] for items in (frames, constraints))

        # 3. Encode it, once a call, and project it for all steps; for guidance the batch holds every element with and
        # without audio
        features = self.encode_audio(waveforms, sampling_rate=rate).repeat_interleave(num_samples, dim=0)
        batch_size, copies = len(frames), 2 if self.do_classifier_free_guidance else 1
        keep = torch.arange(copies * batch_size) < batch_size
        # Under offloading the denoiser still lies on the CPU here.
        features = features.repeat(copies, 1, 1).to(self.denoiser.device, self.denoiser.dtype)
        projected_audio = self.denoiser.project_audio(features, keep.to(features.device))
        told, controls = controls.split_intensity(self.denoiser)
        conditions = {"projected_audio": [item.to(device) for item in projected_audio], "intensity": told}

        # 4. Prepare timesteps and latents
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        latents = self.prepare_latents(frames, generator, latents)

        # 5. Denoise
        def to_codes(sample: torch.Tensor) -> torch.Tensor:
            return controls.scale(self.denoiser.denormalize(sample.to(self.denoiser.code_mean)).float(), self.head)

        def from_codes(codes: torch.Tensor) -> torch.Tensor:
            plain = controls.scale(codes, self.head, inverse=True)
            return self.denoiser.normalize(plain.to(self.denoiser.code_mean)).to(device, torch.float32)

        constrain = constrain_batch(constraints, frames, to_codes, from_codes) if any(constraints) else None
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step(i: int, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
                if callback_on_step_end is not None:
                    outputs = callback_on_step_end(self, i, t, {name: {"latents": latents}[name] for name in tensors})
                    latents = outputs.pop("latents", latents)
                progress_bar.update()
                return latents

            inputs = (latents, frames, conditions, guidance_scale, generator)
            sample = denoise(self.denoiser, self.scheduler, *inputs, constrain, on_step)

        # 6. Codes, each cut to its own length and changed as was asked
        codes = [self.denoiser.denormalize(item.to(self.denoiser.code_mean.device)).float().cpu() for item in sample]
        codes = controls.settle(*codes, self.head)
        expressions = [controls.scale(item[:count], self.head) for item, count in zip(codes, frames, strict=True)]
        sources = [seeded_rng(generator, index) for index in range(batch_size)]
        for index, constraint in enumerate(constraints):
            waveform = waveforms[index // num_samples]
            shaped = controls.shape(expressions[index], self.head, self.config.fps, waveform, rate, sources[index])
            expressions[index] = shaped if constraint is None else constraint(shaped)

        # 7. Heads
        animations = None
        if output_type == "animation":
            animations = self.decode(expressions, identity)
            for index, animation in enumerate(animations):
                samples, native_rate = recordings[index // num_samples]
                if native_rate not in PLAYBACK_RATES:
                    samples, native_rate = waveforms[index // num_samples], rate
                animation.audio, animation.sampling_rate = samples, native_rate
                source = generator[index] if isinstance(generator, list) else generator
                animation.seed = None if source is None else source.initial_seed()
                animations[index] = controls.finish(animation, sources[index])
            if fps is not None:
                expressions = [torch.from_numpy(animation.expressions) for animation in animations]

        self.maybe_free_model_hooks()
        if not return_dict:
            return expressions, animations
        return FaceTalkPipelineOutput(expressions=expressions, animations=animations)
