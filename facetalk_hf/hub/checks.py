# SPDX-License-Identifier: MIT
"""What may be published: files on a list, with no secret and no path of somebody's machine in them."""

import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import get_token

from ..errors import FaceTalkError


NAME = r"[A-Za-z0-9_][\w.-]*"
ALLOWED: dict[str, tuple[str, ...]] = {
    "model": (
        r"README\.md", "LICENSE", r"model_index\.json", r"pipeline\.py",
        rf"{NAME}/(config|scheduler_config|preprocessor_config)\.json",
        rf"{NAME}/{NAME}\.safetensors(\.index(\.\w+)?\.json)?",
        rf"({NAME}/)+(config\.json|{NAME}\.(npz|npy|safetensors))",  # styles, the vertices of a model without a head
    ),
    "dataset": (r"README\.md", "LICENSE", rf"({NAME}/)*{NAME}\.parquet", rf"{NAME}\.(npy|npz)", r"corpus\.json"),
    "space": (
        "LICENSE", r"facetalk_hf/py\.typed",
        rf"({NAME}/)*{NAME}\.(py|md|txt|json|html|css|m?js|svg|png|jpg|webp|gif|wav|mp3|flac|glb|npz|safetensors|onnxz?|wasm)",
    ),
}  # fmt: skip
"""Regular expressions of the paths that a repository of each type may hold; all else is refused."""

BINARY = (
    ".png", ".jpg", ".webp", ".gif", ".wav", ".mp3", ".flac", ".glb", ".npz", ".npy", ".mp4", ".wasm", ".onnx",
    ".onnxz",
)  # fmt: skip
SECRETS: dict[str, str] = {
    "a token of the Hub": r"\bhf_[A-Za-z0-9]{20,}",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "an API key": r"\b(sk-[A-Za-z0-9_-]{32,}|AKIA[0-9A-Z]{16}|xox[abp]-[\w-]{20,})",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    # web_user is who lives in all that emscripten builds, such as onnxruntime-web.
    "a path of a machine": (
        r"(?<![\w./])/(home|root|Users|work|mnt|scratch|tmp)/(?!web_user\b)[\w.-]+|\b[A-Za-z]:\\+Users\\+\w+"
    ),
}


def check_folder(folder: str | os.PathLike, kind: str) -> list[str]:
    """Check that a folder can be published as a repository of a type.

    Args:
        folder (`str` or `os.PathLike`): all of it is looked at.
        kind (`str`): "model", "dataset" or "space".

    Returns:
        list of `str`: its files, as paths in it.

    Raises:
        FaceTalkError: the first file that must not go up, and why.
    """
    folder, allowed = Path(folder), re.compile("|".join(ALLOWED[kind]))
    files = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise FaceTalkError(f"{path} is a link, which is not published: remove it, or put a copy there")
        if path.is_dir():
            continue
        if not allowed.fullmatch(name) or "__pycache__" in name:
            raise FaceTalkError(f"{path} has no place in a {kind} repository and is not published: remove it")
        for text in texts(path):
            if what := secret(text):
                raise FaceTalkError(f"{path} is not published, for it holds {what[0]}: {what[1]}")
        files.append(name)
    if not files:
        raise FaceTalkError(f"there is nothing to publish in {folder}")
    return files


def secret(text: str) -> tuple[str, str] | None:
    """Find what a text gives away, and the place in it, shortened; None where there is nothing."""
    for what, pattern in SECRETS.items():
        if found := re.search(pattern, text):
            return what, found[0] if "path" in what else f"{found[0][:6]}..."
    token = get_token()
    if token and len(token) > 8 and token in text:
        return "the token that you are logged in with", f"{token[:4]}..."
    home = str(Path.home()) + os.sep
    if len(home) > 2 and home in text:
        return "a path of a machine", home
    return None


def texts(path: Path) -> Iterator[str]:
    """Everything in a file that a person could have written: text, headers of weights, strings in tables."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
            header = file.read(min(size, 10_000_000))
        try:
            yield json.dumps(json.loads(header).get("__metadata__", {}))
        except ValueError as error:
            raise FaceTalkError(f"{path} is no safetensors file") from error
    elif path.suffix == ".parquet":
        yield from strings_in_parquet(path)
    elif path.suffix not in BINARY:
        yield path.read_text(encoding="utf-8", errors="replace")


def strings_in_parquet(path: Path) -> Iterator[str]:
    """Metadata and all different strings of a Parquet file, nested ones too; bytes such as audio are not read."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    for key, value in (file.metadata.metadata or {}).items():
        if key != b"ARROW:schema":
            yield value.decode(errors="replace")
    columns = [file.schema.column(index) for index in range(len(file.schema))]
    for column in columns:
        if str(column.logical_type) == "String":
            for batch in file.iter_batches(columns=[column.path], batch_size=10_000):
                yield "\n".join(sorted(leaves(batch.column(0).to_pylist())))


def leaves(value: object) -> set[str]:
    """Collect the different strings in nested lists and dictionaries."""
    found: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.add(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return found
