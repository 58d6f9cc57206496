# SPDX-License-Identifier: MIT
"""spaces_app/page/facetalk-live in a real browser, from a plain static folder, with a recording as its microphone."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


FOLDER = Path(__file__).parents[2] / "spaces_app" / "page" / "facetalk-live"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm",
    }  # fmt: skip

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def static_server(folder: Path = FOLDER) -> Iterator[str]:
    """Serve a folder's files and nothing else; gives its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def browser_page(recording: Path, *switches: str) -> Iterator[Any]:
    """A page of headless Chromium whose microphone hears a wav file; skips where something is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
    for name in ("vendor", "model"):
        if not (FOLDER / name).is_dir():
            pytest.skip("needs the live page's libraries: python spaces_app/prepare_live.py fetches them")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    arguments = [
        "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={recording}",
        "--autoplay-policy=no-user-gesture-required", *switches,
    ]  # fmt: skip
    with playwright.sync_playwright() as run:
        if program is None and not Path(run.chromium.executable_path).is_file():
            pytest.skip("needs a Chromium: apt-get install chromium, or playwright install chromium")
        browser = run.chromium.launch(executable_path=program, args=arguments)
        try:
            page = browser.new_page(viewport={"width": 640, "height": 560})
            page.set_default_timeout(180_000)
            yield page
        finally:
            browser.close()
