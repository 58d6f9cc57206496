# SPDX-License-Identifier: MIT
"""The networks of perceptual scores: SyncNet and the feature part of Inception-v3.

Names and shapes follow the published files of weights, which `perceptual_metrics` loads.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class SyncNet(nn.Module):
    """Chung and Zisserman, "Out of time: automated lip sync in the wild" (2016), in its public version 2.

    Five frames of video and 0.2 s of sound, each to one embedding of `size` numbers, near to each other in sync.
    """

    def __init__(self, size: int = 1024) -> None:
        super().__init__()
        # (channels, kernel, stride, padding), and the pooling behind it: (kernel, stride, padding).
        self.netcnnaud = _tower(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, 1, (
            (64, 3, 1, 1, (1, 1, 0)), (192, 3, 1, 1, (3, (1, 2), 0)), (384, 3, 1, 1, None), (256, 3, 1, 1, None),
            (256, 3, 1, 1, (3, 2, 0)), (512, (5, 4), 1, 0, None),
        ))  # fmt: skip
        flat, half, edge = (1, 3, 3), (1, 2, 2), (0, 1, 1)
        self.netcnnlip = _tower(nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, 3, (
            (96, (5, 7, 7), half, 0, (flat, half, 0)), (256, (1, 5, 5), half, edge, (flat, half, edge)),
            (256, flat, 1, edge, None), (256, flat, 1, edge, None), (256, flat, 1, edge, (flat, half, 0)),
            (512, (1, 6, 6), 1, 0, None),
        ))  # fmt: skip
        self.netfcaud, self.netfclip = (
            nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, size)) for _ in range(2)
        )

    def embed_audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        """Embed cepstra (B, 1, 13, 20), 100 a second: (B, size)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def embed_video(self, frames: torch.Tensor) -> torch.Tensor:
        """Embed frames of a face (B, 3, 5, 224, 224), 25 a second, blue green red in 0..255: (B, size)."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))


def _tower(conv: type, norm: type, pool: type, channels: int, rows: Sequence[tuple]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out, kernel, stride, padding, pooling in rows:
        layers += [conv(channels, out, kernel, stride, padding), norm(out), nn.ReLU()]
        layers += [] if pooling is None else [pool(*pooling)]
        channels = out
    return nn.Sequential(*layers)


class InceptionFeatures(nn.Module):
    """Inception-v3 (Szegedy et al. 2016) up to the mean over space that FID and KID are taken of."""

    def __init__(self) -> None:
        super().__init__()
        stem = (("1a_3x3", 3, 32, 3, 2, 0), ("2a_3x3", 32, 32, 3, 1, 0), ("2b_3x3", 32, 64, 3, 1, 1),
                ("3b_1x1", 64, 80, 1, 1, 0), ("4a_3x3", 80, 192, 3, 1, 0))  # fmt: skip
        for name, *sizes in stem:
            self.add_module(f"Conv2d_{name}", _Unit(*sizes))
        for name, width, branches in _inception_blocks():
            self.add_module(name, _Block(width, branches))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute features (B, 2048) of images (B, 3, H, W), red green blue in 0..255; resized to 299 x 299."""
        hidden = F.interpolate(images.float(), (299, 299), mode="bilinear", align_corners=False, antialias=True)
        hidden = hidden / 127.5 - 1
        for name, module in self.named_children():
            hidden = module(hidden)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                hidden = F.max_pool2d(hidden, 3, 2)
        return hidden.mean((2, 3))


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, width: int, out: int, kernel: int | tuple, stride: int = 1, padding: int | tuple | None = None
    ) -> None:
        super().__init__()
        if padding is None:  # the size stays
            padding = kernel // 2 if isinstance(kernel, int) else tuple(side // 2 for side in kernel)
        self.conv = nn.Conv2d(width, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(hidden)))


class _Block(nn.Module):
    """Branches side by side, their channels joined. A branch is a row of steps; a step that is a list forks."""

    def __init__(self, width: int, branches: Sequence) -> None:
        super().__init__()
        self.branches: list[list[str | list[str]]] = []
        for branch in branches:
            channels = width
            steps: list[str | list[str]] = []
            for step in branch:
                if isinstance(step, str):
                    steps.append(step)
                    continue
                fork = step if isinstance(step, list) else [step]
                for name, *sizes in fork:
                    self.add_module(name, _Unit(channels, *sizes))
                steps.append([name for name, *_ in fork])
                channels = fork[0][1]
            self.branches.append(steps)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        results = []
        for steps in self.branches:
            value = hidden
            for step in steps:
                if step == "mean":
                    value = F.avg_pool2d(value, 3, 1, 1)
                elif step == "max":
                    value = F.max_pool2d(value, 3, 2)
                else:
                    value = torch.cat([getattr(self, name)(value) for name in step], 1)
            results.append(value)
        return torch.cat(results, 1)


def _inception_blocks() -> list[tuple]:
    """(name, channels in, branches) of figures 5, 6 and 7 of the paper and of the reductions between them."""

    def pool(out: int) -> tuple:
        return "mean", ("branch_pool", out, 1)

    def square(out: int) -> list:
        double = ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
        five = ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)
        return [(("branch1x1", 64, 1),), five, double, pool(out)]

    def long(c: int) -> list:
        one = ("branch7x7_1", c, 1), ("branch7x7_2", c, (1, 7)), ("branch7x7_3", 192, (7, 1))
        sizes = ((c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7)))
        two = tuple((f"branch7x7dbl_{i + 1}", *size) for i, size in enumerate(sizes))
        return [(("branch1x1", 192, 1),), one, two, pool(192)]

    def wide() -> list:
        ends = {n: [(f"branch{n}a", 384, (1, 3)), (f"branch{n}b", 384, (3, 1))] for n in ("3x3_2", "3x3dbl_3")}
        one = ("branch3x3_1", 384, 1), ends["3x3_2"]
        two = ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), ends["3x3dbl_3"]
        return [(("branch1x1", 320, 1),), one, two, pool(192)]

    double = ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2, 0)
    first = [(("branch3x3", 384, 3, 2, 0),), double, ("max",)]
    seven = (("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
             ("branch7x7x3_4", 192, 3, 2, 0))  # fmt: skip
    second = [(("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2, 0)), seven, ("max",)]
    return [
        ("Mixed_5b", 192, square(32)), ("Mixed_5c", 256, square(64)), ("Mixed_5d", 288, square(64)),
        ("Mixed_6a", 288, first), ("Mixed_6b", 768, long(128)), ("Mixed_6c", 768, long(160)),
        ("Mixed_6d", 768, long(160)), ("Mixed_6e", 768, long(192)), ("Mixed_7a", 768, second),
        ("Mixed_7b", 1280, wide()), ("Mixed_7c", 2048, wide()),
    ]  # fmt: skip
