# SPDX-License-Identifier: MIT
"""training/train_denoiser.py --init: from a model's weights, all of them or a LoRA of them."""

import json

import pytest
import torch
from denoiser_training import arguments, data, script, trained  # noqa: F401

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.data.feature_cache import load_audio_encoder
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.learning.objective import sampling_scheduler
from facetalk_hf.models.denoiser import FaceTalkDenoiser
from facetalk_hf.scripts import parse_config


MORE = ["--lora-rank", "3", "--null-probability", "0"]


def save_model(folder, data, denoiser: FaceTalkDenoiser) -> None:
    encoder, extractor = load_audio_encoder(data / "encoder")
    parts = {"audio_encoder": encoder, "feature_extractor": extractor, "scheduler": sampling_scheduler()}
    FaceTalkPipeline(denoiser=denoiser, **parts).save_pretrained(folder)


@pytest.fixture(scope="module")
def model(data, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(folder, data, FaceTalkDenoiser.from_pretrained(trained / "denoiser"))
    return folder


def losses(capsys) -> list[float]:
    said = [line for line in capsys.readouterr().out.splitlines() if "validation" in line]
    return [float(line.rpartition(" ")[2]) for line in said]


def run(script, data, model, output, *more: str, steps: int = 60) -> None:
    line = arguments(data, output, "--init", str(model), *more, steps=steps)
    start = line.index("--audio-encoder")
    del line[start : start + 2]  # the model's own
    script.main(line)


def test_a_style_is_learnt_and_the_network_stays(script, data, model, tmp_path, capsys):
    before = FaceTalkDenoiser.from_pretrained(model / "denoiser").state_dict()
    run(script, data, model, tmp_path, *MORE, "--learning-rate", "0.02", "--checkpointing-steps", "0", steps=50)
    found = losses(capsys)
    assert found[-1] < 0.9 * found[0]
    assert {path.name for path in tmp_path.iterdir()} == {"style"}
    about = json.loads((tmp_path / "style" / "config.json").read_text())
    assert about["rank"] == 3 and about["licence"] == ["MIT"]
    after = FaceTalkDenoiser.from_pretrained(model / "denoiser").state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    styled = FaceTalkPipeline.from_pretrained(model).with_style(tmp_path).denoiser.state_dict()
    changed = [name for name in before if not torch.equal(before[name], styled[name])]
    assert len(changed) > 20 and not {"code_mean", "code_std", "null_audio"} & set(changed)


def test_a_style_that_was_interrupted_ends_the_same(script, data, model, tmp_path):
    for name, rounds in (("whole", (6,)), ("parts", (3, 6))):
        for index, steps in enumerate(rounds):
            more = ["--lr-scheduler", "constant", *(["--resume"] if index else [])]
            run(script, data, model, tmp_path / name, *MORE, *more, steps=steps)
    whole, parts = ((tmp_path / name / "style" / "low_rank.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_all_weights_can_go_on_as_well(script, data, model, tmp_path):
    run(script, data, model, tmp_path, steps=2)
    one, other = (FaceTalkDenoiser.from_pretrained(folder / "denoiser").state_dict() for folder in (model, tmp_path))
    assert torch.equal(one["code_mean"], other["code_mean"])
    change = (one["sample_out.weight"] - other["sample_out.weight"]).abs().max()
    assert 0 < change < 0.1


def test_a_denoiser_that_is_told_emotions_and_moves_the_head(script, data, tmp_path):
    """A corpus of one's own knows neither: it counts as neutral, and nothing is learnt of the pose."""
    from denoiser_training import MODEL

    from facetalk_hf.conditions import CONDITIONS

    config = {"condition_names": list(CONDITIONS), "pose_dim": 6, "intensity_range": (0.7, 1.3)}
    torch.manual_seed(0)
    denoiser = FaceTalkDenoiser(**FaceTalkDenoiser.tiny_config(code_dim=10, audio_dim=12, **MODEL, **config))
    save_model(tmp_path / "model", data, denoiser)
    run(script, data, tmp_path / "model", tmp_path / "out", *MORE, steps=3)
    styled = FaceTalkPipeline.from_pretrained(tmp_path / "model").with_style(tmp_path / "out")
    assert styled.denoiser.config["pose_dim"] == 6
    assert all(value.isfinite().all() for value in styled.denoiser.parameters())


def test_what_does_not_go_is_said(script, data, tmp_path):
    from denoiser_training import MODEL

    other = FaceTalkDenoiser(**FaceTalkDenoiser.tiny_config(code_dim=11, audio_dim=12, **MODEL))
    save_model(tmp_path / "model", data, other)
    with pytest.raises(FaceTalkError, match="codes of 10 numbers"):
        run(script, data, tmp_path / "model", tmp_path / "out", *MORE)
    for wrong in (
        "--lora-rank=2",
        "--lora-rank=-1 --init=x",
        "--lora-rank=2 --init=x --push-to-hub --hub-model-id=a/b",
    ):
        with pytest.raises(SystemExit):
            parse_config(DenoiserOptions, argv=["--corpus=a", "--output-dir=b", "--audio-encoder=c", *wrong.split()])
    with pytest.raises(SystemExit):
        parse_config(DenoiserOptions, argv=["--corpus=a", "--output-dir=b"])
