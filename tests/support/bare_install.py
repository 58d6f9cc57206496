# SPDX-License-Identifier: MIT
"""Install wheel and sdist into empty environments, as a user would, and animate a clip there.

    make release-check ARGS="--python python3.11 python3.12 python3.13"

`--without-torch` installs what files and pictures need, and exports a motion: for interpreters that no CPU build of
torch is at hand for.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import wave
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub")


def run(*command: object, cwd: Path) -> str:
    """Run a program that must succeed; what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr[-3000:]}")
    return done.stdout


def check(python: str, package: Path, without_torch: bool, constraints: Path | None) -> str:
    """One environment; what was done there."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(python, "-m", "venv", place / "venv", cwd=place)
        own, limits = place / "venv" / "bin" / "python", ("-c", constraints) if constraints else ()
        install = (own, "-m", "pip", "install", "--quiet", *limits)
        if without_torch:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            light = [line for line in project["dependencies"] if not line.startswith(HEAVY)]
            run(*install, *light, cwd=place)
            run(*install, "--no-deps", package, cwd=place)
        else:
            run(*install, package, cwd=place)
        facetalk = place / "venv" / "bin" / "facetalk"
        version = run(own, "--version", cwd=place).strip()
        said = run(facetalk, "--version", cwd=place).strip()
        if without_torch:
            run(facetalk, "info", cwd=place)
            run(own, "-c", MOTION, cwd=place)
            run(facetalk, "export", "talk.npz", "--output", "talk.csv", cwd=place)
            made = ["talk.csv"]
        else:
            with wave.open(str(place / "talk.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(bytes(16000))
            words = ("--steps", "2", "--size", "64", "--format", "npz", "--format", "glb", "--format", "mp4")
            run(facetalk, "generate", "talk.wav", "--output-dir", "out", *words, cwd=place)
            made = sorted(path.name for path in (place / "out").iterdir())
        return f"{version}, {package.name}: {said}; {', '.join(made)}"


MOTION = """
import numpy as np
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import EXPRESSIONS as names
head = {"base": np.zeros((0, 3)), "targets": np.zeros((len(names), 0, 3)), "faces": np.zeros((0, 3), int)}
HeadAnimation(**head, weights=np.zeros((9, len(names))), target_names=names).save("talk.npz")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder of wheel and sdist")
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument(
        "--constraints", type=Path, help="exact versions; by default the newest that the bounds let in"
    )
    options = parser.parse_args()
    packages = sorted(options.dist.glob("facetalk_hf-*.whl")) + sorted(options.dist.glob("facetalk_hf-*.tar.gz"))
    if not packages:
        parser.error(f"{options.dist} holds no package: python -m build")
    for python in options.python:
        for package in packages:
            limits = options.constraints.resolve() if options.constraints else None
            print(check(python, package.resolve(), options.without_torch, limits), flush=True)


if __name__ == "__main__":
    main()
