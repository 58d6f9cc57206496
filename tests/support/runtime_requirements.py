# SPDX-License-Identifier: MIT
"""Print what facetalk_hf itself needs, at the versions of constraints.txt: for `make audit`."""

import re
import tomllib
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]


def exact_versions() -> dict[str, str]:
    """Versions of constraints.txt, by names as PyPI normalises them."""
    exact = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in exact}


if __name__ == "__main__":
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for line in needed:
        name = re.sub("[-_.]+", "-", re.split(r"[<>=;\[]", line)[0]).lower()
        print(f"{name}=={exact_versions()[name]}")
