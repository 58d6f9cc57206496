# SPDX-License-Identifier: MIT
"""Import a glb of facetalk with its sound into Blender, set rate and range of the scene, save as blend or fbx.

    blender --background --python docs/blender_import.py -- talk.glb talk.wav --output talk.blend
    blender --background --python docs/blender_import.py -- talk.glb --output talk.fbx

It also runs in a Python that has Blender as a module (`pip install bpy`): python docs/blender_import.py talk.glb ...
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import bpy


def frames_per_second(path: Path) -> float:
    """Read the rate that facetalk wrote into a glb."""
    data = path.read_bytes()
    (size,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + size])["asset"]["extras"]["framesPerSecond"]


def import_clip(glb: Path, sound: Path | None) -> None:
    """Import a head into an empty scene; frame 1 is the clip's first."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    rate = frames_per_second(glb)
    # Blender times a glb by the scene's rate, so that it comes first; 29.97 is 30 over 1.001.
    scene.render.fps = round(rate)
    scene.render.fps_base = round(rate) / rate
    bpy.ops.import_scene.gltf(filepath=str(glb))
    ends = [action.frame_range for action in bpy.data.actions]
    scene.frame_start = int(min((start for start, _ in ends), default=0))
    scene.frame_end = round(max((end for _, end in ends), default=0))
    if sound is not None:
        editor = scene.sequence_editor_create()
        strips = editor.strips if hasattr(editor, "strips") else editor.sequences  # before Blender 4.4
        strips.new_sound("speech", str(sound.resolve()), 1, scene.frame_start)
        scene.sync_mode = "AUDIO_SYNC"


def main() -> None:
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(prog="blender_import.py", description=__doc__.splitlines()[0])
    parser.add_argument("glb", type=Path)
    parser.add_argument("sound", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, required=True, help=".blend or .fbx")
    options = parser.parse_args(arguments)
    import_clip(options.glb, options.sound)
    if options.output.suffix.lower() == ".fbx":
        # Shape keys travel as blend shapes. With all actions or NLA strips the exporter would lose their curves.
        bpy.ops.export_scene.fbx(
            filepath=str(options.output),
            path_mode="COPY",
            embed_textures=True,
            bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False,
        )
    else:
        bpy.ops.wm.save_as_mainfile(filepath=str(options.output.resolve()))
    scene = bpy.context.scene
    rate = scene.render.fps / scene.render.fps_base
    print(f"{options.output}: frames {scene.frame_start} to {scene.frame_end} at {rate:g}")


if __name__ == "__main__":
    main()
