# SPDX-License-Identifier: MIT
"""The corpus: its schema, checks, card, shards, segments and features."""
