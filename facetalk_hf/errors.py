# SPDX-License-Identifier: MIT
"""The one exception that a user of the package is meant to see."""


class FaceTalkError(ValueError):
    """Input that cannot be used. The message is one plain line: what is wrong, and what would do instead.

    The command line prints it and ends with exit code 2; a web demo shows it as it is.
    """
