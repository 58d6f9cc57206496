# SPDX-License-Identifier: MIT
"""One mesh for all heads: a template with texture coordinates that takes on any extracted surface, and its maps."""
