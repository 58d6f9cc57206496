# SPDX-License-Identifier: MIT
"""Run training again and again in child processes that kill themselves with SIGKILL at given moments.

    python killed_training.py SCRIPT MOMENTS OPTIONS...

MOMENTS is JSON: [[function, call, "before" or "after"], ...], one entry a run. Children are forked, so that torch is
imported once.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from scripts import load_script

from facetalk_hf.learning import checkpointing, loop


def kill_at(place: object, name: str, call: int, when: str) -> None:
    """The given call of a function is the last thing that this process does."""
    function, calls = getattr(place, name), []

    def last(*args, **kwargs):
        calls.append(args)
        if len(calls) < call:
            return function(*args, **kwargs)
        if when == "after":
            function(*args, **kwargs)
            if name == "save":  # half a file
                os.truncate(args[1], Path(args[1]).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, last)


def main() -> None:
    script = load_script(sys.argv[1])
    places = {"backward": loop.Accelerator, "save": torch}
    places |= {"replace": checkpointing.os, "rmtree": checkpointing.shutil}
    torch.set_num_threads(1)
    for function, *moment in json.loads(sys.argv[2]):
        child = os.fork()
        if not child:
            kill_at(places[function], function, *moment)
            script.main(sys.argv[3:])
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (function, moment, status)
    script.main(sys.argv[3:])


if __name__ == "__main__":
    main()
