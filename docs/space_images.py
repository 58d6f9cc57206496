# SPDX-License-Identifier: MIT
"""Make docs/images/space-*.jpg: the Space in light, dark and on a narrow screen, by a real browser.

pip install -e ".[demo,dev]"; apt-get install chromium
python docs/space_images.py
"""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright


ROOT = Path(__file__).parent.parent
IMAGES = Path(__file__).parent / "images"
PATIENCE = 900_000  # milliseconds


def main() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, str(ROOT / "spaces_app" / "app.py")]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        with sync_playwright() as run:
            graphics = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox", *graphics]}
            browser = run.chromium.launch(**options)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            speak(page, "Head 12", samples=1, moment=1.0)
            save(page.screenshot(full_page=True), "space-light.jpg")
            page.set_viewport_size({"width": 390, "height": 844})
            page.locator("#stage").scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            save(page.screenshot(full_page=True), "space-narrow.jpg", 60)
            page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
            page.goto(address)
            speak(page, None, samples=2, moment=1.55)
            save(page.screenshot(full_page=True), "space-dark.jpg")
            browser.close()
    finally:
        server.terminate()


def speak(page: Page, head: str | None, samples: int, moment: float) -> None:
    """Let a head say the shipped tongue twister, and stop at a moment in seconds."""
    page.set_default_timeout(PATIENCE)
    with page.expect_response(re.compile("peter.mp3")):
        page.get_by_text("Peter Piper").click()
    page.wait_for_timeout(2000)
    if head:
        page.get_by_role("radio", name=head, exact=True).check(force=True)
    else:
        page.get_by_role("button", name="Random head").click()
        page.locator(".ft-drawn:not([hidden])").wait_for()
    page.get_by_label("number input for Samples").fill(str(samples))
    page.get_by_label("number input for Samples").press("Tab")
    page.get_by_role("button", name="Animate").click()
    page.locator("canvas[data-ready]").wait_for()
    page.get_by_text("everything after").wait_for()
    page.evaluate("document.querySelectorAll('video').forEach(video => video.pause())")
    page.evaluate(f"document.querySelectorAll('video').forEach(video => {{ video.currentTime = {moment}; }})")
    page.evaluate("document.querySelectorAll('video').forEach(video => { video.controls = false; })")
    # How long it took is this machine's; docs/space.md has measured times.
    page.evaluate("document.querySelector('#status .ft-status').textContent = ''")
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)


def save(picture: bytes, name: str, quality: int = 72) -> None:
    """A screenshot as jpg."""
    Image.open(io.BytesIO(picture)).convert("RGB").save(IMAGES / name, quality=quality, optimize=True)


if __name__ == "__main__":
    main()
