# SPDX-License-Identifier: MIT
"""An autoregressive decoder in the style of FaceFormer (Fan et al. 2022), and its training, to compare diffusion with.

Frame i comes from the audio and the codes before it, with FaceFormer's periodic positions, its attention bias that
falls by whole periods into the past, and its alignment bias, which leaves a frame its own audio alone. It differs in
pre-norm blocks, codes in place of vertices, scheduled sampling in training, and kept keys and values.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.optimization import get_scheduler
from torch import nn

from ..data.segments import EncodedClips, SegmentDataset
from ..models.denoiser import FaceTalkDenoiser
from .loop import Trainer, TrainingOptions
from .objective import DiffusionObjective


class AutoregressiveBlock(nn.Module):
    """Causal self-attention, the frame's own audio, feed-forward; each adds to the residual stream."""

    def __init__(self, hidden_size: int, num_heads: int, ff_mult: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.to_qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.to_out = nn.Linear(hidden_size, hidden_size)
        # Cross-attention with one key to a query: a linear map of that frame's audio, see `AlignedAudio`.
        self.audio = nn.Linear(hidden_size, hidden_size)
        self.norm_ff = nn.LayerNorm(hidden_size)
        self.ff = nn.Sequential(
            nn.Linear(hidden_size, ff_mult * hidden_size), nn.GELU(), nn.Linear(ff_mult * hidden_size, hidden_size)
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        audio: torch.Tensor,
        bias: torch.Tensor,
        memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue hidden states (B, N, C), and keys and values so far (2, B, H, M, C / H), by this call's frames."""
        qkv = self.to_qkv(self.norm_attention(hidden_states)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        new = torch.stack((key, value))
        memory = new if memory is None else torch.cat((memory, new), dim=3)
        out = F.scaled_dot_product_attention(query, memory[0], memory[1], attn_mask=bias)
        hidden_states = hidden_states + self.to_out(out.transpose(1, 2).flatten(2)) + self.audio(audio)
        return hidden_states + self.ff(self.norm_ff(hidden_states)), memory


class AutoregressiveDecoder(nn.Module):
    """Codes from audio, frame by frame.

    Args:
        code_dim (`int`): channels D of a code. audio_dim (`int`): channels A of a frame of speech features.
        hidden_size, num_layers, num_heads, ff_mult (`int`): as in the denoiser.
        period (`int`): frames after which positions repeat and the attention bias falls by a step; 24 is a second.
    """

    def __init__(
        self,
        code_dim: int,
        audio_dim: int,
        hidden_size: int = 128,
        num_layers: int = 5,
        num_heads: int = 4,
        ff_mult: int = 3,
        period: int = 24,
    ) -> None:
        super().__init__()
        self.period = period
        self.positions: torch.Tensor
        self.slopes: torch.Tensor
        self.code_in = nn.Linear(code_dim, hidden_size)
        self.audio_in = nn.Sequential(nn.LayerNorm(audio_dim), nn.Linear(audio_dim, hidden_size), nn.SiLU())
        self.blocks = nn.ModuleList(AutoregressiveBlock(hidden_size, num_heads, ff_mult) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(hidden_size)
        self.code_out = nn.Linear(hidden_size, code_dim)
        for values in (self.code_out.weight, self.code_out.bias):
            nn.init.zeros_(values)
        angle = torch.arange(period)[:, None] * torch.exp(
            -math.log(10000.0) * torch.arange(0, hidden_size, 2) / hidden_size
        )
        self.register_buffer("positions", torch.stack((angle.sin(), angle.cos()), -1).flatten(1), persistent=False)
        slopes = 2.0 ** (-8.0 * torch.arange(1, num_heads + 1) / num_heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, previous: torch.Tensor, audio_features: torch.Tensor) -> torch.Tensor:
        """Predict all frames at once.

        Args:
            previous ((B, N, D) float): normalised codes; frame i holds what is known as frame i - 1, 0 at the start.
            audio_features ((B, N, A) float): speech features.

        Returns:
            (B, N, D) float.
        """
        return self._run(previous, self.audio_in(audio_features), 0, None)[0]

    @torch.no_grad()
    def generate(self, audio_features: torch.Tensor) -> torch.Tensor:
        """Generate codes (B, N, D), each frame from those that were made before it."""
        audio = self.audio_in(audio_features)
        memory: list[torch.Tensor] | None = None
        frames = [audio.new_zeros(len(audio), 1, self.code_out.out_features)]
        for index in range(audio.shape[1]):
            code, memory = self._run(frames[-1], audio[:, index : index + 1], index, memory)
            frames.append(code)
        return torch.cat(frames[1:], dim=1)

    def _run(
        self, previous: torch.Tensor, audio: torch.Tensor, start: int, memory: list[torch.Tensor] | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run frames from `start` on, given the keys and values of those before it, one tensor a block."""
        index = torch.arange(start + previous.shape[1], device=audio.device)
        back = index[start:, None] - index[None]
        bias = -self.slopes[:, None, None] * back.div(self.period, rounding_mode="floor")
        bias = bias.masked_fill(back < 0, float("-inf"))
        hidden_states = self.code_in(previous) + self.positions[index[start:] % self.period]
        kept = []
        before: list[torch.Tensor | None] = [None] * len(self.blocks) if memory is None else [*memory]
        for block, earlier in zip(self.blocks, before, strict=True):
            hidden_states, latest = block(hidden_states, audio, bias.to(hidden_states.dtype), earlier)
            kept.append(latest)
        return self.code_out(self.norm_out(hidden_states)), kept


def shifted(codes: torch.Tensor) -> torch.Tensor:
    """Delay codes (B, N, D) by a frame; the first one becomes 0, the mean code."""
    return F.pad(codes[:, :-1], (0, 0, 1, 0))


def scheduled_inputs(
    model: AutoregressiveDecoder, codes: torch.Tensor, audio_features: torch.Tensor, share: float
) -> torch.Tensor:
    """Make the history to train on: true codes, a `share` of them replaced by what the model makes of the true ones.

    Fed with true codes alone, the model never sees its own errors, and they grow when it runs freely (exposure bias).
    Scheduled sampling in parallel, with one pass without gradients (Mihaylova and Martins 2019).

    Args:
        codes ((B, N, D) float): normalised. audio_features ((B, N, A) float). share (`float`): 0 ... 1.

    Returns:
        (B, N, D) float, shifted by a frame: the `previous` of the model.
    """
    previous = shifted(codes)
    if share <= 0:
        return previous
    with torch.no_grad():
        own = shifted(model(previous, audio_features).to(codes.dtype))
    chosen = torch.rand(codes.shape[:2], device=codes.device) < share
    return torch.where(chosen[:, :, None], own, previous)


def train_autoregressive(
    model: AutoregressiveDecoder, denoiser: FaceTalkDenoiser, clips: EncodedClips, recipe: Mapping[str, Any],
    options: TrainingOptions, matrix: torch.Tensor | None = None,
) -> None:  # fmt: skip
    """Train the decoder on the same clips, with the same losses, optimiser and schedule as a denoiser.

    Args:
        model ([`AutoregressiveDecoder`]): untrained.
        denoiser ([`FaceTalkDenoiser`]): gives the normalisation of codes.
        clips ([`EncodedClips`]): of the training.
        recipe (`dict`): values of a YAML file of training/train_denoiser.py.
        options ([`TrainingOptions`]): of the loop.
        matrix ((D, K) float, *optional*): errors of codes @ matrix count as well.
    """
    steps, size = options.max_train_steps, options.batch_size
    # Null audio and augmented expressions serve the diffusion; what always gives one result has no use for them.
    data = SegmentDataset(clips, recipe["segment_frames"], steps * size, seed=options.seed, null_probability=0.0)
    weights = (recipe.get("velocity_weight", 0.0), matrix, recipe.get("loss_matrix_weight", 1.0))
    objective = DiffusionObjective(denoiser, *weights)  # for its normalisation and its losses
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe["learning_rate"], betas=(0.9, recipe.get("adam_beta2", 0.999)), weight_decay=0.0
    )
    schedule = get_scheduler(
        recipe["lr_scheduler"], optimizer, num_warmup_steps=max(1, steps // 10), num_training_steps=steps
    )
    trainer = Trainer(options, "autoregressive")

    def batches() -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        for step in trainer.steps:
            yield step, data.__getitems__(list(range(step * size, (step + 1) * size)))

    def loss(network: nn.Module, numbered: tuple[int, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        step, batch = numbered
        target, audio = (batch["codes"] - objective.mean) / objective.std, batch["audio"]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.get("mixed_precision") == "bf16"):
            prediction = network(scheduled_inputs(model, target, audio, step / steps), audio)
        return {"loss": objective.compare(prediction.float(), target, batch["frame_mask"])}

    trainer.run(model, optimizer, schedule, batches(), loss)
    trainer.close()
