# SPDX-License-Identifier: MIT
"""A Hub on the loopback: serves one folder as a model repository to huggingface_hub, and writes commits into it.

The client reads its endpoint when it is imported, so what talks to the server runs in a process of its own, with the
environment from [`client_environment`].
"""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(folder: Path, repo_id: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's address and a list that every path fetched with GET is added to."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            route = unquote(urlparse(self.path).path)
            parts = route.removeprefix(f"/{repo_id}/resolve/").split("/", 1)
            if route.startswith(f"/api/models/{repo_id}/revision/"):
                siblings = [{"rfilename": name} for name in files]
                self.answer({"id": repo_id, "sha": COMMIT, "siblings": siblings})
            elif route.startswith(f"/api/models/{repo_id}/tree/"):
                self.answer([
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": self.tag(path)}
                    for name, path in files.items()
                ])  # fmt: skip
            elif route.startswith(f"/{repo_id}/resolve/") and parts[-1] in files:
                content = files[parts[-1]].read_bytes()
                self.respond(200, content, {"ETag": f'"{self.tag(files[parts[-1]])}"', "X-Repo-Commit": COMMIT})
                if self.command == "GET":
                    fetched.append(parts[-1])
            else:
                self.respond(404, b"", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def do_POST(self):
            sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
            route = unquote(urlparse(self.path).path)
            if route == "/api/repos/create":
                self.answer({"url": f"http://{self.headers['Host']}/{repo_id}", "id": repo_id})
            elif route == f"/api/models/{repo_id}/preupload/main":
                paths = [file["path"] for file in json.loads(sent)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self.answer({"files": modes})
            elif route == f"/api/models/{repo_id}/commit/main":
                for item in map(json.loads, sent.splitlines()):
                    if item["key"] == "file":
                        target = folder / item["value"]["path"]
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(base64.b64decode(item["value"]["content"]))
                url = f"http://{self.headers['Host']}/{repo_id}/commit/{COMMIT}"
                self.answer({"commitUrl": url, "commitOid": COMMIT})
            else:
                self.respond(404, b"", {"X-Error-Code": "RepoNotFound"})

        def answer(self, value: object) -> None:
            self.respond(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def tag(self, path: Path) -> str:
            return hashlib.sha1(path.read_bytes()).hexdigest()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_environment(address: str, home: Path) -> dict[str, str]:
    """Environment of a process that shall take the server for the Hub, with a cache of its own."""
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    return os.environ | settings | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
