# SPDX-License-Identifier: MIT
"""`facetalk info`: what a model folder or a saved result consists of, read from its headers; torch is not used."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ..errors import FaceTalkError
from ..paths import TINY
from .common import check_model, fetch_model, read_json, read_model_index


def info(
    path_or_id: Annotated[str, typer.Argument(help="Model folder, Hub id, or an .npz that generate wrote.")] = TINY,
) -> None:
    """Say what a model, or a result, consists of."""
    path = Path(path_or_id)
    if path.suffix == ".npz":
        lines = describe_result(path)
    else:
        check_model(path_or_id)
        lines = describe_model(path if path.is_dir() else fetch_model(path_or_id))
    typer.echo("\n".join(lines))


def describe_model(folder: Path) -> list[str]:
    """Describe a pipeline folder in lines: class, settings, then each component with its size."""
    index = read_model_index(folder)
    settings = {name: value for name, value in index.items() if not isinstance(value, list) and name[0] != "_"}
    lines = [f"{folder.name}: {index['_class_name']}"]
    lines += [f"  {name}: {value}" for name, value in settings.items()]
    total = size = 0
    for name, value in index.items():
        if not isinstance(value, list):
            continue
        if value[0] is None:
            lines.append(f"  {name:<18} none")
            continue
        count, dtypes, length = count_parameters(folder / name)
        total, size = total + count, size + length
        weights = f"{count / 1e6:.2f} M {'/'.join(sorted(dtypes))}, {length / 1e6:.2f} MB" if count else ""
        lines.append(f"  {name:<18} {value[1]:<28} {weights}".rstrip())
    head = folder / "head" / "config.json"
    if head.is_file():
        config = read_json(head)
        lines += [f"  head {name}: {config[name]}" for name in sorted(config) if "identit" in name or "dim" in name]
    return [*lines, f"  {'total':<18} {total / 1e6:.2f} M parameters, {size / 1e6:.2f} MB"]


def describe_result(path: Path) -> list[str]:
    """Describe an .npz that `facetalk generate` wrote: one line an array."""
    from ..animation.npz import read_arrays

    values = read_arrays(path)
    lines = [f"{path.name}: {len(values)} arrays"]
    for name, value in values.items():
        shown = value.item() if value.ndim == 0 else f"{value.shape} {value.dtype}"
        lines.append(f"  {name:<18} {shown}")
    return lines


def count_parameters(folder: Path) -> tuple[int, set[str], int]:
    """Count numbers, their formats and the bytes of all safetensors files in a component's folder."""
    from safetensors import SafetensorError, safe_open

    count, dtypes, size = 0, set(), 0
    for path in sorted(folder.glob("*.safetensors")):
        size += path.stat().st_size
        try:
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():
                    part = tensors.get_slice(name)
                    count += math.prod(part.get_shape())
                    dtypes.add(part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise FaceTalkError(f"{path} is damaged: {error}") from error
    return count, dtypes, size
