# SPDX-License-Identifier: MIT
"""Add-on for Blender 4.2 and later: pick a sound, or the csv or json of a motion, and the selected head speaks it.

Install: Edit > Preferences > Add-ons > Install from Disk, this file. Then, in the 3D viewport, press N and open the
tab FaceTalk. A sound needs the `facetalk` command, whose place the preferences of the add-on hold; a csv of Live Link
Face, or the json of `facetalk generate --format json`, which has the tongue too, needs nothing. Every mesh among the
selected objects whose shape keys bear ARKit's names, in any spelling, gets an action on them; the sound goes into the
sequencer.
"""

import csv
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import bpy
from bpy.props import BoolProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ImportHelper


bl_info = {
    "name": "FaceTalk",
    "author": "facetalk_hf contributors",
    "version": (1, 0, 0),
    "blender": (4, 2, 0),
    "location": "View3D > Sidebar > FaceTalk",
    "description": "Speech to the motion of the selected head",
    "category": "Animation",
}
TABLES = (".csv", ".json")


class FaceTalkFailure(Exception):
    """What the user can mend, in one line."""


def plain(name: str) -> str:
    """eyeBlink_L, EyeBlinkLeft and eyeblink.l are one name."""
    name = re.sub(r"[\s_.\-]+(l|r)$", lambda side: {"l": "left", "r": "right"}[side[1].lower()], name, flags=re.I)
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_csv(path: Path) -> tuple[list[float], dict[str, list[float]]]:
    """Times of the rows in s, and plain name -> values, of a csv of Live Link Face."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name not in ("Timecode", "BlendShapeCount")]
        times = [row["Timecode"].split(":") for row in rows]
        frames = [float(time[3]) for time in times]
        # A second's last frame tells the rate; what is shorter than a second is taken for the model's 24.
        rate = max(round(max(frames)) + 1, 1) if len({time[2] for time in times}) > 1 else 0
        columns = {plain(name): [float(row[name]) for row in rows] for name in names}
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise FaceTalkFailure(f"{path.name} is no csv of Live Link Face: {error}") from error
    if not rate:
        return [index / 24 for index in range(len(rows))], columns
    seconds = [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s, _ in times]
    whole = [second - seconds[0] + frame / rate for second, frame in zip(seconds, frames, strict=True)]
    return [time - whole[0] for time in whole], columns


def read_json(path: Path) -> tuple[list[float], dict[str, list[float]]]:
    """The same, of the json of facetalk, with the tongue."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        columns = {}
        for names, rows in (("names", "weights"), ("tongue_names", "tongue")):
            tracks = zip(*document.get(rows, ()), strict=True)
            columns |= {plain(name): list(track) for name, track in zip(document.get(names, ()), tracks, strict=False)}
        return [index / document["fps"] for index in range(len(document["weights"]))], columns
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FaceTalkFailure(f"{path.name} is no motion of facetalk: {error}") from error


def speak(sound: Path, command: str, options: str) -> Path:
    """Run the facetalk command on a sound; the json that it wrote, in a folder of its own."""
    program = shutil.which(command) or (command if Path(command).is_file() else None)
    if program is None:
        raise FaceTalkFailure(f"no command {command!r}: set its place in the add-on's preferences, or pick a csv")
    folder = Path(tempfile.mkdtemp(prefix="facetalk-"))
    line = [program, "generate", str(sound), "--output-dir", str(folder), "--format", "json", *options.split()]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = sorted(folder.glob("*.json"))
    if done.returncode or not found:
        last = (done.stderr.strip() or "no motion was written").splitlines()[-1]
        raise FaceTalkFailure(last.removeprefix("facetalk: "))
    return found[0]


def channels(key: "bpy.types.Key", columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Name of a shape key -> its values, of those that the motion has."""
    sides = {f"{name}{side}": name for name in ("browinnerup", "cheekpuff") for side in ("left", "right")}
    found = {}
    for block in key.key_blocks:
        name = plain(block.name)
        name = name if name in columns else sides.get(name, name)
        if name in columns and block != key.reference_key:
            found[block.name] = columns[name]
    return found


def curves_of(action: "bpy.types.Action", key: "bpy.types.Key"):
    """The place for F-curves of shape keys: a slot of a layered action, or the action itself before Blender 4.4."""
    if not hasattr(action, "slots"):
        return action.fcurves
    slot = action.slots.new(id_type="KEY", name=key.name)
    strip = action.layers.new("FaceTalk").strips.new(type="KEYFRAME")
    key.animation_data.action_slot = slot
    return strip.channelbag(slot, ensure=True).fcurves


def set_action(key, name: str, times: list[float], found: dict[str, list[float]], fps: float, start: float):
    """Put a motion on shape keys as a new action, one key a frame of the motion."""
    action = bpy.data.actions.new(name)
    (key.animation_data or key.animation_data_create()).action = action
    curves = curves_of(action, key)
    for shape, values in found.items():
        curve = curves.new(f'key_blocks["{bpy.utils.escape_identifier(shape)}"].value')
        curve.keyframe_points.add(len(values))
        points = [number for time, value in zip(times, values, strict=True) for number in (start + time * fps, value)]
        curve.keyframe_points.foreach_set("co", points)
        curve.keyframe_points.foreach_set("interpolation", [1] * len(values))  # linear
        curve.update()
    return action


def add_sound(scene, sound: Path, start: int) -> None:
    """Put the sound into the sequencer, below what is there."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    channel = 1 + max((strip.channel for strip in strips), default=0)
    strips.new_sound(sound.stem, str(sound), channel, start)


def animate(context, path: Path, command: str, options: str, with_sound: bool = True) -> list[str]:
    """Make all selected heads speak a sound or show a motion; names of the objects that do."""
    keys = {}
    for item in context.selected_objects:
        for part in (item, *item.children_recursive):  # a rig: the meshes below it
            if part.type == "MESH" and part.data.shape_keys:
                keys[part.data.shape_keys] = part.name
    if not keys:
        raise FaceTalkFailure("select a head with shape keys, or the rig above it")
    table = path if path.suffix.lower() in TABLES else speak(path, command, options)
    times, columns = (read_json if table.suffix.lower() == ".json" else read_csv)(table)
    if not any(channels(key, columns) for key in keys):
        raise FaceTalkFailure("no shape key of the selection bears a name of ARKit, such as jawOpen")
    scene, done = context.scene, []
    fps, start = scene.render.fps / scene.render.fps_base, scene.frame_current
    for key, name in keys.items():
        if found := channels(key, columns):
            set_action(key, f"{path.stem} {name}", times, found, fps, start)
            done.append(name)
    scene.frame_end = max(scene.frame_end, int(start + times[-1] * fps) + 1)
    if with_sound and table != path:
        add_sound(scene, path, start)
        scene.sync_mode = "AUDIO_SYNC"
    return done


class FACETALK_OT_speak(bpy.types.Operator, ImportHelper):
    """Pick a sound, or a csv of Live Link Face or json of facetalk, for the selected heads."""

    bl_idname = "facetalk.speak"
    bl_label = "Speak a sound"
    bl_options = {"REGISTER", "UNDO"}
    filter_glob: StringProperty(default="*.wav;*.mp3;*.flac;*.ogg;*.m4a;*.mp4;*.csv;*.json", options={"HIDDEN"})
    intensity: FloatProperty(name="Intensity", default=1.0, min=0.0, max=2.0)
    seed: StringProperty(name="Seed", default="0")
    sound: BoolProperty(name="Sound into the sequencer", default=True)

    @classmethod
    def poll(cls, context):
        return bool(context.selected_objects)

    def execute(self, context):
        addon = context.preferences.addons.get(__name__)
        command = addon.preferences.command if addon else "facetalk"
        options = f"--intensity {self.intensity:g} --seed {self.seed}"
        try:
            done = animate(context, Path(self.filepath), command, options, self.sound)
        except FaceTalkFailure as failure:
            self.report({"ERROR"}, str(failure))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Speaks: {', '.join(done)}")
        return {"FINISHED"}


class FACETALK_PT_panel(bpy.types.Panel):
    """The tab."""

    bl_label = "FaceTalk"
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "FaceTalk"

    def draw(self, context):
        self.layout.operator(FACETALK_OT_speak.bl_idname, icon="SPEAKER")


class FaceTalkPreferences(bpy.types.AddonPreferences):
    """Where the command is."""

    bl_idname = __name__
    command: StringProperty(name="facetalk command", default="facetalk", subtype="FILE_PATH")

    def draw(self, context):
        self.layout.prop(self, "command")


CLASSES = (FaceTalkPreferences, FACETALK_OT_speak, FACETALK_PT_panel)


def register() -> None:
    """Called by Blender when the add-on is turned on."""
    for item in CLASSES:
        bpy.utils.register_class(item)


def unregister() -> None:
    """Called by Blender when it is turned off."""
    for item in reversed(CLASSES):
        bpy.utils.unregister_class(item)
