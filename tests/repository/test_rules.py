# SPDX-License-Identifier: MIT
"""The rules of CONTRIBUTING.md, as far as a test can hold them."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import facetalk_hf


ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "facetalk_hf"
ROOMS = ("pipelines", "training", "spaces_app", "benchmarks")
TOP_LEVEL = {"facetalk_hf", "tests", "docs", *ROOMS, "pyproject.toml", "model_card.md", "README.md", "LICENSE"} | {
    "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", ".ci", "constraints.txt", ".gitignore",
}  # fmt: skip

# Constants and conventions that every module may use.
FOUNDATION = {"errors", "files", "blendshapes"}
LEAVES = ("audio", "meshing", "smoothing", "losses", "metrics", "motion_metrics")
# Third-party names and the only places that may import them.
PLACES = {
    "gradio": ("spaces_app/",),
    "spaces": ("spaces_app/",),
    "datasets": ("facetalk_hf/data/corpus.py", "training/"),
    "accelerate.Accelerator": ("facetalk_hf/learning/",),
    "embreex": ("facetalk_hf/rendering/renderer.py",),
    "pxr": ("facetalk_hf/animation/usd.py", "benchmarks/formats.py"),
    "av": ("facetalk_hf/rendering/renderer.py", "facetalk_hf/audio/io.py"),
}
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


def siblings(path: Path, **options: bool) -> set[str]:
    """First names below facetalk_hf that a file imports: "errors", "models", ..."""
    return {name.split(".")[1] for name in imports(path, **options) if name.startswith("facetalk_hf.")}


def public_definitions(path: Path):
    """Yield (name, node) of public classes and functions at the top, and of public methods of public classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


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


@pytest.mark.parametrize("path", sources("facetalk_hf", *ROOMS, "tests"), ids=lambda path: path.name)
def test_file_says_licence_and_purpose(path):
    text = path.read_text(encoding="utf-8")
    if text.strip():
        assert text.startswith("# SPDX-License-Identifier: MIT\n")
        assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", sources("facetalk_hf"), ids=lambda path: path.name)
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


@pytest.mark.parametrize("path", sources("facetalk_hf"), ids=lambda path: path.name)
def test_library_imports(path):
    name = path.relative_to(LIBRARY).as_posix()
    assert not {i for i in imports(path) if i.split(".")[0] in ROOMS}
    tools = {"cli", "cli_convert", "cli_export", "cli_fit", "cli_inputs", "cli_stream", "inspection"}
    assert path.stem in tools or not siblings(path) & tools
    if path.stem in LEAVES and path.parent == LIBRARY:
        assert siblings(path) <= FOUNDATION
    if name.startswith("models/"):
        assert siblings(path) <= FOUNDATION | {"models"}
    if name == "animation.py":
        assert siblings(path, top_only=True) <= FOUNDATION
        assert siblings(path) <= FOUNDATION | {"export", "rendering"}


@pytest.mark.parametrize(
    "name",
    ["cli.py", "cli_convert.py", "cli_export.py", "cli_fit.py", "cli_inputs.py", "cli_stream.py", "inspection.py"],
)
def test_command_line_is_light(name):
    used = {i.split(".")[0] for i in imports(LIBRARY / name, top_only=True)} - set(sys.stdlib_module_names)
    assert used <= {"facetalk_hf", "typer"}
    tools = {"cli_convert", "cli_export", "cli_fit", "cli_inputs", "cli_stream", "inspection", "TINY", "__version__"}
    assert siblings(LIBRARY / name, top_only=True) <= FOUNDATION | tools


@pytest.mark.parametrize("path", sources(*ROOMS), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_rooms_do_not_import_each_other(path):
    # The Space is run from its own folder, which is all that is uploaded: its files see each other.
    own = {p.stem for p in sources("spaces_app")} if path.parent.name == "spaces_app" else set()
    stems = {p.stem for p in sources(*ROOMS)} - own
    assert not {
        i for i in imports(path) if i.split(".")[0] in {*ROOMS, *stems, "tests"} - set(sys.stdlib_module_names)
    }


@pytest.mark.parametrize("path", sources("facetalk_hf", *ROOMS), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_third_party_imports_stay_in_their_place(path):
    name = path.relative_to(ROOT).as_posix()
    for package, places in PLACES.items():
        used = {i for i in imports(path) if i == package or i.startswith(package + ".")}
        assert not used or name.startswith(places), f"{package} belongs to {places}"


def test_imports_of_the_library_are_declared():
    distribution = {"PIL": "pillow", "skimage": "scikit-image", "pxr": "usd-core", "igl": "libigl", "yaml": "pyyaml"}
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
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--select",
        "TID251",
        "--stdin-filename",
        place,
        "-",
    ]
    done = subprocess.run(command, cwd=ROOT, input=line + "\n", capture_output=True, text=True)
    assert done.returncode == 1 and "TID251" in done.stdout, done.stdout + done.stderr


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


def test_contributing_names_every_module():
    picture = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    modules = [path.name for path in LIBRARY.glob("*.py")]
    assert not [name for name in modules if name not in picture]


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


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of a POSIX file system")
def test_ci_runs_the_two_commands():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.index("make quality") < text.index("make test")
