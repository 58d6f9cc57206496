# SPDX-License-Identifier: MIT
"""Audio as one channel at one rate, from any file that libsndfile or FFmpeg reads, or from samples."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import FaceTalkError


INTEGER_SCALES = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31, "int64": 2.0**63}

LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000
"""Sampling rates, Hz, between which sound is recorded. A file that names another one is damaged: resampling it would
take memory that its length does not account for."""

MOST_CHANNELS = 32
"""Channels that an array of two dimensions may have: the shorter of its sides."""

BLOCK = 2**20
"""Numbers that are decoded at a time."""


def num_frames(num_samples: int, sampling_rate: int, fps: float) -> int:
    """Count the video frames of a clip: `max(1, ceil(samples * fps / rate))`, immune to rounding."""
    return max(1, math.ceil(num_samples * fps / sampling_rate - 1e-6))


def load_audio(
    source: str | os.PathLike | bytes | BinaryIO | Any,
    sampling_rate: int | None = None,
    target_rate: int = 16000,
    longest: float | None = None,
) -> np.ndarray:
    """Read one clip as mono float samples at `target_rate` Hz: [`read_audio`], then [`resample`].

    Args:
        source: path of an audio or video file, its content as `bytes` or as an open binary file, or samples: (S,)
            NumPy array or torch tensor, or of several channels, (C, S) or (S, C), which are averaged. Integer samples
            are scaled to -1..1 by the range of their type. What `datasets` calls an audio will do, too: a dict, or an
            `AudioDecoder`, which know their own rate.
        sampling_rate (`int`, *optional*): rate of the samples in Hz. Needed for arrays; files know their own.
        target_rate (`int`, *optional*, defaults to 16000): rate of the result in Hz.
        longest (`float`, *optional*): seconds that a file may last; no more than that is decoded of it.

    Returns:
        `np.ndarray`: (S',) float32, the mean of the channels.

    Decoding takes at most three times the memory of one channel, 4 bytes a sample, and 64 MB beside it, whatever the
    file's header says; `longest` bounds it for small files that hold hours.

    Raises:
        FaceTalkError: no such file, a folder, an empty file, no audio in it, no samples, samples that are NaN or
            infinite, an array without `sampling_rate` or of more than one dimension, a file longer than `longest`, a
            sampling rate that no sound is recorded at.
    """
    return resample(*read_audio(source, sampling_rate, longest), target_rate)


def read_audio(
    source: str | os.PathLike | bytes | BinaryIO | Any,
    sampling_rate: int | None = None,
    longest: float | None = None,
) -> tuple[np.ndarray, int]:
    """Read mono samples (S,) float32 at their own rate, and that rate in Hz; arguments, errors as [`load_audio`]."""
    source, sampling_rate = unpack_clip(source, sampling_rate)
    if isinstance(source, (str, os.PathLike)):
        name = str(Path(source))
        samples, sampling_rate = _read_file(_check_path(Path(source)), name, longest)
    elif isinstance(source, bytes) or hasattr(source, "read"):
        name, content = "the audio", io.BytesIO(source if isinstance(source, bytes) else source.read())
        samples, sampling_rate = _read_file(content, name, longest)
    else:
        name = "the audio"
        samples = _check_array(source)
        if sampling_rate is None:
            raise FaceTalkError("audio given as an array needs sampling_rate=, the number of samples a second")
        if not _is_rate(sampling_rate):
            raise FaceTalkError(f"sampling_rate must be a positive whole number of Hz, not {sampling_rate}")
    if samples.size == 0:
        raise FaceTalkError(f"{name} has no samples")
    if not LOWEST_RATE <= int(sampling_rate) <= HIGHEST_RATE:
        raise FaceTalkError(
            f"{name} claims a sampling_rate of {int(sampling_rate)} Hz: sound has {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    if not np.isfinite(samples).all():
        raise FaceTalkError(f"{name} holds samples that are NaN or infinite")
    return samples, int(sampling_rate)


def read_clips(audio: Any, sampling_rate: int | None = None) -> list[tuple[np.ndarray, int]]:
    """Read one clip, or every clip of a list, by [`read_audio`]."""
    return [read_audio(clip, sampling_rate) for clip in (audio if isinstance(audio, (list, tuple)) else [audio])]


def resample(samples: np.ndarray, sampling_rate: int, target_rate: int) -> np.ndarray:
    """Resample (S,) float32 at `sampling_rate` Hz to (S',) float32 at `target_rate` Hz by a polyphase filter."""
    if sampling_rate == target_rate:
        return np.ascontiguousarray(samples, dtype=np.float32)
    from scipy.signal import resample_poly

    divisor = math.gcd(sampling_rate, target_rate)
    return resample_poly(samples, target_rate // divisor, sampling_rate // divisor).astype(np.float32)


def _check_path(path: Path) -> str:
    if not path.exists():
        raise FaceTalkError(f"no such file: {path}")
    if path.is_dir():
        raise FaceTalkError(f"{path} is a folder, give an audio file")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise FaceTalkError(f"{path} is empty, give an audio file")
    except OSError as error:
        raise FaceTalkError(f"cannot read {path}: {error.strerror or error}") from error
    return str(path)


def _is_rate(value: Any) -> bool:
    """Say whether a value is a whole number of Hz."""
    return isinstance(value, (int, float, np.number)) and bool(1 <= value < 2**31 and value == int(value))


def unpack_clip(source: Any, sampling_rate: int | None = None) -> tuple[Any, int | None]:
    """Take samples and rate out of what the libraries around us hand out; anything else is returned as it is.

    Args:
        source: an "audio" of Hugging Face `datasets`: {"array": (S,) or (C, S), "sampling_rate": Hz}, the
            {"bytes", "path"} of `Audio(decode=False)`, or an `AudioDecoder` of torchcodec; `AudioSamples` of that.
        sampling_rate (`int`, *optional*): Hz, as the caller says.

    Raises:
        FaceTalkError: the source's own rate is another one.
    """
    own: Any = None
    if isinstance(source, Mapping):
        content = next((source[key] for key in ("array", "bytes", "path") if source.get(key) is not None), None)
        if content is None:
            raise FaceTalkError("audio as a dict needs array and sampling_rate, or bytes, or path")
        own = source.get("sampling_rate") if content is source.get("array") else None
        source = content
    elif hasattr(source, "get_all_samples"):
        source = source.get_all_samples()
    if hasattr(source, "sample_rate") and hasattr(source, "data"):
        source, own = source.data, source.sample_rate
    if own is not None and sampling_rate is not None and own != sampling_rate:
        raise FaceTalkError(f"the audio says that it has {own} Hz, sampling_rate says {sampling_rate}: leave it out")
    return source, sampling_rate if own is None else own


def _check_array(source: Any) -> np.ndarray:
    """Convert an array or tensor of any kind of number to (S,) float32."""
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        # NumPy has no bfloat16; the other floating types arrive as float32 just as well.
        source = source.float() if source.is_floating_point() else source
    samples = np.asarray(source)
    if samples.dtype.kind not in "fiu":
        raise FaceTalkError(f"audio must be a path or an array of numbers, not {type(source).__name__}")
    if samples.ndim == 2:
        samples = _mix(samples)
    if samples.ndim != 1:
        raise FaceTalkError(f"audio must be of shape (samples,) or (channels, samples), not {samples.shape}")
    if samples.dtype == np.uint8:  # the one unsigned type that audio comes in, with silence at 128
        return (samples.astype(np.float32) - 128) / 128
    scale = INTEGER_SCALES.get(samples.dtype.name)
    samples = samples.astype(np.float32, copy=False)  # an hour is 230 MB
    return samples if scale is None else samples / np.float32(scale)


def _mix(samples: np.ndarray) -> np.ndarray:
    """Average the channels of (C, S) or (S, C): channels are the shorter side, and there are at most 32 of them."""
    axis = int(np.argmin(samples.shape))
    if samples.shape[axis] > MOST_CHANNELS or 0 in samples.shape:
        return samples
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.name in INTEGER_SCALES:
        samples = samples.astype(np.float32) / np.float32(INTEGER_SCALES[samples.dtype.name])
    return samples.mean(axis=axis, dtype=np.float32)


def _read_file(file: str | io.BytesIO, name: str, longest: float | None) -> tuple[np.ndarray, int]:
    """Read (S,) float32 and its rate by libsndfile, else by FFmpeg."""
    import soundfile

    if not _is_known(file):
        return _read_with_ffmpeg(file, name, longest)
    try:
        with soundfile.SoundFile(file) as stream:
            limit = math.inf if longest is None else longest * stream.samplerate
            # Blocks: a header may promise terabytes, and soundfile would make room for all that it promises. One
            # sample more than the limit tells that it is too long; a small file may hold hours.
            chunks, count = [], 0
            while count <= limit:
                block = stream.read(max(1, BLOCK // stream.channels), dtype="float32", always_2d=True)
                if not len(block):
                    break
                with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found at the end
                    chunks.append(block.mean(axis=1))
                count += len(block)
            _check_length(count, limit, name, longest)
            return np.concatenate(chunks) if chunks else np.zeros(0, np.float32), stream.samplerate
    except (soundfile.SoundFileError, TypeError, OverflowError):  # TypeError: a headerless file named .raw
        return _read_with_ffmpeg(file, name, longest)


HEADERS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"dns.", b"caff", b"NIST", b"Crea")
"""First bytes of what libsndfile reads: wav, w64, aiff, flac, ogg, au, caf, sphere, voc."""


def _is_known(file: str | io.BytesIO) -> bool:
    """Say whether a file begins as one of libsndfile's formats does.

    In anything else it looks for mp3, by libmpg123, which prints what it thinks of a file to stderr.
    """
    if isinstance(file, str):
        with open(file, "rb") as stream:
            return stream.read(4) in HEADERS
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    return head in HEADERS


def _check_length(samples: int, limit: float, name: str, longest: float | None) -> None:
    if samples > limit:
        raise FaceTalkError(f"{name} is longer than {longest:g} s, cut it")


def _read_with_ffmpeg(file: str | io.BytesIO, name: str, longest: float | None) -> tuple[np.ndarray, int]:
    try:
        import av
    except ImportError as error:
        raise FaceTalkError(f"{name} is no file that libsndfile reads; for others: pip install av") from error

    if not isinstance(file, str):
        file.seek(0)
    try:
        with av.open(file, "r") as container:
            if not container.streams.audio:
                raise FaceTalkError(f"{name} has no audio in it, give a WAV, FLAC, MP3, M4A or video file")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")  # planar float; rate and channels stay
            chunks, count, rate = [], 0, stream.codec_context.sample_rate
            for frame in container.decode(stream):
                with np.errstate(over="ignore", invalid="ignore"):
                    chunks += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
                count += frame.samples
                rate = stream.codec_context.sample_rate
                _check_length(count, math.inf if longest is None else longest * rate, name, longest)
    except FaceTalkError:
        raise
    except Exception as error:  # of a damaged file: FFmpegError, ValueError, OverflowError, ZeroDivisionError ...
        raise FaceTalkError(f"{name} is not readable audio, give a WAV, FLAC, MP3, M4A or video file") from error
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32), rate
