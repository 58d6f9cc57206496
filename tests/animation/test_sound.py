# SPDX-License-Identifier: MIT
"""The sound of an animation, read back by wave."""

import wave

import numpy as np
import pytest
from animations import head

from facetalk_hf.errors import FaceTalkError


def test_wav_is_the_sound_that_went_in(tmp_path):
    sound = np.sin(np.arange(2205) / 20).astype(np.float32) * 1.2
    with wave.open(str(head().replace(audio=sound, sampling_rate=22050).save(tmp_path / "a.wav"))) as stream:
        assert (stream.getframerate(), stream.getnchannels(), stream.getnframes()) == (22050, 1, 2205)
        samples = np.frombuffer(stream.readframes(2205), "<i2") / 32767
    np.testing.assert_allclose(samples, sound.clip(-1, 1), atol=2e-5)
    with pytest.raises(FaceTalkError, match="no sound"):
        head().save(tmp_path / "b.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
