# SPDX-License-Identifier: MIT
"""Loops over triangles and pixels, compiled by numba when they are first called."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

from ..errors import FaceTalkError


Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile the decorated function at its first call; later processes load it from numba's cache.

    Such a function calls no other of ours, releases the interpreter, and depends on constants of its own file only:
    numba looks at that file to tell whether what it cached is still true.
    """

    @lru_cache(1)
    def dispatcher() -> Callable:
        try:
            import numba  # 0.2 s that the other formats do without
        except ImportError as error:
            raise FaceTalkError("rendering needs numba: pip install numba") from error
        options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place on this machine can be written to: compile in every process
            return numba.njit(**options)(function)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return dispatcher()(*arguments)

    return call  # type: ignore[return-value]  # the same signature; mypy cannot tell from *arguments
