# SPDX-License-Identifier: MIT
"""What every decoder holds, whatever the head: animation, weights, stream, landmarks, aperture, files, tolerance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import trimesh
from ball_head import NAMES, make_backward_head, make_ball_head
from components import CODE_DIM, RATE, make_head, make_named_head, make_pipeline, speech_like
from official import official_head

from facetalk_hf import FaceTalkError, HeadAnimation, NPHMModel
from facetalk_hf.animation.arkit import weights_to_arkit
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder
from facetalk_hf.head.decoder import HeadDecoder, aperture
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.vertex_decoder import VertexDecoder


@dataclass
class Kind:
    make: Callable[[], NPHMModel]
    decoder: type[HeadDecoder]
    arkit: bool  # whether its codes have ARKit weights
    landmarks: bool
    csv: bool = False  # whether its animations' own targets are ARKit's channels


def make_moving(**config) -> NPHMModel:
    head = make_backward_head(**config)
    with torch.no_grad():
        head.backward_net.output.weight.mul_(400)
        if head.config.expression_names:
            head.expression_basis.copy_(torch.linalg.qr(torch.randn(CODE_DIM, len(NAMES)))[0])
    return head


KINDS = {
    "ours": Kind(make_ball_head, BlendshapeDecoder, arkit=True, landmarks=True, csv=True),
    "ours, all shapes": Kind(make_named_head, BlendshapeDecoder, arkit=True, landmarks=True, csv=True),
    "ours, no names": Kind(make_head, BlendshapeDecoder, arkit=False, landmarks=True),
    "ours, backward": Kind(make_moving, VertexDecoder, arkit=False, landmarks=True),
    "ours, backward, names": Kind(
        lambda: make_moving(expression_names=NAMES), VertexDecoder, arkit=True, landmarks=True
    ),
    "NPHM": Kind(lambda: official_head("nphm", False), VertexDecoder, arkit=False, landmarks=False),
    "NPHM, backward": Kind(lambda: official_head("nphm", True), VertexDecoder, arkit=False, landmarks=False),
    "MonoNPHM": Kind(lambda: official_head("mononphm", True), VertexDecoder, arkit=False, landmarks=False),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def decoder(kind) -> HeadDecoder:
    return make_decoder(kind.make(), resolution=24)


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return 0.5 * torch.randn(4, CODE_DIM, generator=torch.Generator().manual_seed(1)).cumsum(0)


@pytest.fixture(scope="module")
def animation(decoder, codes) -> HeadAnimation:
    return decoder(codes, 1)


def test_make_decoder_chooses(kind, decoder):
    assert type(decoder) is kind.decoder
    assert not issubclass(VertexDecoder, BlendshapeDecoder) and not issubclass(BlendshapeDecoder, VertexDecoder)
    if kind.decoder is VertexDecoder:
        with pytest.raises(FaceTalkError, match="make_decoder"):
            BlendshapeDecoder(decoder.head)


def test_animation(decoder, codes, animation):
    assert animation.num_frames == len(codes) and len(animation.base) > 100 and len(animation.faces) > 100
    np.testing.assert_array_equal(animation.expressions, codes.numpy())
    code = decoder.identity_code(1)
    np.testing.assert_array_equal(animation.identity, code)
    geometry = decoder.geometry(code)
    assert decoder.geometry(code.copy()) is geometry, "the geometry of the last identities stays in memory"
    np.testing.assert_array_equal(animation.base, geometry.base)
    assert geometry.targets.shape == (len(geometry.names), len(geometry.base), 3)
    rest = decoder(torch.zeros(1, CODE_DIM), code)
    np.testing.assert_allclose(rest.vertices(0), geometry.base, atol=1e-3)
    assert max(np.abs(vertices - geometry.base).max() for vertices in animation) > 0.5, "nothing moves"


def test_tolerance(decoder, codes, animation):
    """A frame of a clip, and the same frame by itself, are both within the tolerance of where the head puts it."""
    for index, code in enumerate(codes):
        alone = decoder(code[None], 1).vertices(0)
        distance = np.linalg.norm(alone - animation.vertices(index), axis=1)
        assert distance.max() <= 2 * decoder.tolerance + 1e-3
    assert 0 <= decoder.tolerance < 0.1


def test_weights_have_names_or_are_refused(kind, decoder, codes):
    if kind.arkit:
        weights = decoder.weights(codes)
        assert weights.shape == (len(codes), len(decoder.target_names)) and weights.dtype == np.float32
        assert decoder.target_names == tuple(decoder.head.config.expression_names)
        np.testing.assert_allclose(weights, decoder.head.weights_from_expression(codes), atol=2e-3)
        np.testing.assert_allclose(decoder.weights(torch.zeros(1, CODE_DIM)), 0, atol=1e-6)
    elif kind.decoder is VertexDecoder:
        for ask in (lambda: decoder.target_names, lambda: decoder.weights(codes)):
            with pytest.raises(FaceTalkError, match="no ARKit weights"):
                ask()


def test_stream_of_arkit_weights(kind, decoder, monkeypatch):
    pipe = make_pipeline(head=decoder.head)

    def no_surface(self, identity):
        raise AssertionError("no surface is needed for weights")

    monkeypatch.setattr(type(decoder), "_build", no_surface)
    clip = speech_like(0.5)
    options = {"output_type": "arkit", "num_inference_steps": 2}
    if not kind.arkit:

        def chunks():
            raise AssertionError("it must be refused before any sound is taken")
            yield

        with pytest.raises(FaceTalkError, match="no ARKit (weights|channel)") as caught:
            pipe.stream(chunks(), RATE, **options)
        assert "\n" not in str(caught.value)
        return
    outputs = list(pipe.stream([clip[:3000], clip[3000:]], RATE, **options))
    assert sum(len(output.arkit) for output in outputs) == 12
    for output in outputs:
        expected = weights_to_arkit(pipe.decoder.weights(output.expressions), pipe.decoder.target_names)
        assert output.arkit.shape == (len(output.expressions), 52)
        np.testing.assert_array_equal(output.arkit, expected)


def test_stream_of_animations(decoder):
    pipe = make_pipeline(head=decoder.head)
    pipe.decoder = decoder
    outputs = list(pipe.stream([speech_like(0.3)], RATE, identity=1, num_inference_steps=2))
    assert outputs and all(len(output.animation) == len(output.expressions) for output in outputs)
    whole = pipe.decode(outputs[0].expressions, 1)
    np.testing.assert_array_equal(whole.vertices(0), outputs[0].animation.vertices(0))


def test_landmarks_and_aperture(kind, decoder, codes, animation):
    if not kind.landmarks:
        assert animation.landmarks is None and animation.lip_aperture is None
        for measure in (decoder.landmarks, decoder.lip_aperture):
            with pytest.raises(FaceTalkError, match="no landmarks"):
                measure(codes, 1)
        return
    landmarks, lips = decoder.landmarks(codes, 1), decoder.lip_aperture(codes, 1)
    assert landmarks.shape == (len(codes), 68, 3) and lips.shape == (len(codes),)
    assert landmarks.dtype == lips.dtype == np.float32
    slack = decoder.tolerance + 1e-3
    np.testing.assert_allclose(landmarks, animation.landmarks, atol=slack)
    np.testing.assert_allclose(lips, animation.lip_aperture, atol=2 * slack)
    rest = decoder.geometry(decoder.identity_code(1)).landmarks
    np.testing.assert_allclose(lips, np.maximum(aperture(landmarks) - aperture(rest), 0), atol=1e-5)
    np.testing.assert_allclose(decoder.landmarks(torch.zeros(1, CODE_DIM), 1)[0], rest, atol=1e-2)


def test_export(kind, decoder, animation, tmp_path):
    scene = trimesh.load(animation.save(tmp_path / "a.glb", detail="full"))
    assert sum(len(mesh.faces) for mesh in scene.geometry.values()) >= len(animation.faces)
    loaded = HeadAnimation.load(animation.save(tmp_path / "a.npz"), decode=decoder)
    np.testing.assert_allclose(loaded.vertices(2), animation.vertices(2), atol=1e-3)
    if kind.csv:
        lines = animation.save(tmp_path / "a.csv").read_text().splitlines()
        assert len(lines) == 1 + animation.num_frames
    else:
        with pytest.raises(FaceTalkError, match="no ARKit weights"):
            animation.save(tmp_path / "a.csv")
        assert not (tmp_path / "a.csv").exists()


def test_a_still_clip_is_saved_and_read(decoder, tmp_path):
    still = decoder(torch.zeros(3, CODE_DIM))
    loaded = HeadAnimation.load(still.save(tmp_path / "still.npz"), decode=decoder)
    np.testing.assert_allclose(loaded.vertices(2), still.vertices(2), atol=1e-3)


def test_what_does_not_fit_is_refused(decoder):
    decoder.check(1, CODE_DIM)
    with pytest.raises(FaceTalkError, match=f"takes expression codes of {CODE_DIM} numbers"):
        decoder.check(1, CODE_DIM + 1)
    for identity in (2, -1, "nobody", "random:x", np.zeros(3), np.full(decoder.head.identity_dim, np.nan)):
        with pytest.raises(FaceTalkError, match="identity"):
            decoder.check(identity, CODE_DIM)
    with pytest.raises(FaceTalkError, match="shape \\(frames, 64\\)"):
        decoder(torch.zeros(2, 3))


def test_the_contract_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        HeadDecoder(make_head())
