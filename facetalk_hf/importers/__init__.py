# SPDX-License-Identifier: MIT
"""Recordings and corpora of others as rows of ours."""
