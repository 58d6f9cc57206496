# SPDX-License-Identifier: MIT
"""Streaming: speech comes in pieces, and motion follows at a fixed delay (`FaceTalkPipeline.stream`).

In a causal denoiser a frame of a denoising step depends on earlier frames of the same step alone. Each frame can
therefore go through all steps as soon as its sound was heard, with the keys and values of the frames before it kept
for every step: the result is that of sampling the whole clip at once.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from ..animation.head_animation import HeadAnimation, neck_pivot
from ..audio.arousal import LiveArousal
from ..audio.encoding import look_ahead_frames
from ..audio.io import read_audio
from ..audio.streaming import FeatureStream, StreamingResampler, read_chunk
from ..blendshapes import INDEX, TONGUE
from ..conditions import STYLE
from ..errors import FaceTalkError
from ..head.decoder import Identity
from ..models.incremental import IncrementalDenoiser
from ..models.live_encoder import live_encoder
from ..motion.blinks import LidMemory
from ..motion.controls import MotionControls
from ..motion.emotions import told_conditions
from ..motion.processing import MotionProcessor
from ..motion.steering import MouthSteering, MouthTarget, heard_target, mouth_target, steerable
from ..phones.alphabets import SILENCE
from ..phones.segments import Segment
from ..phones.tongue import heard_tongue
from .components import OUTPUT_TYPES, FaceTalkComponents
from .denoising import SamplingScheduler
from .spoken import Phones, spoken_segments
from .tongue import hear_phones, hears_tongue, place_tongue


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
        poses ((n, 6) float32, *optional*): motion of the head as `head_motion` scales it, from a model that learnt it.
        tongue ((n, 5) float32, *optional*): weights of the tongue's shapes in the order of
            [`facetalk_hf.blendshapes.TONGUE`], from an audio encoder that hears phones.
    """

    index: int
    time: float
    expressions: torch.Tensor
    arkit: np.ndarray | None = None
    animation: HeadAnimation | None = None
    poses: np.ndarray | None = None
    tongue: np.ndarray | None = None


def sampling_table(scheduler: SamplingScheduler, num_inference_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Write a scheduler's steps as sums: rows[s] are the weights of noise and predictions in the sample of step s.

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
    """State of one stream: `push` sound, get frames; `finish` for the last ones. Its size does not grow.

    Args:
        pipe ([`FaceTalkPipeline`]): whose `open_stream` makes streams.
        sampling_rate (`int`): of the sound, Hz.
        controls ([`MotionControls`]): with the model's defaults filled in, and checked.
        generator, hop, warm_up: as in `FaceTalkPipeline.open_stream`.

    Attributes:
        delay (`float`): seconds of sound after the start of a frame that must have come before the frame does.
        num_frames (`int`): frames given so far.
        controls ([`MotionControls`]): emotion and style among them may be changed between two chunks, see `act`.
        poses ((n, 6) float32, *optional*): motion of the head in the frames that `push` or `finish` gave last.
        tongue ((n, 5) float32, *optional*): that of the tongue, likewise.
    """

    def __init__(
        self,
        pipe: FaceTalkComponents,
        sampling_rate: int,
        controls: MotionControls,
        generator: torch.Generator | None = None,
        hop: int = 2,
        warm_up: np.ndarray | torch.Tensor | None = None,
    ):
        if not isinstance(sampling_rate, (int, np.integer)) or not 1 <= sampling_rate < 2**31:
            raise FaceTalkError(f"sampling_rate must be a positive whole number of Hz, not {sampling_rate}")
        if not isinstance(hop, int) or hop < 1:
            raise FaceTalkError(f"hop must be a whole number of frames of at least 1, not {hop}")
        self.sampling_rate, self.generator, self.hop = int(sampling_rate), generator, hop
        extractor = pipe.feature_extractor
        ahead = look_ahead_frames(pipe.audio_encoder, controls.look_ahead, pipe.config["fps"])
        self.features = FeatureStream(live_encoder(pipe.audio_encoder, ahead), extractor, hop, look_ahead=ahead)
        if extractor.fps != pipe.config["fps"]:
            rates = f"{extractor.fps:g} frames a second, not {pipe.config['fps']:g}"
            raise FaceTalkError(f"the audio encoder works at {rates}")
        if warm_up is not None:
            samples, _ = read_audio(warm_up, extractor.sampling_rate)
            self.features.statistics.update(extractor.log_mel(samples).numpy())
        self.resampler = StreamingResampler(self.sampling_rate, extractor.sampling_rate)
        self.code_size, self.sample_size = pipe.denoiser.config["code_dim"], pipe.denoiser.sample_dim
        self.fps, self.condition_names = pipe.config["fps"], pipe.denoiser.config["condition_names"]
        self.controls, self.poses = controls, None if not pipe.learnt_pose else np.zeros((0, 6), np.float32)
        self.model, self.processor = pipe.denoiser, MotionProcessor(controls, pipe.denoiser, pipe.head)
        self._heard: np.ndarray | None = None  # the tongue's last weights, before they were fitted to the mouth
        self.tongue = np.zeros((0, len(TONGUE)), np.float32) if hears_tongue(pipe.audio_encoder, pipe.head) else None
        steps, guidance_scale = controls.num_inference_steps, controls.guidance_scale
        assert steps is not None and guidance_scale is not None
        timesteps, table = sampling_table(pipe.scheduler, steps)
        scales = (guidance_scale, self.processor.intensity, pipe.acting_scale(controls))
        self.denoiser = IncrementalDenoiser(pipe.denoiser, timesteps, hop, *scales)
        self.table = table.to(self.denoiser.device)
        self.encoder = pipe.audio_encoder
        self.steering: MouthSteering | None = None
        if self.encoder.config.closure_threshold is not None and steerable(pipe.head):
            self.steering = self._make_steering()
        self.told: dict[int, tuple[np.ndarray, float]] = {}  # mouth and contact of frames to come
        # Noise comes in groups of 16 numbers; drawn in whole groups it is that of a clip at once.
        self.noise = torch.zeros(0, self.sample_size)
        self.noise_block = 16 // math.gcd(16, self.sample_size)
        self.lids = LidMemory()
        self._arousal = LiveArousal(extractor.sampling_rate, self.fps) if controls.emotion == "auto" else None
        self.num_frames, self.finished = 0, False

    @property
    def delay(self) -> float:
        """Delay in seconds; see the class."""
        samples = self.features.samples_for(self.hop) / self.features.extractor.sampling_rate
        return samples + self.resampler.reach / self.sampling_rate

    def act(self, **options: Any) -> None:
        """Change emotion and style of the frames that are not made yet.

        Args:
            options: `emotion`, `energy`, `articulation`, `asymmetry`, as for the pipeline. The emotion scale stays
                that of the stream's beginning, where it counted only if something was asked for.

        Raises:
            FaceTalkError: what cannot be used, or a model that was not trained with emotion and style.
        """
        if other := sorted(set(options) - {"emotion", *STYLE}):
            raise FaceTalkError(f"{other[0]} cannot be changed in a stream")
        controls = replace(self.controls, **options)
        controls.check_ranges()
        controls.check_live(self.poses is not None)
        if controls.acts and not self.condition_names:
            raise FaceTalkError("this model was not trained with emotion and style")
        self.controls = controls

    def tell(self, phones: Phones, samples: np.ndarray, after: int = 0) -> None:
        """Say which phones are spoken in the sound that comes next: the mouth says them, as in a call.

        Args:
            phones: (phone, start, end) in seconds from the start of `samples`, as for the pipeline.
            samples: (S,) numbers, the sound that will be pushed from now on, in any chunks.
            after (`int`, *optional*, defaults to 0): samples that will be pushed before.

        Raises:
            FaceTalkError: phones or samples that cannot be used, or a head that phones cannot steer.
        """
        self.steering = self.steering or self._make_steering()
        waveform, rate = read_audio(samples, self.sampling_rate)
        segments = spoken_segments(phones, None, waveform, rate) or []
        # Frames have a grid of their own, which the sound begins between.
        start, length = (self.resampler.received + after) / rate, len(waveform) / rate
        first = int(start * self.fps)
        lead = start - first / self.fps
        segments = [Segment(name, begin + lead, end + lead) for name, begin, end in segments]
        if lead > 0:
            segments.insert(0, Segment(SILENCE, 0.0, lead))
        frames = math.ceil((lead + length) * self.fps)
        target = mouth_target(segments, frames, self.fps, np.pad(waveform, (round(lead * rate), 0)), rate)
        for row, (weights, contact) in enumerate(zip(target.weights, target.contact, strict=True)):
            if lead <= (row + 0.5) / self.fps < lead + length:
                self.told[first + row] = weights, float(contact)

    def _make_steering(self) -> MouthSteering:
        return MouthSteering([None], self.hop, self.model, self.processor.head, 1.0, self.processor.intensity)

    def _aim(self, features: torch.Tensor, told: np.ndarray | None, said: torch.Tensor | None) -> MouthSteering | None:
        """Aim at the mouth of the next frames, whose features are (hop, A): what was told, or else what is heard."""
        if self.steering is None:
            return None
        known = [self.told.pop(self.num_frames + index, None) for index in range(self.hop)]
        if any(item is not None for item in known):
            rest = np.zeros(len(INDEX), np.float32), 0.0
            weights, contact = zip(*(item or rest for item in known), strict=True)
            self.steering.aim([MouthTarget(np.stack(weights), np.array(contact, np.float32))], self.hop)
        elif self.encoder.config.closure_threshold is not None:
            self.steering.aim([heard_target(self.encoder, features, told, phones=said)], self.hop)
        else:
            return None
        return self.steering

    def push(self, samples: np.ndarray | torch.Tensor, sampling_rate: int | None = None) -> torch.Tensor:
        """Take in sound and return the codes (n, D) float of the frames that it completes; n may be 0.

        Args:
            samples: (S,) numbers, one channel; integers are scaled by the range of their type. S may be 0.
            sampling_rate (`int`, *optional*): Hz, to be checked.

        Raises:
            FaceTalkError: no row of finite numbers, another rate than the stream's, or a stream that has ended. The
                stream is left as it was.
        """
        if self.finished:
            raise FaceTalkError("the stream has ended, open another one")
        waveform, rate = read_chunk(samples, sampling_rate, self.sampling_rate), self.sampling_rate
        self._keep(0)
        if len(waveform) == 0:
            return torch.zeros(0, self.code_size)
        # A second at a time: what is kept is cut at its front for every hop, and should be short.
        codes, poses, tongues = [], [self.poses], [self.tongue]
        for start in range(0, len(waveform), rate):
            self._hear(self.resampler.push(waveform[start : start + rate]))
            codes.append(self._advance())
            poses.append(self.poses)
            tongues.append(self.tongue)
        self.poses = None if self.poses is None else np.concatenate([item for item in poses if item is not None])
        self.tongue = None if self.tongue is None else np.concatenate([item for item in tongues if item is not None])
        return torch.cat(codes)

    def finish(self) -> torch.Tensor:
        """End the stream and return the codes (n, D) float of the frames that are left.

        Silence takes the place of what is missing in the last frame. A stream without a sample has no frames.
        """
        self._keep(0)
        if self.finished:
            return torch.zeros(0, self.code_size)
        self.finished = True
        self._hear(self.resampler.finish())
        self.features.finish()
        end = self.features.end or 0
        codes = self._advance()
        beyond = self.num_frames - end
        self.num_frames = end
        count = len(codes) - max(beyond, 0)
        self._keep(count)
        return codes[:count]

    def _hear(self, samples: np.ndarray) -> None:
        self.features.push(samples)
        if self._arousal is not None:
            self._arousal.push(samples)

    def _keep(self, count: int) -> None:
        """Keep the first frames of what goes beside the codes."""
        self.poses = None if self.poses is None else self.poses[:count]
        self.tongue = None if self.tongue is None else self.tongue[:count]

    def _advance(self) -> torch.Tensor:
        codes = [torch.zeros(0, self.code_size)]
        poses: list[np.ndarray] = [np.zeros((0, 6), np.float32)]
        tongues = [np.zeros((0, len(TONGUE)), np.float32)]
        while self.features.ready():
            features = torch.from_numpy(self.features.pull())
            phones = hear_phones(self.encoder, features)
            sample, expected = self._denoise(features, phones)
            scaled = self.processor.scale(self.processor.postprocess(sample, expected, self.lids))
            if (learnt := self.processor.poses(sample)) is not None:
                scaled = self.processor.keep_gaze(scaled, learnt)
                poses.append(self.controls.head_motion * learnt.numpy())
            codes.append(scaled)
            if self.tongue is not None and phones is not None:
                heard = heard_tongue(phones.numpy(), self._heard)
                self._heard = heard[-1]
                tongues.append(place_tongue(self.processor.channels, heard, scaled))
            self.num_frames += self.hop
        self.poses = None if self.poses is None else np.concatenate(poses)
        self.tongue = None if self.tongue is None else np.concatenate(tongues)
        return torch.cat(codes)

    @torch.inference_mode()
    def _denoise(self, features: torch.Tensor, phones: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn what was heard in the next frames into normalised codes (hop, D): a sample, and the expected one."""
        heard, first = None, self.num_frames
        if self._arousal is not None:
            # What these frames waited for and no more, so that the chunks of the sound do not matter.
            heard = self._arousal.at(first / self.fps, self.features.samples_for(first + self.hop))
        told = told_conditions(self.controls, self.condition_names, self.hop, self.fps, None, first, heard)
        self.denoiser.begin(features, None if told is None else torch.from_numpy(told))
        steer = self._aim(features, told, phones)
        known = self.table.new_zeros(len(self.table), self.hop * self.sample_size)
        known[0] = self._draw().to(known.device).flatten()
        for step in range(len(self.table) - 1):
            noisy = (self.table[step, : step + 1] @ known[: step + 1]).view(self.hop, -1)
            clean = self.denoiser(step, noisy)
            known[step + 1] = (clean if steer is None else steer(clean[None])[0]).flatten()
        expected = known[1].view(self.hop, -1)  # without guidance it is the first step's
        if self.denoiser.copies > 1:
            expected = self.denoiser.expected if steer is None else steer(self.denoiser.expected[None])[0]
        return (self.table[-1] @ known).view(self.hop, -1), expected

    def _draw(self) -> torch.Tensor:
        while len(self.noise) < self.hop:
            device = None if self.generator is None else self.generator.device
            block = randn_tensor((self.noise_block, self.sample_size), generator=self.generator, device=device)
            self.noise = torch.cat((self.noise, block.cpu()))
        noise, self.noise = self.noise[: self.hop], self.noise[self.hop :]
        return noise


def stream_outputs(
    pipe: FaceTalkComponents,
    stream: SpeechStream,
    chunks: Iterable[np.ndarray | torch.Tensor | tuple[np.ndarray, int]],
    identity: Identity,
    output_type: str,
) -> Iterator[SpeechStreamOutput]:
    """Push chunks of sound into a stream and iterate over its frames; see `FaceTalkPipeline.stream`.

    Raises:
        FaceTalkError: at once, for an output type, an identity or chunks that cannot be used.
    """
    if output_type not in OUTPUT_TYPES:
        raise FaceTalkError(f"output_type of a stream must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
    if isinstance(chunks, (np.ndarray, torch.Tensor, str, bytes)):
        raise FaceTalkError("chunks must be an iterable of arrays: for one whole clip, call the pipeline itself")
    if output_type in ("animation", "arkit"):
        identity = code = pipe.decoder.identity_code(identity)
    if output_type == "arkit":
        pipe.arkit(np.zeros((0, stream.code_size), np.float32))
    elif output_type == "animation":
        pipe.decoder.geometry(code)  # takes seconds: now, not when the first frame is due

    def outputs() -> Iterator[SpeechStreamOutput]:
        for index, expressions in _blocks(stream, chunks):
            output = SpeechStreamOutput(index, index / pipe.config["fps"], expressions, poses=stream.poses)
            output.tongue = stream.tongue
            if output_type == "arkit":
                output.arkit = pipe.arkit(expressions, stream.tongue)
            elif output_type == "animation":
                output.animation = pipe.decode(expressions, identity).with_tongue(stream.tongue)
                if stream.poses is not None and stream.controls.head_motion:
                    output.animation = output.animation.replace(poses=stream.poses, pivot=neck_pivot(output.animation))
            yield output

    return outputs()


def _blocks(stream: SpeechStream, chunks: Iterable) -> Iterator[tuple[int, torch.Tensor]]:
    """Iterate over number of the first frame and codes (n, D), n > 0, of everything that a stream gives."""
    for chunk in chunks:
        index = stream.num_frames
        codes = stream.push(*chunk) if isinstance(chunk, tuple) else stream.push(chunk)
        if len(codes):
            yield index, codes
    index = stream.num_frames
    codes = stream.finish()
    if len(codes):
        yield index, codes
