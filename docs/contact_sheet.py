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
import io
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
    parser.add_argument("--blender", help="Python that has bpy")
    parser.add_argument("--three", type=Path, help="npm's package three")
    args = parser.parse_args(arguments)

    decoder = make_decoder(load_head(args.model), resolution=args.resolution)
    with tempfile.TemporaryDirectory() as place:
        heads, drawn = [], {"mp4": {}, "Blender": {}, "three.js": {}}
        for identity in args.identities:
            head = posed(decoder(np.zeros((len(POSES), decoder.head.config.expression_dim), np.float32), identity))
            views = [camera(head, args.size, yaw) for yaw in VIEWS.values()]
            drawn["mp4"][identity] = [
                picture
                for yaw in VIEWS.values()
                for picture in films(head, args.size, yaw)
            ]
            job = {"identity": identity, "views": views, "folder": f"{place}/{identity}", "glb": f"{place}/{identity}.glb"}
            if args.blender or args.three:
                head.save(job["glb"])
            heads.append(job)
            print("head", identity, flush=True)
        if args.blender:
            drawn["Blender"] = by_blender(heads, args.size, args.blender)
        if args.three:
            drawn["three.js"] = by_three(heads, args.size, args.three, Path(place))
    drawn = {name: pictures for name, pictures in drawn.items() if pictures}
    args.output.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(VIEWS):
        sheet(drawn, args.identities, number, args.size).save(args.output / f"heads-{view}.jpg", quality=args.quality)


def posed(head: HeadAnimation) -> HeadAnimation:
    """Give a still head one frame a second, each a pose of `POSES`."""
    weights = np.zeros((len(POSES), len(head.targets)), np.float32)
    for row, pose in zip(weights, POSES.values(), strict=True):
        row[[INDEX[name] for name in pose]] = list(pose.values())
    return head.replace(weights=weights, fps=1.0)


def films(head: HeadAnimation, size: int, yaw: float) -> list[Image.Image]:
    """Draw every pose by the renderer of mp4, on nothing."""
    renderer = HeadRenderer(head, size, yaw=yaw, key_poses=len(POSES), background="transparent", samples=8)
    return [Image.fromarray(renderer.render(frame)) for frame in range(len(POSES))]


def camera(head: HeadAnimation, size: int, yaw: float) -> dict[str, Any]:
    """Say in metres where the renderer of mp4 has its camera and its lights."""
    found = Camera.framing(head, size, size, np.radians(yaw))
    lights = [{"axes": facing(direction), "color": color.tolist()} for direction, color in found.lights]
    return {
        "eye": (found.eye / 1000).tolist(), "axes": found.axes.tolist(), "focal": float(found.lens[0]),
        "center": found.lens[2:].tolist(), "lights": lights,
    }  # fmt: skip


def facing(direction: np.ndarray) -> list[list[float]]:
    """Complete a direction to right, up and back, three orthogonal rows."""
    right = np.cross([0.0, 1, 0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction]).tolist()


def by_blender(heads: list[dict], size: int, program: str) -> dict[int, list[Image.Image]]:
    """Draw every head from every side in every pose by Cycles."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"heads": heads, "size": size, "samples": 32, "frames": len(POSES)}, file)
        file.flush()
        subprocess.run([program, str(STILLS / "blender.py"), file.name], check=True, stdout=subprocess.DEVNULL)
    names = [f"{view}_{frame}.png" for view in range(len(VIEWS)) for frame in range(len(POSES))]
    return {head["identity"]: [Image.open(Path(head["folder"]) / name).copy() for name in names] for head in heads}


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


def by_three(heads: list[dict], size: int, three: Path, folder: Path) -> dict[int, list[Image.Image]]:
    """Draw every head from every side in every pose by three.js, in a Chromium without GPU."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Files, directory=str(folder), three=three.resolve())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    result = {}
    with sync_playwright() as run:
        options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = run.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_function("window.ready")
        for head in heads:
            job = head | {"glb": f"/{head['identity']}.glb"}
            urls = page.evaluate("([head, size, frames]) => draw(head, size, frames)", [job, size, len(POSES)])
            data = [base64.b64decode(url.partition(",")[2]) for url in urls]
            result[head["identity"]] = [Image.open(io.BytesIO(picture)) for picture in data]
        browser.close()
    server.shutdown()
    return result


def sheet(drawn: dict[str, dict[int, list[Image.Image]]], identities: list[int], view: int, size: int) -> Image.Image:
    """Lay out one side of all heads: a row a head, the renderers side by side in every pose."""
    top = 2 * max(10, size // 9)
    image = Image.new("RGB", (len(POSES) * len(drawn) * size, len(identities) * size + top), BACKDROP)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(top // 2 - 2)
    for column, pose in enumerate(POSES):
        for number, (name, pictures) in enumerate(drawn.items()):
            x = (column * len(drawn) + number) * size
            pen.text((x + 4, top // 2), name, (240, 242, 245), font)
            for row, identity in enumerate(identities):
                picture = pictures[identity][view * len(POSES) + column].convert("RGBA")
                image.paste(picture, (x, top + row * size), picture)
        pen.text((column * len(drawn) * size + 4, 0), pose, (255, 255, 255), font)
        pen.line([(column * len(drawn) * size, 0), (column * len(drawn) * size, image.height)], (70, 74, 80))
    for row, identity in enumerate(identities):
        pen.text((3, top + row * size), str(identity), (255, 255, 255), font)
    return image


if __name__ == "__main__":
    run_script(main)
