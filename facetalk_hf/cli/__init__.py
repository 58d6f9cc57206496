# SPDX-License-Identifier: MIT
"""The `facetalk` command."""

import os


if "OMP_NUM_THREADS" not in os.environ:
    # NumPy reads it when it is imported. Its products here are small: threads of BLAS cost more than they save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
