# SPDX-License-Identifier: MIT
"""From expression codes to a head: surface, motion fields, eyes, teeth, lids, lips, paint."""
