# SPDX-License-Identifier: MIT
"""The add-on, in Blender as a Python module: a program of its own, because bpy wants other versions of NumPy.

BPY_PYTHON names a Python that has bpy, where this one has not.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from animations import talk
from fresh import ROOT

from facetalk_hf.animation.arkit import ARKIT, arkit_weights


PYTHON = os.environ.get("BPY_PYTHON") or (sys.executable if importlib.util.find_spec("bpy") else None)
pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs bpy, here or in the Python that BPY_PYTHON names")

PROGRAM = """
import importlib.util, json, sys
import bpy
addon, table, sound, command = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
spec = importlib.util.spec_from_file_location("facetalk_blender", addon)
module = importlib.util.module_from_spec(spec); sys.modules["facetalk_blender"] = module
spec.loader.exec_module(module); module.register()
scene = bpy.context.scene
scene.render.fps = 30
scene.frame_set(5)

def head(name, shapes):
    mesh = bpy.data.meshes.new(name); mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    item = bpy.data.objects.new(name, mesh); scene.collection.objects.link(item)
    for shape in ("Basis", *shapes):
        item.shape_key_add(name=shape).value = 0
    return item

rig = bpy.data.objects.new("rig", None); scene.collection.objects.link(rig)
face = head("face", ["jawOpen", "EyeBlinkLeft", "mouth_smile.R", "browInnerUp_L", "aa", "tongueTipUp"])
face.parent = rig
rig.select_set(True)
bpy.context.view_layer.objects.active = rig
facts = {"by table": sorted(bpy.ops.facetalk.speak(filepath=table))}

def values(item):
    result = []
    for frame in (5, 6, 17, 30):
        scene.frame_set(frame)
        blocks = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data.shape_keys.key_blocks
        result.append({block.name: block.value for block in blocks})
    scene.frame_set(5)
    return result

facts["values"] = values(face)
facts["by sound"] = [module.animate(bpy.context, module.Path(sound), command, "--seed 3")]
facts["again"] = values(face)
facts["strips"] = [(strip.name, strip.frame_final_start) for strip in (
    scene.sequence_editor.strips if hasattr(scene.sequence_editor, "strips") else scene.sequence_editor.sequences)]
facts["failures"] = []
for path, program in ((addon, command), (sound, "nowhere"), (addon.replace(".py", ".csv"), command)):
    try:
        module.animate(bpy.context, module.Path(path), program, "")
    except module.FaceTalkFailure as failure:
        facts["failures"].append(str(failure))
module.unregister()
print("FACTS" + json.dumps(facts))
"""


def test_pick_a_sound_get_the_action(tmp_path: Path):
    animation = talk()
    table, sound = animation.save(tmp_path / "talk.csv"), tmp_path / "talk.wav"
    animation.replace(audio=np.zeros(16000, np.float32), sampling_rate=16000).save(sound)
    # The command gives the tongue as well.
    spoken = animation.save(tmp_path / "talk.json")
    document = json.loads(spoken.read_text())
    said = np.linspace(0, 1, len(document["weights"]))
    document |= {"tongue_names": ["tongueOut", "tongueTipUp"], "tongue": [[0, value] for value in said]}
    spoken.write_text(json.dumps(document))
    # In place of the command, which is tested elsewhere: it writes that json, if it is asked as it should be.
    command = tmp_path / "facetalk"
    command.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"assert sys.argv[1:3] == ['generate', {str(sound)!r}] and sys.argv[-2:] == ['--seed', '3'], 'facetalk: no'\n"
        f"shutil.copy({str(tmp_path / 'talk.json')!r}, sys.argv[sys.argv.index('--output-dir') + 1])\n"
    )
    command.chmod(0o755)
    addon = ROOT / "docs" / "blender" / "facetalk_blender.py"
    line = [PYTHON, "-c", PROGRAM, *map(str, (addon, table, sound, command))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert "FACTS" in done.stdout, done.stdout + done.stderr
    facts = json.loads(done.stdout.split("FACTS")[1].splitlines()[0])
    assert facts["by table"] == ["FINISHED"] and facts["by sound"] == [["face"]]
    weights, moments = arkit_weights(animation), np.array([0, 1, 12, 25]) / 30 * animation.fps
    for shape, name in {
        "jawOpen": "jawOpen", "EyeBlinkLeft": "eyeBlinkLeft", "mouth_smile.R": "mouthSmileRight",
        "browInnerUp_L": "browInnerUp",
    }.items():  # fmt: skip
        track = np.interp(moments, np.arange(len(weights)), weights[:, ARKIT.index(name)])
        for run in ("values", "again"):
            np.testing.assert_allclose([row[shape] for row in facts[run]], track, atol=1e-4)
    track = np.interp(moments, np.arange(len(weights)), said)
    np.testing.assert_allclose([row["tongueTipUp"] for row in facts["again"]], track, atol=1e-4)
    assert all(row["tongueTipUp"] == 0 for row in facts["values"])
    assert all(row["aa"] == 0 for row in facts["values"])
    assert facts["strips"] == [["talk", 5]]
    assert len(facts["failures"]) == 3 and "nowhere" in facts["failures"][1]
