# SPDX-License-Identifier: MIT
"""Print what facetalk_hf itself needs, at the versions of constraints.txt: for `make audit`."""

import re
import tomllib
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    exact = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    exact = {name.lower().replace("_", "-"): version for name, version in exact.items()}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for line in needed:
        name = re.split(r"[<>=;\[]", line)[0].lower().replace("_", "-")
        print(f"{name}=={exact[name]}")
