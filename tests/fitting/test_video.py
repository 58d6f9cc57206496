# SPDX-License-Identifier: MIT
"""Videos -> codes, from landmarks that a known head would give: no tracker is needed."""

from pathlib import Path

import numpy as np
import pytest
from components import fine_heads
from filmed_head import FOCAL, FRAMES, LOST, SIZE, filmed  # noqa: F401

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.animation.head_animation import HeadAnimation
from facetalk_hf.blendshapes import EXPRESSIONS, INDEX
from facetalk_hf.cli.main import main
from facetalk_hf.fitting.video.camera import Camera, HeadPoses
from facetalk_hf.fitting.video.fit import FittedVideo, even_times, fit_video, relative_poses, resample
from facetalk_hf.fitting.video.landmarks import EYE_CORNERS, INNER_LIPS, SCORES, FaceLandmarks, read_landmarks
from facetalk_hf.fitting.video.looks import join_looks, raise_shadows
from facetalk_hf.fitting.video.person import FacePoints, landmark_map
from facetalk_hf.fitting.video.reading import read_pictures
from facetalk_hf.fitting.video.solver import (
    FrameTerms,
    Solution,
    VideoConfig,
    solve_chain,
)
from facetalk_hf.fitting.video.tracker import Track, choose_tracks, find_weights, join_mirrored, track_video
from facetalk_hf.head.loading import load_head
from facetalk_hf.rendering.video import write_mp4


@pytest.fixture(scope="module")
def fitted(filmed: tuple) -> FittedVideo:
    with fine_heads():
        return fit_video(load_head(TINY), filmed[0], audio=np.zeros(19200, np.float32))


def test_mouth_lids_and_head_come_back(filmed: tuple, fitted: FittedVideo) -> None:
    _, weights, poses, aperture = filmed
    animation = fitted.animation
    assert (
        len(animation) == FRAMES and animation.fps == 25 and animation.target_names[: len(EXPRESSIONS)] == EXPRESSIONS
    )
    assert np.corrcoef(animation.lip_aperture, aperture)[0, 1] > 0.97
    assert np.abs(animation.lip_aperture - aperture).mean() < 1.5
    lids = animation.weights[:, INDEX["eyeBlink_L"]] > 0.5
    assert lids[20:23].any() and not lids[:18].any() and not lids[25:].any()
    angles, true = relative_poses(fitted.head_poses, np.zeros(3)), relative_poses(poses, np.zeros(3))
    assert np.abs(angles[:, :3] - true[:, :3]).mean(0).max() < 2
    assert np.corrcoef(animation.weights[:, INDEX["mouthPucker"]], weights[:, INDEX["mouthPucker"]])[0, 1] > 0.8


def test_frames_without_face_are_filled_and_told(fitted: FittedVideo) -> None:
    assert np.array_equal(np.flatnonzero(fitted.confidence == 0), np.arange(FRAMES)[LOST])
    assert np.isfinite(fitted.animation.weights).all() and fitted.segments == [(0, FRAMES)]
    # Pose matrices of the animation are those before the camera, but for one move.
    matrices = fitted.animation.pose_matrices()
    assert matrices is not None and np.abs(matrices[:, :3, :3] - fitted.head_poses.rotations).max() < 1e-4


def test_command_fits_landmarks_of_any_tracker(filmed: tuple, tmp_path: Path) -> None:
    marks, target = filmed[0], tmp_path / "talk.npz"
    path = tmp_path / "marks.npz"
    np.savez(path, points=marks.points[::3, :, :2], times=marks.times[::3] + 7, size=np.array(SIZE))
    with pytest.raises(SystemExit) as leaving:
        main(["fit", str(path), "-o", str(target), "--focal", str(FOCAL)])
    assert not leaving.value.code
    animation = HeadAnimation.load(target)
    assert len(animation) == FRAMES // 3 and animation.poses is not None and animation.audio is None
    with np.load(target) as file:
        assert file["camera"][0] == FOCAL and file["residual"].shape == (FRAMES // 3,)
    assert (tmp_path / "talk.report.json").is_file()


def test_segments_end_at_cuts_and_long_losses(filmed: tuple) -> None:
    marks = filmed[0]
    assert marks.segments() == [slice(0, FRAMES)]
    points = marks.points.copy()
    points[20:] += (250, 0, 0)
    cut = FaceLandmarks(points, marks.scores, marks.confidence, marks.times, SIZE)
    assert cut.segments() == [slice(0, 20), slice(20, FRAMES)]
    assert cut.cuts() == [0.8] and marks.cuts() == []
    confidence = marks.confidence.copy()
    confidence[2:9] = 0
    lost = FaceLandmarks(marks.points, marks.scores, confidence, marks.times, SIZE)
    assert lost.segments() == [slice(0, 2), slice(9, FRAMES)] and lost.cuts() == []


def test_landmarks_of_other_form_are_refused(filmed: tuple, tmp_path: Path) -> None:
    marks = filmed[0]
    marks.save(tmp_path / "kept.npz")
    again = read_landmarks(tmp_path / "kept.npz")
    assert np.array_equal(again.points, marks.points, equal_nan=True) and again.size == SIZE
    np.savez(tmp_path / "few.npz", points=np.zeros((4, 68, 2)), times=np.arange(4.0), size=np.array(SIZE))
    np.savez(tmp_path / "back.npz", points=np.zeros((4, 478, 2)), times=np.zeros(4), size=np.array(SIZE))
    (tmp_path / "text.npz").write_text("no")
    for name in ("few", "back", "text", "none"):
        with pytest.raises(FaceTalkError):
            read_landmarks(tmp_path / f"{name}.npz")


def test_faces_are_told_apart_by_size() -> None:
    big, small = (np.random.default_rng(0).random((478, 3)).astype(np.float32) * side for side in (200, 80))
    first, later, other = Track(), Track(), Track()
    for frame in range(10):
        (first if frame < 5 else later).add(frame, big, np.zeros(52, np.float32))
        other.add(frame, small, np.zeros(52, np.float32))
    assert choose_tracks([other, first, later], 1) == [first, later]
    assert choose_tracks([other, first, later], 2) == [other]
    with pytest.raises(FaceTalkError):
        choose_tracks([other, first, later], 3)


def picture_file(path: Path, frames: int = 12) -> Path:
    """A video 64 x 48 whose upper left corner is red."""
    image = np.full((48, 64, 3), 90, np.uint8)
    image[:16, :16] = (250, 20, 20)
    return write_mp4(path, [image] * frames, 25)


def test_rotated_video_is_read_upright(tmp_path: Path) -> None:
    path = picture_file(tmp_path / "talk.mp4")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # of the first track: turned clockwise by 90 degrees for display
    turned = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30]
    content[matrix : matrix + 36] = b"".join(int(value).to_bytes(4, "big") for value in turned)
    path.write_bytes(content)
    picture = next(read_pictures(path))
    assert picture.image.shape == (64, 48, 3) and picture.size == (48, 64)
    red = picture.image[..., 0].astype(int) - picture.image[..., 1]
    assert red[:12, -12:].min() > 100 and red[-12:].max() < 60  # upper left became upper right


def test_files_that_are_no_whole_video(tmp_path: Path) -> None:
    path = picture_file(tmp_path / "talk.mp4", 50)
    assert [round(picture.time * 25) for picture in read_pictures(path)] == list(range(50))
    broken = tmp_path / "half.mp4"
    broken.write_bytes(path.read_bytes()[:400])
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("half.mp4", "text.mp4", "none.mp4"):
        with pytest.raises(FaceTalkError):
            next(read_pictures(tmp_path / name))


def test_chain_is_solved_as_the_whole_system() -> None:
    rng, count, size = np.random.default_rng(0), 4, 3
    factor = rng.normal(size=(count, size, size))
    hessian = factor @ factor.transpose(0, 2, 1) + np.eye(size)
    gradient, links, bends = rng.normal(size=(count, size)), rng.random((count - 1, size)), rng.normal(size=(3, size))
    whole, right = np.zeros((count * size, count * size)), gradient.copy()
    for t in range(count):
        whole[t * size :, t * size :][:size, :size] += hessian[t]
    for t in range(count - 1):
        step = np.zeros((size, count * size))
        step[:, t * size : (t + 1) * size], step[:, (t + 1) * size : (t + 2) * size] = -np.eye(size), np.eye(size)
        whole += step.T @ (links[t][:, None] * step)
        right[t + 1] += bends[t]
        right[t] -= bends[t]
    expected = -np.linalg.solve(whole, right.ravel()).reshape(count, size)
    assert np.allclose(solve_chain(hessian, gradient, links, bends), expected, atol=1e-5)


def test_missing_weights_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FaceTalkError, match="no such file"):
        find_weights(tmp_path / "none.task")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FACETALK_FACE_LANDMARKER", raising=False)
    monkeypatch.setattr("facetalk_hf.fitting.video.tracker.ADDRESS", (tmp_path / "gone").as_uri())
    with pytest.raises(FaceTalkError, match="FACETALK_FACE_LANDMARKER"):
        find_weights()
    (tmp_path / "other").write_bytes(b"something else")
    monkeypatch.setattr("facetalk_hf.fitting.video.tracker.ADDRESS", (tmp_path / "other").as_uri())
    with pytest.raises(FaceTalkError, match="sha256"):
        find_weights()


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="needs mediapipe: pip install 'facetalk-hf[video]'")
    (tmp_path / "bad.task").write_bytes(b"no weights")
    with pytest.raises(FaceTalkError, match="face_landmarker"):
        track_video(read_pictures(picture_file(tmp_path / "talk.mp4")), tmp_path / "bad.task")


def test_uneven_frames_come_to_an_even_rate(filmed: tuple) -> None:
    marks = filmed[0]
    times = np.arange(FRAMES) / 30 + np.where(np.arange(FRAMES) % 3 == 1, 0.02, 0)
    uneven = FaceLandmarks(np.nan_to_num(marks.points), marks.scores, np.ones(FRAMES), times, SIZE)
    poses = HeadPoses(np.tile(np.eye(3), (FRAMES, 1, 1)), times[:, None] * np.array([1.0, 2.0, 3.0]))
    solved = Solution(poses, np.tile(times[:, None], (1, 53)), np.zeros(FRAMES))
    even = even_times(times, 25)
    assert np.allclose(np.diff(even), 1 / 25) and abs(even[-1] - times[-1]) < 1 / 25
    moved, weights, _, confidence = resample(uneven, [slice(0, FRAMES)], [solved], even)
    inside = even <= times[-1]
    assert np.allclose(weights[inside, 0], even[inside]) and np.allclose(
        moved.translations[inside, 1], 2 * even[inside]
    )
    assert confidence[inside].all()
    assert even_times(np.arange(8) / 24, 24).tolist() == (np.arange(8) / 24).tolist()


def test_the_mirror_takes_out_what_a_tracker_is_off_by_to_one_side() -> None:
    mirror, width = landmark_map().mirror, 640.0
    rng = np.random.default_rng(0)
    true = np.append(rng.uniform(200, 400, (478, 2)), rng.normal(size=(478, 1)), 1).astype(np.float32)
    scores = rng.random(len(SCORES)).astype(np.float32)
    swap = [SCORES.index(name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")) for name in SCORES]
    bias = np.array([6, 0, 0], np.float32)  # the tracker's, always to the picture's right
    image = true[mirror] * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32)
    stranger = true + np.array([300, 0, 0], np.float32)
    faces = join_mirrored([(true + bias, scores), (stranger, scores)], [(image + bias, scores[swap])], width)
    np.testing.assert_allclose(faces[0][0], true, atol=1e-3)
    np.testing.assert_allclose(faces[0][1], scores)
    np.testing.assert_allclose(faces[1][0], stranger)


def test_a_beard_that_misleads_the_plain_look_leaves_the_one_of_raised_shadows() -> None:
    rng, count = np.random.default_rng(0), 60
    opening = 6 + 4 * np.sin(np.arange(count) / 4)
    points = np.repeat(rng.uniform(0, 100, (1, 478, 3)), count, 0).astype(np.float32)
    points[:, EYE_CORNERS] = ((-44, 0, 0), (44, 0, 0))
    points[:, INNER_LIPS[0]] = np.array([[(0, -60, 0), (3, -60, 0), (-3, -60, 0)]])
    points[:, INNER_LIPS[1]] = points[:, INNER_LIPS[0]]
    points[:, INNER_LIPS[1], 1] -= opening[:, None]
    noisy = points + rng.normal(0, 0.3, points.shape).astype(np.float32)
    noisy[:, INNER_LIPS[1], 1] += 1.5  # constantly less open: a matter of where lips begin
    scores = np.full((count, len(SCORES)), 0.2, np.float32)
    joined = join_looks((points, scores), (noisy, 2 * scores))
    np.testing.assert_allclose(joined[0], (points + noisy) / 2, atol=1e-4)
    np.testing.assert_allclose(joined[1], 0.3, atol=1e-6)

    beard = points.copy()
    beard[:, INNER_LIPS[1], 1] = -60 - 7 + 2 * rng.normal(size=(count, 1))
    lost, noisy[7] = noisy[7].copy(), np.nan  # a frame that the second look does not see
    joined = join_looks((beard, scores), (noisy, scores))
    seen = np.arange(count) != 7
    np.testing.assert_allclose(joined[0][seen], noisy[seen], atol=1e-4)
    np.testing.assert_allclose(joined[0][7], beard[7])
    noisy[7] = lost
    one = join_looks((beard[:1], scores[:1]), (noisy[:1], scores[:1]))[0]  # a still does not tell
    np.testing.assert_allclose(one, (beard[:1] + noisy[:1]) / 2, atol=1e-4)


def test_raised_shadows_keep_colour_where_there_is_some() -> None:
    dark, lips = raise_shadows(np.full((4, 4, 3), 12, np.uint8)), np.tile(np.uint8([110, 60, 55]), (4, 4, 1))
    assert dark.min() > 100 and np.ptp(dark) <= 1
    red = raise_shadows(lips).astype(int)
    assert np.ptp(red[0, 0]) > np.ptp(lips[0, 0]) and red.min() > 100


def test_what_goes_together_in_speech_is_nearer_than_the_same_weights_apart() -> None:
    head, measured = load_head(TINY), landmark_map()
    names = head.config.expression_names
    points = FacePoints(np.zeros((478, 3)), np.zeros((len(names), 478, 3)), np.ones((478, 3)))
    terms = FrameTerms(names, points, measured, Camera(500.0, (0.0, 0.0)), VideoConfig())
    cost = {}
    for shape in ("mouthFunnel", "mouthFrown_L", "jawForward"):
        code = terms.usual.copy()
        code[[names.index("mouthPucker"), names.index(shape)]] += 0.3
        cost[shape] = (code - terms.usual) @ terms.prior @ (code - terms.usual)
    assert cost["mouthFunnel"] < 0.5 * min(cost["mouthFrown_L"], cost["jawForward"])


def test_lips_that_touch_for_the_tracker_touch_whatever_a_person_s_lips_are_off_by(filmed: tuple) -> None:
    marks, _, _, aperture = filmed
    points, shut = marks.points.copy(), aperture < 0.5
    assert 3 < shut.sum() < FRAMES / 2
    lower = [14, 15, 16, 17, 84, 85, 86, 87, 178, 179, 180, 181, 314, 315, 316, 317, 402, 403, 404, 405]
    millimetre = np.linalg.norm(np.diff(marks.points[:, EYE_CORNERS, :2], axis=1)[:, 0], axis=1) / 89
    points[:, lower, 1] += 4.0 * millimetre[:, None]  # this person's lower lip is lower than the model thinks
    for upper, under in zip(*INNER_LIPS, strict=True):
        points[shut, under] = points[shut, upper]
    person = FaceLandmarks(points, np.full_like(marks.scores, np.nan), marks.confidence, marks.times, SIZE)
    found = {
        weight: fit_video(load_head(TINY), person, VideoConfig(contact=weight)).animation.lip_aperture
        for weight in (0.0, 4.0)
    }
    assert found[4.0][shut].max() < 0.7 and found[4.0][shut].mean() < 0.6 * found[0.0][shut].mean()
    assert found[4.0][aperture > 4].min() > 2
