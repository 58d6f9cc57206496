# SPDX-License-Identifier: MIT
"""Install wheel and sdist into empty environments, as a user would, and animate a clip there.

    make release-check ARGS="--python python3.11 python3.12 python3.13"

The wheel comes with its dependencies, the sdist then takes its place, and both must name the same ones.
`--without-torch` installs what files and pictures need, and exports a motion: for interpreters that no CPU build of
torch is at hand for. `--lowest` takes every dependency at its bound.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import wave
from collections.abc import Iterator
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


def lowest(project: dict) -> list[str]:
    """Constraints that take every runtime dependency at the lowest version that its bound lets in."""
    return [line.replace(">=", "==") for line in project["dependencies"]]


def check(python: str, packages: list[Path], without_torch: bool, constraints: Path | None) -> Iterator[str]:
    """One environment for wheel and sdist, which must need the same; what was done there."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(python, "-m", "venv", place / "venv", cwd=place)
        own, limits = place / "venv" / "bin" / "python", ("-c", constraints) if constraints else ()
        install = (own, "-m", "pip", "install", "--quiet", "--no-compile", *limits)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        needs = [line for line in project["dependencies"] if not (without_torch and line.startswith(HEAVY))]
        if without_torch:
            run(*install, *needs, cwd=place)
        for index, package in enumerate(packages):
            bare = index or without_torch  # what the first one brought along is there
            run(*install, *(("--no-deps", "--force-reinstall") if bare else ()), package, cwd=place)
            asked = run(
                own, "-c", "import importlib.metadata as m; print(*m.requires('facetalk_hf'), sep='\\n')", cwd=place
            )
            given = [line for line in asked.splitlines() if "extra ==" not in line]  # in PyPI's spelling of names
            if sorted(given) != sorted(line.replace("_", "-") for line in project["dependencies"]):
                raise SystemExit(f"{package.name} needs {given}, pyproject.toml says {project['dependencies']}")
            version = run(own, "--version", cwd=place).strip()
            yield f"{version}, {package.name}: {use(place, without_torch)}"
        found = run(own, "-m", "pip", "list", "--format", "freeze", cwd=place).lower().replace("_", "-").splitlines()
        names = [re.split("[<>=]", line)[0].lower().replace("_", "-") for line in needs]
        yield f"  with {', '.join(line for line in found if line.split('==')[0] in names)}"


def use(place: Path, without_torch: bool) -> str:
    """Do what a user does first; the version, and what was made."""
    facetalk, own = place / "venv" / "bin" / "facetalk", place / "venv" / "bin" / "python"
    said = run(facetalk, "--version", cwd=place).strip()
    if without_torch:
        run(facetalk, "info", cwd=place)
        run(own, "-c", MOTION, cwd=place)
        run(facetalk, "export", "talk.npz", "--output", "talk.csv", cwd=place)
        return f"{said}; talk.csv"
    with wave.open(str(place / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    shutil.rmtree(place / "out", ignore_errors=True)
    words = ("--steps", "2", "--size", "64", "--format", "npz", "--format", "glb", "--format", "mp4")
    run(facetalk, "generate", "talk.wav", "--output-dir", "out", *words, cwd=place)
    return f"{said}; {', '.join(sorted(path.name for path in (place / 'out').iterdir()))}"


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
    parser.add_argument("--lowest", action="store_true", help="the lowest versions that the bounds let in")
    options = parser.parse_args()
    packages = sorted(options.dist.glob("facetalk_hf-*.whl")) + sorted(options.dist.glob("facetalk_hf-*.tar.gz"))
    if not packages:
        parser.error(f"{options.dist} holds no package: python -m build")
    with tempfile.TemporaryDirectory() as folder:
        limits = options.constraints.resolve() if options.constraints else None
        if options.lowest:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            limits = Path(folder, "lowest.txt")
            limits.write_text("\n".join(lowest(project)))
        for python in options.python:
            for line in check(python, [path.resolve() for path in packages], options.without_torch, limits):
                print(line, flush=True)


if __name__ == "__main__":
    main()
