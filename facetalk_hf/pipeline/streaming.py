# SPDX-License-Identifier: MIT
"""Speech that comes in pieces, motion that follows it at a fixed distance: `FaceTalkPipeline.stream`.

In a causal denoiser a frame of a denoising step depends on earlier frames of the same step alone. Each frame can
therefore go through all steps as soon as its sound was heard, with the keys and values of the frames before it kept
for every step: the result is that of sampling the whole clip at once.
"""

import copy
import inspect
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from ..animation.arkit import weights_to_arkit
from ..animation.head_animation import HeadAnimation
from ..audio.io import read_audio
from ..audio.streaming import FeatureStream, RunningStatistics, StreamingResampler
from ..errors import FaceTalkError
from ..models.incremental import IncrementalDenoiser
from ..motion.blinks import LidMemory
from ..motion.controls import MotionControls


OUTPUT_TYPES = ("animation", "arkit", "expression")


@dataclass
class SpeechStreamOutput(BaseOutput):
    """Frames of a stream, n of them.

    Args:
        index (`int`): number of the first one.
        time (`float`): its start in the sound, seconds.
        expressions ((n, D) float): expression codes, on the CPU.
        arkit ((n, 52) float, *optional*): weights in the order of `facetalk_hf.animation.arkit.ARKIT`, with
            `output_type="arkit"`.
        animation ([`HeadAnimation`], *optional*): the decoded head, with `output_type="animation"`.
    """

    index: int
    time: float
    expressions: torch.Tensor
    arkit: np.ndarray | None = None
    animation: HeadAnimation | None = None


def sampling_table(scheduler: SchedulerMixin, num_inference_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a scheduler does, as sums: rows[s] are the weights of noise and predictions in the sample of step s.

    The table is read off the scheduler itself, by giving it unit vectors in place of noise and predictions. It holds
    for every scheduler that draws no noise and clips nothing.

    Returns:
        timesteps (S,), rows (S + 1, S + 1) float: column 0 belongs to the unit noise, column s + 1 to the prediction
        x_0 of step s; the last row is the result.

    Raises:
        FaceTalkError: the scheduler is of another kind.
    """

    def run(noise: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
        solver = copy.deepcopy(scheduler)
        solver.set_timesteps(num_inference_steps)
        sample, rows = noise[None] * solver.init_noise_sigma, []  # three dimensions, as some schedulers want them
        for t, prediction in zip(solver.timesteps, predictions, strict=True):
            rows.append(solver.scale_model_input(sample, t))
            sample = solver.step(prediction[None, None], t, sample, return_dict=False)[0]
        return torch.cat((*rows, sample), dim=1)[0]

    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(num_inference_steps)
    count = len(solver.timesteps)
    basis = torch.eye(count + 1)
    rows = run(basis[:1], basis[1:])
    probe = 10 * torch.randn(count + 1, 8, generator=torch.Generator().manual_seed(0))
    difference = (run(probe[:1], probe[1:]) - rows @ probe).abs() / (1 + rows.abs().sum(1, keepdim=True))
    if not difference.max() < 1e-2:
        raise FaceTalkError(
            f"{type(scheduler).__name__} draws noise or clips in its steps, which a stream cannot repeat frame by "
            "frame: use DPMSolverMultistepScheduler, or DDIMScheduler with clip_sample=False"
        )
    return solver.timesteps, rows


class SpeechStream:
    """The state of one stream: `push` sound, get frames; `finish` for the last ones. `FaceTalkPipeline.open_stream`
    makes it. Its size does not grow.

    Attributes:
        delay (`float`): seconds of sound after the start of a frame that must have come before the frame does.
        num_frames (`int`): frames given so far.
    """

    def __init__(
        self,
        pipe: "StreamingMixin",
        sampling_rate: int,
        num_inference_steps: int,
        guidance_scale: float,
        controls: MotionControls,
        generator: torch.Generator | None,
        hop: int,
        statistics: RunningStatistics | None = None,
    ):
        self.pipe, self.sampling_rate, self.hop = pipe, sampling_rate, hop
        told, self.controls = controls.split_intensity(pipe.denoiser)
        self.generator = generator
        self.features = FeatureStream(pipe.audio_encoder, pipe.feature_extractor, hop, statistics)
        if pipe.feature_extractor.fps != pipe.config.fps:
            rates = f"{pipe.feature_extractor.fps:g} frames a second, not {pipe.config.fps:g}"
            raise FaceTalkError(f"the audio encoder works at {rates}")
        self.resampler = StreamingResampler(sampling_rate, pipe.feature_extractor.sampling_rate)
        self.code_size = pipe.denoiser.config.code_dim
        timesteps, self.table = sampling_table(pipe.scheduler, num_inference_steps)
        self.denoiser = IncrementalDenoiser(pipe.denoiser, timesteps, hop, guidance_scale, told)
        self.table = self.table.to(self.denoiser.device)
        # Noise comes in groups of 16 numbers; drawn in whole groups it is that of a clip at once.
        self.noise = torch.zeros(0, self.code_size)
        self.noise_block = 16 // math.gcd(16, self.code_size)
        self.lids = LidMemory()
        self.num_frames = 0
        self.finished = False

    @property
    def delay(self) -> float:
        """Seconds; see the class."""
        extractor = self.features.extractor
        samples = self.features.samples_for(self.hop) / extractor.sampling_rate
        return samples + self.resampler.reach / self.sampling_rate

    def push(self, samples: np.ndarray | torch.Tensor, sampling_rate: int | None = None) -> torch.Tensor:
        """Take in sound, give the codes (n, D) float of the frames that it completes; n may be 0.

        Args:
            samples: (S,) numbers, one channel; integers are scaled by the range of their type. S may be 0.
            sampling_rate (`int`, *optional*): Hz, to be checked.

        Raises:
            FaceTalkError: no row of finite numbers, another rate than the stream's, or a stream that has ended. The
                stream is left as it was.
        """
        if self.finished:
            raise FaceTalkError("the stream has ended, open another one")
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise FaceTalkError(f"a chunk at {sampling_rate} Hz in a stream at {self.sampling_rate} Hz: resample it")
        if isinstance(samples, (bytes, bytearray, memoryview, str)) or not hasattr(samples, "ndim"):
            raise FaceTalkError(
                f"a chunk must be a NumPy array or a tensor, not {type(samples).__name__}: of raw 16-bit sound, "
                "np.frombuffer(chunk, np.int16) makes one"
            )
        if samples.ndim == 1 and len(samples) == 0:
            return torch.zeros(0, self.code_size)
        samples, rate = read_audio(samples, self.sampling_rate)
        # A second at a time: what is kept is cut at its front for every hop, and should be short.
        codes = []
        for start in range(0, len(samples), rate):
            self.features.push(self.resampler.push(samples[start : start + rate]))
            codes.append(self._advance())
        return torch.cat(codes)

    def finish(self) -> torch.Tensor:
        """End the stream: codes (n, D) float of the frames that are left.

        Silence takes the place of what is missing in the last frame. A stream without a sample has no frames.
        """
        if self.finished:
            return torch.zeros(0, self.code_size)
        self.finished = True
        self.features.push(self.resampler.finish())
        self.features.finish()
        codes = self._advance()
        beyond = self.num_frames - self.features.end
        self.num_frames = self.features.end
        return codes[: len(codes) - beyond] if beyond > 0 else codes

    def _advance(self) -> torch.Tensor:
        codes = [torch.zeros(0, self.code_size)]
        while self.features.ready():
            sample = self._denoise(self.features.pull())
            denoiser, head = self.pipe.denoiser, self.pipe.head
            parts = [denoiser.denormalize(item.to(denoiser.code_mean.device)).float().cpu() for item in sample]
            codes.append(self.controls.scale(self.controls.settle(*parts, head, self.lids), head))
            self.num_frames += self.hop
        return torch.cat(codes)

    @torch.inference_mode()
    def _denoise(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (hop, A) of the next frames to normalised codes (hop, D): a sample, and what to expect."""
        self.denoiser.begin(features)
        known = self.table.new_zeros(len(self.table), self.hop * self.code_size)
        known[0] = self._draw().to(known.device).flatten()
        for step in range(len(self.table) - 1):
            noisy = (self.table[step, : step + 1] @ known[: step + 1]).view(self.hop, -1)
            known[step + 1] = self.denoiser(step, noisy).flatten()
        return (self.table[-1] @ known).view(self.hop, -1), self.denoiser.expected

    def _draw(self) -> torch.Tensor:
        while len(self.noise) < self.hop:
            device = None if self.generator is None else self.generator.device
            block = randn_tensor((self.noise_block, self.code_size), generator=self.generator, device=device)
            self.noise = torch.cat((self.noise, block.cpu()))
        noise, self.noise = self.noise[: self.hop], self.noise[self.hop :]
        return noise


class StreamingMixin:
    """`stream` and `open_stream` of [`FaceTalkPipeline`]."""

    def open_stream(
        self,
        sampling_rate: int,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        mouth_temperature: float | None = None,
        intensity: float = 1.0,
        upper_face_intensity: float | None = None,
        generator: torch.Generator | None = None,
        hop: int = 2,
        warm_up: np.ndarray | torch.Tensor | None = None,
        blink_contrast: float | None = None,
    ) -> SpeechStream:
        """A stream to push sound into, where `stream` with its iterator does not fit. Arguments as there."""
        defaults = self._call_defaults()
        steps = defaults["num_inference_steps"] if num_inference_steps is None else num_inference_steps
        scale = defaults["guidance_scale"] if guidance_scale is None else guidance_scale
        self.check_inputs(
            identity=None, num_inference_steps=steps, guidance_scale=scale, num_samples=1,
            output_type="expression", callback_on_step_end_tensor_inputs=[],
        )  # fmt: skip
        cooling = {"mouth_temperature": mouth_temperature, "blink_contrast": blink_contrast}
        controls = MotionControls(intensity, upper_face_intensity, **cooling)
        controls.check(self.head, "expression")
        if not isinstance(sampling_rate, (int, np.integer)) or not 1 <= sampling_rate < 2**31:
            raise FaceTalkError(f"sampling_rate must be a positive whole number of Hz, not {sampling_rate}")
        if not isinstance(hop, int) or hop < 1:
            raise FaceTalkError(f"hop must be a whole number of frames of at least 1, not {hop}")
        stream = SpeechStream(self, int(sampling_rate), steps, scale, controls, generator, hop)
        if warm_up is not None:
            samples, _ = read_audio(warm_up, self.feature_extractor.sampling_rate)
            stream.features.statistics.update(self.feature_extractor.log_mel(samples))
        return stream

    def stream(
        self,
        chunks: Iterable[np.ndarray | torch.Tensor | tuple[np.ndarray, int]],
        sampling_rate: int,
        identity: str | int | np.ndarray | torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        mouth_temperature: float | None = None,
        intensity: float = 1.0,
        upper_face_intensity: float | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "animation",
        hop: int = 2,
        warm_up: np.ndarray | torch.Tensor | None = None,
        blink_contrast: float | None = None,
    ) -> Iterator[SpeechStreamOutput]:
        """
        Animate sound while it comes: frames leave as soon as `SpeechStream.delay` seconds of sound after their start
        are there (0.497 s for facetalk-tiny, 0.455 s with `hop=1`).

        How the sound is cut into chunks makes no difference, to the last bit. Against the call with the whole clip
        only one thing differs: loudness and spectrum are normalised by the speech so far.

        Args:
            chunks: of one channel, (S,) numbers each, of any lengths; or pairs of such and their rate, to be checked.
            sampling_rate (`int`): of the chunks, Hz.
            identity, num_inference_steps, guidance_scale, mouth_temperature, intensity, upper_face_intensity,
                generator: as in `__call__`, with its defaults.
            output_type (`str`, *optional*, defaults to `"animation"`): `"animation"`: decoded heads; `"arkit"`:
                ARKit's 52 weights, for which no surface is made; `"expression"`: codes only.
            hop (`int`, *optional*, defaults to 2): frames made at a time. 1 has the shortest delay, more cost less.
            warm_up ((S,) numbers, *optional*): some seconds of the same voice and microphone, at the rate of the
                audio encoder, so that the first words are normalised as well as later ones.
            blink_contrast (`float`, *optional*): as in `__call__`.

        Returns:
            iterator of [`SpeechStreamOutput`], one for each chunk that completes frames. The frames of a stream whose
            chunks break off with an exception are valid up to there.

        Raises:
            FaceTalkError: an argument or a chunk that cannot be used, or a model that cannot work live: an audio
                encoder or a denoiser that needs the whole clip, a scheduler that draws noise.
        """
        if output_type not in OUTPUT_TYPES:
            raise FaceTalkError(
                f"output_type of a stream must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}"
            )
        if output_type != "expression":
            code = self.decoder.identity_code(identity)
        if output_type == "arkit":
            weights_to_arkit(np.zeros((0, len(self.decoder.target_names))), self.decoder.target_names)
        if isinstance(chunks, (np.ndarray, torch.Tensor, str, bytes)):
            raise FaceTalkError("chunks must be an iterable of arrays: for one whole clip, call the pipeline itself")
        stream = self.open_stream(
            sampling_rate, num_inference_steps, guidance_scale, mouth_temperature, intensity, upper_face_intensity,
            generator, hop, warm_up, blink_contrast,
        )  # fmt: skip
        if output_type == "animation":
            self.decoder.geometry(code)  # takes seconds: now, not when the first frame is due

        def outputs() -> Iterator[SpeechStreamOutput]:
            for index, expressions in _blocks(stream, chunks):
                output = SpeechStreamOutput(index, index / self.config.fps, expressions)
                if output_type == "arkit":
                    names = self.decoder.target_names
                    output.arkit = weights_to_arkit(self.decoder.weights(expressions), names)
                elif output_type == "animation":
                    output.animation = self.decode(expressions, code)
                yield output

        return outputs()

    def _call_defaults(self) -> dict[str, Any]:
        """Defaults of the arguments of `FaceTalkPipeline.__call__`."""
        for cls in type(self).__mro__:
            parameters = inspect.signature(cls.__call__).parameters
            if "guidance_scale" in parameters:
                return {name: value.default for name, value in parameters.items()}
        return {}


def _blocks(stream: SpeechStream, chunks: Iterable) -> Iterator[tuple[int, torch.Tensor]]:
    """Number of the first frame and codes (n, D), n > 0, of everything that a stream gives."""
    for chunk in chunks:
        index = stream.num_frames
        codes = stream.push(*chunk) if isinstance(chunk, tuple) else stream.push(chunk)
        if len(codes):
            yield index, codes
    index = stream.num_frames
    codes = stream.finish()
    if len(codes):
        yield index, codes
