# SPDX-License-Identifier: MIT
"""Files and folders that appear whole; what a killed process left of them goes, what another one writes stays."""

import errno
import os
import signal

import pytest

from facetalk_hf.errors import disk_refusal
from facetalk_hf.files import atomic_folder, atomic_path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_what_a_killed_process_left_is_taken_away(tmp_path, writer):
    path = tmp_path / "talk.npz"
    child = os.fork()
    if not child:
        with writer(path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with writer(path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
        with writer(path) as other:  # of a process that lives
            assert sorted(tmp_path.iterdir()) == sorted([mine, other])
        assert mine.exists()
    assert list(tmp_path.iterdir()) == [path] and left != path


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as work:
        (work / "new").write_text("new")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
    with atomic_folder(tmp_path / "out") as work:
        (work / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_the_disks_refusals_are_lines():
    assert disk_refusal(OSError(errno.ENOSPC, "No space left on device", "a.npz")) == "a.npz: No space left on device"
    assert disk_refusal(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 8448 vs 8342"))
    assert disk_refusal(RuntimeError("shapes differ")) is None and disk_refusal(KeyError("a")) is None
