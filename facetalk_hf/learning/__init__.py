# SPDX-License-Identifier: MIT
"""What training scripts share: objectives, distillation, checkpoints. (The scripts are in the top-level training/.)"""
