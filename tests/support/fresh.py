# SPDX-License-Identifier: MIT
"""Python in a new process that has imported nothing of ours, as the command and users' scripts start."""

import os
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[2]


def run_fresh(program: str, *arguments: object, cwd: Path) -> str:
    """Run a program with `sys.argv[1:]`; what it printed. A failure shows its errors."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout
