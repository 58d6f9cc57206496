# SPDX-License-Identifier: MIT
"""What may be asked of a motion: controls, keyframes, blinks, head motion, smoothing."""
