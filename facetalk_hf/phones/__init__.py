# SPDX-License-Identifier: MIT
"""Timed phones: their names in one alphabet, and the motion of the mouth that rules give them."""
