# SPDX-License-Identifier: MIT
"""Images and videos of small balls: who is in front, where light falls."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import trimesh

from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.errors import FaceTalkError
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


@pytest.mark.parametrize("size", [0, 8, 100000, (64, -2)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(FaceTalkError, match="16 to 8192"):
        HeadRenderer(scene(1), size=size)
