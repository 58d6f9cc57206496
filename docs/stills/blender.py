# SPDX-License-Identifier: MIT
"""Draw frames of glb files by Blender's Cycles: what docs/contact_sheet.py asks a Python with bpy for.

python docs/stills/blender.py job.json
"""

import json
import sys
from pathlib import Path

import bpy
from mathutils import Matrix, Vector


TURN = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))  # glTF's +y up to Blender's +z up


def set_up(size: int, samples: int) -> bpy.types.Scene:
    """Empty the scene and choose how it is drawn."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", samples
    scene.cycles.use_denoising, scene.cycles.max_bounces = False, 3
    scene.render.threads_mode, scene.render.threads, scene.render.use_persistent_data = "FIXED", 1, True
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.film_transparent = True
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.view_settings.view_transform = "Standard"
    scene.render.fps = 1  # a frame of the file is a second
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True  # what Blender 6 does by itself
    scene.world.node_tree.nodes["Background"].inputs[0].default_value = (0.2, 0.2, 0.21, 1)
    return scene


def place(kind: str, data: bpy.types.ID, axes: list[list[float]], eye: list[float]) -> bpy.types.Object:
    """Put a camera or a sun that looks along -axes[2], with axes[1] up, at `eye` in metres."""
    thing = bpy.data.objects.new(kind, data)
    bpy.context.scene.collection.objects.link(thing)
    rotation = TURN @ Matrix(axes).transposed()
    thing.matrix_world = Matrix.Translation(TURN @ Vector(eye)) @ rotation.to_4x4()
    return thing


def main() -> None:
    job = json.loads(Path(sys.argv[-1]).read_text())
    size, pictures = job["size"], iter(job["pictures"])
    scene = set_up(size, job["samples"])
    bpy.ops.import_scene.gltf(filepath=job["glb"])
    for view in job["views"]:
        lens = bpy.data.cameras.new("camera")
        lens.sensor_width, lens.lens, lens.clip_start = 36, 36 * view["focal"] / size, 0.01
        lens.shift_x, lens.shift_y = 0.5 - view["center"][0] / size, view["center"][1] / size - 0.5
        made = [place("camera", lens, view["axes"], view["eye"])]
        scene.camera = made[0]
        for light in view["lights"]:
            sun = bpy.data.lights.new("sun", "SUN")
            sun.energy, sun.angle = 3.14 * max(light["color"]), 0.1
            sun.color = [value / max(light["color"]) for value in light["color"]]
            made.append(place("sun", sun, light["axes"], [0, 0, 0]))
        for frame in range(job["frames"]):
            scene.frame_set(frame)
            scene.render.filepath = next(pictures)
            bpy.ops.render.render(write_still=True)
        for thing in made:
            bpy.data.objects.remove(thing)


if __name__ == "__main__":
    main()
