# SPDX-License-Identifier: MIT
"""Formats register themselves where animations are imported, and are written whole or not at all."""

import importlib.util
import os
import subprocess
import sys

import pytest
from animations import head

from facetalk_hf.animation.formats import READERS, WRITERS, format_of, register_reader, register_writer
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.errors import FaceTalkError


FULL_DISK = """
import resource, sys
import numpy as np
from facetalk_hf.animation.formats import WRITERS
from facetalk_hf.cli.common import save
from facetalk_hf.errors import FaceTalkError
from animations import head

names = ("jawLeft", "jawRight", "mouthLeft", "jawOpen", "cheekPuff")
animation = head(12).replace(audio=np.zeros(9000), target_names=names)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))  # what comes after is refused, as on a full disk
for name in WRITERS:
    if name != "mp4" and not (name.startswith("usd") and "no usd" in sys.argv):
        try:
            save(animation, name, f"{sys.argv[1]}/a.{name}")
            print("WRITTEN", name)
        except FaceTalkError as error:
            assert "cannot write" in str(error) and "\\n" not in str(error), error
"""


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path):
    (tmp_path / "a.glb").write_text("old")
    words = [] if importlib.util.find_spec("pxr") else ["no usd"]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=here, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"] and (tmp_path / "a.glb").read_text() == "old"


IMPORTS = """
import sys, time
start = time.process_time()
import facetalk_hf.animation.head_animation
spent = time.process_time() - start
from facetalk_hf.animation.formats import READERS, WRITERS
heavy = ("torch", "diffusers", "transformers", "scipy", "trimesh", "skimage", "av", "embreex", "numba", "pxr")
print(*WRITERS, *READERS, *[name for name in heavy if name in sys.modules])
assert spent < 1, spent
"""


def test_whoever_imports_the_animation_has_every_format_and_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.split()
        == "glb mp4 webm png npz csv json wav usd usda usdc weights visemes ply obj vrm vrma npz".split()
    )


def test_an_unknown_format_is_answered_with_those_that_there_are(tmp_path):
    with pytest.raises(FaceTalkError) as caught:
        head().save(tmp_path / "a.fbx")
    assert str(caught.value) == (
        "cannot save as 'fbx'; use one of glb, mp4, webm, png, npz, csv, json, wav, usd, usda, usdc, weights, "
        "visemes, ply, obj, vrm, vrma"
    )


@pytest.fixture
def names_format():
    """A format of others: the names of the targets as text."""

    @register_writer("names", needs_head=False)
    def write(path, animation, end="\n"):
        path.write_text(end.join(animation.target_names))
        return path

    @register_reader("names")
    def read(path, decode):
        return decode(path.read_text().split(" "))

    yield
    del WRITERS["names"], READERS["names"]


def test_a_format_of_others_is_saved_and_loaded_by_its_suffix(tmp_path, names_format):
    animation = head()
    path = animation.save(tmp_path / "a.names", end=" ")
    assert path.read_text() == "all few eyeLookUp_L jawOpen never"
    found = HeadAnimation.load(path, decode=lambda names: animation.replace(target_names=names[::-1]))
    assert found.target_names == animation.target_names[::-1]
    motion = HeadAnimation.load(animation.save(tmp_path / "b.npz"))
    assert motion.save(tmp_path / "c.names").read_text().count("\n") == 4  # needs no head


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.GLB", "glb"), ("a.weights.csv", "weights"), ("a.csv", "csv"), ("a", "ply"), ("a.b/c", "ply")],
)
def test_the_suffix_says_the_format(path, name):
    assert format_of(path) == name
