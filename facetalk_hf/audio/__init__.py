# SPDX-License-Identifier: MIT
"""Sound: files and samples, log-mel features, loudness and pitch, features of live sound, augmentation."""
