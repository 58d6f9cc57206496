# SPDX-License-Identifier: MIT
"""Identity codes in files. Needs NumPy only, so that a command can refuse a file before torch is loaded."""

from pathlib import Path

import numpy as np

from ..arrays import read_npy, to_float32
from ..errors import FaceTalkError


def read_identity_code(path: Path, size: int | None = None) -> np.ndarray:
    """Read an identity code (Z,) float32 from an .npy file.

    Args:
        path (`Path`): the file.
        size (`int`, *optional*): Z of the head that the code is for.

    Raises:
        FaceTalkError: no such file, or one that holds anything but one row of Z finite numbers.
    """
    if path.suffix != ".npy" or not path.is_file():
        raise FaceTalkError(f"no identity {path}: give an .npy file that exists")
    try:
        code = read_npy(path)
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"{path} is not a NumPy file with one array of numbers") from error
    if code.ndim != 1 or code.dtype.kind not in "fiu":
        raise FaceTalkError(f"{path} holds {code.dtype} of shape {code.shape}: an identity is one row of numbers")
    if not np.isfinite(code).all():
        raise FaceTalkError(f"{path} holds NaN or infinite numbers")
    if size not in (None, len(code)):
        raise FaceTalkError(f"{path} has {len(code)} numbers; this head's identities have {size}")
    return to_float32(code)
