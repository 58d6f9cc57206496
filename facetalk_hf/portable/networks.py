# SPDX-License-Identifier: MIT
"""The networks of a stream as two functions without state, for an exporter to trace: ear and few-step denoiser."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..blendshapes import EXPRESSIONS, INDEX
from ..models.audio_encoder import LogMelEncoder
from ..models.denoiser import FaceTalkDenoiser
from ..models.nphm import NPHMModel
from ..motion.channels import Channels
from ..motion.processing import temper_mouth
from ..motion.steering import APART, PAUSE, RAMP, MouthSteering
from ..phones.alphabets import SILENCE
from ..phones.visemes import LIP_SEAL, PHONES, closed_lips


class Ear(nn.Module):
    """Normalised log-mel columns around `hop` frames -> their features, and lip closures that are heard in them.

    Args:
        encoder ([`LogMelEncoder`]): in float32.
        look_ahead (`int`): frames.
        columns (sequence of `int`, *optional*): of the mouth's shapes among the 53, where closures are to be heard.
        phones (`bool`, *optional*): give phones as well.
    """

    def __init__(
        self, encoder: LogMelEncoder, look_ahead: int, columns: Sequence[int] | None = None, phones: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.look_ahead, self.columns, self.phones = encoder, look_ahead, columns, phones

    def forward(self, columns: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode columns (4 T, M + 1) and mask (T,) float, 0 beyond the clip; T = past + hop + look-ahead frames.

        Returns:
            features (hop, A); where closures are heard, what [`MouthSteering`] takes: the mouth's target (hop, K),
            contact (hop, 1), least distance (hop,) and rest (hop,); where phones are, their logits (2 hop, P).
        """
        features = self.encoder.encode_between(columns[None], mask[None, :, None], self.look_ahead)[0]
        threshold = self.encoder.config.closure_threshold
        phones = (self.encoder.predict_phones(features[None])[0],) if self.phones else ()
        if self.columns is None or threshold is None:
            return features, *phones
        target, contact, least, rest = heard_closures(self.encoder, features, threshold)
        return features, target[:, list(self.columns)], contact[:, None], least, rest, *phones


def heard_closures(encoder: LogMelEncoder, features: torch.Tensor, threshold: float) -> tuple[torch.Tensor, ...]:
    """Compute `motion.steering.heard_target` in torch: target (N, 53), contact (N,), least (N,), rest (N,)."""
    heard = encoder.predict_motion(features)
    weights = heard.weights.clamp(0, 1)
    contact = (1 + (heard.closure_logits.sigmoid() - threshold) / RAMP).clamp(0, 1) ** 2
    silent = torch.zeros_like(contact)
    if encoder.config.num_phones > PHONES.index(SILENCE):
        pause = encoder.predict_phones(features[None])[0].softmax(-1)[:, PHONES.index(SILENCE)]
        pause = pause.unflatten(0, (-1, 2)).amin(-1)
        silent = ((pause - PAUSE[0]) / (PAUSE[1] - PAUSE[0])).clamp(0, 1)
    jaw, close = weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]]
    least = (0.6 * (jaw - close / LIP_SEAL)).clamp(0, APART) * (1 - contact.sqrt()) * (1 - silent)
    # `closed_lips` leaves a weight, sets it, sets its least value, or makes it a share of jawOpen: which, it says.
    rest = torch.zeros(3, len(EXPRESSIONS))
    rest[1] = 1
    rest[2, INDEX["jawOpen"]] = 1
    low, high, open_jaw = torch.from_numpy(closed_lips(rest.numpy())).to(weights)
    own = (high > low).to(weights)
    by_jaw = (open_jaw - low).clone()
    own[by_jaw != 0] = 0
    return torch.maximum(weights * own + jaw[:, None] * by_jaw, low), contact, least, silent


class Motion(nn.Module):
    """All denoising steps of the next `hop` frames: noise and features -> weights of the head's shapes, and poses.

    The same arithmetic as [`~facetalk_hf.models.incremental.IncrementalDenoiser`] without guidance, with the keys and
    values of the last `window` frames as input and output instead of a ring.

    Args:
        denoiser ([`FaceTalkDenoiser`]): causal, with a window, alignment width 0; in float32.
        head ([`NPHMModel`]): with named shapes.
        timesteps (S,), table (S + 1, S + 1): of `pipeline.streaming.sampling_table`.
        hop (`int`): frames made at a time.
        intensity (`float`, *optional*): that the denoiser is conditioned on.
        temperature (`float`, *optional*): of the mouth.
        steering ([`MouthSteering`], *optional*): where closures are heard.
    """

    film: torch.Tensor

    def __init__(
        self, denoiser: FaceTalkDenoiser, head: NPHMModel, timesteps: torch.Tensor, table: torch.Tensor, hop: int,
        intensity: float | None = None, temperature: float | None = None, steering: MouthSteering | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        config = denoiser.config
        self.denoiser, self.head, self.steering, self.table, self.hop = denoiser, head, steering, table.tolist(), hop
        self.temperature, self.size, self.heads = temperature, config.code_dim, config.num_heads
        self.scale = (config.hidden_size / config.num_heads) ** -0.5
        film = torch.stack(tuple(denoiser.film_tables(timesteps, intensity, denoiser.norm_out.weight)))
        self.register_buffer("film", film.detach()[..., 0, :])  # (S, L, 3, 2, 1, C)
        self.channels = Channels(head, "ONNX")

    def forward(
        self, features: torch.Tensor, noise: torch.Tensor, turn: torch.Tensor, bias: torch.Tensor,
        cache: torch.Tensor, *extra: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """Make the next frames.

        Args:
            features (hop, A), noise (hop, C).
            turn (2, hop, 1, C / 2): cosine and sine of the frames' rotary angles.
            bias (hop, window + hop): 0 for a frame that is seen, -inf for others.
            cache (S, L, 2, heads, window, channels): keys and values of the frames before, zeros at first.
            extra: of a model with conditions, those (hop, K); of one that hears closures, the results of `Ear`.

        Returns:
            weights (hop, W), the new cache, and, from a model that moves the head, poses (hop, P) as it learnt them.
        """
        told = [*extra]
        conditions = told.pop(0)[None] if self.denoiser.config.condition_names else None
        audio = self.denoiser.project_audio(features[None], None, conditions)
        if self.steering is not None:
            target, contact, least, rest = told
            if conditions is not None:  # a mood or style holds the lips in its own way
                rest = rest * (conditions[0].abs().amax(-1) == 0)
            self.steering.aim_at(target[None], contact[None], least[None], rest[None])
        known, kept = [noise], []
        for step in range(len(self.table) - 1):
            clean, cached = self._predict(step, self._mixed(step, known), audio, turn, bias, cache[step])
            if self.steering is not None:
                clean = self.steering(clean[None])[0]
            known.append(clean)
            kept.append(cached)
        sample, pose = self.denoiser.split_sample(self._mixed(-1, known))
        codes, mean = self.denoiser.denormalize(sample), self.denoiser.denormalize(known[1][:, : self.size])
        weights = self.channels.weights(temper_mouth(codes, mean, self.head, self.temperature))
        return (weights, torch.stack(kept)) if pose is None else (weights, torch.stack(kept), pose)

    def _mixed(self, row: int, known: list[torch.Tensor]) -> torch.Tensor:
        """Sum what is known by a row of the scheduler's table."""
        return sum((share * item for share, item in zip(self.table[row], known, strict=False) if share), 0 * known[0])

    def _predict(
        self, step: int, noisy: torch.Tensor, audio: list[torch.Tensor], turn: torch.Tensor, bias: torch.Tensor,
        cache: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        denoiser, heads = self.denoiser, self.heads
        hidden = denoiser.sample_in(noisy)
        skips: list[torch.Tensor] = []
        kept: list[torch.Tensor] = []
        half = len(denoiser.blocks) // 2
        for index, block in enumerate(denoiser.layers()):
            film = self.film[step, index]
            if block.skip is not None:
                hidden = block.skip(torch.cat((hidden, skips.pop()), dim=-1))
            qkv = block.attention.to_qkv(block.norm_attention(hidden)).unflatten(-1, (3 * heads, -1))
            first, second = qkv[:, : 2 * heads].chunk(2, dim=-1)
            cos, sin = turn[0], turn[1]
            turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
            query, key = turned.transpose(0, 1).chunk(2)  # (heads, hop, channels)
            value = qkv[:, 2 * heads :].transpose(0, 1)
            seen = torch.cat((cache[index], torch.stack((key, value))), dim=2)
            kept.append(seen[:, :, self.hop :])
            scores = query @ seen[0].transpose(1, 2) * self.scale + bias
            part = block.attention.to_out((scores.softmax(-1) @ seen[1]).transpose(0, 1).flatten(1))
            hidden = hidden + film[0, 1] + part * film[0, 0]
            hidden = hidden + film[1, 1] + audio[index][0] * film[1, 0]
            part = block.ff_out(F.gelu(block.ff_in(block.norm_ff(hidden))))
            hidden = hidden + film[2, 1] + part * film[2, 0]
            if index < half and denoiser.config.skip_connections:
                skips.append(hidden)
        return denoiser.sample_out(denoiser.norm_out(hidden)), torch.stack(kept)


def rotary_frequencies(denoiser: FaceTalkDenoiser) -> list[float]:
    """Give the angle by which each pair of channels turns from one frame to the next, radians."""
    channels = denoiser.config.hidden_size // denoiser.config.num_heads
    return [denoiser.config.rope_theta ** -(pair / channels) for pair in range(0, channels, 2)]


def check_shares(head: NPHMModel) -> float:
    """Measure how far the weights that a head is drawn with are from those that its codes are read by."""
    channels = Channels(head, "ONNX")
    drawn = head.forward_net.coefficient_map.weight.double() @ channels.dual
    return float((drawn - torch.eye(len(drawn), dtype=torch.float64)).abs().max()) if len(drawn) else math.inf
