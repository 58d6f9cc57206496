# SPDX-License-Identifier: MIT
"""Where the parts of an installation lie, and its version."""

from pathlib import Path

from .errors import FaceTalkError


__version__ = "0.2.0"

LIBRARY = Path(__file__).parent
"""Folder of the installed library."""

TINY = str(LIBRARY / "checkpoints" / "facetalk-tiny")
"""Folder of the embedded checkpoint: `FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)` works offline."""

TINY_NAME = "facetalk-tiny"
"""What commands call the embedded checkpoint's parts."""

PHONE_RECOGNIZER = str(LIBRARY / "checkpoints" / "phone-recognizer")
"""Folder of the embedded phone recogniser of the large ear, for features of openai/whisper-base."""

BASIS = "basis.npz"
"""File of a corpus of vertices, and of a model that was trained on one, that makes vertices of codes."""

FEW_STEPS = "few_steps"
"""Folder of a model that holds its LoRA for sampling in few steps."""

STYLES = "styles"
"""Folder of a model that holds folders of styles, each a LoRA of its denoiser."""


def packaged(name: str) -> Path:
    """Find a file that the repository keeps outside the library, and the wheel in `assets/`.

    Args:
        name (`str`): "model_card.md", "pipeline.py", or "tiny.yaml", "paper.yaml", "style.yaml", recipes of training.

    Raises:
        FaceTalkError: it is in neither place.
    """
    repository = LIBRARY.parent
    places = [repository / folder / name for folder in ("", "pipelines", "training/configs")]
    places.insert(0, LIBRARY / "assets" / name)
    for path in places:
        if path.is_file():
            return path
    raise FaceTalkError(f"this installation of facetalk_hf lacks {name}: install it again, or work in its repository")
