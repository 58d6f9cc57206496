# SPDX-License-Identifier: MIT
"""Training: the loop, and options, data and losses of every network. (Scripts are in the top-level training/.)."""
