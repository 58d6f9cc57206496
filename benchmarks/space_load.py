# SPDX-License-Identifier: MIT
"""Many visitors of the Space at once, then one after the other: who is served, who is told what, memory, files left.

    python benchmarks/space_load.py --visitors 50 --requests 500 --page docs/space.md

A server of spaces_app/ is started on the loopback, with small pictures and coarse heads: what is asked here does not
depend on them. Visitors come as the page does: they upload, join the queue and listen. Each wants another motion, on
one of --heads heads.
"""

import argparse
import asyncio
import io
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from facetalk_hf.evaluation.studies import command, markdown_table, write_between_markers


ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Visit:
    """What one visitor heard: places in the line, seconds to go, seconds waited, how it ended."""

    places: list[int] = field(default_factory=list)
    promised: list[float] = field(default_factory=list)
    waited: float = 0.0
    ended: str = "heard nothing"
    files: list[str] = field(default_factory=list)


def start(place: Path, options: argparse.Namespace) -> tuple[subprocess.Popen, str]:
    """Start a server whose temporary files are below `place`; its process and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "GRADIO_SERVER_PORT": port, "GRADIO_SERVER_NAME": "127.0.0.1", "TMPDIR": str(place), "PYTHONUNBUFFERED": "1",
        "FACETALK_RESOLUTION": str(options.resolution), "FACETALK_PICTURE": str(options.picture),
        "PYTHONPATH": str(ROOT), "GRADIO_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "spaces_app" / "app.py")]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://[\d.]+:\d+", line):
            return process, found[0]
    raise SystemExit("the Space did not start: " + (place / "log").read_text()[-2000:])


def memory(process: subprocess.Popen) -> float:
    """Resident memory in MB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


async def visit(web: httpx.AsyncClient, number: int, function: dict[str, Any], clip: bytes) -> Visit:
    """Upload, join the queue, listen to the end."""
    seen, session, begun = Visit(), secrets.token_hex(6), time.monotonic()
    (path,) = (await web.post("/upload", files={"files": ("words.wav", clip)})).json()
    data = list(function["defaults"])
    data[0] = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data[function["names"].index("head")] = f"random:{number % function['heads']}"
    data[function["names"].index("seed")] = number  # or two results may be the same, and so their addresses
    call = {"data": data, "fn_index": function["id"], "session_hash": session}
    joined = await web.post("/queue/join", json=call)
    if joined.status_code != 200:
        seen.ended = joined.text[:80]
        return seen
    async with web.stream("GET", "/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data:"):
                continue
            told = json.loads(line[5:])
            if told["msg"] == "estimation":
                seen.places.append(told["rank"] + 1)
                if told.get("rank_eta"):
                    seen.promised.append(told["rank_eta"])
            elif told["msg"] == "process_starts":
                seen.waited = time.monotonic() - begun
            elif told["msg"] == "process_completed":
                seen.ended = "served" if told["success"] else str(told["output"].get("error"))
                seen.files = re.findall(r'"path": "([^"]+)"', json.dumps(told["output"]))
            elif told["msg"] == "close_stream":
                break
    return seen


def endpoint(address: str) -> dict[str, Any]:
    """Number and default arguments of `/animate`."""
    config = httpx.get(f"{address}/config", timeout=120).json()
    info = httpx.get(f"{address}/gradio_api/info", timeout=120).json()["named_endpoints"]["/animate"]["parameters"]
    (number,) = (item["id"] for item in config["dependencies"] if item["api_name"] == "animate")
    return {"id": number, "names": [item["parameter_name"] for item in info]} | {
        "defaults": [item.get("parameter_default") for item in info],
        "heads": 1,
    }


async def crowd(
    address: str, function: dict[str, Any], clip: bytes, count: int, at_once: int, after: Any
) -> list[Visit]:
    """Let visitors come, so many at a time; `after` is called behind each."""
    limits = httpx.Limits(max_connections=3 * at_once)
    async with httpx.AsyncClient(base_url=f"{address}/gradio_api", timeout=3600, limits=limits) as web:
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> Visit:
            async with gate:
                seen = await visit(web, number, function, clip)
                after(number)
                return seen

        return list(await asyncio.gather(*(one(number) for number in range(count))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50, help="at once")
    parser.add_argument("--requests", type=int, default=500, help="one after the other, for the memory")
    parser.add_argument("--seconds", type=float, default=0.5, help="of their recording")
    parser.add_argument("--heads", type=int, default=40, help="so many different ones are asked for")
    parser.add_argument("--picture", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--page", type=Path, help="page for the table, between its markers")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        noise = 0.1 * np.random.default_rng(0).standard_normal(int(16000 * options.seconds))
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((noise * 32767).astype("<i2").tobytes())
        clip = content.getvalue()
        process, address = start(place, options)
        try:
            function, sizes = endpoint(address) | {"heads": options.heads}, {}
            rows.append(("memory at the start, MB", f"{memory(process):.0f}"))
            begun = time.monotonic()
            seen = asyncio.run(crowd(address, function, clip, options.visitors, options.visitors, lambda number: None))
            took = time.monotonic() - begun
            served = [one for one in seen if one.ended == "served"]
            told = [one for one in seen if one.places]
            rows += [
                (f"of {options.visitors} at once, served", len(served)),
                (
                    "turned away, with a word",
                    len([one for one in seen if one.ended not in ("served", "heard nothing")]),
                ),
                ("heard nothing", len([one for one in seen if one.ended == "heard nothing"])),
                ("told their place in the line", len(told)),
                ("told how many seconds", len([one for one in seen if one.promised])),
                ("the last one waited, s", f"{max(one.waited for one in seen):.0f}"),
                ("all were served after, s", f"{took:.0f}"),
                ("files of two visitors with one address", len(shared_files(seen))),
                ("memory then, MB", f"{memory(process):.0f}"),
            ]

            def after(number: int) -> None:
                if (number + 1) in (options.requests // 10, options.requests // 2, options.requests):
                    sizes[number + 1] = memory(process)

            again = asyncio.run(crowd(address, function, clip, options.requests, 1, after)) if options.requests else []
            rows += [(f"memory after {count} more, one by one, MB", f"{size:.0f}") for count, size in sizes.items()]
            rows.append((f"of these {options.requests}, served", sum(one.ended == "served" for one in again)))
            rows.append(("folders of work left", len(list(place.glob("facetalk-*")))))
        finally:
            process.terminate()
            process.wait(60)
    about = f"`{command()}`; clips of {options.seconds:g} s, {options.picture} pixels, heads of {options.resolution} "
    about += f"cells; {os.cpu_count()} CPU cores with a load of {os.getloadavg()[0]:.1f} from all that ran."
    text = f"{about}\n\n{markdown_table(('', ''), rows)}"
    print(text)
    if options.page:
        write_between_markers(options.page, "load", text)


def shared_files(visits: list[Visit]) -> set[str]:
    """Addresses that more than one visitor was given."""
    owners: dict[str, int] = {}
    found = set()
    for number, seen in enumerate(visits):
        for path in seen.files:
            if owners.setdefault(path, number) != number:
                found.add(path)
    return found


if __name__ == "__main__":
    main()
