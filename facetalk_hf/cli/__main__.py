# SPDX-License-Identifier: MIT
"""`python -m facetalk_hf.cli`: the `facetalk` command."""

from .main import main


if __name__ == "__main__":
    main()
