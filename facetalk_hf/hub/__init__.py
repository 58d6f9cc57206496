# SPDX-License-Identifier: MIT
"""Repositories of the Hub: models, cards, Spaces, what must not be published, and what goes wrong."""
