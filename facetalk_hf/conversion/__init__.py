# SPDX-License-Identifier: MIT
"""Official NPHM and MonoNPHM checkpoints as `NPHMModel` folders."""
