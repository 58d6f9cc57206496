# SPDX-License-Identifier: MIT
"""`FaceTalkPipeline`: speech to expression codes by diffusion, whole clips and streams."""
