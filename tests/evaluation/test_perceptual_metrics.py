# SPDX-License-Identifier: MIT
"""The maths on numbers whose answer is known; the networks with weights of no value, in files and on a fake Hub."""

import subprocess
import sys
from pathlib import Path

import fake_hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from facetalk_hf import FaceTalkError, HeadAnimation
from facetalk_hf.evaluation import perceptual_metrics
from facetalk_hf.evaluation.perceptual_networks import InceptionFeatures, SyncNet


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shift", [-3, 0, 5])
def test_lip_sync_scores_find_the_offset(shift):
    sound = RNG.standard_normal((80, 8))
    scores = perceptual_metrics.lip_sync_scores(np.roll(sound, -shift, axis=0)[20:60], sound[20:60])
    assert scores["offset"] == shift
    aligned = perceptual_metrics.lip_sync_scores(sound, sound)
    assert aligned["lse_d"] == 0 and aligned["lse_c"] > 2
    unrelated = perceptual_metrics.lip_sync_scores(RNG.standard_normal((80, 8)), sound)
    assert unrelated["lse_c"] < 0.5 * aligned["lse_c"] and unrelated["lse_d"] > 2


def test_lip_sync_scores_by_hand():
    video, audio = np.array([[0.0], [3.0]]), np.array([[1.0], [3.0]])
    # s = -1: |0 - 0|, |3 - 1| -> 1; s = 0: 1, 0 -> 0.5; s = 1: |0 - 3|, |3 - 0| -> 3.
    assert perceptual_metrics.lip_sync_scores(video, audio, max_shift=1) == {"lse_d": 0.5, "lse_c": 0.5, "offset": 0}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_frechet_distance_of_gaussians(seed, width):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((60, width)) @ rng.standard_normal((width, width))
    shift = rng.standard_normal(width)
    assert perceptual_metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert perceptual_metrics.frechet_distance(a, a + shift) == pytest.approx((shift**2).sum(), abs=1e-6)
    # Scaling about the mean: tr(C + 4 C - 4 C) = tr C.
    wide = a.mean(0) + 2 * (a - a.mean(0))
    assert perceptual_metrics.frechet_distance(a, wide) == pytest.approx(a.var(0, ddof=1).sum(), rel=1e-5, abs=1e-6)
    b = rng.standard_normal((40, width))
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    value = perceptual_metrics.frechet_distance(a, b)
    assert perceptual_metrics.frechet_distance(b, a) == pytest.approx(value, rel=1e-5)
    assert perceptual_metrics.frechet_distance(a @ turn, b @ turn) == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_frechet_distance_against_the_matrix_root():
    from scipy.linalg import sqrtm

    a, b = RNG.standard_normal((200, 6)), RNG.standard_normal((150, 6)) * [1, 2, 3, 1, 0.5, 0.1] + 1
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert perceptual_metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance():
    a, b = RNG.standard_normal((400, 5)), RNG.standard_normal((400, 5))
    same, spread = perceptual_metrics.kernel_distance(a, b, subsets=20, size=200)
    other, _ = perceptual_metrics.kernel_distance(a, b + 1, subsets=20, size=200)
    assert abs(same) < 3 * spread + 0.02 < other
    assert perceptual_metrics.kernel_distance(a, b, 5, seed=1) == perceptual_metrics.kernel_distance(a, b, 5, seed=1)
    # By hand, one subset of two: kernel (x y + 1)^3 on {0, 1} and {0, 2}.
    mean, _ = perceptual_metrics.kernel_distance(np.array([[0.0], [1]]), np.array([[0.0], [2]]), subsets=1)
    assert mean == pytest.approx(1 + 1 - 2 * (1 + 1 + 1 + 27) / 4)
    for distance in (perceptual_metrics.frechet_distance, perceptual_metrics.kernel_distance):
        with pytest.raises(FaceTalkError, match="two images"):
            distance(a[:1], b)


def test_cepstra():
    audio = (0.1 * RNG.standard_normal(16000)).astype(np.float32)
    quiet, loud = perceptual_metrics.cepstra(audio / 4), perceptual_metrics.cepstra(audio)
    assert loud.shape == (13, 99) and len(perceptual_metrics.cepstra(np.zeros(100)).T) == 1
    # Loudness moves the energy alone; the shape of the spectrum is in the rest.
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-3)
    np.testing.assert_allclose(loud[0] - quiet[0], 2 * np.log(4), atol=1e-4)
    assert perceptual_metrics.cepstra(audio, 48000).shape[1] == pytest.approx(33, abs=1)
    hum, hiss = (np.sin(2 * np.pi * f * np.arange(16000) / 16000).astype(np.float32) for f in (200, 6000))
    assert perceptual_metrics.cepstra(hum)[1, 50] > 0 > perceptual_metrics.cepstra(hiss)[1, 50]


def test_networks_have_the_published_sizes():
    count = sum(parameter.numel() for parameter in InceptionFeatures().parameters())
    assert count == 23_834_568 - 2_049_000  # Inception-v3 without its auxiliary head and its last layer
    network = SyncNet().eval()
    assert network.embed_audio(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
    assert network.embed_video(torch.zeros(1, 3, 5, 224, 224)).shape == (1, 1024)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["netcnnaud.4.weight"] == (192, 64, 3, 3) and shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7) and shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netcnnaud.15.running_var"] == (256,) and shapes["netfclip.3.weight"] == (1024, 512)


def test_weights_come_from_a_file(tmp_path):
    torch.manual_seed(0)
    network = InceptionFeatures()
    state = network.state_dict() | {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}
    save_file(state, tmp_path / "inception.safetensors")
    loaded = perceptual_metrics.load_inception(tmp_path / "inception.safetensors")
    images = RNG.integers(0, 255, (3, 40, 50, 3), np.uint8)
    features = perceptual_metrics.image_features(images, loaded, batch=2)
    assert features.shape == (3, 2048) and np.isfinite(features).all()
    np.testing.assert_allclose(perceptual_metrics.image_features(images[2:], loaded), features[2:], atol=1e-4)
    with pytest.raises(FaceTalkError, match="not SyncNet"):
        perceptual_metrics.load_syncnet(tmp_path / "inception.safetensors")
    (tmp_path / "bad.model").write_bytes(b"no weights")
    with pytest.raises(FaceTalkError, match="no weights"):
        perceptual_metrics.load_syncnet(tmp_path / "bad.model")


def test_weights_come_from_the_hub(tmp_path):
    """By the default names, with stand-ins of no value that have the published files' names and shapes."""
    source, (network, weights), (_, other) = tmp_path / "hub", perceptual_metrics.INCEPTION, perceptual_metrics.SYNCNET
    (source / other).parent.mkdir(parents=True)
    state = {name: value.half() for name, value in InceptionFeatures().state_dict().items()}
    state |= {"fc.weight": torch.zeros(1000, 2048).half(), "AuxLogits.fc.bias": torch.zeros(1000).half()}
    save_file(state, source / weights)
    torch.save({name: value.half() for name, value in SyncNet().state_dict().items()}, source / other)
    program = "from facetalk_hf.evaluation import perceptual_metrics as pm\n"
    program += "pm.load_inception(); pm.load_syncnet(pm.INCEPTION[0])"
    with fake_hub.serve(source, network) as (address, fetched):
        environment = fake_hub.client_environment(address, tmp_path / "home")
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(fetched) == [other, weights]


@pytest.mark.parametrize("load", [perceptual_metrics.load_syncnet, perceptual_metrics.load_inception])
def test_weights_that_cannot_be_had_give_one_line(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(FaceTalkError, match="give a file") as error:
        load("nobody/nothing-here")
    assert "\n" not in str(error.value)


def test_lip_sync_of_a_rendered_head(tmp_path):
    """The whole way with weights of no value: render, cepstra, embeddings, scores."""
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), tmp_path / "syncnet_v2.model")
    network = perceptual_metrics.load_syncnet(tmp_path / "syncnet_v2.model")
    corners = np.array([[0, 0, 0], [90, 0, 0], [0, 90, 0], [0, 0, 90]], np.float32)
    animation = HeadAnimation(
        base=corners, targets=RNG.standard_normal((1, 4, 3)) * 5, weights=RNG.random((15, 1)), target_names=("a",),
        faces=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]), fps=24,
        audio=(0.1 * RNG.standard_normal(10000)).astype(np.float32),
    )  # fmt: skip
    scores = perceptual_metrics.lip_sync(animation, network)
    assert set(scores) == {"lse_d", "lse_c", "offset"} and np.isfinite(list(scores.values())).all()
    with pytest.raises(FaceTalkError, match="sound"):
        perceptual_metrics.lip_sync(animation.replace(audio=None), network)
    with pytest.raises(FaceTalkError, match="at least"):
        perceptual_metrics.lip_sync(animation.replace(weights=animation.weights[:5]), network)
