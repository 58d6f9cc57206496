# SPDX-License-Identifier: MIT
"""mp4 files: picture and sound agree, and nothing half written is left."""

import av
import numpy as np
import pytest

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.rendering.video import write_mp4


@pytest.mark.parametrize(
    ("rate", "fps", "samples"), [(16000, 24.0, 20011), (22050, 25.0, 30000), (48000, 29.97, 47999)]
)
def test_picture_and_sound_end_together_and_are_in_sync(tmp_path, rate, fps, samples):
    click = np.zeros(samples, np.float32)
    at = samples // 2
    click[at : at + rate // 50] = 0.9 * np.sin(2 * np.pi * 900 * np.arange(rate // 50) / rate)
    frames = int(np.ceil(samples * fps / rate - 1e-6))
    flash = round(at * fps / rate)
    images = (np.full((48, 64, 3), 255 if index == flash else 10, np.uint8) for index in range(frames))
    path = write_mp4(tmp_path / "a.mp4", images, fps, click, rate)
    with av.open(str(path)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert video.codec_context.pix_fmt == "yuv420p"
        assert video.frames == frames
        assert abs(float(video.average_rate) - fps) < 0.01
        assert abs(float(video.duration * video.time_base) - samples / rate) <= 1 / fps
        assert abs(float(sound.duration * sound.time_base) - samples / rate) <= 1 / fps
        assert "facetalk_hf" in container.metadata["comment"] and "Synthetic" in container.metadata["comment"]
        assert container.metadata["title"] == "Synthetic talking head"
    with av.open(str(path)) as container:
        bright = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128]
    with av.open(str(path)) as container:
        decoded = [(frame.time, np.abs(frame.to_ndarray()).max()) for frame in container.decode(audio=0)]
    heard = next(time for time, level in decoded if level > 0.3)
    assert len(bright) == 1
    assert abs(bright[0] - heard) <= 1 / fps + 1024 / 48000


def test_a_video_without_sound_of_one_odd_sized_frame(tmp_path):
    path = write_mp4(tmp_path / "a.mp4", [np.zeros((33, 47, 3), np.uint8)], 24.0)
    with av.open(str(path)) as container:
        assert not container.streams.audio
        assert (container.streams.video[0].width, container.streams.video[0].height) == (46, 32)


def test_nothing_half_written_is_left(tmp_path):
    def broken():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        write_mp4(tmp_path / "a.mp4", broken(), 24.0, np.zeros(8000, np.float32))
    with pytest.raises(FaceTalkError, match="no frame"):
        write_mp4(tmp_path / "b.mp4", [], 24.0)
    assert not list(tmp_path.iterdir())


def test_images_that_cannot_be_written_are_drawn_no_further(tmp_path):
    closed = []

    def images():
        try:
            while True:
                yield np.zeros((32, 32, 3), np.uint8)
        finally:
            closed.append(True)

    (tmp_path / "file").write_text("in the way")
    source = images()
    with pytest.raises(FaceTalkError, match="cannot write"):
        write_mp4(tmp_path / "file" / "a.mp4", source, 24.0)
    assert closed
