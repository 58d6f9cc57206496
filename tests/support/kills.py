# SPDX-License-Identifier: MIT
"""Kill every command that writes at random points, fill its disk, turn the clock, and look at what is left.

    make kills ARGS="--points 20 --seed 1"

Commands run in forked children, on tiny models. Half of the points are times, the others are operations on files (open
to write, rename, remove, make a folder). After a kill, every file in sight must be one that an undisturbed run writes,
byte for byte; then the times of all files are moved by decades and the clock by a year, and the same command must end
with all the bytes of the undisturbed run, and no hidden file. The same holds where files may not grow beyond a random
size, where the disk is full, and where it cannot be written to, but there the command has to say so in one line and
end with code 2.
"""

import argparse
import contextlib
import mmap
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fake_hub
import torch
from kill_jobs import JOBS, Job, prepare, use_hub

from facetalk_hf.errors import FaceTalkError, disk_refusal
from facetalk_hf.evaluation.studies import write_between_markers


COLUMNS = ("command", "kills", "before the end", "size limits", "full disks", "read-only", "CPU s", "not compared")
COLUMNS += ("findings",)
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod")


def child(work: Callable[[], object], log: Path) -> int:
    """Run in a forked process that writes its words into a file; the process' number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.setsid()
        try:
            work()
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def run(job: Job, place: Path, out: Path, before: Callable[[], object] = lambda: None) -> Callable[[], object]:
    """What a child does: the job, after something that disturbs it."""

    def work() -> None:
        torch.set_num_threads(1)
        words = [str(word) for word in job.words(place, out)]
        before()
        try:
            job.program(words)
        except Exception as error:  # as `scripts.run_script` does
            reason = error if isinstance(error, FaceTalkError) else disk_refusal(error)
            if reason is None:
                raise
            print(reason, file=sys.stderr)
            raise SystemExit(2) from None

    return work


def ended(number: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def kill_at_operation(number: int, seen: mmap.mmap) -> Callable[[], object]:
    """Die at an operation on files, of which `seen` holds how many there were; at none for 0."""
    seen[:] = bytes(8)

    def hook(event: str, arguments: tuple) -> None:
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opens or event in WRITES:
            count = struct.unpack("q", seen[:])[0] + 1
            seen[:] = struct.pack("q", count)
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


class Case:
    """A job with the results of its undisturbed runs."""

    def __init__(self, name: str, job: Job, place: Path, home: Path, hub: fake_hub.Hub) -> None:
        self.name, self.job, self.place, self.home, self.hub = name, job, place, home, hub
        self.count = 0
        self.seen = mmap.mmap(-1, 8)  # shared with the children
        used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        before = used.ru_utime + used.ru_stime
        first = self.fresh()
        self.expect(self.start(first, kill_at_operation(0, self.seen)), 0)
        self.seconds = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu = used.ru_utime + used.ru_stime - before
        self.operations = struct.unpack("q", self.seen[:])[0]
        self.whole = self.tree(first)
        second = self.fresh()
        self.expect(self.start(second), 0)
        again = self.tree(second)
        self.loose = [name for name in self.whole if again.get(name) != self.whole[name]]
        # Another one where a run was killed before its first checkpoint; what a step draws shows in the weights.
        self.loose = sorted({*self.loose, *(name for name in self.whole if "random_states" in name)})
        assert set(again) == set(self.whole) and self.whole, (name, set(again) ^ set(self.whole))

    def fresh(self) -> Path:
        """A new folder for results; a new repository."""
        self.count += 1
        folder = self.home / f"{self.count:03d}"
        folder.mkdir()
        if self.job.hub:
            self.hub.repositories.clear()
        return folder

    def start(self, folder: Path, before: Callable[[], object] = lambda: None) -> int:
        def first() -> None:
            if self.job.hub:
                use_hub(self.hub.address)
            before()

        return child(run(self.job, self.place, folder / "out", first), self.home / "log")

    def expect(self, number: int, code: int) -> None:
        """The child must end so."""
        found, words = ended(number), (self.home / "log").read_text(errors="replace")
        assert found == code, f"{self.name} ended with {found}, not {code}: {words[-2000:]}"
        if code == 2:
            last = words.strip().splitlines()[-1] if words.strip() else ""
            assert last and "Traceback" not in words, f"{self.name} says: {words[-2000:]}"

    def tree(self, folder: Path) -> dict[str, bytes]:
        """What is in sight of results."""
        if self.job.hub:
            repository = self.hub.repositories.get(("dataset", "someone/thing"))
            return repository.files() if repository else {}
        files = [path for path in (folder / "out").rglob("*") if path.is_file()]
        names = {path.relative_to(folder / "out").as_posix(): path for path in files}
        return {name: path.read_bytes() for name, path in names.items() if not _hidden(name)}

    def check(self, folder: Path, complete: bool) -> None:
        """Every file in sight is the one that it should be; all of them, if the run was not disturbed at last."""
        found = self.tree(folder)
        for name, content in found.items():
            if not complete and re.match(r"checkpoint-\d+/", name):
                continue  # an older one, which the end of a run takes away
            assert name in self.whole, f"{self.name}: {name} should not be there ({folder})"
            good = name in self.loose or content == self.whole[name]
            assert good, f"{self.name}: {name} is not what an undisturbed run writes ({folder})"
        missing = sorted(set(self.whole) - set(found))
        assert not complete or not missing, f"{self.name}: {missing[0]} is missing ({folder})"

    def resume(self, folder: Path, turn: float) -> None:
        """The same command, with another clock and other times of files, must give the same bytes and no litter."""
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                os.utime(path, (time.time() + 30 * turn, time.time() + 30 * turn))
        clock = time.time
        self.expect(self.start(folder, lambda: setattr(time, "time", lambda: clock() + turn)), 0)
        self.check(folder, complete=True)
        left = [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".cache"]
        assert not left, f"{self.name} leaves {left[0]}"
        shutil.rmtree(folder)

    def kill(self, rng: random.Random, index: int) -> bool:
        """One kill and the run after it; whether it hit before the end."""
        folder = self.fresh()
        if index % 2:
            number = self.start(folder, kill_at_operation(rng.randint(1, self.operations), self.seen))
        else:
            number = self.start(folder)
            time.sleep(rng.uniform(0, self.seconds))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
                os.kill(number, signal.SIGKILL)
        hit = ended(number) == -signal.SIGKILL
        self.check(folder, complete=False)
        if self.job.hub or not _is_done(self, folder):
            self.resume(folder, rng.choice((-1, 1)) * 3.2e7)
        return hit

    def fill(self, rng: random.Random) -> bool:
        """Files may not grow beyond a size; whether that was too small."""
        sizes = sorted(map(len, self.whole.values()))
        limit = int(rng.uniform(0.05, 0.95) * sizes[-1])
        folder = self.fresh()

        def less() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        self.expect(self.start(folder, less), 2)
        self.check(folder, complete=False)
        self.resume(folder, 0.0)
        return True

    def full(self, rng: random.Random) -> bool:
        """A disk that is too small for the results, and then is not."""
        need = sum(map(len, self.whole.values())) + max(map(len, self.whole.values()))
        folder = self.fresh()
        with _disk(folder, f"size={max(4096, int(rng.uniform(0.05, 0.4) * need) // 4096 * 4096)}"):
            self.expect(self.start(folder), 2)
            self.check(folder, complete=False)
            subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
            self.expect(self.start(folder), 0)
            self.check(folder, complete=True)
        return True

    def read_only(self, rng: random.Random) -> bool:
        """A disk that cannot be written to."""
        folder = self.fresh()
        with _disk(folder, "ro"):
            self.expect(self.start(folder), 2)
        return True


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _is_done(case: Case, folder: Path) -> bool:
    """Whether a folder that is refused when it is not empty is complete."""
    return case.name.startswith(("publish", "corpus")) and len(case.tree(folder)) == len(case.whole)


@contextlib.contextmanager
def _disk(folder: Path, options: str):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20, help="kills of a command; a quarter as many full disks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path, help="page for the table, between its markers")
    parser.add_argument("--only", nargs="*", default=list(JOBS), choices=list(JOBS))
    options = parser.parse_args()
    findings = 0
    with tempfile.TemporaryDirectory() as folder, fake_hub.hub() as hub:
        place = Path(folder) / "given"
        place.mkdir()
        torch.set_num_threads(1)
        prepare(place)  # in this process, so that children have all libraries in memory
        log = Path(folder) / "log"
        if ended(child(run(JOBS["train"], place, place / "trained"), log)):
            raise SystemExit(log.read_text())
        lines = [f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"]
        print(lines[0], flush=True)
        for name in options.only:
            home = Path(folder) / name.replace(" ", "-")
            home.mkdir()
            case, rng, said = Case(name, JOBS[name], place, home, hub), random.Random(f"{options.seed} {name}"), []
            few, disk = -(-options.points // 4), os.geteuid() == 0 and not JOBS[name].hub
            done = {}
            for what, times in (("kill", options.points), ("fill", few), ("full", few * disk), ("read_only", disk)):
                done[what] = 0
                for index in range(0 if JOBS[name].hub and what != "kill" else times):
                    try:
                        more = (index,) if what == "kill" else ()
                        done[what] += getattr(case, what)(rng, *more)
                    except AssertionError as error:
                        said.append(f"{what}: {error}")
            cells = [options.points, *(done[what] or "-" for what in ("kill", "fill", "full", "read_only"))]
            cells += [f"{case.cpu:.1f}", ", ".join(case.loose), len(said)]
            lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
            for words in said:
                print(f"  {words}", file=sys.stderr, flush=True)
            findings += len(said)
    if options.page:
        about = f'`make kills ARGS="--points {options.points} --seed {options.seed}"`, torch {torch.__version__}, '
        about += f"{os.cpu_count()} CPU cores with a load of {os.getloadavg()[0]:.1f}:"
        write_between_markers(options.page, "kills", "\n".join((about, "", *lines)))
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
