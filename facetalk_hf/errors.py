# SPDX-License-Identifier: MIT
"""The one exception, and the one warning, that a user of the package is meant to see."""

import errno
import os


class FaceTalkError(ValueError):
    """Input that cannot be used. The message is one plain line: what is wrong, and what would do instead.

    The command line prints it and ends with exit code 2; a web demo shows it as it is.
    """


class FaceTalkWarning(UserWarning):
    """Something that was done in another way than asked for, in one plain line; the command prints it."""


DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What a disk answers that is full, or that may not be written to."""

_WORDS = {word: word for word in ("No space left on device", "File too large", "Read-only file system")}
_WORDS |= dict.fromkeys(
    ("unexpected pos", "file write failed", "iostream error"), "no space, or a limit on the size of files"
)
"""The same from libraries that have errors of their own; the last three are torch.save's."""


def disk_refusal(error: BaseException) -> str | None:
    """Say in a line what the disk refuses; `None` for an error that is not the disk's."""
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.filename or 'the disk'}: {error.strerror or os.strerror(error.errno)}"
    return next((f"the disk: {said}" for word, said in _WORDS.items() if word in str(error)), None)
