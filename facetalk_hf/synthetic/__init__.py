# SPDX-License-Identifier: MIT
"""The teacher of the default model: rules from phones to motion, synthetic voices, scans and expressions."""
