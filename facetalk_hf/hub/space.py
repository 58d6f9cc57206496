# SPDX-License-Identifier: MIT
"""The Space repository: the app of spaces_app/ with what it needs to start on the Hub."""

import importlib.metadata
import os
import re
import shutil
import tomllib
from pathlib import Path

from huggingface_hub import SpaceCard

from ..errors import FaceTalkError
from ..paths import LIBRARY, packaged
from .checks import check_folder
from .publishing import new_folder


def write_space(
    source: str | os.PathLike, folder: str | os.PathLike, model_id: str | None = None, code: str | None = None
) -> list[str]:
    """Write a Space repository: the app, its requirements, and facetalk_hf itself unless it can be had elsewhere.

    Args:
        source (`str` or `os.PathLike`): spaces_app/ of the code repository.
        folder (`str` or `os.PathLike`): new or empty.
        model_id (`str`, *optional*): named in the front matter; without it the app shows the embedded model.
        code (`str`, *optional*): address of a git repository to install facetalk_hf from, in place of the copy.

    Returns:
        list of `str`: the files, as paths in the folder.

    Raises:
        FaceTalkError: no app there, or a file that must not be published.
    """
    source = Path(source)
    for name in ("app.py", "README.md", "requirements.txt"):
        if not (source / name).is_file():
            raise FaceTalkError(f"{source} is no Space: it has no {name}")
    with new_folder(folder) as folder:
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "*.log")
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        lines = []
        for line in (source / "requirements.txt").read_text(encoding="utf-8").splitlines():
            ours = re.fullmatch(r"\s*facetalk[-_]hf(?:\[(.*)\])?\s*", line)
            if not ours:
                lines.append(line)
            elif code:
                lines.append(f"facetalk_hf{f'[{ours[1]}]' if ours[1] else ''} @ git+{code}")
            else:
                lines += ["# of facetalk_hf, which lies beside the app", *requirements(*(ours[1] or "").split(","))]
        (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not code:
            shutil.copytree(LIBRARY, folder / "facetalk_hf", dirs_exist_ok=True, ignore=ignored)
            for name in ("model_card.md", "pipeline.py"):
                shutil.copyfile(packaged(name), folder / "facetalk_hf" / "assets" / name)
        card = SpaceCard.load(folder / "README.md")
        if model_id:
            card.data.models = [model_id]
        card.save(folder / "README.md")
        return check_folder(folder, "space")


def requirements(*extras: str) -> list[str]:
    """List what facetalk_hf and some of its extras need, as lines for pip.

    Raises:
        FaceTalkError: it is not installed, so nothing says that.
    """
    checkout = LIBRARY.parent / "pyproject.toml"
    if checkout.is_file():
        project = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]
        optional = project["optional-dependencies"]
        return sorted(
            {*project["dependencies"], *(line for extra in extras for line in optional.get(extra.strip(), ()))}
        )
    try:
        declared = importlib.metadata.requires("facetalk_hf") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise FaceTalkError("facetalk_hf is not installed, so its requirements are unknown: pip install .") from error
    wanted = []
    for line in declared:
        needed, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](.*?)['\"]", marker)
        if extra is None or extra[1] in extras:
            wanted.append(needed.strip())
    return sorted(wanted)
