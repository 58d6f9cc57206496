# SPDX-License-Identifier: MIT
"""Pictures and films by ray casting."""
