# SPDX-License-Identifier: MIT
"""Videos of people talking -> a tracker's landmarks -> identity, poses and expression codes."""
