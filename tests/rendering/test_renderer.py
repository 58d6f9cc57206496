# SPDX-License-Identifier: MIT
"""Images and videos of small balls: who is in front, where light falls."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import trimesh
from PIL import Image

from facetalk_hf.animation.glb import ROUGHNESS
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.mesh.parts import PARTS
from facetalk_hf.rendering import shading
from facetalk_hf.rendering.renderer import HeadRenderer, render_frames, render_video
from facetalk_hf.rendering.shading import linear_to_srgb, srgb_to_linear


def scene(frames: int = 3, **fields) -> HeadAnimation:
    """A skin ball with two eyes in front; the target `grow` widens it, `hide` moves the eyes into it."""
    skin = trimesh.creation.icosphere(subdivisions=4, radius=100)
    eye = trimesh.creation.icosphere(subdivisions=3, radius=18)
    parts = np.repeat([0, 1, 1], [len(skin.vertices), len(eye.vertices), len(eye.vertices)])
    base = np.concatenate([skin.vertices, eye.vertices + [35, 20, 88], eye.vertices + [-35, 20, 88]])
    faces = np.concatenate([skin.faces, eye.faces + len(skin.vertices), eye.faces + len(skin.vertices) + 642])
    grow = np.where(parts[:, None] == 0, base * [0.2, 0, 0], 0)
    hide = np.where(parts[:, None] == 1, [0, 0, -60], 0)
    weights = np.zeros((frames, 2))
    weights[1:, 0], weights[2:, 1] = 1, 1
    colors = np.where(parts[:, None] == 0, [205, 150, 125], [40, 90, 220])
    return HeadAnimation(base, np.stack([grow, hide]), weights, ("grow", "hide"), faces, colors, parts, **fields)


def blue(image: np.ndarray) -> np.ndarray:
    return image[..., 2].astype(int) > image[..., 0].astype(int) + 60


def test_the_picture_shows_the_right_colours_in_the_right_places():
    renderer = HeadRenderer(scene(), size=128)
    image = renderer.render(0)
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    # Both eyes are seen where they project to, the subject's left on the right of the picture.
    for x in (35, -35):
        column, row = renderer.project(np.array([x, 20, 105.0])).astype(int)
        assert blue(image)[row - 2 : row + 3, column - 2 : column + 3].all()
    assert renderer.project(np.array([35.0, 20, 105]))[0] > 64
    forehead = tuple(renderer.project(np.array([0, -30, 95.0])).astype(int)[::-1])
    assert image[forehead][0] > image[forehead][2] + 20
    # The backdrop is what it is without a head, brightest in the middle.
    assert image[0, 0].max() < image[4, 64].max() < 200


def test_motion_moves_pixels_and_hides_what_goes_inside():
    renderer = HeadRenderer(scene(), size=96)
    still, wide, hidden = (renderer.render(i) for i in range(3))
    empty = renderer.render(renderer.animation.base * 0.001)
    covered = [(np.abs(image[14].astype(int) - empty[14]).sum(1) > 30).sum() for image in (still, wide)]
    assert covered[1] > 1.1 * covered[0]
    assert blue(still).sum() > 50 and blue(hidden).sum() == 0


def test_light_comes_from_the_upper_left_and_casts_a_shadow():
    animation = scene(frames=1)
    renderer = HeadRenderer(animation, size=96)
    image = renderer.render(0).astype(float).mean(2)
    left, right = (image[tuple(renderer.project(np.array([x, 10.0, 75.0])).astype(int)[::-1])] for x in (-60, 60))
    assert left > right + 15
    lit = HeadRenderer(animation, size=96, key_poses=0).render(0).astype(float).mean(2)
    # The eyes stand out: their shadow falls on the skin on the side away from the light.
    darker = np.where(blue(renderer.render(0)), 0, lit - image)
    column, row = renderer.project(np.array([-35, 20.0, 100])).astype(int)
    assert darker[row : row + 13, column : column + 13].max() > 25
    assert (
        darker[row : row + 13, column : column + 13].sum() > 1.5 * darker[row - 12 : row, column - 12 : column].sum()
    )


def test_turned_camera_and_oblong_pictures():
    profile = HeadRenderer(scene(1), size=(96, 64), yaw=90)
    image = profile.render(0)
    assert image.shape == (64, 96, 3)
    # From the subject's left the face looks to the left of the picture.
    assert np.nonzero(blue(image))[1].mean() < 40
    above = HeadRenderer(scene(1), size=64, pitch=60)
    assert (
        np.nonzero(blue(above.render(0)))[0].mean() > np.nonzero(blue(HeadRenderer(scene(1), 64).render(0)))[0].mean()
    )


def test_edges_are_smoothed():
    values = [HeadRenderer(scene(1), size=64, samples=samples, key_poses=0).render(0) for samples in (0, 6)]
    steps = [np.abs(np.diff(image.astype(int).sum(2), axis=1)).max() for image in values]
    assert steps[1] < 0.85 * steps[0]


def plane(count: int = 40, shift: float = 0.0) -> HeadAnimation:
    """A square of many small triangles that faces the camera, its corners off any grid of pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: count + 1, : count + 1] / count * 100 - 50
    inner = (np.abs(x) < 49) & (np.abs(y) < 49)
    x, y = (axis + inner * rng.uniform(-0.9, 0.9, axis.shape) for axis in (x, y))
    points = np.stack([x, y, np.full_like(x, shift)], -1).reshape(-1, 3)
    corner = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).reshape(-1)
    a, b, c, d = corner, corner + 1, corner + count + 2, corner + count + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    colors = np.full((len(points), 3), 180)
    return HeadAnimation(
        points, np.zeros((0, *points.shape)), np.zeros((1, 0)), (), faces, colors, np.zeros(len(points))
    )


def test_triangles_that_share_an_edge_leave_no_crack():
    renderer = HeadRenderer(plane(), size=160, key_poses=0, background="transparent", zoom=1.3)
    coverage = renderer.render(0)[..., 3]
    (left, bottom), (right, top) = renderer.project(np.array([[-50, -50, 0], [50, 50, 0]]))
    rows, columns = (slice(max(int(np.ceil(low)), 0), int(high)) for low, high in ((top, bottom), (left, right)))
    assert coverage[rows, columns].size > 10000 and (coverage[rows, columns] == 255).all()


def test_the_nearer_surface_is_seen_and_the_back_of_one_is_not():
    front, back = plane(4, shift=10), plane(4)
    base = np.concatenate([back.base, front.base * [0.4, 0.4, 1]])
    colors = np.repeat([[220, 40, 40], [40, 220, 40]], len(back.base), 0)
    faces = np.concatenate([back.faces, front.faces + len(back.base)])
    for order in (faces, faces[::-1]):
        both = HeadAnimation(
            base, np.zeros((0, *base.shape)), np.zeros((1, 0)), (), order, colors, np.zeros(len(base))
        )
        renderer = HeadRenderer(both, size=64, key_poses=0, background="transparent")
        image = renderer.render(0).astype(int)
        middle, side = (tuple(renderer.project(np.array(p)).astype(int)[::-1]) for p in ((0, 0, 10.0), (35.0, 0, 0)))
        assert image[middle][1] > image[middle][0] + 60 and image[side][0] > image[side][1] + 60
        assert not HeadRenderer(both, 64, yaw=180, key_poses=0, background="transparent").render(0)[..., 3].any()
        # A camera within the head sees what is before it, and nothing that lies behind.
        renderer.film(np.array([0, 0, 5.0]), 60)
        inside = renderer.render(0).astype(int)
        assert (inside[..., 3] == 255).all() and (inside[..., 0] > inside[..., 1] + 60).all()


def test_backgrounds(tmp_path):
    ball = scene(1)
    seen = HeadRenderer(ball, 64, key_poses=0, background="transparent").render(0)
    assert seen.shape == (64, 64, 4) and set(np.unique(seen[..., 3])) > {0, 255}
    assert (seen[seen[..., 3] == 0] == 0).all()
    striped = np.zeros((32, 32, 3), np.uint8)
    striped[:, 16:] = 255
    Image.fromarray(striped).save(tmp_path / "stripes.png")
    for background, left, right in (
        ("#ff8000", (255, 128, 0), (255, 128, 0)),
        ((10, 200, 30), (10, 200, 30), (10, 200, 30)),
        (striped, (0, 0, 0), (255, 255, 255)),
        (tmp_path / "stripes.png", (0, 0, 0), (255, 255, 255)),
    ):
        image = HeadRenderer(ball, 64, key_poses=0, background=background).render(0)
        assert tuple(image[0, 0]) == left and tuple(image[0, -1]) == right
        whole = seen[..., 3] == 255
        np.testing.assert_array_equal(image[whole], seen[whole][:, :3])
    half = seen[..., 3] == 128
    over = HeadRenderer(ball, 64, key_poses=0, background=(0, 0, 0)).render(0)
    assert half.any() and (over[half].sum(1) < seen[half][:, :3].astype(int).sum(1)).all()
    for wrong in ("#12", "no-such-picture.png", (1, 2), (300, 0, 0), 7):
        with pytest.raises(FaceTalkError, match="background"):
            HeadRenderer(ball, 64, background=wrong)


def test_an_upright_picture_is_filled_and_zoom_comes_closer():
    def box(**options):
        covered = HeadRenderer(scene(1), key_poses=0, background="transparent", **options).render(0)[..., 3] > 0
        columns = np.flatnonzero(covered.any(0))
        return columns[-1] - columns[0] + 1, covered[-1].any(), np.flatnonzero(covered.any(1))[0]

    wide, stands, air = box(size=(72, 128))
    assert 58 <= wide <= 70 and stands and 50 < air < 80
    plain, close = box(size=(128, 72))[0], box(size=(128, 72), zoom=1.5)[0]
    assert close == pytest.approx(1.5 * plain, abs=3)
    with pytest.raises(FaceTalkError, match="zoom"):
        HeadRenderer(scene(1), 64, zoom=0)


def test_colour_survives_the_way_through_linear_light():
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(np.round(255 * linear_to_srgb(srgb_to_linear(codes))), codes)
    assert srgb_to_linear(np.uint8(188)) == pytest.approx(0.5, abs=0.01)


def test_frames_come_in_order_from_any_number_of_workers():
    animation = scene(7)
    one = list(render_frames(animation, 48, workers=1, progress=False))
    three = list(render_frames(animation, 48, workers=3, progress=False))
    assert len(one) == 7
    np.testing.assert_array_equal(np.stack(one), np.stack(three))
    some = list(render_frames(animation, 48, frames=[2, 0], progress=False, workers=2))
    np.testing.assert_array_equal(np.stack(some), np.stack([one[2], one[0]]))


def test_a_consumer_that_stops_leaves_no_thread_behind():
    before = threading.active_count()
    images = render_frames(scene(40), 48, workers=3, progress=False)
    next(images)
    assert threading.active_count() > before
    images.close()
    assert threading.active_count() == before


def test_save_as_mp4_draws_every_frame_with_its_sound(tmp_path):
    animation = scene(5, audio=np.zeros(3333, np.float32), sampling_rate=16000)
    path = animation.save(tmp_path / "a.mp4", size=64, progress=False, workers=1)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 5
        assert container.streams.video[0].average_rate == Fraction(24)
        assert len(container.streams.audio) == 1
    again = render_video(animation, tmp_path / "b.mp4", size=64, progress=False, workers=2)
    assert again.read_bytes() == path.read_bytes()


def test_webm_and_png_have_nothing_behind_the_head_unless_told(tmp_path):
    animation = scene(3, audio=np.zeros(2000, np.float32), sampling_rate=16000)
    options = {"size": (64, 96), "progress": False, "workers": 1}
    path = animation.save(tmp_path / "a.webm", **options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name.startswith("vp9") or "vpx" in stream.codec_context.name
        assert stream.metadata["alpha_mode"] == "1" and container.streams.audio[0].codec_context.name == "opus"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = list(container.demux(stream))
        frames = [frame for packet in packets for frame in decoder.decode(packet if packet.size else None)]
    assert len(frames) == 3
    alpha = frames[0].to_ndarray(format="rgba")[..., 3]
    assert alpha[0, 0] < 10 and alpha[70, 32] > 245
    folder = animation.save(tmp_path / "pictures", format="png", **options)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["frame_00000.png", "frame_00001.png", "frame_00002.png"]
    picture = np.asarray(Image.open(folder / names[0]))
    assert picture.shape == (96, 64, 4)
    np.testing.assert_array_equal(picture, next(render_frames(animation, background="transparent", **options)))
    solid = animation.save(tmp_path / "pictures", format="png", background="#102030", **options)
    assert Image.open(solid / names[0]).getpixel((0, 0)) == (16, 32, 48)
    with pytest.raises(FaceTalkError, match="transparent"):
        animation.save(tmp_path / "a.mp4", background="transparent", **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FaceTalkError, match="not a folder of frames"):
        animation.save(tmp_path / "full", format="png", **options)
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("size", [0, 8, 100000, (64, -2)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(FaceTalkError, match="16 to 8192"):
        HeadRenderer(scene(1), size=size)


def test_every_part_has_a_material_and_no_other_number_is_taken():
    rows = {len(shading.WRAP), len(shading.GLOSS), len(shading.highlights()), len(ROUGHNESS)}
    assert rows == {len(PARTS)}
    with pytest.raises(FaceTalkError, match="parts"):
        HeadAnimation(
            np.zeros((3, 3)), np.zeros((0, 3, 3)), np.zeros((1, 0)), (), [[0, 1, 2]], parts=[0, 0, len(PARTS)]
        )
