# SPDX-License-Identifier: MIT
"""Point clouds of somebody talking to expression codes."""
