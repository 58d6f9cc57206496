# SPDX-License-Identifier: MIT
"""The denoiser: who sees what, conditions, padding, saving, compilation."""

import json

import pytest
import torch

import facetalk_hf.models.denoiser
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.models.attention import plan_attention
from facetalk_hf.models.denoiser import FaceTalkDenoiser
from facetalk_hf.models.denoiser_blocks import BandedAudio


SMALL = {"code_dim": 6, "audio_dim": 10, "hidden_size": 16, "num_layers": 3, "num_heads": 2, "film_rank": 8}


def make(**overrides) -> FaceTalkDenoiser:
    """A tiny denoiser in which every weight matters: untrained, most conditions have no effect yet."""
    torch.manual_seed(0)
    model = FaceTalkDenoiser(**{**SMALL, "attention_mode": "local", "window": 3, **overrides}).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs(batch_size=2, num_frames=20, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch_size, num_frames, 6, generator=generator)
    return sample, torch.randn(batch_size, num_frames, 10, generator=generator)


def changed_frames(model, sample, audio, frame, which):
    """Frames of the output that depend on `frame` of the sample or of the audio."""
    other = {"sample": sample.clone(), "audio": audio.clone()}
    other[which][:, frame] *= -1
    with torch.no_grad():
        difference = model(sample, 500, audio).sample - model(other["sample"], 500, other["audio"]).sample
    return difference.abs().amax(dim=(0, 2)).gt(1e-6).nonzero().flatten().tolist()


def test_output():
    model = make()
    sample, audio = inputs()
    out = model(sample, torch.tensor([3, 900]), audio)
    assert out.sample.shape == sample.shape
    torch.testing.assert_close(model(sample, torch.tensor([3, 900]), audio, return_dict=False)[0], out.sample)


def test_presets():
    with torch.device("meta"):
        paper = FaceTalkDenoiser(**FaceTalkDenoiser.paper_config())
        tiny = FaceTalkDenoiser(**FaceTalkDenoiser.tiny_config(window=12))
    assert 30e6 < paper.num_parameters() < 40e6 and 1e6 < tiny.num_parameters() < 1.6e6
    assert (paper.config.attention_mode, paper.config.window, paper.config.alignment_width) == ("causal", None, 0)
    assert (tiny.config.code_dim, tiny.config.audio_dim, tiny.config.window) == (64, 192, 12)
    for model in (paper, tiny):  # three scales and shifts a block must not outweigh the blocks
        assert sum(p.numel() for p in model.film.parameters()) < 0.15 * model.num_parameters()


def test_untrained_model_predicts_the_mean_code():
    model = FaceTalkDenoiser(**SMALL)
    sample, audio = inputs()
    assert model(sample, 10, audio).sample.abs().max() == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"attention_mode": "global"},
        {"attention_mode": "local", "window": None},
        {"window": 0},
        {"num_layers": 4},
        {"num_heads": 3},
        {"alignment_width": -1},
        {"timestep_conditioning": "adaln"},
        {"intensity_range": (1.0, 1.0)},
        {"intensity_range": (-1.0, 1.0)},
    ],
)
def test_impossible_configurations(bad):
    with pytest.raises(FaceTalkError):
        FaceTalkDenoiser(**(SMALL | bad))


def test_causal_attention_sees_the_past_only():
    model = make(attention_mode="causal", window=None)
    assert changed_frames(model, *inputs(), 8, "sample") == list(range(8, 20))


def test_causal_window():
    model = make(attention_mode="causal", window=3, num_layers=1)
    assert changed_frames(model, *inputs(), 8, "sample") == list(range(8, 12))


def test_local_attention_sees_the_window_only():
    assert changed_frames(make(num_layers=1), *inputs(), 8, "sample") == list(range(5, 12))


@pytest.mark.parametrize(("width", "expected"), [(0, [8]), (2, [6, 7, 8, 9, 10]), (None, list(range(20)))])
def test_alignment_of_audio(width, expected):
    model = make(num_layers=1, alignment_width=width)
    assert changed_frames(model, *inputs(), 8, "audio") == expected


def test_alignment_width_zero_is_a_value_projection():
    """Cross-attention with the mask delta_ij: its queries and keys cancel, as `AlignedAudio` takes for granted."""
    torch.manual_seed(0)
    attention = BandedAudio(16, 2)
    hidden_states, audio = torch.randn(2, 2, 20, 16)
    rotary = make()._rotary(20, audio)
    out = attention(hidden_states, attention.project(audio, rotary), rotary, plan_attention(2, 20, 0, 0))
    value = attention.to_kv(audio)[..., 16:]
    torch.testing.assert_close(out, attention.to_out(value))


def test_long_skips_join_the_halves():
    model = make(num_layers=5)
    outputs, skips = {}, {}
    for index, block in enumerate(model.blocks):

        def record(module, args, out, index=index):
            outputs[index], skips[index] = out, args[1]

        block.register_forward_hook(record)
    model(inputs()[0], 5)
    assert [skips[index] is None for index in range(5)] == [True, True, True, False, False]
    assert skips[3] is outputs[1] and skips[4] is outputs[0]
    sample = inputs()[0]
    model.blocks[4].skip.weight.data[:, :16] = 0  # from here on only the skip is heard, and so is the first block
    expected = model(sample, 5).sample
    model.blocks[2].ff_out.bias.data += 1
    assert torch.equal(model(sample, 5).sample, expected)
    model.blocks[0].ff_out.bias.data[::2] += 1
    assert not torch.allclose(model(sample, 5).sample, expected)


def test_without_long_skips():
    model = make(num_layers=5, skip_connections=False)
    given = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: given.append(args[1]))
    model(inputs()[0], 5)
    assert given == [None] * 5
    assert not [name for name in model.state_dict() if "skip" in name]


@pytest.mark.parametrize("width", [0, 2, None])
def test_projected_audio_and_guidance_as_one_batch(width):
    model = make(alignment_width=width)
    sample, audio = inputs()
    with torch.no_grad():
        given, null = model(sample, 70, audio).sample, model(sample, 70).sample
        keep = torch.tensor([False, False, True, True])
        projected = model.project_audio(audio.repeat(2, 1, 1), keep)
        both = model(sample.repeat(2, 1, 1), 70, projected_audio=projected).sample
        torch.testing.assert_close(both, torch.cat((null, given)), atol=1e-5, rtol=1e-5)
        dropped = model(sample, 70, audio, audio_keep=torch.tensor([True, False])).sample
    torch.testing.assert_close(dropped, torch.stack((given[0], null[1])), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(given, null, atol=1e-3)


def test_film_follows_every_part():
    model = make()
    sample, audio = inputs()
    model(sample, 40, audio).sample.square().mean().backward()
    gradient = model.film.bias.grad.view(3, 3, 2, 16)  # blocks, parts, scale and shift
    assert (gradient.abs().amax(dim=-1) > 1e-6).all()


def test_additive_timestep_enters_before_the_blocks_only():
    model = make(timestep_conditioning="additive")
    given = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: given.append(args))
    sample = inputs()[0]
    with torch.no_grad():
        model(sample, 10)
        model(sample, 900)
    first, again = given[0], given[3]
    shift = again[0] - first[0]  # the same for every frame and clip
    torch.testing.assert_close(shift, shift[:1, :1].expand_as(shift), atol=1e-5, rtol=1e-5)
    assert shift.abs().max() > 1e-3
    for args in given:
        assert (args[2][:, 0] == 1).all() and (args[2][:, 1] == 0).all()


@pytest.mark.parametrize("conditioning", ["film", "additive"])
@pytest.mark.parametrize("intensity", [None, 0.8, torch.tensor([0.7, float("nan")])])
def test_tables_of_all_steps_are_those_of_each(conditioning, intensity):
    model = make(timestep_conditioning=conditioning, intensity_range=(0.5, 1.5))
    sample, audio = inputs()
    steps = torch.tensor([990, 500, 20])
    with torch.no_grad():
        for step, film in zip(steps, model.film_tables(steps, intensity, sample), strict=True):
            one = model(sample, step, audio, intensity=intensity).sample
            torch.testing.assert_close(model(sample, step, audio, intensity=intensity, film=film).sample, one)


@pytest.mark.parametrize("conditioning", ["film", "additive"])
def test_timesteps(conditioning):
    model = make(timestep_conditioning=conditioning)
    sample, audio = inputs()
    with torch.no_grad():
        early, late = model(sample, 10, audio).sample, model(sample, torch.tensor(900.0), audio).sample
        mixed = model(sample, torch.tensor([10, 900]), audio).sample
    torch.testing.assert_close(mixed, torch.stack((early[0], late[1])), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(early, late, atol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"alignment_width": 2},
        {"alignment_width": None, "timestep_conditioning": "additive", "skip_connections": False},
        {"attention_mode": "causal", "window": None},
        {"attention_mode": "causal"},
    ],
)
def test_padding_influences_nothing(config):
    model = make(**config)
    lengths = [120, 31, 1]
    sample, audio = inputs(3, 120)
    mask = torch.arange(120) < torch.tensor(lengths)[:, None]
    sample[~mask], audio[~mask] = float("nan"), float("nan")
    timestep = torch.tensor([5, 500, 900])
    with torch.no_grad():
        batch = model(sample, timestep, audio, mask).sample
        for row, length in enumerate(lengths):
            alone = model(sample[row : row + 1, :length], timestep[row], audio[row : row + 1, :length]).sample
            torch.testing.assert_close(batch[row, :length], alone[0], atol=1e-5, rtol=1e-5)
    assert batch[~mask].abs().max() == 0


def test_long_clip_is_its_pieces():
    """Positions are relative and windows bounded: far from the cut, a piece gives what the whole clip gives."""
    model = make()  # 3 blocks of +-3 frames
    sample, audio = inputs(1, 400)
    with torch.no_grad():
        whole = model(sample, 300, audio).sample
        piece = model(sample[:, 200:300], 300, audio[:, 200:300]).sample
    torch.testing.assert_close(whole[:, 209:291], piece[:, 9:91], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["local", "causal"])
def test_a_very_long_clip_is_computed_in_segments(mode, monkeypatch):
    model = make(attention_mode=mode, window=3)
    sample, audio = inputs(2, 150)
    mask = torch.arange(150) < torch.tensor([150, 62])[:, None]
    with torch.no_grad():
        expected = model(sample, 40, audio, mask).sample
        monkeypatch.setattr(facetalk_hf.models.denoiser, "SEGMENT", 32)
        calls = []
        model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
        torch.testing.assert_close(model(sample, 40, audio, mask).sample, expected, atol=1e-5, rtol=1e-5)
    assert len(calls) == 5


def test_normalization():
    model = make()
    codes = 3 + 2 * torch.randn(500, 6)
    model.code_mean.copy_(codes.mean(0))
    model.code_std.copy_(codes.std(0))
    normalized = model.normalize(codes)
    assert normalized.mean().abs() < 1e-5 and (normalized.std(0) - 1).abs().max() < 1e-5
    torch.testing.assert_close(model.denormalize(normalized), codes)


def test_intensity_is_a_condition():
    model = make(intensity_range=(0.5, 1.5))
    sample, audio = inputs(4)
    nan = float("nan")
    with torch.no_grad():
        alone = [model(sample, 50, audio, intensity=value).sample for value in (None, 0.5, 1.0, 1.5)]
        mixed = model(sample, torch.full((4,), 50), audio, intensity=torch.tensor([nan, 0.5, 1.0, 1.5])).sample
        tables = model._film_tables(50, 0.7, sample), model._film_tables(50, torch.full((4,), 0.7), sample)
    for row in range(4):
        torch.testing.assert_close(mixed[row], alone[row][row])
        assert all((alone[row] - other).abs().max() > 1e-3 for other in alone[:row])
    assert tables[0].shape[3] == 1 and tables[1].shape[3] == 4  # one value for all costs one row
    with pytest.raises(FaceTalkError, match="intensity_range"):
        make()(sample, 50, audio, intensity=1.0)


def test_untrained_intensity_has_no_effect():
    model = FaceTalkDenoiser(**SMALL, intensity_range=(0.5, 1.5))
    model.film.weight.data.normal_()
    model.sample_out.weight.data.normal_()
    sample, audio = inputs()
    torch.testing.assert_close(model(sample, 9, audio, intensity=0.5).sample, model(sample, 9, audio).sample)


def test_intensity_is_split_into_what_is_told_and_a_factor():
    assert make().split_intensity(1.7) == (None, 1.7)
    model = make(intensity_range=(0.5, 1.5))
    assert model.split_intensity(0.8) == (0.8, 1.0)
    assert model.split_intensity(3.0) == (1.5, 2.0) and model.split_intensity(0.0) == (0.5, 0.0)
    assert make(intensity_range=(0.0, 1.0)).split_intensity(0.0) == (0.0, 1.0)


def test_save_and_load(tmp_path):
    model = make()
    model.code_mean.fill_(0.5)
    model.save_pretrained(tmp_path / "full")
    loaded = FaceTalkDenoiser.from_pretrained(tmp_path / "full")
    sample, audio = inputs()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(loaded(sample, 8, audio).sample, model(sample, 8, audio).sample)
    assert loaded.code_mean[0] == 0.5 and not loaded.training
    make(intensity_range=(0.5, 1.5)).save_pretrained(tmp_path / "intensity")
    loaded_range = FaceTalkDenoiser.from_pretrained(tmp_path / "intensity").split_intensity(2.0)
    assert loaded_range == (1.5, 2.0 / 1.5)
    assert all(loaded.config[name] == value for name, value in SMALL.items())
    model.to(torch.float16).save_pretrained(tmp_path / "half")
    assert FaceTalkDenoiser.from_pretrained(tmp_path / "half", dtype=torch.float32).dtype == torch.float32
    assert json.loads((tmp_path / "half" / "config.json").read_text())["_class_name"] == "FaceTalkDenoiser"


def test_module_path_is_part_of_the_file_format():
    assert FaceTalkDenoiser.__module__ == "facetalk_hf.models.denoiser"


def test_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        model = make().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
            calls = []
            wrapped = model._gradient_checkpointing_func
            model._gradient_checkpointing_func = lambda *args, f=wrapped, c=calls: (c.append(1), f(*args))[1]
        sample, audio = inputs()
        mask = torch.arange(20) < torch.tensor([20, 12])[:, None]
        model(sample, 40, audio, mask).sample.square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(calls) == 3
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("config", "num_frames", "padded"),
    [({}, 90, True), ({"attention_mode": "causal", "window": None, "alignment_width": 1}, 20, False)],
)
def test_compiles_to_one_graph(config, num_frames, padded):
    model = make(**config)
    sample, audio = inputs(2, num_frames)
    mask = torch.arange(num_frames) < torch.tensor([num_frames, 12])[:, None] if padded else None
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        expected = model(sample, torch.tensor(70), audio, mask).sample
        out = compiled(sample, torch.tensor(70), audio, mask).sample
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
