# SPDX-License-Identifier: MIT
"""What `FaceTalkPipeline` returns."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput

from ..animation.head_animation import HeadAnimation


@dataclass
class FaceTalkPipelineOutput(BaseOutput):
    """Output of [`FaceTalkPipeline`]: one entry for each clip and sample, the samples of a clip side by side.

    Args:
        expressions (`list` of `torch.Tensor`): (N, D) float, expression codes on the CPU; N is the clip's own number
            of frames.
        animations (`list` of [`HeadAnimation`], *optional*): the decoded heads, with `output_type="animation"`.
        arkit (`list` of `np.ndarray`, *optional*): (N, 52) float32, weights in the order of
            [`facetalk_hf.animation.arkit_names.ARKIT`], with `output_type="arkit"`.
        poses (`list` of `np.ndarray`, *optional*): (N, 6) float32, motion of the head as `head_motion` scales it, see
            [`HeadAnimation`]; `None` from a model that learnt none.
        tongue (`list` of `np.ndarray`, *optional*): (N, 5) float32, weights of the tongue's shapes in the order of
            [`facetalk_hf.blendshapes.TONGUE`]; `None` for a clip, or all, of which no phones were given or heard.
    """

    expressions: list[torch.Tensor]
    animations: list[HeadAnimation] | None = None
    arkit: list[np.ndarray] | None = None
    poses: list[np.ndarray] | None = None
    tongue: list[np.ndarray | None] | None = None
