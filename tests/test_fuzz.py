# SPDX-License-Identifier: MIT
"""No damaged file brings a reader down: some hundred of them, always the same; `make fuzz` reads as many as it can."""

import io
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetalk_hf.arrays import read_npy, read_npz
from facetalk_hf.audio.io import load_audio, read_audio
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.importers.vertex_sequences import read_arrays
from facetalk_hf.mesh.reading import read_ply


ROOT = Path(__file__).parents[1]


def test_damaged_files_are_read_or_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra train: pip install 'facetalk-hf[train]'")
    command = [sys.executable, "tests/support/fuzz.py", "--cases", "20", "--seconds", "600", "--keep", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    read = dict(re.findall(r"^\| (\w+) \| (\d+) \|", done.stdout, re.M))
    assert len(read) == 11 and set(read.values()) == {"20"}


def npy(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


@pytest.mark.parametrize("shape", [(2**40,), (2**38, 3), (0, 2**60), (-1,), (9,)])
def test_no_header_is_believed(tmp_path, shape):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(shape))
    with pytest.raises(FaceTalkError, match="cut short"):
        read_npy(path)
    path.write_bytes(npy((8,)))
    assert read_npy(path).shape == (8,)


def test_the_length_of_a_header_is_not_believed_either(tmp_path):
    """In version 2 of the format it has four bytes, and NumPy would make room for what they say."""
    np.lib.format.write_array(stream := io.BytesIO(), np.arange(3.0), (2, 0))
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    assert read_npy(tmp_path / "a.npy").tolist() == [0, 1, 2]
    (tmp_path / "a.npy").write_bytes(stream.getvalue()[:8] + b"\xff\xff\xff\xff" + stream.getvalue()[12:])
    tracemalloc.start()
    with pytest.raises(FaceTalkError, match="damaged"):
        read_npy(tmp_path / "a.npy")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20


def test_a_pickle_cannot_ask_for_memory(tmp_path):
    content = b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"abc."  # a bytearray of so many bytes
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(FaceTalkError, match="holds no arrays") as refused:
        read_arrays(tmp_path / "a.pkl")
    assert not isinstance(refused.value.__cause__, MemoryError)


@pytest.mark.parametrize("letter", [0x110000, 0x7FFFFFFF, 0xD800])
def test_text_that_is_none_is_refused(tmp_path, letter):
    for kind in ("<U1", ">U1"):
        np.save(tmp_path / "a.npy", np.array([letter, 65], np.dtype(np.uint32).newbyteorder(kind[0])).view(kind))
        with pytest.raises(FaceTalkError, match="text is none"):
            read_npy(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array(["aä", "𝄞"]))
    assert read_npy(tmp_path / "a.npy").tolist() == ["aä", "𝄞"]


def test_arrays_may_take_so_much_memory_and_no_more(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**18), b=np.zeros(2**18))
    assert set(read_npz(tmp_path / "a.npz")) == {"a", "b"}
    assert set(read_npz(tmp_path / "a.npz", ("b", "c"))) == {"b"}
    monkeypatch.setenv("FACETALK_MAX_GIB", "0.003")  # each of them is 2 MiB
    assert set(read_npz(tmp_path / "a.npz", ("b",))) == {"b"}
    with pytest.raises(FaceTalkError, match="FACETALK_MAX_GIB"):
        read_npz(tmp_path / "a.npz")
    monkeypatch.setenv("FACETALK_MAX_GIB", "much")
    with pytest.raises(FaceTalkError, match="FACETALK_MAX_GIB must be"):
        read_npz(tmp_path / "a.npz")


def test_objects_are_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FaceTalkError, match="Python objects"):
        read_npy(tmp_path / "a.npy")


def test_a_ply_cannot_promise_more_than_its_bytes(tmp_path):
    path = tmp_path / "a.ply"
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n")
    with pytest.raises(ValueError, match="cut short"):
        read_ply(path)


def test_a_sound_cannot_promise_more_than_its_bytes(tmp_path):
    """The header of an AU file names no length, or any; one of FLAC 2^36 samples."""
    soundfile.write(tmp_path / "a.flac", np.zeros(1600), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] | 0x0F]) + b"\xff" * 4  # STREAMINFO: number of samples, 36 bits
    (tmp_path / "a.flac").write_bytes(content)
    try:
        samples, rate = read_audio(tmp_path / "a.flac")
        assert rate == 16000 and len(samples) <= 4096 + 1600
    except FaceTalkError:
        pass


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_rates_at_which_no_sound_is_recorded(tmp_path, rate):
    """Resampled from 1 Hz, a minute of file would become a day of sound."""
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    with pytest.raises(FaceTalkError, match="sampling_rate"):
        load_audio(tmp_path / "a.wav")
