# SPDX-License-Identifier: MIT
"""Files and folders that appear whole; what a killed process left of them goes, what another one writes stays."""

import errno
import os
import signal

import numpy as np
import pytest

from facetalk_hf import files
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


def test_arrays_are_made_once_and_made_again_where_their_file_is_damaged_or_old(tmp_path, monkeypatch):
    made = []

    def make():
        made.append(1)
        return {"a": np.arange(3), "b": np.ones((2, 2), np.float32)}

    folder = tmp_path / "cache"
    monkeypatch.setenv("FACETALK_CACHE", str(folder))
    for key, count in ((b"1", 1), (b"1", 1), (b"2", 2)):
        found = files.kept_arrays("some", key, make)
        assert len(made) == count and found["b"].dtype == np.float32
        np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert folder.stat().st_mode & 0o077 == 0  # it may hold people's heads
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    files.kept_arrays("some", b"1", make)
    assert len(made) == 3
    monkeypatch.setattr(files, "KEPT_FILES", 2)
    for number in range(4):
        files.kept_arrays("some", b"more%d" % number, make)
    assert len(list(folder.iterdir())) == 2
    # Nowhere to write, or not wanted: made, every time.
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file" / "cache"), "off"):
        monkeypatch.setenv("FACETALK_CACHE", place)
        before = len(made)
        files.kept_arrays("some", b"1", make)
        files.kept_arrays("some", b"1", make)
        assert len(made) == before + 2
