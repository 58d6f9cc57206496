# SPDX-License-Identifier: MIT
"""What a model folder or a saved result consists of, read from its headers: no network is built and torch not used."""

import json
import math
from pathlib import Path

from .errors import FaceTalkError


def read_model_index(folder: Path) -> dict:
    """Read model_index.json of a pipeline folder.

    Raises:
        FaceTalkError: not a folder, no such file in it, or not a file that diffusers wrote.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        what = "is a file" if folder.is_file() else "has no model_index.json"
        raise FaceTalkError(f"{folder} {what}: a model is a folder that save_pretrained wrote")
    index = read_json(path)
    if "_class_name" not in index:
        raise FaceTalkError(f"{path} names no pipeline class: a model is a folder that save_pretrained wrote")
    return index


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
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as error:
        raise FaceTalkError(f"no such file: {path}") from error
    except Exception as error:  # np.load: a dozen kinds, from BadZipFile to UnpicklingError
        raise FaceTalkError(f"{path} is not an .npz that facetalk wrote") from error
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


def read_json(path: Path) -> dict:
    """Read a JSON object; FaceTalkError if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FaceTalkError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise FaceTalkError(f"{path} holds no JSON object")
    return value
