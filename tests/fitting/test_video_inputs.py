# SPDX-License-Identifier: MIT
"""Videos as they come: HDR, uneven rates, 4K, turned, broken off, of one frame, without face, sound or picture."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from filmed_head import FRAMES, filmed  # noqa: F401

from facetalk_hf import TINY, FaceTalkError
from facetalk_hf.cli.main import main
from facetalk_hf.fitting.video.fit import fit_video, nominal_rate
from facetalk_hf.fitting.video.landmarks import SCORES, FaceLandmarks
from facetalk_hf.fitting.video.reading import PQ, read_pictures
from facetalk_hf.fitting.video.solver import VideoConfig
from facetalk_hf.fitting.video.tracker import VARIABLE, find_weights, track_video
from facetalk_hf.head.loading import load_head


QUICK = VideoConfig(iterations=2, frames=3, axes=4)


def write_video(path: Path, images: list[np.ndarray], times: list[float] | None = None, **stream) -> Path:
    """An h264 file whose frames are shown at `times` in s; `stream` sets attributes of its codec."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt, video.time_base = stream.pop("pix_fmt", "yuv420p"), Fraction(1, 1000)
        for name, value in stream.items():
            setattr(video.codec_context, name, value)
        video.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            at = index / 25 if times is None else times[index]
            frame.pts, frame.time_base = round(1000 * at), Fraction(1, 1000)
            for packet in video.encode(frame):
                container.mux(packet)
        for packet in video.encode(None):
            container.mux(packet)
    return path


def gray(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_hdr_comes_as_a_screen_shows_it(tmp_path):
    # 203 cd/m2, white on a screen, is code 0.58 of 1 in PQ (ITU-R BT.2408); 26 % of it, middle grey, is 0.43.
    plain = write_video(tmp_path / "plain.mp4", [gray(148)] * 3)
    white = write_video(tmp_path / "hdr.mp4", [gray(148)] * 3, pix_fmt="yuv420p10le", color_trc=PQ)
    middle = write_video(tmp_path / "hdr2.mp4", [gray(110)] * 3, pix_fmt="yuv420p10le", color_trc=PQ)
    assert abs(next(read_pictures(plain)).image.mean() - 148) < 3
    assert next(read_pictures(white)).image.mean() > 225
    assert 110 < next(read_pictures(middle)).image.mean() < 160


def test_frames_of_an_uneven_rate_keep_their_times(tmp_path):
    times = [0.0, 0.04, 0.12, 0.14, 0.2, 0.31]
    path = write_video(tmp_path / "phone.mp4", [gray(40 * index) for index in range(6)], times)
    pictures = list(read_pictures(path))
    assert np.allclose([picture.time for picture in pictures], times, atol=2e-3)
    assert np.allclose([picture.image.mean() for picture in pictures], [40 * index for index in range(6)], atol=4)
    assert nominal_rate(29.97) == 30 and nominal_rate(23.976) == 24 and nominal_rate(21.37) == 21.37


def test_4k_is_made_smaller_and_says_by_how_much(tmp_path):
    image = gray(30, 3840, 2160)
    image[:1080, :1920] = 220
    picture = next(read_pictures(write_video(tmp_path / "4k.mp4", [image])))
    assert picture.image.shape == (720, 1280, 3) and picture.size == (3840, 2160)
    assert picture.scale == pytest.approx(1 / 3)
    assert picture.image[:350, :630].mean() > 200 > 50 > picture.image[370:, 650:].mean()


def test_a_file_that_breaks_off_ends_where_it_does(tmp_path):
    images = [np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8) for index in range(40)]
    whole = write_video(tmp_path / "whole.mkv", images)
    half = tmp_path / "half.mkv"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    said: list[str] = []
    count = sum(1 for _ in read_pictures(half, log=said.append))
    assert 5 < count < 35 and len(said) == 1 and f"1.6 s long, and breaks off after {count / 25:.1f} s" in said[0]
    assert sum(1 for _ in read_pictures(whole, log=said.append)) == 40 and len(said) == 1


def test_sound_alone_is_one_line(tmp_path):
    path = tmp_path / "talk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with pytest.raises(FaceTalkError, match="no picture in it"):
        next(read_pictures(path))


def part_of(filmed, frames: np.ndarray) -> FaceLandmarks:  # noqa: F811
    """The filmed person, seen in some of the frames alone."""
    marks = filmed[0]
    points = np.where(frames[:, None, None], marks.points, np.nan)
    confidence = (frames & marks.found).astype(float)
    return FaceLandmarks(points, np.full((FRAMES, len(SCORES)), np.nan), confidence, marks.times, marks.size)


def test_a_face_in_a_third_of_the_frames_gives_all_of_them(filmed):  # noqa: F811
    seen = np.zeros(FRAMES, bool)
    seen[2:7], seen[22:27] = True, True
    fitted = fit_video(load_head(TINY), part_of(filmed, seen), QUICK)
    assert len(fitted.animation) == FRAMES and np.isfinite(fitted.animation.weights).all()
    assert (fitted.confidence > 0).tolist() == seen.tolist() and fitted.segments == [(2, 7), (22, 27)]
    assert np.isnan(fitted.residual[8:21]).all() and np.isfinite(fitted.residual[seen]).all()
    between = fitted.animation.weights[6:23]
    assert (between.min(0) >= np.minimum(between[0], between[-1]) - 1e-6).all()  # a straight way, nothing made up


def test_one_frame_is_a_still(filmed):  # noqa: F811
    marks = filmed[0]
    one = FaceLandmarks(marks.points[:1], marks.scores[:1], marks.confidence[:1], marks.times[:1], marks.size)
    fitted = fit_video(load_head(TINY), one, QUICK)
    assert len(fitted.animation) == 1 and fitted.animation.fps == 24 and np.isfinite(fitted.residual).all()


def test_no_face_is_one_line(tmp_path, capsys):
    """With the tracker, which is not part of the repository."""
    pytest.importorskip("mediapipe", reason="needs mediapipe: pip install 'facetalk-hf[video]'")
    if not os.environ.get(VARIABLE):
        pytest.skip(f"needs the tracker's weights: {VARIABLE} names the file")
    path = write_video(tmp_path / "wall.mp4", [gray(90, 320, 240)] * 4)
    with pytest.raises(FaceTalkError, match="no face was found in any of 4 frames"):
        track_video(read_pictures(path), find_weights())
    with pytest.raises(SystemExit) as end:
        main(["fit", str(path), "-o", str(tmp_path / "wall.npz")])
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and "no face" in said[-1] and not (tmp_path / "wall.npz").exists()
