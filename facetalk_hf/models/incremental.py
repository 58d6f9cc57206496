# SPDX-License-Identifier: MIT
"""A causal denoiser that works on a few new frames at a time, for live use.

The same arithmetic as `FaceTalkDenoiser.forward`, arranged for one or two rows: what depends on the timestep or the
audio alone is added up beforehand, and each operation is one call, because calls are what takes the time here.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import FaceTalkError
from .denoiser import FaceTalkDenoiser
from .denoiser_blocks import FaceTalkDenoiserBlock
from .guidance import guided, guided_copies


class IncrementalDenoiser:
    """Denoises frames that come `hop` at a time, all steps before the next come.

    Of every step and block, the rotated keys and the values of the last `window` frames are kept, in a ring of slots.
    What tells two frames apart is their rotary angle, computed from the whole position in double precision: an hour
    in, it is as exact as in the first second.

        for every hop:
            denoiser.begin(audio_features)
            for step in range(len(timesteps)):
                clean = denoiser(step, noisy)

    Args:
        denoiser ([`FaceTalkDenoiser`]): causal, with a window and no alignment width. Runs in float32.
        timesteps ((S,)): of the denoising steps.
        hop (`int`): frames that come at a time.
        guidance_scale (`float`): w of `null + w * (audio - null)`; 1 computes no null.
        intensity (`float`, *optional*): factor r for a denoiser with an `intensity_range`.
        emotion_scale (`float`, *optional*, defaults to 1): s, which adds `(s - 1) * (audio - untold)`, where untold is
            the prediction without conditions; 1 computes none.

    Attributes:
        expected ((hop, D) float32): the prediction of the first step, without guidance.

    Raises:
        FaceTalkError: a denoiser that looks ahead, or looks back without limit.
    """

    @torch.inference_mode()
    def __init__(
        self,
        denoiser: FaceTalkDenoiser,
        timesteps: torch.Tensor,
        hop: int,
        guidance_scale: float,
        intensity: float | None = None,
        emotion_scale: float = 1.0,
    ):
        config = denoiser.config
        if config.attention_mode != "causal" or config.window is None or config.alignment_width != 0:
            raise FaceTalkError(
                f"this denoiser (attention_mode={config.attention_mode!r}, window={config.window}, alignment_width="
                f"{config.alignment_width}) cannot work frame by frame, use one with "
                'attention_mode="causal", a window and alignment_width=0'
            )
        self.denoiser, self.hop, self.guidance_scale, self.window = denoiser, hop, guidance_scale, config.window
        self.emotion_scale = emotion_scale
        self.copies = 1 + (guidance_scale != 1) + (emotion_scale != 1)
        self.heads, self.theta, size = config.num_heads, config.rope_theta, config.hidden_size
        self.channels = size // self.heads
        self.device = device = denoiser.device
        self.slots = hop * (-(-self.window // hop) + 1)
        count = len(timesteps) * len(denoiser.blocks)
        ring = (count, 2, self.copies, self.heads, self.slots, self.channels)
        self.ring = torch.zeros(ring, device=device)
        self.keys, self.values = (part.unbind(0) for part in self.ring.unbind(1))
        self.position = 0
        self._biases: dict[int, torch.Tensor] = {}  # of full rings, by the place of the newest frame
        self._exponents = self.theta ** -(np.arange(0, self.channels, 2) / self.channels)

        self.enter, self.leave = _linear(denoiser.sample_in), _linear(denoiser.sample_out)
        self.norm = _norm(denoiser.norm_out)
        self.size = (size,)
        self.blocks = [_block(block) for block in denoiser.layers()]
        layers = [_linear(block.audio.to_out) for block in denoiser.layers()]
        self.project = torch.cat([weight for weight, _ in layers], 1), torch.cat([bias for _, bias in layers])
        self.silent = denoiser.null_audio.new_zeros(1, 1, size)
        self.untold = denoiser.tell(self.silent, None)
        self.told: torch.Tensor | None = None  # conditions of the frames before
        self.telling = self.untold  # what they add
        film = torch.stack(tuple(denoiser.film_tables(timesteps, intensity, denoiser.norm_out.weight))).float()
        film = film[..., 0, :]  # (S, L, 3, 2, 1, C): the bias of a part's last layer joins the shift after it
        for index, block in enumerate(denoiser.layers()):
            for part, layer in ((0, block.attention.to_out), (2, block.ff_out)):
                film[:, index, part, 1] += film[:, index, part, 0] * layer.bias.float()
        self.film = film
        self.scales = [[(table[0, 0], table[2, 0], table[2, 1]) for table in step] for step in film]

    @torch.inference_mode()
    def begin(self, audio_features: torch.Tensor, conditions: torch.Tensor | None = None) -> None:
        """Begin the next frames, whose speech features are (hop, A) float, and their conditions (hop, C) float."""
        hop, copies, denoiser = self.hop, self.copies, self.denoiser
        audio = denoiser.audio_in(audio_features[None].to(self.enter[1]).to(denoiser.norm_out.weight.dtype))
        told = None if conditions is None else conditions[None].to(self.device)
        if copies > 1:
            keep, told = guided_copies(1, self.guidance_scale, self.emotion_scale, told)
            silent = denoiser.null_audio.to(audio.dtype)
            audio = torch.where(keep[:, None, None].to(self.device), audio, silent)
        if told is not None and (self.told is None or not torch.equal(told, self.told)):
            self.told, self.telling = told, denoiser.tell(self.silent, told)
        audio = (audio + (self.untold if told is None else self.telling)).flatten(0, 1).float()
        audio = torch.addmm(self.project[1], audio, self.project[0]).unflatten(1, (-1, *self.size)).transpose(0, 1)
        scale, shift = self.film[:, :, 1].unbind(2)
        after_attention = torch.addcmul(self.film[:, :, 0, 1] + shift, audio, scale)
        self.shifts = [step.unbind(0) for step in after_attention.unbind(0)]

        # In double precision: in single, the angles of an hour's last frames would be 0.004 rad off.
        angle = np.arange(self.position, self.position + hop)[:, None] * self._exponents
        turn = np.ones((copies, hop, 3, 1, self.channels // 2), np.complex64)  # of queries and keys, values stay
        turn[:, :, :2, 0] = np.exp(1j * angle)[:, None]
        self.turn = torch.from_numpy(turn).to(self.device).flatten(0, 1)
        newest = self.position + hop - 1
        bias = self._biases.get(newest % self.slots) if newest >= self.slots else None
        if bias is None:
            slot = torch.arange(self.slots)
            held = newest - (newest - slot) % self.slots  # position of the frame in each slot
            offset = held - (self.position + torch.arange(hop))[:, None]
            seen = (held >= 0) & (offset <= 0) & (offset >= -self.window)
            bias = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).to(self.device)
            if newest >= self.slots:
                self._biases[newest % self.slots] = bias
        self.bias = bias
        first = self.position % self.slots
        self.places = self.ring[..., first : first + hop, :].unbind(0)
        self.position += hop

    @torch.inference_mode()
    def __call__(self, step: int, noisy: torch.Tensor) -> torch.Tensor:
        """Denoise codes x_t (hop, D) float32 of one step to clean codes x_0; call it in the order of the steps."""
        copies, hop, heads, channels, size = self.copies, self.hop, self.heads, self.channels, self.size
        rows = copies * hop
        hidden = torch.addmm(self.enter[1], noisy if copies == 1 else noisy.repeat(copies, 1), self.enter[0])
        skips: list[torch.Tensor] = []
        half, first = len(self.blocks) // 2, step * len(self.blocks)
        shifts, scales = self.shifts[step], self.scales[step]
        for index, (skip, norm_attention, qkv, out, norm_ff, ff_in, ff_out) in enumerate(self.blocks):
            if skip is not None:
                hidden = torch.addmm(skip[1], torch.cat((hidden, skips.pop()), 1), skip[0])
            part = torch.addmm(qkv[1], torch.layer_norm(hidden, size, *norm_attention), qkv[0])
            torch.view_as_complex(part.view(rows, 3, heads, -1, 2)).mul_(self.turn)
            part = part.view(copies, hop, 3, heads, channels).permute(2, 0, 3, 1, 4)
            self.places[first + index].copy_(part.narrow(0, 1, 2))
            seen = F.scaled_dot_product_attention(
                part.select(0, 0), self.keys[first + index], self.values[first + index], self.bias
            )
            part = torch.mm(seen.transpose(1, 2).reshape(rows, -1), out)
            attention_scale, ff_scale, ff_shift = scales[index]
            hidden = torch.addcmul(hidden, part, attention_scale).add_(shifts[index])
            part = torch.addmm(ff_in[1], torch.layer_norm(hidden, size, *norm_ff), ff_in[0])
            part = torch.mm(torch.addcmul(part, part, torch.erf(part)), ff_out)
            hidden = torch.addcmul(hidden, part, ff_scale).add_(ff_shift)
            if index < half:
                skips.append(hidden)
        clean = torch.addmm(self.leave[1], torch.layer_norm(hidden, size, *self.norm), self.leave[0])
        if step == 0:
            self.expected = clean[:hop]
        if copies == 1:
            return clean
        if copies == 2 and self.emotion_scale == 1:
            return torch.lerp(clean[hop:], clean[:hop], self.guidance_scale)  # one call in place of three
        return guided(clean.view(copies, hop, -1), self.guidance_scale, self.emotion_scale)


def _linear(layer: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight.float().T, layer.bias.float()


def _norm(layer: torch.nn.LayerNorm) -> tuple[torch.Tensor, torch.Tensor, float]:
    return layer.weight.float(), layer.bias.float(), layer.eps


def _block(block: FaceTalkDenoiserBlock) -> tuple:
    heads = block.attention.num_heads
    weight, bias = block.attention.to_qkv.weight.float(), block.attention.to_qkv.bias.float()
    channels = len(weight) // (3 * heads)
    # The channels c and c + C / 2 that turn together are laid side by side, as one complex number. Products of queries
    # and keys do not notice; the values keep their order.
    pairs = torch.arange(channels).view(2, -1).T.flatten()
    order = torch.arange(len(weight)).view(3, heads, channels).clone()
    order[:2] = order[:2, :, pairs]
    order = order.flatten().to(weight.device)
    # gelu(x) = x / 2 (1 + erf(x / sqrt 2)) is y (1 + erf y), y = x / sqrt 2, but for a factor; weights hold both.
    # That of torch takes three times as long on so few frames.
    half = math.sqrt(0.5)
    return (
        None if block.skip is None else _linear(block.skip),
        _norm(block.norm_attention),
        (weight[order].T, bias[order]),
        block.attention.to_out.weight.float().T,
        _norm(block.norm_ff),
        tuple(half * item for item in _linear(block.ff_in)),
        half * block.ff_out.weight.float().T,
    )
