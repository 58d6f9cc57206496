# SPDX-License-Identifier: MIT
"""Scripts of training/ and benchmarks/ as modules."""

import importlib.util
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import IO


ROOT = Path(__file__).parents[2]


def load_script(path: str) -> ModuleType:
    """The module of a script, by its path in the repository."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_forked(command: list, **options: object) -> subprocess.CompletedProcess:
    """`subprocess.run` of a Python script, in a forked process: libraries that are loaded here are loaded there.

    Where there is no `os.fork`, and for what is no script, a process is started as ever.
    """
    words = [str(word) for word in command]
    if not hasattr(os, "fork") or words[0] != sys.executable or not words[1].endswith(".py"):
        return subprocess.run(words, **options)
    with tempfile.TemporaryFile("w+") as said:
        code = os.waitstatus_to_exitcode(os.waitpid(fork(words, said, options.get("env") or {}), 0)[1])
        said.seek(0)
        return subprocess.CompletedProcess(words, code, said.read(), "")


def run_ranks(count: int, *command: object, **environment: str) -> str:
    """Run a Python script in forked processes that find each other as those of `accelerate launch` do; their words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = environment | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [sys.executable, *map(str, command)]
    with tempfile.TemporaryFile("w+") as said:
        ranks = [fork(words, said, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in ranks]
        said.seek(0)
        text = said.read()
    assert not any(codes), text
    return text


def fork(words: list[str], said: IO[str], environment: dict[str, str]) -> int:
    """Run a script in a forked process that writes into a file; the number of the process."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w")  # pytest's own hold words in memory
        os.environ.update(environment)
        from accelerate.state import AcceleratorState, PartialState

        for state in (PartialState, AcceleratorState):
            state._reset_state()  # whether this process is one of several
        sys.argv, sys.path[0] = words[1:], str(Path(words[1]).parent)
        try:
            runpy.run_path(words[1], run_name="__main__")
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
