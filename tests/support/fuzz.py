# SPDX-License-Identifier: MIT
"""Damage good files in every way that is cheap, and read them: `make fuzz`, and shortly in tests/test_fuzz.py.

    PYTHONPATH=.:tests/support python tests/support/fuzz.py --seconds 120

A file is read, or refused by a `FaceTalkError` of one line. Anything else is a finding: another exception, more than
5 s of processor time, memory that a header alone asks for, words on stderr, a crash. Files that were found are kept in
--keep. Case I of a reader depends on seed, reader and I alone.
"""

import argparse
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from fuzz_readers import READERS, check_cause

from facetalk_hf.errors import FaceTalkError


SLOW = 5.0
"""Seconds of processor time that a file may take: on the clock a busy machine would be to blame."""
ROOM = 2**30
"""Bytes of address space that reading a small file may take: a header that asks for more has been believed."""
WORDS = (
    b"0", b"-1", b"1e999", b"nan", b"4294967295", b"9223372036854775807", b"99999999999999999999", b"1e-320", b"null",
    b"true", b'"a"', b"[]", b"{}", b"[" * 3000, b"\xff\xfe", b"\0", b"\n", b"1000000000",
)  # fmt: skip


class TooSlow(BaseException):
    """A file took longer than `SLOW`."""


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to four accidents, of bytes, words or the members of a zip."""
    if data[:2] == b"PK" and rng.random() < 0.7:
        return damage_zip(data, rng)
    if data[:6] == b"\x93NUMPY" and rng.random() < 0.5:
        return damage_header(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice((flip, number, number, cut, insert, repeat, word, word))(data, rng)
    return data


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 3, 20))):
        changed[place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def place(data: bytes | bytearray, rng: random.Random) -> int:
    """A place in the data; more often one near its beginning or end, where headers are."""
    size = len(data)
    if rng.random() < 0.6:
        near = min(size, 200)
        return rng.randrange(near) if rng.random() < 0.7 else size - 1 - rng.randrange(near)
    return rng.randrange(size)


def number(data: bytes, rng: random.Random) -> bytes:
    """Write an extreme integer over the data."""
    width = rng.choice("BHIQ")
    top = 2 ** (8 * struct.calcsize(width))
    value = rng.choice((0, 1, top - 1, top // 2, top // 2 - 1, top // 4, rng.randrange(top)))
    packed = struct.pack(rng.choice("<>") + width, value)
    at = place(data, rng) if data else 0
    return data[:at] + packed + data[at + len(packed) :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else data


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 100))) + data[at:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Put one part of the data in the place of another."""
    if not data:
        return data
    start, end = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    at = rng.randrange(len(data))
    return data[:at] + data[start:end] * rng.choice((1, 1, 3)) + data[at + rng.choice((0, end - start)) :]


def word(data: bytes, rng: random.Random) -> bytes:
    """Put an odd word where a number of a text was."""
    found = list(re.finditer(rb"-?\d[\d.]*", data[:4000]))
    if not found:
        return number(data, rng)
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(WORDS) + data[match.end() :]


def damage_zip(data: bytes, rng: random.Random) -> bytes:
    """Damage a member of a zip, or its size in the directory; the checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice(list(members))
    act = rng.random()
    if act < 0.1:
        del members[chosen]
    elif act < 0.2:
        members[chosen] = members[rng.choice(list(members))]
    else:
        members[chosen] = damage(members[chosen], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def damage_header(data: bytes, rng: random.Random) -> bytes:
    """Give an .npy another shape, type or order, in a header that is well-formed."""
    body = io.BytesIO(data)
    version = np.lib.format.read_magic(body)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(body)
    huge = rng.choice((0, 1, 7, 10**6, 10**9, 10**12, 2**31, 2**40, 2**62, 2**63, -1, len(shape)))
    shape = rng.choice(((huge,), (huge, *shape), (*shape, huge), (huge, huge), shape, (1,) * 70))
    kind = rng.choice(
        (dtype.str, "<f8", ">f4", "|O", "<U99999999", "<M8[ns]", "|V0", "<c16", "|b1", "|S0", "<f2", "3<f4")
    )
    text = repr({"descr": kind, "fortran_order": rng.random() < 0.3, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data[body.tell() :]


def run(name: str, seed: int, cases: int, seconds: float, keep: Path) -> dict:
    """Fuzz one reader in a process of its own; what was found."""
    with tempfile.TemporaryDirectory() as folder:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(folder)
                child(name, seed, cases, seconds, Path(folder))
                code = 0
            except BaseException:
                Path(folder, "stderr").open("a").write(traceback.format_exc())
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        state = Path(folder, "state.json")
        result = json.loads(state.read_text()) if state.exists() else {"files": 0, "findings": []}
        if status:
            said = Path(folder, "stderr")
            words = said.read_text(errors="replace") if said.exists() else ""
            result["findings"].append({"what": f"the process ended with {status}: {words[-600:]}", "file": "case"})
        for index, finding in enumerate(result["findings"][:20]):
            source = next(iter(Path(folder).glob(f"found/{finding['file']}")), None)
            source = source or next(iter(Path(folder).glob("case/*.*")), None)
            if source is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, keep / f"{name}-{index}{source.suffix}")
    return result


def child(name: str, seed: int, cases: int, seconds: float, folder: Path) -> None:
    """Read damaged files until there are enough; the state is written as it goes on."""
    seeds, read = READERS[name]()
    for path in [*folder.iterdir()]:
        path.unlink()
    (folder / "found").mkdir()
    for sample, content in seeds.items():  # a good file is read, and what is loaded late is loaded now
        tolerated(read, write_case(folder, sample, content))
    with open(folder / "stderr", "w") as stream:
        os.dup2(stream.fileno(), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, too_slow)
    findings, slowest, start, index, said = [], 0.0, time.monotonic(), 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    while index < cases and time.monotonic() - start < seconds:
        rng = random.Random(f"{seed}/{name}/{index}")
        sample = rng.choice(list(seeds))
        path = write_case(folder, sample, damage(seeds[sample], rng))
        began = time.process_time()
        what = None
        try:
            signal.setitimer(signal.ITIMER_PROF, SLOW)
            refused += tolerated(read, path)
        except TooSlow:
            what = f"slower than {SLOW:g} s"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.process_time() - began)
        if (size := os.path.getsize(folder / "stderr")) > said:
            what = what or f"stderr: {(folder / 'stderr').read_text(errors='replace')[said:][:200]}"
            said = size
        if what is not None:
            kept = f"{index}{path.suffix}"
            shutil.copyfile(path, folder / "found" / kept)
            findings.append({"what": f"case {index} of {sample}: {what}", "file": kept})
        index += 1
        if index % 50 == 0 or what is not None or index == cases:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            state = {"files": index, "refused": refused, "slowest": slowest, "findings": findings}
            (folder / "state.json").write_text(json.dumps(state | {"grown": (peak - before) / 1024}))


def write_case(folder: Path, sample: str, content: bytes) -> Path:
    """A case in a folder of its own, which readers may write to."""
    place_ = folder / "case"
    shutil.rmtree(place_, ignore_errors=True)
    place_.mkdir()
    (place_ / sample).write_bytes(content)
    return place_ / sample


def tolerated(read: Callable[[Path], object], path: Path) -> bool:
    """Read a file; True where it is refused by one line."""
    try:
        read(path)
    except FaceTalkError as error:
        check_cause(error)
        if not str(error).strip() or len(str(error)) > 2000:
            raise ValueError(f"a message of {len(str(error))} letters") from error
        return True
    return False


def too_slow(number: int, frame: object) -> None:
    raise TooSlow


def report(results: dict[str, dict]) -> Iterator[str]:
    yield "| reader | files | refused | slowest, s | memory grew by, MB | findings |"
    yield "|---|---|---|---|---|---|"
    for name, found in results.items():
        numbers = (found["files"], found.get("refused", 0), f"{found.get('slowest', 0):.2f}")
        yield (
            "| "
            + " | ".join(map(str, (name, *numbers, f"{found.get('grown', 0):.0f}", len(found["findings"]))))
            + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", choices=tuple(READERS), nargs="+", default=list(READERS))
    parser.add_argument("--seconds", type=float, default=240, help="for all readers together")
    parser.add_argument("--cases", type=int, default=10**9, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="folder for the files that were found")
    options = parser.parse_args()
    each, results, keep = options.seconds / len(options.reader), {}, options.keep.absolute()
    for name in options.reader:
        results[name] = run(name, options.seed, options.cases, each, keep)
        for finding in results[name]["findings"][:20]:
            print(f"{name}: {finding['what']}", flush=True)
    print("\n".join(report(results)))
    total = sum(len(found["findings"]) for found in results.values())
    print(f"{sum(found['files'] for found in results.values())} files, {total} findings, seed {options.seed}")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
