# SPDX-License-Identifier: MIT
"""The rules of CONTRIBUTING.md, as far as a test can hold them; test_imports.py holds those of imports."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import facetalk_hf


ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "facetalk_hf"
ROOMS = ("pipelines", "training", "spaces_app", "benchmarks")
TOP_LEVEL = {"facetalk_hf", "tests", "docs", *ROOMS, "pyproject.toml", "model_card.md", "README.md", "LICENSE"} | {
    "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", ".ci", ".github", ".gitignore",
    ".pre-commit-config.yaml", "constraints.txt",
}  # fmt: skip

# Properties that every pipeline of diffusers has.
BARE = {f"FaceTalkPipeline.{name}" for name in ("guidance_scale", "do_classifier_free_guidance", "num_timesteps")}
# What a checkpoint on disk says: moving or renaming one of these classes breaks every published model.
MODEL_INDEX = {
    "_class_name": "FaceTalkPipeline",
    "denoiser": ["facetalk_hf.models.denoiser", "FaceTalkDenoiser"],
    "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "audio_encoder": ["facetalk_hf.models.audio_encoder", "LogMelEncoder"],
    "feature_extractor": ["facetalk_hf.audio_features", "LogMelFeatureExtractor"],
    "head": ["facetalk_hf.models.nphm", "NPHMModel"],
}


def repository_files() -> list[str]:
    """Paths that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    if done.returncode:
        pytest.skip("needs a git checkout: git ls-files says what belongs to the repository")
    return sorted(name for name in os.fsdecode(done.stdout).split("\0") if name and (ROOT / name).is_file())


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Absolute dotted names that a file imports; from a import b counts as a.b, relative ones are resolved."""
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def public_definitions(path: Path):
    """Yield (name, node) of public classes and functions at the top, and of public methods of public classes.

    Setters and overloads are left out: the property and the function that follows are what is documented.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not again(method):
                    yield f"{node.name}.{method.name}", method


def again(function: ast.FunctionDef) -> bool:
    """Whether a function is a setter or an overload."""
    return any(re.fullmatch(r"overload|\w+\.setter", ast.unparse(item)) for item in function.decorator_list)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constraints() -> dict[str, str]:
    rows = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(row) for row in rows if row and not row.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}


def test_top_level_is_fixed():
    assert {name.split("/")[0] for name in repository_files()} <= TOP_LEVEL


def test_rooms_are_no_packages():
    assert not [path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("__init__.py")]
    assert not (ROOT / "tests" / "pipelines").exists()


def test_files_are_short():
    long = {path.name: n for path in sources("facetalk_hf") if (n := len(path.read_bytes().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    "path", sources("facetalk_hf", *ROOMS, "tests"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_file_says_licence_and_purpose(path):
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert text.startswith("# SPDX-License-Identifier: MIT\n")
        assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", sources("facetalk_hf"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_names_are_documented_and_typed(path):
    missing = []
    for name, node in public_definitions(path):
        # The class says what a layer does; diffusers' own pipelines leave their plain properties bare.
        if not (ast.get_docstring(node) or name.endswith(".forward") or name in BARE):
            missing.append(f"{name}: docstring")
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            missing += [
                f"{name}: type of {a.arg}" for a in arguments if not a.annotation and a.arg not in ("self", "cls")
            ]
            missing += [] if node.returns else [f"{name}: type of the result"]
    assert not missing


@pytest.mark.parametrize("path", sources(*ROOMS), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_rooms_do_not_import_each_other(path):
    # The Space is run from its own folder, which is all that is uploaded: its files see each other.
    own = {p.stem for p in sources("spaces_app")} if path.parent.name == "spaces_app" else set()
    stems = {p.stem for p in sources(*ROOMS)} - own
    assert not {
        i for i in imports(path) if i.split(".")[0] in {*ROOMS, *stems, "tests"} - set(sys.stdlib_module_names)
    }


def test_imports_of_the_library_are_declared():
    distribution = {"PIL": "pillow", "skimage": "scikit-image", "pxr": "usd-core", "igl": "libigl", "yaml": "pyyaml",
                    "pythonosc": "python-osc"}  # fmt: skip
    known = {"facetalk-hf", "pillow", "pyarrow"}  # pillow comes with diffusers, pyarrow with datasets
    project = pyproject()
    base = {canonicalize_name(Requirement(row).name) for row in project["dependencies"]}
    extras = [row for rows in project["optional-dependencies"].values() for row in rows]
    extras = {canonicalize_name(Requirement(row).name) for row in extras}
    for path in sources("facetalk_hf"):
        for declared, top_only in ((base, True), (base | extras, False)):
            roots = {name.split(".")[0] for name in imports(path, top_only)} - set(sys.stdlib_module_names)
            assert {canonicalize_name(distribution.get(root, root)) for root in roots} <= declared | known, path.name


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("facetalk_hf/x.py", 'def f() -> None:\n    """The result of something."""'),
        ("facetalk_hf/x.py", 'def f() -> None:\n    """Make something of it"""'),
        ("facetalk_hf/x.py", "import gradio"),
        ("facetalk_hf/x.py", "import spaces"),
        ("facetalk_hf/x.py", "from datasets import load_dataset"),
        ("facetalk_hf/x.py", "from accelerate import Accelerator"),
        ("facetalk_hf/x.py", "import embreex"),
        ("facetalk_hf/x.py", "def f():\n    import av\n\n    return av"),
        ("facetalk_hf/models/x.py", "from training.train_nphm import main"),
        ("facetalk_hf/x.py", "import pipelines.pipeline"),
        ("pipelines/x.py", "import gradio"),
        ("benchmarks/x.py", "import spaces_app.app"),
    ],
)
def test_ruff_bites(place, line):
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", place, "-"]
    text = f'# SPDX-License-Identifier: MIT\n"""A file."""\n\n{line}\n'
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True)
    assert done.returncode == 1 and re.search("TID251|D40[01]", done.stdout), done.stdout + done.stderr


def test_constraints_pin_what_is_declared():
    project, pins = pyproject(), constraints()
    assert pins["torch"] == "==2.13.0"
    assert all(re.fullmatch(r"==[^*,]+", pin) for pin in pins.values())
    declared = project["dependencies"] + [row for rows in project["optional-dependencies"].values() for row in rows]
    for requirement in map(Requirement, declared):
        pin = pins[canonicalize_name(requirement.name)]
        assert ">=" in str(requirement.specifier), f"{requirement} has no lower bound"
        assert requirement.specifier.contains(pin[2:], prereleases=True), f"{requirement} excludes the tested {pin}"


def test_committed_weights_are_small():
    weights = [ROOT / name for name in repository_files() if name.startswith("facetalk_hf/checkpoints/")]
    assert sum(path.stat().st_size for path in weights) < 12_000_000


def test_changelog_knows_the_version():
    assert f"## [{facetalk_hf.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_embedded_checkpoint_keeps_the_file_format():
    path = Path(facetalk_hf.TINY) / "model_index.json"
    assert path.is_file(), "facetalk-tiny is not committed"
    index = json.loads(path.read_text(encoding="utf-8"))
    assert {name: index.get(name) for name in MODEL_INDEX} == MODEL_INDEX
    for name, value in MODEL_INDEX.items():
        if isinstance(value, list) and value[0].startswith("facetalk_hf."):
            __import__(value[0])
            assert sys.modules[value[0]].__dict__[value[1]].__module__ == value[0], name


def test_no_path_of_one_machine():
    pattern = re.compile(rb"(^|[^.\w])/(work|root|home|tmp)/", re.MULTILINE)
    text = [name for name in repository_files() if b"\0" not in (ROOT / name).read_bytes()[:8000]]
    assert not [name for name in text if not name.startswith(".ci/") and pattern.search((ROOT / name).read_bytes())]


def test_markdown_links_lead_somewhere():
    for path in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8")):
            assert re.match(r"https?://|mailto:", target) or (ROOT / target).exists(), f"{path.name}: {target}"


def test_python_in_the_readme_is_python():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        for name in re.findall(r"from facetalk_hf import (.*)", block)[0].split(", "):
            assert hasattr(facetalk_hf, name)
        ast.parse(block)
    assert blocks


def made(target: str) -> str:
    """The commands that `make TARGET` would run."""
    done = subprocess.run(["make", "-n", target, "PYTHON=python"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
def test_quality_is_rules_layers_and_types():
    text = made("quality")
    assert all(f" {command}\n" in text for command in ("-m ruff check .", "-m ruff format --check .", "-m mypy"))
    assert "/lint-imports " in text


@needs_make
def test_make_demo_calls_a_command_that_is_there(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".ready-demo").touch()
    given = [f"VENV={tmp_path}", f"PY={sys.executable}", f"CLIP={tmp_path / 'missing.wav'}"]
    done = subprocess.run(["make", "demo", *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "facetalk: no such file" in done.stderr, done.stdout + done.stderr


@needs_make
@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of a POSIX file system")
def test_ci_and_workflows_call_make():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    targets = re.findall(r"^make (\w+)", script.read_text(encoding="utf-8"), re.M)
    assert targets == ["quality", "docs", "test"]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"] if "run" in step]
    called = [re.match(r"make (\w+)", step["run"]).group(1) for step in steps]
    assert sorted(called) == sorted(targets) and all(made(target) for target in targets)
    versions = [row.split(" :: ")[-1] for row in pyproject()["classifiers"] if re.search(r"Python :: 3\.\d+$", row)]
    assert jobs["suite"]["strategy"]["matrix"]["python"] == versions


def test_hooks_are_pinned():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    needed = [row for hook in hooks for row in hook.get("additional_dependencies", ())]
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "large-files", "typos"}
    assert needed and all(re.fullmatch(r"[\w-]+==[\d.]+", row) for row in needed)
