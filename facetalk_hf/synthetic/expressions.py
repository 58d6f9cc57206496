# SPDX-License-Identifier: MIT
"""Random expressions that a head is trained on, and measured on with other seeds."""

import torch

from ..blendshapes import EXPRESSIONS, INDEX, MOUTH


def sample_weights(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (count, 53) float of plausible and less plausible expressions; the first is neutral.

    One in seven is a single shape in full; the others open the jaw (Beta(1, 2.5)), may close the lips over it, mix one
    to four shapes of the mouth and often three of the upper face, one in five of them asymmetrically.
    """

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    weights = torch.zeros(count, len(EXPRESSIONS))
    names = [name for name in MOUTH if name not in ("jawOpen", "mouthClose")]
    others = [name for name in EXPRESSIONS if name not in MOUTH]
    for row in weights[1:]:
        if uniform(1) < 0.15:
            row[torch.randint(len(EXPRESSIONS), (1,), generator=generator)] = 1.0
            continue
        jaw = 1 - (1 - uniform(1)) ** (1 / 2.5)  # Beta(1, 2.5)
        row[INDEX["jawOpen"]] = jaw
        if uniform(1) < 0.35:
            row[INDEX["mouthClose"]] = 0.95 * jaw * uniform(1)
        asymmetric = uniform(1) < 0.2
        for _ in range(int(torch.randint(1, 5, (1,), generator=generator))):
            name = names[int(torch.randint(len(names), (1,), generator=generator))]
            amount = uniform(1)
            row[INDEX[name]] = amount
            twin = name[:-2] + ("_R" if name.endswith("_L") else "_L")
            if twin in INDEX and not asymmetric:
                row[INDEX[twin]] = amount
        if uniform(1) < 0.7:
            for _ in range(3):
                name = others[int(torch.randint(len(others), (1,), generator=generator))]
                row[INDEX[name]] = uniform(1)
            if uniform(1) < 0.5:
                row[INDEX["eyeBlink_L"]] = row[INDEX["eyeBlink_R"]] = uniform(1).sqrt()
    return weights
