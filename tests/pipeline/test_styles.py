# SPDX-License-Identifier: MIT
"""A style is a LoRA at a strength: added to whatever the denoiser holds, called, streamed, saved and shipped."""

import numpy as np
import pytest
import soundfile
import torch
from components import RATE, codes, make_denoiser, make_named_head, make_pipeline, seed, speech_like

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.cli.main import main
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.hub.publishing import write_model
from facetalk_hf.models.lora import init_lora, save_lora


def write_lora(folder, denoiser, number: int, **facts):
    torch.manual_seed(number)
    lora = {name: 0.1 * torch.randn_like(value) for name, value in init_lora(denoiser, rank=4).items()}
    save_lora(folder, denoiser, lora, **facts)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a live pipeline with few-step weights and a style called anna; a style of elsewhere beside it."""
    folder = tmp_path_factory.mktemp("styles")
    pipe = make_pipeline(head=make_named_head(), denoiser=make_denoiser(attention_mode="causal"))
    pipe.save_pretrained(folder / "model")
    write_lora(folder / "model" / "few_steps", pipe.denoiser, 1, num_inference_steps=5)
    write_lora(folder / "model" / "styles" / "anna", pipe.denoiser, 2)
    write_lora(folder / "training" / "style", pipe.denoiser, 3)
    return folder / "model"


def load(folder) -> FaceTalkPipeline:
    pipe = FaceTalkPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def parameters(pipe: FaceTalkPipeline) -> torch.Tensor:
    return torch.cat([value.flatten() for value in pipe.denoiser.parameters()]).detach()


def test_strength_goes_from_none_to_all(model):
    pipe = load(model)
    none, half, all_of_it = (pipe.with_style("anna", strength) for strength in (0, 0.5, 1))
    plain = parameters(pipe)
    assert torch.equal(parameters(none), plain) and torch.equal(codes(none)[0], codes(pipe)[0])
    assert (parameters(all_of_it) - plain).abs().max() > 0.1
    torch.testing.assert_close(parameters(half) - plain, (parameters(all_of_it) - plain) / 2, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(codes(half)[0], codes(all_of_it)[0], atol=1e-2)
    assert torch.equal(parameters(load(model)), plain)  # the pipeline itself stays as it was


def test_styles_and_few_steps_add_up_in_any_order(model):
    pipe = load(model)
    one, other = pipe.with_style("anna").few_steps(), pipe.few_steps().with_style("anna")
    torch.testing.assert_close(parameters(one), parameters(other), atol=1e-6, rtol=1e-5)
    for made in (one, other):
        assert made.config["is_distilled"] and made.config["num_inference_steps"] == 5
    two = pipe.with_style("anna", 0.5).with_style(model.parent / "training")
    apart = parameters(pipe.with_style("anna", 0.5)) + parameters(pipe.with_style(model.parent / "training" / "style"))
    torch.testing.assert_close(parameters(two), apart - parameters(pipe), atol=1e-6, rtol=1e-4)


def test_it_is_an_ordinary_pipeline(model, tmp_path):
    styled = load(model).with_style("anna", 0.7)

    def live(pipe):
        pieces = pipe.stream([speech_like(1.0)], RATE, generator=seed(), output_type="expression")
        return torch.cat([piece.expressions for piece in pieces])

    assert not torch.allclose(live(styled), live(load(model)), atol=1e-2)
    styled.save_pretrained(tmp_path / "anna")
    loaded = load(tmp_path / "anna")
    assert torch.equal(codes(loaded)[0], codes(styled)[0]) and torch.equal(live(loaded), live(styled))
    assert not (tmp_path / "anna" / "few_steps").exists()  # they belong to other weights
    with pytest.raises(FaceTalkError, match="other weights"):
        loaded.with_style(model / "styles" / "anna")


def test_styles_of_a_model_go_with_it(model, tmp_path):
    pipe = load(model)
    pipe.save_pretrained(tmp_path / "saved")
    files = write_model(pipe, tmp_path / "published", "someone/model")
    assert {"styles/anna/low_rank.safetensors", "styles/anna/config.json"} <= set(files)
    for folder in ("saved", "published"):
        again = load(tmp_path / folder).with_style("anna")
        torch.testing.assert_close(parameters(again), parameters(pipe.with_style("anna")))


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_other_strengths_are_refused(model, strength):
    with pytest.raises(FaceTalkError, match="between 0 and 1"):
        load(model).with_style("anna", strength)


def test_no_style_says_which_there_are(model):
    with pytest.raises(FaceTalkError, match="no style bert.* anna"):
        load(model).with_style("bert")
    with pytest.raises(FaceTalkError, match="none of its own"):
        make_pipeline(head=make_named_head()).with_style("bert")


def test_on_the_command_line(model, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", speech_like(0.5), RATE)
    tiny = load(facetalk_hf.TINY)
    style = write_lora(tmp_path / "style", tiny.denoiser, 4)
    line = [str(tmp_path / "a.wav"), "--steps", "2"]

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*words])
        out, err = capsys.readouterr()
        return out if end.value.code == 0 else err.splitlines()[-1]

    plain, none, half = (
        run("stream", *line, *more)
        for more in ([], ["--style", str(style), "--style-strength", "0"], ["--style", str(style)])
    )
    assert plain == none != half and len(plain.splitlines()) == 13
    target = ["--format", "npz", "--output-dir", str(tmp_path)]
    run("generate", *line, *target, "--style", str(style), "--style-strength", "0.5")
    pipe = load(facetalk_hf.TINY).with_style(style, 0.5)
    sound = soundfile.read(tmp_path / "a.wav", dtype="float32")
    wanted = pipe(*sound, num_inference_steps=2, generator=seed(), output_type="expression").expressions[0]
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["expression"], wanted, atol=1e-3)
    assert "no style" in run("generate", *line, *target, "--style", str(tmp_path / "nowhere"))
    assert "--style-strength" in run("generate", *line, *target, "--style", str(style), "--style-strength", "2")
