# SPDX-License-Identifier: MIT
"""spaces_app/: a server started as its page says, called by gradio_client and by a real browser."""

import argparse
import asyncio
import importlib.util
import io
import re
import shutil
import sys
import zipfile
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import soundfile
import yaml
from components import RATE, seed, speech_like
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from scripts import load_script

import facetalk_hf
from facetalk_hf import FaceTalkPipeline, HeadAnimation, MotionControls
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.motion.options import options_of


SPACE = Path(__file__).parents[2] / "spaces_app"
pytestmark = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def server(place):
    """Address of a running Space with small pictures and a coarse head; its temporary files are below `place`."""
    load = load_script("benchmarks/space_load.py")
    process, address = load.start(place, argparse.Namespace(resolution=32, picture=64))
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture(scope="module")
def client(server, place):
    return Client(server, verbose=False, download_files=str(place / "client"), httpx_kwargs={"timeout": 120})


@pytest.fixture(scope="module")
def clip(place):
    path = place / "words.flac"
    soundfile.write(path, speech_like(0.5), RATE)
    return path


@pytest.fixture(scope="module")
def page(server):
    """A page of a headless Chromium that has WebGL in software."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    with playwright.sync_playwright() as run:
        if program is None and not Path(run.chromium.executable_path).is_file():
            pytest.skip("needs a Chromium: apt-get install chromium, or playwright install chromium")
        graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = run.chromium.launch(executable_path=program, args=["--no-sandbox", *graphics])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.asked.append(message.text) if "Refused" in message.text else None)
        page.goto(server)
        page.get_by_role("button", name="Animate").wait_for()
        yield page
        browser.close()


def test_front_matter_names_the_app_and_the_sdk():
    front = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio" and (SPACE / front["app_file"]).is_file()
    assert front["license"] == "mit" and front["python_version"] == "3.11"
    assert str(front["sdk_version"]) in (SPACE.parent / "constraints.txt").read_text(encoding="utf-8")


def test_readme_and_page_say_what_it_must_not_be_used_for(server):
    words = (SPACE / "README.md").read_text(encoding="utf-8")
    page = httpx.get(f"{server}/config", timeout=120).text
    assert "Do not use" in words and "Do not use" in page and "synthetic" in words and "synthetic" in page


def test_the_live_page_is_served_as_plain_files(server):
    page, module = (httpx.get(f"{server}/live/{name}", timeout=120) for name in ("live.html", "stream.js"))
    assert page.status_code == module.status_code == 200
    assert page.headers["content-type"].startswith("text/html") and "javascript" in module.headers["content-type"]
    assert httpx.get(f"{server}/live/../app.py", timeout=120).text != (SPACE / "app.py").read_text(encoding="utf-8")


def test_curves_are_those_of_the_motion():
    curves = load_script("spaces_app/curves.py")
    weights = np.float32([[0, 1, 0.5], [0.25, 0, 0.5]])
    found = curves.motion_curves(weights, ("jawOpen", "eyeBlink_L", "eyeBlink_R"))
    assert found == {"jawOpen": [0, 0.25], "eyeBlink": [0.75, 0.25]}
    sound = curves.sound_curve(np.r_[np.zeros(800), 0.1 * np.ones(800)].astype(np.float32))
    assert (len(sound), sound[0], sound[-1]) == (400, 0, 1)
    assert curves.sound_curve(np.zeros(3, np.float32)) == [0, 0, 0]


def test_who_waits_is_told_how_long():
    sys.path.insert(0, str(SPACE))
    try:
        line = importlib.import_module("line").Line(usual=10)
    finally:
        sys.path.remove(str(SPACE))
    assert line.words(0) == ""
    with line.turn():
        assert line.words(0).startswith("1 before you, about 10 s")
        assert line.words(30).startswith("31 before you, about 5 minutes")
    assert line.words(0) == "" and len(line.seconds) == 2


def test_the_endpoint_gives_files_of_every_sample(client, clip):
    text = (SPACE.parent / "docs" / "space.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {"running": client}
    exec(block.replace('Client("http://127.0.0.1:7860")', "running").replace("speech.wav", str(clip)), scope)
    movies, models, motions, tables = (scope[name] for name in ("videos", "models", "motions", "tables"))
    assert [Path(path).name for path in movies] == ["facetalk-1.mp4", "facetalk-2.mp4"]
    assert [len(paths) for paths in (models, motions, tables)] == [2, 2, 2]
    with av.open(movies[1]) as container:
        assert "Synthetic" in container.metadata["comment"] and container.streams.audio
        assert container.streams.video[0].frames == 12
    first, second = (np.load(path) for path in motions)
    assert (first["seed"], second["seed"]) == (3, 4) and not np.allclose(first["weights"], second["weights"])
    assert Path(models[0]).read_bytes()[:4] == b"glTF" and Path(tables[0]).read_text().startswith("Timecode")
    # Sample 2 of seed 3 is the one of seed 4, in many steps too; settings reach the model.
    again = client.predict(handle_file(clip), seed=4, head_motion=1, api_name="/animate")[2][0]
    # The eyes make up for the head's turns.
    still = [not name.startswith("eyeLook") for name in second["target_names"].tolist()]
    np.testing.assert_allclose(np.load(again)["weights"][:, still], second["weights"][:, still], atol=1e-4)
    assert "poses" in np.load(again) and "poses" not in second
    many = client.predict(handle_file(clip), seed=4, fast=False, steps=2, api_name="/animate")[2][0]
    assert not np.allclose(np.load(many)["weights"], second["weights"], atol=1e-2)


def test_the_endpoint_has_all_controls_and_does_what_the_library_does(client, clip):
    """Arguments, defaults and results are those of the pipeline."""
    arguments = client.view_api(print_info=False, return_format="dict")["named_endpoints"]["/animate"]["parameters"]
    defaults = {
        item["parameter_name"]: item["parameter_default"] for item in arguments if item["parameter_has_default"]
    }
    for item in options_of(MotionControls):
        for name in [f"{item.name}_{part}" for part in item.parts] or [item.flag or item.name]:
            assert name in ("num_samples", "phone_strength") or defaults[name] == (
                (0 if item.keyed else None) if item.parts else item.default
            ), name
    chosen = {"intensity": 1.3, "upper_face_intensity": 0.5, "blink_rate": 20, "head_motion": 1, "fps": 30}
    found = client.predict(handle_file(clip), seed=4, gaze_yaw=5, **chosen, api_name="/animate")[2][0]
    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY).few_steps()
    pipe.decoder = make_decoder(pipe.head, resolution=32)
    expected = pipe(clip, generator=seed(4), gaze=(5, 0), **chosen).animations[0]
    found = HeadAnimation.load(found)
    np.testing.assert_allclose(found.weights, expected.weights, atol=2e-3)  # the file has 16 bits a sample
    np.testing.assert_allclose(found.poses, expected.poses, atol=2e-2)
    assert found.fps == 30


@pytest.mark.parametrize(
    ("recording", "settings", "message"),
    [
        ("text.wav", {}, "readable audio"),
        ("long.flac", {}, "longer than 60 s"),
        (None, {}, "first"),
        ("words.flac", {"head": "99"}, "dentity must be"),
        ("words.flac", {"head": "/etc/passwd"}, "dentity must be"),
        ("words.flac", {"samples": 9}, "maximum"),
        ("words.flac", {"blink_rate": 61}, "link_rate must be a number between 0 and 60"),
        ("words.flac", {"blink_rate": "often"}, "link_rate must be a number between 0 and 60, not often"),
        ("words.flac", {"guidance_scale": 2}, "ew-step weights hold the guidance"),
        ("words.flac", {"keyframes": "text.csv"}, "he file of keyframes"),
    ],
)
def test_a_visitor_is_told_plainly(client, clip, place, recording, settings, message):
    (place / "text.wav").write_text("no sound")
    (place / "text.csv").write_text("no keyframes")
    soundfile.write(place / "long.flac", np.zeros(61 * 8000), 8000)
    if "keyframes" in settings:
        settings = {"keyframes": handle_file(place / settings["keyframes"])}
    with pytest.raises((AppError, ValueError)) as told:
        client.predict(recording and handle_file(place / recording), **settings, api_name="/animate")
    assert message in str(told.value) and str(place) not in str(told.value) and "Traceback" not in str(told.value)


def test_files_are_refused_removed_and_kept_apart(server, client, clip, place):
    web = httpx.Client(base_url=f"{server}/gradio_api", timeout=120)
    heavy = web.post("/upload", files={"files": ("heavy.wav", bytes(26 * 2**20))})
    assert heavy.status_code == 413 and "maximum allowed size" in heavy.text
    # Nothing but what was uploaded or made, and that only under its own name, which holds a hash.
    (path,) = web.post("/upload", files={"files": ("light.wav", b"light")}).json()
    kept = Path(path)
    assert place in kept.parents and re.fullmatch(r"[0-9a-f]{64}", kept.parent.name)
    assert web.get(f"/file={kept}").content == b"light"
    for other in (SPACE / "app.py", clip, kept.parent, kept.parent.parent):
        assert web.get(f"/file={other}").status_code == 403
    # A program that names a file of the server instead of sending one: it is good speech, and it is not read.
    foreign = {"path": str(clip), "meta": {"_type": "gradio.FileData"}}
    arguments = client.view_api(print_info=False, return_format="dict")["named_endpoints"]["/animate"]["parameters"]
    data = [foreign, *(item["parameter_default"] for item in arguments[1:])]
    call = web.post("/call/animate", json={"data": data}).json()
    answer = web.get(f"/call/animate/{call['event_id']}").text
    assert "event: error" in answer and str(place) not in answer
    assert not list(place.glob("facetalk-*"))


def test_what_lies_about_its_type_is_neither_read_nor_shown(server, client, place):
    """No upload is more than sound to the model, or a download to a browser."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("words.wav", "no sound")
    script = b"<html><script>alert(1)</script></html>"
    web = httpx.Client(base_url=f"{server}/gradio_api", timeout=120)
    for name, content in (("a.wav", packed.getvalue()), ("b.mp3", script), ("c.flac", b"\x7fELF" + bytes(99))):
        (place / name).write_bytes(content)
        with pytest.raises(AppError, match="readable audio|no samples"):
            client.predict(handle_file(place / name), api_name="/animate")
    for name, content in (("page.html", script), ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")):
        (path,) = web.post("/upload", files={"files": (name, content)}).json()
        answer = web.get(f"/file={path}")
        assert answer.headers["content-security-policy"].endswith("sandbox")
        assert answer.headers["x-content-type-options"] == "nosniff"
    policy = httpx.get(server).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "object-src 'none'" in policy


def test_no_path_leads_to_what_somebody_else_has(server, clip, place):
    web = httpx.Client(base_url=f"{server}/gradio_api", timeout=120)
    (path,) = web.post("/upload", files={"files": ("../../../mine.wav", b"mine")}).json()
    kept = Path(path)
    assert place in kept.parents and kept.name == "mine.wav"
    (place / "secret.txt").write_text("classified")
    inside = kept.parent / "link.wav"
    inside.symlink_to(place / "secret.txt")  # nobody can make one; if they could, it would lead nowhere
    tried = [
        f"{kept.parent}/../../secret.txt", f"{kept.parent}/..%2f..%2fsecret.txt", f"file://{clip}", "/etc/passwd",
        f"{kept.parent}/%2e%2e/%2e%2e/secret.txt", f"{kept.parent.parent}/*", "\\..\\secret.txt", "", ".",
        str(inside), f"{kept}%00.txt", "~/.netrc", "/proc/self/environ",
    ]  # fmt: skip
    for name in tried:
        answer = web.get(f"/file={name}")
        assert answer.status_code >= 400 and b"classified" not in answer.content and b"root:" not in answer.content, (
            name
        )


def test_a_crowd_is_served_and_told_its_place(server, clip):
    load = load_script("benchmarks/space_load.py")
    content = (clip).read_bytes()
    seen = asyncio.run(load.crowd(server, load.endpoint(server), content, 5, 5, lambda number: None))
    assert [one.ended for one in seen] == ["served"] * 5
    assert all(one.places for one in seen) and max(max(one.places) for one in seen) > 1
    assert not load.shared_files(seen) and all(one.files for one in seen)


@pytest.mark.browser
def test_a_visitor_uploads_sees_a_video_and_turns_the_head(page, clip):
    page.set_default_timeout(120_000)
    page.locator("#speech").get_by_label("Clear").click()
    page.locator("#speech input[type=file]").set_input_files(clip)
    page.locator("#speech").get_by_text("words.flac").or_(
        page.locator("#speech [data-testid^=waveform]")
    ).first.wait_for()
    page.get_by_role("radio", name="Head 5").check(force=True)
    page.get_by_label("number input for Samples").fill("2")
    page.get_by_label("number input for Samples").press("Tab")
    # What is left empty is the model's own, also once it was seen.
    page.get_by_text("More", exact=True).click()
    for name in ("Steps", "Blink rate"):
        assert page.get_by_role("textbox", name=name).input_value() == ""
    page.get_by_role("button", name="Animate").click()
    page.get_by_label("Video of Sample 1, seed 0").wait_for()
    page.wait_for_function("document.querySelector('.ft-picture video').currentTime > 0.2")
    page.locator("canvas[data-ready]").wait_for()
    assert page.locator(".ft-curves polyline").count() == 5
    page.get_by_text("everything after").wait_for()
    assert [link.inner_text() for link in page.locator("figcaption a").all()] == 2 * ["mp4", "glb", "npz", "csv"]
    # Both play, in step; the first is still the one that is heard.
    page.wait_for_function("document.querySelector('.ft-picture video').ended")
    page.locator(".ft-play").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.ft-picture video')].every(video => video.currentTime > 0.2)"
    )
    assert page.evaluate("[...document.querySelectorAll('.ft-picture video')].map(v => v.muted)") == [False, True]

    canvas = page.get_by_label("Animated 3D head")
    page.evaluate("document.querySelector('video').pause()")

    def seen() -> bytes:
        """The head as it is shown, when it is shown: on a busy machine the screen is some frames behind."""
        last = None
        for _ in range(20):
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            picture = canvas.screenshot()
            if picture == last:
                break
            last = picture
        return picture

    page.evaluate("document.querySelector('video').currentTime = 0")
    page.wait_for_function("!document.querySelector('video').seeking")
    rest = seen()
    assert rest == seen()
    page.evaluate("document.querySelector('video').currentTime = 0.3")
    page.wait_for_function("!document.querySelector('video').seeking")
    speaking = seen()
    assert speaking != rest  # the morph targets follow the video
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 170, box["y"] + 110, steps=3)
    page.mouse.up()
    turned = seen()
    assert turned != speaking
    canvas.press("ArrowLeft")
    assert seen() != turned
    page.get_by_role("button", name="Reset view").click()
    assert seen() == speaking


@pytest.mark.browser
def test_the_page_fits_a_telephone_and_a_dark_theme(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # What a screen reader says of every control.
    nameless = """[...document.querySelectorAll('button, input, a, canvas, svg[role], video')].filter(
        e => e.offsetParent && !(e.innerText || e.ariaLabel || e.title || e.labels?.length || e.ariaLabelledByElements)
    ).map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(nameless) == []
    light = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
    page.evaluate("document.body.classList.add('dark')")
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor") != light
    # Nothing was asked of anybody else in all this, and nothing that the page needs was refused.
    own = page.evaluate("location.origin")
    assert not [url for url in page.asked if not url.startswith((own, "data:", "blob:"))]
