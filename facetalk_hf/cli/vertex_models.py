# SPDX-License-Identifier: MIT
"""Models without a head, whose codes are of the vertices in the basis beside them: they draw their own mesh."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import FaceTalkError
from ..motion.controls import MotionControls
from ..paths import BASIS


if TYPE_CHECKING:
    import numpy as np

    from ..animation.head_animation import HeadAnimation
    from ..pipeline.facetalk import FaceTalkPipeline


def has_basis(pipe: "FaceTalkPipeline") -> bool:
    """Say whether a model's folder holds the vertices that its codes are of."""
    return pipe.model_folder is not None and (pipe.model_folder / "basis" / BASIS).is_file()


def animate_vertices(
    pipe: "FaceTalkPipeline", clip: "np.ndarray", sampling_rate: int, identity: Any, controls: MotionControls,
    **options: Any,
) -> "list[HeadAnimation]":  # fmt: skip
    """Animate one recording on the mesh that the model was trained on.

    Args:
        pipe ([`FaceTalkPipeline`]): without a head, see `has_basis`.
        clip ((S,) float32), sampling_rate (`int`, Hz): the recording.
        identity: "zero" for the mean face, or the number of a speaker of the corpus.
        controls ([`MotionControls`]): a frame rate, and what changes codes.
        options: of the pipeline.

    Raises:
        FaceTalkError: an identity or a control that such a model has not.
    """
    from ..importers.vertex_basis import VertexBasis
    from ..motion.editing import retime

    assert pipe.model_folder is not None  # has_basis has said so
    basis = VertexBasis.load(pipe.model_folder / "basis")
    who = None
    if identity != "zero":
        if not isinstance(identity, int) or not 0 <= identity < len(basis.speakers):
            last = len(basis.speakers) - 1
            raise FaceTalkError(f"this model's faces are zero, the mean, and 0 to {last}, not {identity}")
        who = basis.speakers[identity]
    output = pipe(
        clip, sampling_rate=sampling_rate, controls=replace(controls, fps=None), output_type="expression", **options
    )
    facts = {"fps": pipe.config["fps"], "audio": clip, "sampling_rate": sampling_rate}
    found = [basis.animate(codes.numpy(), who, **facts) for codes in output.expressions]
    found = [animation.replace(seed=options["generator"].initial_seed()) for animation in found]
    return found if controls.fps is None else [retime(animation, controls.fps) for animation in found]
