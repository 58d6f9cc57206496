# SPDX-License-Identifier: MIT
"""Scores and measures, and what the studies in benchmarks/ share."""
