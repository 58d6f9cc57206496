# SPDX-License-Identifier: MIT
"""Sound: reading, features, their analysis, and the same as it arrives."""
