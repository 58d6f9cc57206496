# SPDX-License-Identifier: MIT
"""A phone recogniser of a few hundred thousand parameters on the frozen features of a large speech encoder."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class ConvBlock(nn.Module):
    """x + W_2 gelu(W_1 norm(depthwise(x))): a ConvNeXt block (Liu et al., 2022) in time, on (B, C, L).

    Args:
        size (`int`): channels C. kernel_size (`int`): of the depthwise convolution, odd. dropout (`float`).
    """

    def __init__(self, size: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(size, size, kernel_size, padding=kernel_size // 2, groups=size)
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, 2 * size)
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(2 * size, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Mix hidden_states (B, L, C) in time and over channels: (B, L, C)."""
        mixed = self.depthwise(hidden_states.transpose(1, 2)).transpose(1, 2)
        return hidden_states + self.reduce(self.dropout(F.gelu(self.expand(self.norm(mixed)))))


class PhoneRecognizer(ModelMixin, ConfigMixin):
    """Tells phones from the features of a frozen speech encoder, one guess a feature.

    Args:
        feature_size (`int`): A, of the encoder.
        num_phones (`int`): C, classes; those of `phones.visemes.PHONES`, silence among them.
        hidden_size, num_blocks, kernel_size (`int`): of the network between.
        dropout (`float`): in training.
        encoder (`str`): Hub id of the encoder whose features it was trained on.
    """

    @register_to_config
    def __init__(
        self,
        feature_size: int = 512,
        num_phones: int = 41,
        hidden_size: int = 192,
        num_blocks: int = 2,
        kernel_size: int = 7,
        dropout: float = 0.2,
        encoder: str = "openai/whisper-base",
    ) -> None:
        super().__init__()
        self.project = nn.Linear(feature_size, hidden_size)
        self.blocks = nn.ModuleList(ConvBlock(hidden_size, kernel_size, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, num_phones)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, L, C) of features (B, L, A)."""
        hidden_states = self.project(F.layer_norm(features, features.shape[-1:]))
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.output(self.norm(hidden_states))
