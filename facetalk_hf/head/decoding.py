# SPDX-License-Identifier: MIT
"""The decoder that a head needs."""

from ..models.nphm import NPHMModel
from .blendshape_decoder import BlendshapeDecoder
from .decoder import HeadDecoder
from .vertex_decoder import VertexDecoder


def make_decoder(
    head: NPHMModel, resolution: int = 128, facial_smoothing: bool = True, cache_size: int = 4
) -> HeadDecoder:
    """Make the decoder of a head: `BlendshapeDecoder` where motion is linear in the code, else `VertexDecoder`.

    Args:
        head (`NPHMModel`): any head.
        resolution (`int`, *optional*, defaults to 128): grid cells along the longest side of the surface's box.
        facial_smoothing (`bool`, *optional*, defaults to `True`): damp motion away from the face (FaceTalk, sec. 4);
            only with linear motion.
        cache_size (`int`, *optional*, defaults to 4): identities whose geometry stays in memory.
    """
    if head.is_linear:
        return BlendshapeDecoder(head, resolution, facial_smoothing, cache_size)
    return VertexDecoder(head, resolution, cache_size)
