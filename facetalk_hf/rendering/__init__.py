# SPDX-License-Identifier: MIT
"""Pictures and videos of anything `Drawable` by ray casting."""
