# SPDX-License-Identifier: MIT
"""Surfaces: extraction, topology, small meshes."""
