# SPDX-License-Identifier: MIT
"""Keyframes and in-betweening as a Hub custom pipeline: parts of a motion are given, the audio makes the rest.

`DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipelines/expression_edit.py", trust_remote_code=True)`
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipelineOutput, HeadAnimation, Keyframes


# diffusers looks for the one pipeline class in this file's names, so the other must not be among them.
class ExpressionEditPipeline(facetalk_hf.FaceTalkPipeline):
    """[`FaceTalkPipeline`] that edits: one clip, of whose motion frames or channels are fixed."""

    @torch.no_grad()
    def __call__(
        self,
        audio: Any,
        frames: Mapping[int, Any] | None = None,
        channels: Mapping[str, Any] | None = None,
        motion: HeadAnimation | np.ndarray | torch.Tensor | None = None,
        regenerate: Sequence[tuple[int, int]] = (),
        **options: Any,
    ) -> FaceTalkPipelineOutput | tuple:
        """Generate what is not given.

        Args:
            audio: one clip, as for [`FaceTalkPipeline`].
            frames (`Mapping`, *optional*): frame number -> code (D,) float, or {channel: weight}.
            channels (`Mapping`, *optional*): channel -> one number, or a curve (N,) float with NaN where it is free.
            motion ([`HeadAnimation`] or (N, D) float, *optional*): a motion of this clip, kept but for `regenerate`;
                where it ends before the clip does, it is continued.
            regenerate (pairs of `int`): first frame and the one after the last of each stretch to be made anew.
            options: of [`FaceTalkPipeline`].

        Raises:
            FaceTalkError: what is given does not fit the clip, the head, or itself.
        """
        keyframes = Keyframes()
        if motion is not None:
            codes = motion.expressions if isinstance(motion, HeadAnimation) else motion
            if codes is None:
                raise FaceTalkError("the motion to be edited has no expression codes")
            kept = np.ones(len(codes), bool)
            for start, stop in regenerate:
                if not 0 <= start < stop <= len(codes):
                    raise FaceTalkError(f"cannot regenerate frames {start} to {stop} of a motion of {len(codes)}")
                kept[start:stop] = False
            if kept.any():
                keyframes.fix_frames(np.flatnonzero(kept), codes[kept])
        elif regenerate:
            raise FaceTalkError("regenerate needs the motion that the other frames are taken from")
        for frame, given in (frames or {}).items():
            if isinstance(given, Mapping):
                keyframes.fix_channels([frame], given)
            else:
                keyframes.fix_frames([frame], given[None])
        keyframes.fix_channels(None, channels or {})
        return super().__call__(audio, keyframes=keyframes, **options)
