# SPDX-License-Identifier: MIT
"""A Hub on the loopback, as huggingface_hub, diffusers and datasets see it: repositories of all types with branches,
commits, large files, private and gated ones.

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
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse


TOKEN = "hf_test"
"""Of the one user there is, "someone", who owns all repositories and has accepted the terms of the gated ones."""

LARGE = (".safetensors", ".parquet", ".bin")
"""Files that the server wants uploaded by the LFS protocol."""

Files = dict[str, bytes]


@dataclass
class Repository:
    """One repository: commits, newest last, and the branches that point to them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit({})

    def commit(self, files: Files, branch: str = "main", deleted: tuple[str, ...] = ()) -> str:
        """Add and replace files, remove others; the new commit's hash."""
        content = {name: data for name, data in self.files(branch).items() if name not in deleted} | files
        sha = hashlib.sha1(f"{len(self.commits)} {sorted(content)}".encode()).hexdigest()
        self.commits[sha] = content
        self.branches[branch] = sha
        return sha

    def add_folder(self, folder: Path, branch: str = "main") -> str:
        """Commit a folder as it lies on the disk."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return self.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, branch)

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch or a hash means."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> Files:
        """All files of a revision by their paths; none where there is no such revision."""
        return self.commits.get(self.resolve(revision) or "", {})


class Hub:
    """All repositories, by type ("model", "dataset", "space") and id, and what was asked of them."""

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: Files = {}
        self.fetched: list[str] = []
        self.requests: list[str] = []

    def create(self, repo_id: str, kind: str = "model", **state: bool) -> Repository:
        """A new repository with one empty commit."""
        return self.repositories.setdefault((kind, repo_id), Repository(**state))

    def __getitem__(self, repo_id: str) -> Repository:
        return next(repo for (_, name), repo in self.repositories.items() if name == repo_id)


def digest(data: bytes) -> str:
    """The hash by which git knows a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def describe(name: str, data: bytes) -> dict:
    """A file as the tree API lists it."""
    entry = {"type": "file", "path": name, "size": len(data), "oid": digest(data)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `hub` is set by [`hub`]."""

    hub: Hub

    def do_GET(self) -> None:
        self.begin()
        if self.route == "/api/whoami-v2":
            signed_in = self.authorized()
            return self.answer({"name": "someone", "type": "user"}) if signed_in else self.refuse(401, "", "Invalid")
        kind, repo_id, rest = self.split()
        repo = self.find(kind, repo_id)
        if repo is None:
            return None
        action, revision, path = rest[:3]
        sha = repo.resolve(revision or "main")
        if action == "refs":
            refs = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()]
            return self.answer({"branches": refs, "converts": [], "tags": []})
        if sha is None:
            return self.refuse(404, "RevisionNotFound")
        files = repo.files(sha)
        if action == "resolve":
            return self.send_file(repo, sha, path)
        if action == "tree":
            inside = {name for name in files if not path or name.startswith(f"{path}/")}
            if path and not inside:
                return self.refuse(404, "EntryNotFound")
            entries = {name: describe(name, files[name]) for name in inside}
            if self.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
                depth = len(path.split("/")) if path else 0
                tops = {"/".join(name.split("/")[: depth + 1]) for name in inside}
                folder = {"type": "directory", "size": 0, "oid": "0" * 40}
                entries = {top: entries.get(top) or folder | {"path": top} for top in tops}
            return self.answer([entries[name] for name in sorted(entries)])
        listing = [{"rfilename": name} for name in files]
        return self.answer({
            "_id": "0", "id": repo_id, "sha": sha, "siblings": listing, "private": repo.private, "tags": [],
            "gated": "auto" if repo.gated else False, "downloads": 0, "likes": 0,
        })  # fmt: skip

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.begin()
        self.hub.objects[self.route.rpartition("/")[2]] = self.sent
        self.respond(200, b"")

    def do_POST(self) -> None:
        self.begin()
        if self.route == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.route == "/api/repos/create":
            return self.create()
        if self.route.endswith(".git/info/lfs/objects/batch"):
            return self.answer({"transfer": "basic", "objects": [
                item | {"actions": {"upload": {"href": f"{self.hub.address}/objects/{item['oid']}"}}}
                for item in json.loads(self.sent)["objects"]
            ]})  # fmt: skip
        kind, repo_id, (action, revision, *_) = self.split()
        repo = self.find(kind, repo_id, writing=action != "paths-info")
        if repo is None:
            return None
        if action == "paths-info":
            files, paths = repo.files(revision), parse_qs(self.sent.decode())["paths"]
            return self.answer([describe(name, files[name]) for name in paths if name in files])
        if action == "branch":
            if revision in repo.branches:
                return self.refuse(409, "", "Reference already exists")
            repo.branches[revision] = repo.branches["main"]
            return self.answer({})
        if action == "variables":
            variable = json.loads(self.sent)
            repo.variables[variable["key"]] = variable["value"]
            return self.answer({variable["key"]: {"value": variable["value"]}})
        if repo.resolve(revision) is None:
            return self.refuse(404, "RevisionNotFound")
        if action == "preupload":
            paths = [file["path"] for file in json.loads(self.sent)["files"]]
            modes = [(path, "lfs" if path.endswith(LARGE) else "regular") for path in paths]
            return self.answer({"files": [
                {"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes
            ]})  # fmt: skip
        return self.commit(repo, repo_id, revision)

    def begin(self) -> None:
        """Read the request."""
        parsed = urlparse(self.path)
        self.route, self.query = unquote(parsed.path), parse_qs(parsed.query)
        self.hub.requests.append(f"{self.command} {self.route}")
        self.sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            self.sent += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break

    def split(self) -> tuple[str, str, list[str]]:
        """The route as type, id, and what is asked: [action, revision, path] or fewer."""
        path = urlparse(self.path).path.removeprefix("/api").lstrip("/").split("/", 1)
        kinds = {"models": "model", "datasets": "dataset", "spaces": "space"}
        kind, rest = (kinds[path[0]], path[1]) if path[0] in kinds else ("model", "/".join(path))
        user, name, *what = rest.split("/", 4)
        return kind, unquote(f"{user}/{name}"), [unquote(item) for item in [*what, "", ""]]

    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def find(self, kind: str, repo_id: str, writing: bool = False) -> Repository | None:
        """The repository, or an answer that says why not."""
        repo, given = self.hub.repositories.get((kind, repo_id)), self.headers.get("Authorization")
        if given and not self.authorized():
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif not given and (repo is None or repo.private or writing):
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
        elif repo is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        else:
            return repo
        return None

    def create(self) -> None:
        wanted = json.loads(self.sent)
        kind, repo_id = wanted.get("type") or "model", f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
        if not self.authorized():
            return self.refuse(401, "", "Invalid username or password.")
        place = f"{self.hub.address}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        if (kind, repo_id) in self.hub.repositories:
            return self.answer({"error": "You already created this repo", "url": place, "id": repo_id}, 409)
        self.hub.create(repo_id, kind, private=wanted.get("private") or wanted.get("visibility") == "private")
        return self.answer({"url": place, "name": repo_id, "id": repo_id})

    def commit(self, repo: Repository, repo_id: str, revision: str) -> None:
        added, deleted = {}, []
        for item in map(json.loads, self.sent.splitlines()):
            value = item["value"]
            if item["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                added[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                deleted.append(value["path"])
        branch, more = revision, {}
        if "create_pr" in self.query:
            branch = "refs/pr/1"
            repo.branches[branch] = repo.resolve(revision)
            more = {"pullRequestUrl": f"{self.hub.address}/{repo_id}/discussions/1"}
        sha = repo.commit(added, branch, tuple(deleted))
        self.answer({"commitUrl": f"{self.hub.address}/{repo_id}/commit/{sha}", "commitOid": sha} | more)

    def send_file(self, repo: Repository, sha: str, path: str) -> None:
        if path not in repo.files(sha):
            return self.refuse(404, "EntryNotFound")
        if repo.gated and not self.authorized():
            return self.refuse(403, "GatedRepo", "Access to this repository is restricted")
        data = repo.files(sha)[path]
        if self.command == "GET":
            self.hub.fetched.append(path)
        tag = hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else digest(data)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return self.respond(200, data, headers)
        first, last = asked.split("-")
        first, last = int(first), min(int(last or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.respond(206, data[first : last + 1], headers)

    def answer(self, value: object, status: int = 200) -> None:
        self.respond(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.respond(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def respond(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def hub() -> Iterator[Hub]:
    """A server with no repository; it ends with the block."""
    content = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": content}))
    content.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield content
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve(folder: Path, repo_id: str) -> Iterator[tuple[str, list[str]]]:
    """A server with one folder as a model repository; at the end the folder holds what the repository does.

    Yields its address and a list that every path fetched is added to.
    """
    with hub() as content:
        repo = content.create(repo_id)
        repo.add_folder(folder)
        yield content.address, content.fetched
    for name, data in repo.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def client_environment(address: str, home: Path, token: str | None = None) -> dict[str, str]:
    """Environment of a process that shall take the server for the Hub, with a cache of its own."""
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    rest = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_CACHE")}
    return rest | settings | ({} if token is None else {"HF_TOKEN": token})
