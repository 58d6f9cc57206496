# SPDX-License-Identifier: MIT
"""Pictures and videos of anything `Drawable` by loops over triangles and pixels."""
