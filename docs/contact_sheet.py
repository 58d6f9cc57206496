# SPDX-License-Identifier: MIT
"""Make docs/images/heads-*.jpg: twelve heads, mouth shut to wide and smiling, from three sides, by three renderers.

    python docs/contact_sheet.py  # the renderer of mp4 alone
    python docs/contact_sheet.py --blender BPY/bin/python --three node_modules/three

The renderer of mp4 draws the fine surface, Blender's Cycles and three.js the glb with template and textures. Cameras
and lights are the same. BPY is an environment with `pip install bpy`; three is npm's, drawn by a headless Chromium.
"""

import argparse
import base64
import functools
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import facetalk_hf
from facetalk_hf import HeadAnimation
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.rendering.camera import Camera
from facetalk_hf.rendering.renderer import HeadRenderer
from facetalk_hf.scripts import run_script


STILLS = Path(__file__).parent / "stills"
SMILE = {"mouthSmile_L": 1, "mouthSmile_R": 1, "mouthUpperUp_L": 0.35, "mouthUpperUp_R": 0.35, "jawOpen": 0.12}
POSES: dict[str, dict[str, float]] = {
    "shut": {},
    "half open": {"jawOpen": 0.4},
    "wide": {"jawOpen": 1.0},
    "smile": SMILE | {"mouthLowerDown_L": 0.2, "mouthLowerDown_R": 0.2},
}
VIEWS = {"front": 0.0, "three-quarters": 40.0, "profile": 90.0}
BACKDROP = (124, 129, 136)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=facetalk_hf.TINY)
    parser.add_argument("--output", type=Path, default=STILLS.parent / "images", help="folder of the sheets")
    parser.add_argument(
        "--identities", type=int, nargs="+", default=[0, 2, 5, 7, 9, 12, 14, 17, 20, 23, 26, 30], metavar="N"
    )
    parser.add_argument("--size", type=int, default=112, help="pixels of a picture")
    parser.add_argument("--quality", type=int, default=80, help="of the jpg")
    parser.add_argument("--resolution", type=int, default=128, help="grid cells along the head")
    parser.add_argument(
        "--keep", type=Path, help="folder of single pictures; those that are there are not drawn again"
    )
    parser.add_argument("--blender", help="Python that has bpy")
    parser.add_argument("--three", type=Path, help="npm's package three")
    args = parser.parse_args(arguments)

    decoder = make_decoder(load_head(args.model), resolution=args.resolution)
    columns = ["mp4", *(["Blender"] if args.blender else []), *(["three.js"] if args.three else [])]
    with tempfile.TemporaryDirectory() as place:
        keep = args.keep or Path(place)
        for identity in args.identities:
            jobs = {name: keep / name / str(identity) for name in columns if not is_drawn(keep / name / str(identity))}
            if not jobs:
                continue
            head = posed(decoder(np.zeros((len(POSES), decoder.head.config.expression_dim), np.float32), identity))
            views = [camera(head, args.size, yaw) for yaw in VIEWS.values()]
            job = {"views": views, "size": args.size, "frames": len(POSES), "samples": 12}
            job["glb"] = str(keep / f"{identity}.glb")
            if len(columns) > 1:
                keep.mkdir(parents=True, exist_ok=True)
                head.save(job["glb"])
            for name, folder in jobs.items():
                folder.mkdir(parents=True, exist_ok=True)
                if name == "mp4":
                    by_ours(head, args.size, folder)
                elif name == "Blender":
                    by_blender(job, folder, args.blender)
                else:
                    by_three(job, folder, args.three)
            print("head", identity, flush=True)
        args.output.mkdir(parents=True, exist_ok=True)
        for view in VIEWS:
            image = sheet(keep, columns, args.identities, view, args.size)
            image.save(args.output / f"heads-{view}.jpg", quality=args.quality)


def names() -> list[str]:
    """List the pictures of a head: every side in every pose."""
    return [f"{view} {pose}.png" for view in VIEWS for pose in POSES]


def is_drawn(folder: Path) -> bool:
    """Say whether all pictures of a head are there."""
    return all((folder / name).is_file() for name in names())


def posed(head: HeadAnimation) -> HeadAnimation:
    """Give a still head one frame a second, each a pose of `POSES`."""
    weights = np.zeros((len(POSES), len(head.targets)), np.float32)
    for row, pose in zip(weights, POSES.values(), strict=True):
        row[[INDEX[name] for name in pose]] = list(pose.values())
    return head.replace(weights=weights, fps=1.0)


def by_ours(head: HeadAnimation, size: int, folder: Path) -> None:
    """Draw every side in every pose by the renderer of mp4, on nothing."""
    for view, yaw in VIEWS.items():
        renderer = HeadRenderer(head, size, yaw=yaw, key_poses=len(POSES), background="transparent", samples=8)
        for frame, pose in enumerate(POSES):
            Image.fromarray(renderer.render(frame)).save(folder / f"{view} {pose}.png")


def camera(head: HeadAnimation, size: int, yaw: float) -> dict[str, Any]:
    """Say in metres where the renderer of mp4 has its camera and its lights."""
    found = Camera.framing(head, size, size, np.radians(yaw))
    # Its shading takes .62 of the light, and of the rim light the grazing part alone.
    share = (0.62, 0.62, 0.02)
    lights = [
        {"axes": facing(direction), "color": (color * gain).tolist()}
        for (direction, color), gain in zip(found.lights, share, strict=True)
    ]
    return {
        "eye": (found.eye / 1000).tolist(), "axes": found.axes.tolist(), "focal": float(found.lens[0]),
        "center": found.lens[2:].tolist(), "lights": lights,
    }  # fmt: skip


def facing(direction: np.ndarray) -> list[list[float]]:
    """Complete a direction to right, up and back, three orthogonal rows."""
    right = np.cross([0.0, 1, 0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction]).tolist()


def by_blender(job: dict[str, Any], folder: Path, program: str) -> None:
    """Draw every side in every pose by Cycles."""
    paths = [str(folder.resolve() / name) for name in names()]
    (folder / "job.json").write_text(json.dumps(job | {"pictures": paths}))
    command = [program, str(STILLS / "blender.py"), str(folder / "job.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class _Files(http.server.SimpleHTTPRequestHandler):
    """The page at /, three below /three, everything else from the folder of heads."""

    def __init__(self, *args: Any, three: Path, **more: Any) -> None:
        self.three = three
        super().__init__(*args, **more)

    def translate_path(self, path: str) -> str:
        if path == "/":
            return str(STILLS / "three.html")
        return str(self.three / path[7:]) if path.startswith("/three/") else super().translate_path(path)

    def log_message(self, *_: Any) -> None:
        pass


def by_three(job: dict[str, Any], folder: Path, three: Path) -> None:
    """Draw every side in every pose by three.js, in a Chromium without GPU."""
    from playwright.sync_api import sync_playwright

    glb = Path(job["glb"])
    handler = functools.partial(_Files, directory=str(glb.parent), three=three.resolve())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as run:
        options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = run.chromium.launch(executable_path=shutil.which("chromium"), args=options, timeout=600_000)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("window.ready")
        for name, url in zip(names(), page.evaluate("draw", job | {"glb": f"/{glb.name}"}), strict=True):
            (folder / name).write_bytes(base64.b64decode(url.partition(",")[2]))
        browser.close()
    server.shutdown()


def sheet(keep: Path, columns: list[str], identities: list[int], view: str, size: int) -> Image.Image:
    """Lay out one side of all heads: a row a head, the renderers side by side in every pose."""
    top = 2 * max(10, size // 9)
    image = Image.new("RGB", (len(POSES) * len(columns) * size, len(identities) * size + top), BACKDROP)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(top // 2 - 2)
    for column, pose in enumerate(POSES):
        left = column * len(columns) * size
        for number, name in enumerate(columns):
            for row, identity in enumerate(identities):
                picture = Image.open(keep / name / str(identity) / f"{view} {pose}.png").convert("RGBA")
                image.paste(picture, (left + number * size, top + row * size), picture)
            pen.text((left + number * size + 4, top // 2), name, (240, 242, 245), font)
        pen.text((left + 4, 0), pose, (255, 255, 255), font)
        pen.line([(left, 0), (left, image.height)], (70, 74, 80))
    for row, identity in enumerate(identities):
        pen.text((3, top + row * size), str(identity), (255, 255, 255), font)
    return image


if __name__ == "__main__":
    run_script(main)
