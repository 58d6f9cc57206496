# SPDX-License-Identifier: MIT
"""Finished motion: `HeadAnimation`, gaze and pose, and the files that it is written to and read from."""
