# SPDX-License-Identifier: MIT
"""training/train_nphm.py and train_audio_encoder.py on data of a few points: results, exact resume."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripts import load_script
from speech_rows import make_row

from facetalk_hf import NPHMModel
from facetalk_hf.audio_features import LogMelEncoder
from facetalk_hf.data import corpus
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.head.hair_styles import HAIR_DIM, HairStyle, hair_slice
from facetalk_hf.learning.head import HeadOptions, Scans, identity_codes, make_codes, make_head
from facetalk_hf.learning.loop import Accelerator
from facetalk_hf.phones.alphabets import SILENCE
from facetalk_hf.phones.visemes import PHONES


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Three balls as build_heads.py writes heads, which a jaw of noise moves."""
    folder, rng = tmp_path_factory.mktemp("heads"), np.random.default_rng(0)
    count = NPHMModel().config.num_anchors + 68 + 4 + 10
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for index in range(3):
        radius, kind = 0.3 + 0.02 * index, np.repeat([0, 1, 2], [400, 300, 100]).astype(np.uint8)
        points = rng.normal(size=(800, 3)).astype(np.float32)
        points[:400] *= radius / np.linalg.norm(points[:400], axis=1, keepdims=True)
        np.savez(folder / f"train_{index:04d}.npz", points=points, distance=np.linalg.norm(points, axis=1) - radius,
                 kind=kind, controls=(radius * directions).astype(np.float32),
                 coefficients=rng.normal(size=100).astype(np.float32), person=index // 2,
                 hair=HairStyle(("cropped", "bob", "curly")[index]).vector(),
                 still=rng.normal(size=(50, 3)).astype(np.float32))  # fmt: skip
    np.savez(folder / "template.npz", mean=0.3 * rng.normal(size=(500, 3)).astype(np.float32),
             identities=(0.01 * rng.normal(size=(500, 100, 3))).astype(np.float16),
             expressions=(0.01 * rng.normal(size=(500, 53, 3))).astype(np.float16),
             normals=rng.normal(size=(500, 3)).astype(np.float32), reach=rng.random(500).astype(np.float32),
             region=rng.integers(0, 5, 500).astype(np.uint8),
             canonical_weights=0.1 * rng.random(53).astype(np.float32))  # fmt: skip
    return folder


def interrupted(monkeypatch, calls: int, run) -> None:
    """Run until the loss of the given call."""
    count, backward = [], Accelerator.backward

    def interrupt(self, loss):
        count.append(loss)
        if len(count) == calls:
            raise KeyboardInterrupt
        backward(self, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "backward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()


def equal(one, other) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("call", [4, 9, 13])
def test_a_head_is_trained_in_stages_that_can_be_taken_up_again(heads, tmp_path, monkeypatch, call):
    script = load_script("training/train_nphm.py")
    monkeypatch.setattr(script, "name_identities", lambda *_: None)  # seconds, and no part of the training

    def run(folder, *more):
        steps = ("--identity-steps", "6", "--forward-steps", "4", "--backward-steps", "4", "--batch-size", "2")
        steps += ("--points", "30", "--checkpointing-steps", "2", "--named-identities", "1")
        script.main(["--data", str(heads), "--output-dir", str(tmp_path / folder), *steps, *more])

    run("whole")
    interrupted(monkeypatch, call, lambda: run("broken"))
    with pytest.raises(FaceTalkError, match="--resume"):
        run("broken")
    run("broken", "--resume")
    name = "head/diffusion_pytorch_model.safetensors"
    assert equal(tmp_path / "whole" / name, tmp_path / "broken" / name)
    head = NPHMModel.from_pretrained(tmp_path / "whole" / "head", torch_dtype=torch.float32)
    canonical = np.load(heads / "template.npz")["canonical_weights"]
    weights = head.weights_from_expression(head.expression_from_weights(torch.from_numpy(canonical[None])))
    assert weights.detach().numpy() == pytest.approx(canonical[None], abs=1e-2)
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {"identity", "forward", "backward", "head"}


def test_scans_are_needed(tmp_path):
    with pytest.raises(FaceTalkError, match="build_heads.py"):
        Scans(tmp_path)


def test_a_person_keeps_the_code_and_changes_the_hair(heads):
    scans = Scans(heads)
    model = make_head(scans, HeadOptions(data=heads, output_dir=heads, named_identities=1))
    codes = make_codes(model, scans)
    torch.nn.init.normal_(codes.weight)
    mean, other, third = identity_codes(model, codes, scans, torch.arange(3))
    hair = hair_slice(model.config.glob_dim)
    assert model.config.hair_dim == HAIR_DIM and len(codes.weight) == 2
    assert not mean.any() and torch.equal(other[hair], torch.from_numpy(HairStyle("bob").vector()))
    assert other.count_nonzero() == 1  # the mean person with a bob: nothing is learnt of her but the hair
    assert third.count_nonzero() > 900 and third[hair].count_nonzero() == 1


def test_a_new_head_takes_over_what_codes_mean(heads, tmp_path):
    options = HeadOptions(data=heads, output_dir=heads, named_identities=1, backward_steps=0, seed=1)
    first = make_head(Scans(heads), options)
    first.half().save_pretrained(tmp_path)
    options.seed, options.basis = 2, tmp_path
    second = make_head(Scans(heads), options)
    weights = torch.rand(3, 53, generator=torch.Generator().manual_seed(0))
    codes = first.float().expression_from_weights(weights)
    assert torch.equal(second.expression_from_weights(weights), codes)
    moved = second.forward_net.coefficients(codes) - second.forward_net.coefficient_map.bias
    torch.testing.assert_close(moved, weights, atol=2e-3, rtol=0)
    options.basis = None
    assert not torch.allclose(make_head(Scans(heads), options).expression_from_weights(weights), codes, atol=0.1)
    NPHMModel(expression_names=["jawOpen"]).save_pretrained(tmp_path / "other")
    options.basis = tmp_path / "other"
    with pytest.raises(FaceTalkError, match="53 blendshapes"):
        make_head(Scans(heads), options)


def test_samples_are_those_of_each_kind(heads):
    points, distance = Scans(heads).sample([0, 2], (5, 4, 3), torch.Generator().manual_seed(0))
    assert points.shape == (2, 12, 3)
    torch.testing.assert_close(distance, points.norm(dim=-1) - torch.tensor([[0.3], [0.34]]))
    assert (distance[:, :5].abs() < 1e-6).all() and (distance[:, 5:].abs() > 1e-6).all()


def test_the_audio_encoder_is_trained_and_taken_up_again(tmp_path, monkeypatch):
    script = load_script("training/train_audio_encoder.py")
    rows = [make_row(index, 40, split) for index, split in enumerate(["train"] * 3 + ["validation", "test"])]
    corpus.write_shard(rows, tmp_path / "corpus" / "a.parquet")

    def run(folder, *more):
        sizes = ("--max-train-steps", "5", "--batch-size", "2", "--pool", "4", "--renew", "1", "--crop", "20")
        sizes += ("--checkpointing-steps", "2", "--validation-steps", "3")
        script.main(["--corpus", str(tmp_path / "corpus"), "--output-dir", str(tmp_path / folder), *sizes, *more])

    run("whole")
    interrupted(monkeypatch, 4, lambda: run("broken"))
    run("broken", "--resume")
    assert equal(*(tmp_path / name / "audio_encoder" / "model.safetensors" for name in ("whole", "broken")))
    LogMelEncoder.from_pretrained(tmp_path / "whole" / "audio_encoder")
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics == json.loads((tmp_path / "broken" / "metrics.json").read_text())
    assert metrics["step"] == 5 and set(metrics) == {"step", "validation", "voice"}


def test_the_phone_head_alone_learns_that_dead_silence_is_a_pause(tmp_path):
    script = load_script("training/train_audio_encoder.py")
    rows = [make_row(index, 48, split) for index, split in enumerate(["train"] * 3 + ["test"])]
    for row in rows:
        samples = corpus.decode_audio(row).copy()
        samples[16000:] = 0
        row["audio"] = corpus.encode_audio(samples, 16000)
        row["phones"] = [{"phone": "ah", "start": 0.0, "end": 1.0}, {"phone": "pau", "start": 1.0, "end": 2.0}]
    corpus.write_shard(rows, tmp_path / "corpus" / "a.parquet")

    def run(folder, *more):
        sizes = ("--batch-size", "2", "--pool", "4", "--renew", "1", "--crop", "20", "--hidden-size", "32")
        script.main(["--corpus", str(tmp_path / "corpus"), "--output-dir", str(tmp_path / folder), *sizes, *more])
        return load_file(tmp_path / folder / "audio_encoder" / "model.safetensors")

    before = run("start", "--max-train-steps", "1")
    refit = (
        "--init",
        str(tmp_path / "start" / "audio_encoder"),
        "--max-train-steps",
        "0",
        "--phone-head-steps",
        "200",
    )
    after, again = run("refitted", *refit), run("again", *refit)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {
        "phone_head.weight", "phone_head.bias",
    }  # fmt: skip
    assert all(torch.equal(after[name], again[name]) for name in after)
    encoder = LogMelEncoder.from_pretrained(tmp_path / "refitted" / "audio_encoder")
    heard = script.LogMelFeatureExtractor()([corpus.decode_audio(rows[3])], sampling_rate=16000, return_tensors="pt")
    hidden = encoder(heard["input_features"]).last_hidden_state
    pause = encoder.predict_phones(hidden)[0].softmax(-1)[:, PHONES.index(SILENCE)]
    assert pause[4:40].mean() < 0.2 and pause[56:92].mean() > 0.6
