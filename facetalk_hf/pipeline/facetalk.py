# SPDX-License-Identifier: MIT
"""FaceTalk's pipeline: speech to expression codes by diffusion, and to a moving head."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar, Unpack

import numpy as np
import torch
from diffusers.utils import replace_example_docstring

from ..audio.io import num_frames, read_clips, resample
from ..errors import FaceTalkError
from ..head.decoder import Identity
from ..motion.controls import GenerationOptions, LiveOptions, MotionControls
from ..motion.keyframes import Keyframes, constrain_batch
from ..motion.options import takes
from ..motion.processing import MotionProcessor, seeded_rng
from ..motion.steering import MouthSteering
from ..paths import FEW_STEPS
from .components import FaceTalkComponents
from .denoising import Generators, denoise
from .few_steps import few_step_denoiser, few_step_scheduler
from .output import FaceTalkPipelineOutput
from .spoken import Phones
from .streaming import SpeechStream, SpeechStreamOutput, stream_outputs
from .styles import style_folder, styled_denoiser
from .tongue import hear_phones, hear_tongue, place_tongue


Item = TypeVar("Item")

OWN_DEFAULTS = ("num_inference_steps", "guidance_scale", "mouth_temperature", "is_distilled", "emotion_scale")
"""Settings of a pipeline that its variants keep."""

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


class FaceTalkPipeline(FaceTalkComponents):
    r"""
    Speech to the motion of a neural parametric head (FaceTalk, Aneja et al., CVPR 2024).

    Check [`DiffusionPipeline`] for the methods that all pipelines have (saving, devices, offloading, ...).

    Args:
        denoiser ([`FaceTalkDenoiser`]): predicts the clean expression codes x_0.
        scheduler ([`~diffusers.SchedulerMixin`]): any scheduler of diffusers with `prediction_type="sample"`.
        audio_encoder ([`~transformers.PreTrainedModel`]): [`LogMelEncoder`], or `Wav2Vec2Model`, `HubertModel`,
            `WavLMModel`, `WhisperModel`.
        feature_extractor ([`~transformers.SequenceFeatureExtractor`]): the one that belongs to the audio encoder.
        head ([`NPHMModel`], *optional*): decodes the codes. Without it only `output_type="expression"` is possible.
        fps (`float`, *optional*, defaults to 24.0): video frames a second.
        num_inference_steps (`int`, *optional*, defaults to 30): the model's own, for calls that leave it out.
        guidance_scale (`float`, *optional*, defaults to 1.25): the model's own, for calls that leave it out.
        mouth_temperature (`float`, *optional*): the model's own, for calls that leave it out.
        is_distilled (`bool`, *optional*, defaults to `False`): guidance scale and mouth temperature are part of the
            weights, so that no call may ask for others.
        emotion_scale (`float`, *optional*, defaults to 1.0): the model's own, for calls that leave it out.
    """

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    @takes(MotionControls)
    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        identity: Identity = None,
        *,
        controls: MotionControls | None = None,
        keyframes: Keyframes | list[Keyframes | None] | None = None,
        phones: Phones | list[Phones | None] | None = None,
        text: str | list[str | None] | None = None,
        language: str = "en",
        generator: Generators = None,
        latents: torch.Tensor | list[torch.Tensor] | None = None,
        output_type: str = "animation",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006  as in all of diffusers
        **options: Unpack[GenerationOptions],
    ) -> FaceTalkPipelineOutput | tuple:
        r"""
        Animate one clip or a batch of clips of any lengths. No result depends on what else is in the batch.

        Args:
            audio (`str`, `os.PathLike`, `bytes`, `np.ndarray`, `torch.Tensor`, or a list of these): path or content
                of an audio or video file, or (S,) samples.
            sampling_rate (`int`, *optional*): of clips given as arrays, Hz.
            identity (`str`, `int`, `np.ndarray` or `torch.Tensor`, *optional*): `None` or `"zero"` for the mean head,
                the number of one of the head's named identities, or an identity code (Z,) float.
            controls ([`MotionControls`], *optional*): the options above as one object; those that are given beside it
                take the place of its own.
            keyframes ([`Keyframes`] or a list, one a clip, *optional*): frames and channels that are fixed, at the
                pipeline's own rate; the rest is generated to go with them.
            phones (a list of `(phone, start, end)`, a path, or a list of these, one a clip, *optional*): what is said,
                in seconds: the mouth says it, and the rest is generated to go with it. Names of ARPAbet, IPA or a
                speech engine; a path is read by [`~facetalk_hf.phones.files.read_phones`].
            text (`str` or a list of them, one a clip, *optional*): what is said, where its times are not known: they
                are found in the audio, which needs `pip install "facetalk_hf[align]"`.
            language (`str`, *optional*, defaults to `"en"`): of the text, as espeak-ng calls it.
            generator (`torch.Generator` or a list of them, *optional*): seeds. One generator serves the results in
                order, so what a clip gets depends on those before it; with a list each result has its own, and a clip
                gets in any batch what it gets alone.
            latents (`torch.Tensor` or a list of them, *optional*): (B * num_samples, N, C) float, or a list of
                (N, C) float, C being the denoiser's `sample_dim`: unit Gaussian noise in place of the generator's.
            output_type (`str`, *optional*, defaults to `"animation"`): `"arkit"` gives ARKit's weights beside the
                codes, for which no surface is made; `"expression"`, or `"pt"`, stops at the codes and needs no head.
            return_dict (`bool`, *optional*, defaults to `True`): whether to return a [`FaceTalkPipelineOutput`].
            callback_on_step_end (`Callable`, *optional*): called after each step as
                `callback(pipe, step, timestep, tensors)`; returns a dict of the tensors to be replaced.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*): which tensors it gets; there is `latents`.

        Examples:

        Returns:
            [`FaceTalkPipelineOutput`], or the tuple `(expressions, animations)`; `(expressions, arkit)` for `"arkit"`.

        Raises:
            FaceTalkError: audio that cannot be read, or an argument that cannot be used.
        """
        # 1. Check inputs
        controls, tensors = self.resolve_controls(controls), callback_on_step_end_tensor_inputs
        self.check_inputs(controls, identity, output_type, tensors)
        steps, guidance_scale, samples = controls.num_inference_steps, controls.guidance_scale, controls.num_samples
        assert steps is not None and guidance_scale is not None  # the model's own, where the call left them out
        self._guidance_scale = guidance_scale
        processor = MotionProcessor(controls, self.denoiser, self.head)

        # 2. Read the audio; what is given of the motion must fit its length
        recordings, rate = read_clips(audio, sampling_rate), self.feature_extractor.sampling_rate
        waveforms = [resample(*recording, rate) for recording in recordings]
        frames = [num_frames(len(waveform), rate, self.config["fps"]) for waveform in waveforms]
        constraints = self.resolve_keyframes(keyframes, frames)
        batch = isinstance(audio, (list, tuple))
        targets = self.resolve_phones(phones, text, language, waveforms, frames, batch)
        controls.check_length(frames)

        # 3. Encode it; from here on the samples of a clip stand side by side
        told, emotion_scale = self.prepare_acting(controls, waveforms, frames)
        acting = (processor.intensity, told, emotion_scale)
        features = self.encode_audio(waveforms, rate, controls.look_ahead)
        conditions = self.prepare_conditions(features, samples, guidance_scale, *acting)
        logits = [hear_phones(self.audio_encoder, clip[:count]) for clip, count in zip(features, frames, strict=True)]
        heard = self.heard_lips(features, frames, told, logits)
        tongues = [
            hear_tongue(self.audio_encoder, self.head, item) if known is None else known.tongue
            for known, item in zip(targets, logits, strict=True)
        ]
        targets = [known or found for known, found in zip(targets, heard, strict=True)]
        waveforms, frames = _repeat(waveforms, samples), _repeat(frames, samples)
        constraints, targets = _repeat(constraints, samples), _repeat(targets, samples)
        tongues = _repeat(tongues, samples)

        # 4. Prepare timesteps and latents
        self.scheduler.set_timesteps(steps, device=features.device)
        self._num_timesteps = len(self.scheduler.timesteps)
        latents = self.prepare_latents(frames, generator, latents, features.device)

        # 5. Denoise
        constrain = steer = None
        if any(targets):
            parts = (targets, max(frames), self.denoiser, self.head)
            steer = MouthSteering(*parts, controls.phone_strength, processor.intensity, processor.channels)
        if any(constraints):
            constrain = constrain_batch(constraints, frames, processor.to_codes, processor.from_codes)
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step(i: int, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
                if callback_on_step_end is not None:
                    outputs = callback_on_step_end(self, i, t, {name: {"latents": latents}[name] for name in tensors})
                    latents = outputs.pop("latents", latents)
                progress_bar.update()
                return latents

            inputs = (self.denoiser, self.scheduler, latents, frames, conditions, guidance_scale, generator)
            sample, expected = denoise(*inputs, constrain, on_step, steer, emotion_scale)

        # 6. Codes, each cut to its own length and edited; what is fixed is made exact at the end
        codes, learnt, expressions = processor.postprocess(sample, expected), processor.poses(sample), []
        poses: list[np.ndarray] | None = None if learnt is None else []
        for index, (count, waveform, constraint) in enumerate(zip(frames, waveforms, constraints, strict=True)):
            scaled, rng = processor.scale(codes[index, :count]), seeded_rng(generator, index)
            if learnt is not None and poses is not None:
                scaled = processor.keep_gaze(scaled, learnt[index, :count])
                poses.append(controls.head_motion * learnt[index, :count].numpy())
            edited = processor.edit(scaled, self.config["fps"], waveform, rate, rng)
            if steer is not None and controls.smoothing:
                edited = steer.touch(index, edited, processor.controls.intensity)
            expressions.append(edited if constraint is None else constraint(edited))
            if (tongue := tongues[index]) is not None:
                tongues[index] = place_tongue(processor.channels, tongue, expressions[index])

        # 7. Heads
        animations = None
        if output_type == "animation":
            animations = self.animate(expressions, recordings, identity, generator, controls, poses, tongues)
            if controls.fps is not None:
                expressions = [torch.as_tensor(animation.expressions) for animation in animations]
                tongues = [
                    None if item is None else animation.tongue
                    for item, animation in zip(tongues, animations, strict=True)
                ]
                if poses is not None:
                    still = [np.zeros((len(item), 6), np.float32) for item in expressions]
                    moved = [animation.poses for animation in animations]
                    poses = [zero if pose is None else pose for zero, pose in zip(still, moved, strict=True)]

        arkit = None
        if output_type == "arkit":
            arkit = [self.arkit(*pair) for pair in zip(expressions, tongues, strict=True)]

        self.maybe_free_model_hooks()
        if not return_dict:
            return expressions, animations if arkit is None else arkit
        said = None if all(item is None for item in tongues) else tongues
        return FaceTalkPipelineOutput(expressions, animations, arkit, poses, said)

    @property
    def has_few_steps(self) -> bool:
        """Whether `few_steps()` finds weights in the model's own folder."""
        folder = self.model_folder
        return not self.config["is_distilled"] and folder is not None and (folder / FEW_STEPS).is_dir()

    def few_steps(self, folder: str | os.PathLike | None = None) -> Self:
        """Make a pipeline that samples in few steps, with the LoRA of a folder fused into a copy of the denoiser.

        It shares all but denoiser and scheduler with this one, and is saved, loaded and published like any other.

        Args:
            folder (`str` or `os.PathLike`, *optional*): of training/distill_denoiser.py; by default the model's own.

        Raises:
            FaceTalkError: the model has none, or the folder's belong to other weights.
        """
        if self.config["is_distilled"]:
            raise FaceTalkError("this pipeline has few-step weights already: call it as it is")
        name = self.config.get("_name_or_path")
        if folder is None:
            if self.model_folder is None:
                raise FaceTalkError(
                    "this pipeline was not loaded from a model folder: name that of its few-step weights"
                )
            folder = self.model_folder / FEW_STEPS
            if not folder.is_dir():
                raise FaceTalkError(f"the model {name} has no weights for few steps: leave out few_steps() or --fast")
        denoiser, defaults = few_step_denoiser(self.denoiser, folder, self._origin)
        return self._variant({"denoiser": denoiser, "scheduler": few_step_scheduler(self.scheduler)}, defaults)

    def with_style(self, style: str | os.PathLike, strength: float = 1.0) -> Self:
        """Make a pipeline that talks in somebody's style, with the LoRA of a folder fused into a copy of the denoiser.

        It shares all but the denoiser with this one, and is called, streamed, saved and published like any other.
        Styles and few-step weights of one model go together, in any order; so do styles, which add up.

        Args:
            style (`str` or `os.PathLike`): folder that training/train_denoiser.py --lora-rank wrote, or the name of
                one in the model's folder `styles/`.
            strength (`float`, *optional*, defaults to 1): share of the style, 0 to 1.

        Raises:
            FaceTalkError: no such style, one of other weights, or another strength.
        """
        origin = self._origin or self.denoiser
        folder = style_folder(style, self.model_folder)
        defaults = {name: self.config[name] for name in OWN_DEFAULTS if name in self.config}
        return self._variant({"denoiser": styled_denoiser(self.denoiser, origin, folder, strength)}, defaults)

    def _variant(self, parts: dict[str, Any], defaults: dict[str, Any]) -> Self:
        """Make a pipeline of the same parts but some, which counts as made from the same model."""
        made = type(self)(**self.components | parts, fps=self.config["fps"], **defaults)
        name = self.config.get("_name_or_path")
        if name is not None:
            made.register_to_config(_name_or_path=name)  # of what it was made from, for its card
        made.set_progress_bar_config(**getattr(self, "_progress_bar_config", {}))
        made._decoder, made._snapshot = self._decoder, self._snapshot
        made._origin = self._origin or self.denoiser
        return made

    @takes(MotionControls, live=True)
    def open_stream(
        self,
        sampling_rate: int,
        *,
        controls: MotionControls | None = None,
        generator: torch.Generator | None = None,
        hop: int = 2,
        warm_up: np.ndarray | torch.Tensor | None = None,
        **options: Unpack[LiveOptions],
    ) -> SpeechStream:
        """Open a stream to push sound into, where `stream` with its iterator does not fit.

        Args:
            sampling_rate (`int`): of the sound that will come, Hz.
            controls ([`MotionControls`], *optional*): the options above as one object.
            generator (`torch.Generator`, *optional*): seed.
            hop (`int`, *optional*, defaults to 2): frames made at a time. 1 has the shortest delay, more cost less.
            warm_up ((S,) numbers, *optional*): some seconds of the same voice and microphone, at the rate of the
                audio encoder, so that the first words are normalised as well as later ones.

        Raises:
            FaceTalkError: an argument that cannot be used, or a model that cannot work live: an audio encoder or a
                denoiser that needs the whole clip, a scheduler that draws noise.
        """
        controls = self.resolve_controls(controls)
        controls.check_live(self.learnt_pose)
        self.check_inputs(controls)
        return SpeechStream(self, sampling_rate, controls, generator, hop, warm_up)

    @takes(MotionControls, live=True)
    def stream(
        self,
        chunks: Iterable[np.ndarray | torch.Tensor | tuple[np.ndarray, int]],
        sampling_rate: int,
        identity: Identity = None,
        *,
        controls: MotionControls | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "animation",
        hop: int = 2,
        warm_up: np.ndarray | torch.Tensor | None = None,
        **options: Unpack[LiveOptions],
    ) -> Iterator[SpeechStreamOutput]:
        """
        Animate sound while it comes: frames leave as soon as `SpeechStream.delay` seconds of sound after their start
        are there (0.497 s for facetalk-tiny, 0.455 s with `hop=1`).

        How the sound is cut into chunks makes no difference, to the last bit. Against the call with the whole clip
        only one thing differs: loudness and spectrum are normalised by the speech so far.

        Args:
            chunks: of one channel, (S,) numbers each, of any lengths; or pairs of such and their rate, to be checked.
            sampling_rate (`int`): of the chunks, Hz.
            identity (`str`, `int`, `np.ndarray` or `torch.Tensor`, *optional*): as in `__call__`.
            controls ([`MotionControls`], *optional*): the options above as one object.
            generator (`torch.Generator`, *optional*): seed.
            output_type (`str`, *optional*, defaults to `"animation"`): `"animation"`: decoded heads; `"arkit"`:
                ARKit's 52 weights, for which no surface is made; `"expression"` or `"pt"`: codes only.
            hop (`int`, *optional*, defaults to 2): as in `open_stream`.
            warm_up ((S,) numbers, *optional*): as in `open_stream`.

        Returns:
            iterator of [`SpeechStreamOutput`], one for each chunk that completes frames. The frames of a stream whose
            chunks break off with an exception are valid up to there.

        Raises:
            FaceTalkError: an argument or a chunk that cannot be used, or a model that cannot work live, see
                `open_stream`.
        """
        opened = self.open_stream(sampling_rate, controls=controls, generator=generator, hop=hop, warm_up=warm_up)
        return stream_outputs(self, opened, chunks, identity, output_type)


def _repeat(items: list[Item], times: int) -> list[Item]:
    return [item for item in items for _ in range(times)]
