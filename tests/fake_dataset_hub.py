# SPDX-License-Identifier: MIT
"""A Hub on the loopback for datasets: repositories are created, committed to, listed and read; .parquet goes as LFS.

As for fake_hub.py, clients run in a process of their own with `fake_hub.client_environment`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse


COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@contextmanager
def serve_datasets(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's address and a list of the files fetched; repositories are folders USER/NAME in `folder`."""
    fetched: list[str] = []
    blobs: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            route = unquote(urlparse(self.path).path)
            if route == "/api/whoami-v2":
                return self.answer({"name": "me", "type": "user", "auth": {"accessToken": {"role": "write"}}})
            if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", route):
                path = folder / match[1] / match[2]
                if not path.is_file():
                    return self.missing("EntryNotFound")
                if self.command == "GET":
                    fetched.append(match[2])
                headers = {"ETag": f'"{self.tag(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                return self.respond(path.read_bytes(), headers)
            match = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|refs)(?:/[^/]+)?(?:/(.+))?)?", route)
            if match is None or not (folder / match[1]).is_dir():
                return self.missing("RepoNotFound")
            if match[2] == "tree":
                return self.tree(folder / match[1], match[3] or "")
            if match[2] == "refs":
                branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
                return self.answer({"branches": [branch], "converts": [], "tags": []})
            names = [{"rfilename": name} for name in self.files(folder / match[1])]
            return self.answer({"id": match[1], "sha": COMMIT, "siblings": names, "private": False})

        do_HEAD = do_GET

        def do_POST(self):
            sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
            route = unquote(urlparse(self.path).path)
            host = f"http://{self.headers['Host']}"
            if route == "/api/repos/create":
                order = json.loads(sent)
                name = f"{order.get('organization') or 'me'}/{order['name'].split('/')[-1]}"
                (folder / name).mkdir(parents=True, exist_ok=True)
                return self.answer({"url": f"{host}/datasets/{name}", "id": name})
            if route == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if match := re.fullmatch(r"/datasets/([^/]+/[^/]+).git/info/lfs/objects/batch", route):
                objects = [
                    {key: item[key] for key in ("oid", "size")}
                    | {"actions": {"upload": {"href": f"{host}/lfs/{item['oid']}", "header": {}}}}
                    for item in json.loads(sent)["objects"]
                ]
                return self.answer({"transfer": "basic", "objects": objects})
            match = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|paths-info)/[^/]+", route)
            if match is None or not (folder / match[1]).is_dir():
                return self.missing("RepoNotFound")
            repo = folder / match[1]
            if match[2] == "preupload":
                modes = [
                    {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular"}
                    for file in json.loads(sent)["files"]
                ]
                return self.answer({"files": [mode | {"shouldIgnore": False, "oid": None} for mode in modes]})
            if match[2] == "paths-info":
                wanted = json.loads(sent)["paths"]
                return self.answer([self.entry(repo, name) for name in self.files(repo) if name in wanted])
            for item in map(json.loads, sent.splitlines()):
                value = item["value"]
                if item["key"] == "deletedFile":
                    (repo / value["path"]).unlink()
                elif item["key"] in ("file", "lfsFile"):
                    content = blobs[value["oid"]] if "oid" in value else base64.b64decode(value["content"])
                    (repo / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                    (repo / value["path"]).write_bytes(content)
            return self.answer({"commitUrl": f"{host}/datasets/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})

        def do_PUT(self):
            blobs[self.path.rsplit("/", 1)[-1]] = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.respond(b"", {})

        def tree(self, repo: Path, below: str) -> None:
            if below and not (repo / below).is_dir():
                return self.missing("EntryNotFound")
            recursive = "recursive=true" in self.path.lower()
            files = [name for name in self.files(repo) if not below or name.startswith(f"{below}/")]
            deep = len(Path(below).parts)
            direct = [name for name in files if recursive or len(Path(name).parts) == deep + 1]
            folders = {"/".join(Path(name).parts[: deep + 1]) for name in files if len(Path(name).parts) > deep + 1}
            entries = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
            return self.answer(entries + [self.entry(repo, name) for name in direct])

        def files(self, repo: Path) -> list[str]:
            return sorted(path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file())

        def entry(self, repo: Path, name: str) -> dict:
            return {
                "type": "file",
                "path": name,
                "size": (repo / name).stat().st_size,
                "oid": self.tag(repo / name)[:40],
            }

        def tag(self, path: Path) -> str:
            return hashlib.sha256(path.read_bytes()).hexdigest()

        def answer(self, value: object) -> None:
            self.respond(json.dumps(value).encode(), {"Content-Type": "application/json"})

        def missing(self, code: str) -> None:
            self.respond(b"", {"X-Error-Code": code}, 404)

        def respond(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if span and status == 200:
                first, last = int(span[1]), min(int(span[2] or len(body)), len(body) - 1)
                headers, status = headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}, 206
                body = body[first : last + 1]
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

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
