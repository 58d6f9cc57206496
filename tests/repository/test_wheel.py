# SPDX-License-Identifier: MIT
"""The wheel: facetalk_hf and nothing else, with the checkpoint, and it works far away from the repository."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import facetalk_hf


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel with the hatchling that is installed: no network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel's content alone in a folder, as pip lays it out."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run([*command, "--target", str(folder), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run_away(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run python from an empty folder with the wheel's content before an editable install of this checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_only_the_library_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"facetalk_hf-{facetalk_hf.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"facetalk_hf", info}
    assert f"{info}/licenses/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name]
    library = Path(facetalk_hf.__file__).parent
    tree = {f"facetalk_hf/{p.relative_to(library).as_posix()}" for p in library.rglob("*") if p.is_file()}
    tree = {name for name in tree if "__pycache__" not in name}
    # For publishing and `facetalk train`.
    lent = {"model_card.md", "pipeline.py", "tiny.yaml", "paper.yaml", "style.yaml"}
    lent = {f"facetalk_hf/assets/{name}" for name in lent}
    assert {name for name in names if name.startswith("facetalk_hf/")} == tree | lent


def test_checkpoint_and_clip_are_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "facetalk_hf/assets/demo.wav" in names and "facetalk_hf/py.typed" in names
    checkpoint = "facetalk_hf/checkpoints/facetalk-tiny/"
    assert checkpoint + "model_index.json" in names
    assert len([n for n in names if n.startswith(checkpoint) and n.endswith(".safetensors")]) == 4


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))
        scripts = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Name"] == project["name"] and metadata["Version"] == facetalk_hf.__version__
    assert metadata["License-Expression"] == "MIT" and metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == {
        "align",
        "train",
        "demo",
        "usd",
        "video",
        "web",
        "live",
        "onnx",
        "voices",
        "docs",
        "dev",
    }
    assert "facetalk = facetalk_hf.cli.main:main" in scripts


def test_it_works_from_an_empty_folder(installed, tmp_path):
    where = run_away(installed, tmp_path, "-c", "import facetalk_hf; print(facetalk_hf.__file__)")
    assert where.stdout.startswith(str(installed)), where.stdout + where.stderr
    done = run_away(installed, tmp_path, "-m", "facetalk_hf.cli", "info")
    assert done.returncode == 0 and "FaceTalkPipeline" in done.stdout, done.stdout + done.stderr


def test_it_animates_from_an_empty_folder(installed, tmp_path):
    clip = installed / "facetalk_hf" / "assets" / "demo.wav"
    arguments = ["generate", str(clip), "--output-dir", "out", "--steps", "1", "--format", "npz"]
    done = run_away(installed, tmp_path, "-m", "facetalk_hf.cli", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["demo.npz"]
