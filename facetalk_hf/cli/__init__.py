# SPDX-License-Identifier: MIT
"""The `facetalk` command."""
