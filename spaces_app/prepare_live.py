# SPDX-License-Identifier: MIT
"""Fill page/facetalk-live with what a live page needs, once, so that the page asks no other server for anything.

    python spaces_app/prepare_live.py                # vendor/: onnxruntime-web and three; model/: the exported stream
    python spaces_app/prepare_live.py --model user/model --webgpu

The libraries come from npm's registry at the versions of package.json, and are checked against its sums. Both are MIT.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import tarfile
import urllib.request
from pathlib import Path

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.portable.exporting import export_head, export_onnx


FOLDER = Path(__file__).parent / "page" / "facetalk-live"
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
THREE = (
    "LICENSE", "build/three.module.js", "build/three.core.js", "examples/jsm/loaders/GLTFLoader.js",
    "examples/jsm/utils/BufferGeometryUtils.js", "examples/jsm/utils/SkeletonUtils.js",
)  # fmt: skip


def fetch(package: str, files: tuple[str, ...], folder: Path) -> None:
    """Take files of a package at its pinned version, checked, unless they are there."""
    places = {name: folder / re.sub("^(build|dist|examples/jsm)/", "", name) for name in files}
    places = {name: place if place.suffix else place.with_suffix(".txt") for name, place in places.items()}
    if all(place.is_file() for place in places.values()):
        return
    pinned = json.loads((FOLDER / "package.json").read_text())
    version, wanted = pinned["peerDependencies"][package], pinned["integrity"][package]
    registry = os.environ.get("NPM_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    print(f"{package} {version} from {registry}")
    with urllib.request.urlopen(f"{registry}/{package}/-/{package}-{version}.tgz", timeout=600) as answer:
        archive = answer.read()
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != wanted:
        raise SystemExit(f"{package} {version} is not what was pinned: {found}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name, place in places.items():
            content = tar.extractfile(f"package/{name}")
            assert content is not None
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=facetalk_hf.TINY, help="model folder or Hub id")
    parser.add_argument("--webgpu", action="store_true", help="also onnxruntime's WebGPU build, 27 MB")
    options = parser.parse_args()
    ort = [f"dist/{name}" for name in (*WASM, *(WEBGPU if options.webgpu else ()))]
    fetch("onnxruntime-web", tuple(ort), FOLDER / "vendor" / "ort")
    fetch("three", THREE, FOLDER / "vendor" / "three")
    pipe = FaceTalkPipeline.from_pretrained(options.model)
    sizes = export_onnx(pipe, FOLDER / "model") | export_head(pipe, FOLDER / "model")
    print("model:", ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
