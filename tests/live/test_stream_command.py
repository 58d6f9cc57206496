# SPDX-License-Identifier: MIT
"""`facetalk stream` to engines: the whole way from a sound to packets, at the frame rate."""

import json
import os
import socket
import sys
import threading
import time

import numpy as np
import pytest
from command import assert_one_line, facetalk, needs_model, write_wav  # noqa: F401
from components import make_denoiser, make_named_head, make_pipeline, speech_like

import facetalk_hf
from facetalk_hf.motion.controls import MotionControls
from facetalk_hf.pipeline.few_steps import prefers_few_steps


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live") / "model"
    make_pipeline(denoiser=make_denoiser(attention_mode="causal"), head=make_named_head()).save_pretrained(folder)
    return folder


def test_a_file_becomes_packets_at_their_time(facetalk, model, tmp_path):  # noqa: F811
    clip = write_wav(tmp_path / "talk.wav", speech_like(2.0))
    rows = facetalk("stream", clip, "--model", model, "--steps", 2, "--format", "json")[1].splitlines()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(30)
        heard = []

        def listen():
            while len(heard) < 48:
                heard.append((time.monotonic(), udp.recv(2048)))

        thread = threading.Thread(target=listen)
        thread.start()
        place = f"127.0.0.1:{udp.getsockname()[1]}"
        code, out, error = facetalk("stream", clip, "--model", model, "--steps", 2, "--live-link", place)
        thread.join(30)
    assert (code, out) == (0, "") and place in error
    jaws = [json.loads(row)["weights"]["jawOpen"] for row in rows]
    found = [np.frombuffer(packet[-244:], ">f4")[17] for _, packet in heard]
    np.testing.assert_allclose(found, jaws, atol=1e-5)
    times = np.array([when for when, _ in heard]) - np.arange(48) / 24
    assert np.median(np.abs(times - np.median(times))) < 0.02  # the machine may be busy now and then


def test_live_sound_from_a_pipe(facetalk, model, monkeypatch):  # noqa: F811
    """Frames leave while the pipe is open, and the command ends with it."""
    reading, writing = os.pipe()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, open(reading) as pipe:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(30)
        monkeypatch.setattr(sys, "stdin", pipe)
        packets = []

        def speak():
            os.write(writing, (speech_like(1.0) * 32768).astype("<i2").tobytes())
            packets.append(udp.recv(2048))
            os.close(writing)
            packets.extend(udp.recv(2048) for _ in range(23))

        thread = threading.Thread(target=speak)
        thread.start()
        place = f"127.0.0.1:{udp.getsockname()[1]}"
        assert facetalk("stream", "-", "--model", model, "--steps", 2, "--live-link", place)[0] == 0
        thread.join(30)
    assert len(packets) == 24 and len({packet[-244:] for packet in packets}) > 1


@pytest.mark.parametrize("flag", ["--live-link", "--osc", "--websocket"])
def test_bad_addresses(facetalk, model, flag):  # noqa: F811
    assert_one_line(facetalk("stream", "-", "--model", model, flag, "nowhere"), flag, "HOST:PORT")


@needs_model
def test_few_steps_are_the_default_where_nothing_needs_the_others():
    pipe = facetalk_hf.FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    assert prefers_few_steps(pipe, MotionControls()) and prefers_few_steps(pipe, MotionControls(intensity=0.5))
    for asked in ({"num_inference_steps": 8}, {"guidance_scale": 2.0}, {"mouth_temperature": 1.0}):
        assert not prefers_few_steps(pipe, MotionControls(**asked))
    assert not prefers_few_steps(pipe.few_steps(), MotionControls())
    assert not prefers_few_steps(make_pipeline(), MotionControls())
