# SPDX-License-Identifier: MIT
"""Live streams without torch: the networks as ONNX files, and a runtime for them on NumPy and onnxruntime."""
