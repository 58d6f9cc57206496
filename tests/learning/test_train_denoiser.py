# SPDX-License-Identifier: MIT
"""training/train_denoiser.py on a tiny corpus: result, exact resume, cache, errors."""

import re
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import LoggerType
from ball_head import head  # noqa: F401
from components import make_encoder, make_whisper
from denoiser_training import MODEL, SCRIPT, arguments, data, script, trained, weights  # noqa: F401
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file
from scripts import load_script

from facetalk_hf.audio.log_mel import LogMelFeatureExtractor
from facetalk_hf.audio_features import LogMelEncoder
from facetalk_hf.data import corpus, feature_cache
from facetalk_hf.data.feature_cache import encode_corpus, load_audio_encoder, read_speech
from facetalk_hf.data.segments import SegmentDataset
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning import loop, objective
from facetalk_hf.learning.checkpointing import checkpoints
from facetalk_hf.learning.denoiser import DenoiserOptions
from facetalk_hf.models.denoiser import FaceTalkDenoiser
from facetalk_hf.scripts import make_parser, parse_config


def test_result_is_two_components(trained):
    denoiser = FaceTalkDenoiser.from_pretrained(trained / "denoiser")
    assert (denoiser.config.code_dim, denoiser.config.audio_dim, denoiser.config.hidden_size) == (10, 12, 16)
    assert denoiser.code_mean[6] > 0.2 and denoiser.code_std[6] > 0.2  # jawOpen is the only one that moves
    assert denoiser.code_mean.abs().sum() == denoiser.code_mean[6]
    assert denoiser.film.weight.abs().sum() > 0
    config = DPMSolverMultistepScheduler.from_pretrained(trained / "scheduler").config
    assert (config.prediction_type, config.timestep_spacing) == ("sample", "trailing")
    assert (config.beta_schedule, config.num_train_timesteps) == ("squaredcos_cap_v2", 1000)


def test_rotation_of_checkpoints(trained):
    names = sorted(path.name for path in trained.iterdir())
    assert names == ["checkpoint-4", "checkpoint-6", "denoiser", "parts.json", "scheduler"]


def test_moving_average_is_what_is_saved(trained):
    last = load_file(trained / "checkpoint-6" / "model.safetensors")
    assert not torch.equal(weights(trained)["sample_out.weight"], last["sample_out.weight"])


@pytest.mark.parametrize("moment", ["between", "while_saving"])
def test_interrupted_run_gives_the_same_weights(script, data, trained, tmp_path, monkeypatch, moment):
    with monkeypatch.context() as patch:
        if moment == "between":
            calls, backward = [], loop.Accelerator.backward

            def interrupt(self, loss):
                calls.append(loss)
                if len(calls) == 6:
                    raise KeyboardInterrupt
                backward(self, loss)

            patch.setattr(loop.Accelerator, "backward", interrupt)
        else:
            save = loop.Accelerator.save_state

            def interrupt(self, folder):
                save(self, folder)
                if folder.endswith("-4"):
                    (Path(folder) / "model.safetensors").write_bytes(b"half")
                    raise KeyboardInterrupt

            patch.setattr(loop.Accelerator, "save_state", interrupt)
        with pytest.raises(KeyboardInterrupt):
            script.main(arguments(data, tmp_path))
    assert not (tmp_path / "denoiser").exists()
    last = "checkpoint-4" if moment == "between" else "checkpoint-2"
    assert checkpoints(tmp_path)[-1].name == last
    script.main(arguments(data, tmp_path, "--resume"))
    expected = weights(trained)
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path).items())


def test_finished_run_can_be_resumed(script, data, trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    before = weights(tmp_path)
    script.main(arguments(data, tmp_path, "--resume"))
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())


def test_earlier_run_is_not_overwritten(script, data, trained):
    with pytest.raises(FaceTalkError, match="--resume"):
        script.main(arguments(data, trained))


def test_seed_matters_and_accumulation_does_not(script, data, tmp_path):
    more = ("--validation-steps", "0", "--learning-rate", "1e-3")
    script.main(arguments(data, tmp_path / "a", *more, steps=2))
    script.main(
        arguments(data, tmp_path / "b", *more, "--batch-size", "2", "--gradient-accumulation-steps", "2", steps=2)
    )
    script.main(arguments(data, tmp_path / "c", *more, "--seed", "1", steps=2))
    one, two, three = (weights(tmp_path / name)["sample_in.weight"] for name in "abc")
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one, three, atol=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run(script, data, tmp_path, monkeypatch):
    calls, loss = [], objective.sample_loss

    def spoil(*args):
        calls.append(args)
        return loss(*args) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(objective, "sample_loss", spoil)
    with pytest.raises(FaceTalkError, match=r"step 3 \(samples 12 to 15 of seed 0.*checkpoint-2"):
        script.main(arguments(data, tmp_path, "--validation-steps", "0"))
    assert all(value.isfinite().all() for value in load_file(tmp_path / "checkpoint-2" / "model.safetensors").values())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_audio_is_encoded_once(data, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "encode_speech", None)
    encoder = load_audio_encoder(data / "encoder")
    assert len(encode_corpus(data / "corpus", "train", *encoder, data / "cache").starts) == 5
    changed = LogMelEncoder.from_pretrained(data / "encoder")
    next(changed.parameters()).data.add_(1)
    changed.save_pretrained(tmp_path / "encoder")
    LogMelFeatureExtractor().save_pretrained(tmp_path / "encoder")
    with pytest.raises(TypeError):  # another encoder is another cache
        encode_corpus(data / "corpus", "train", *load_audio_encoder(tmp_path / "encoder"), data / "cache")


def test_clips_are_heard_as_strangers_would_be(script, data, tmp_path, capsys):
    """Augmented features are others, the same ones every time, and those of clean clips stay in the cache."""
    encoder = make_encoder(look_ahead_frames=4, look_ahead_choices=[1, 4]).eval()
    encode = partial(encode_corpus, data / "corpus", "train", encoder, LogMelFeatureExtractor())
    clean, noisy, ahead = encode(tmp_path), encode(tmp_path, 1.0), encode(tmp_path, 0.0)
    assert len(list(tmp_path.iterdir())) == 3
    assert (noisy.audio == encode(None, 1.0).audio).all() and (noisy.codes == clean.codes).all()
    parts = [slice(*pair) for pair in pairwise(clean.starts)]
    assert all((noisy.audio[part] != clean.audio[part]).any() for part in parts)
    # Without augmentation half of the clips, more or less, are heard with a shorter look-ahead, the others as ever.
    assert len({bool((ahead.audio[part] == clean.audio[part]).all()) for part in parts}) == 2
    with pytest.raises(SystemExit):
        script.main(arguments(data, tmp_path / "out", "--audio-augmentation", "0.5", "--online-audio"))
    assert "exclude each other" in capsys.readouterr().err


def test_every_option_of_the_loss(script, data, tmp_path):
    np.save(tmp_path / "matrix.npy", np.eye(10, 4, dtype=np.float32))
    more = ("--velocity-weight", "1", "--loss-matrix", str(tmp_path / "matrix.npy"), "--augmentation", "0.5", "1.5")
    more += ("--gradient-checkpointing", "--ema-decay", "0", "--validation-steps", "0")
    script.main(arguments(data, tmp_path / "out", *more, steps=1))
    assert all(value.isfinite().all() for value in weights(tmp_path / "out").values())

    denoiser = FaceTalkDenoiser(code_dim=10, audio_dim=12, **MODEL)
    batch = {"codes": torch.randn(2, 8, 10), "noise": torch.randn(2, 8, 10), "audio": torch.randn(2, 8, 12)}
    batch |= {"frame_mask": torch.ones(2, 8, dtype=torch.bool), "timestep": torch.tensor([3, 900])}
    batch["audio_keep"] = torch.ones(2, dtype=torch.bool)
    matrix = torch.eye(10, 4)
    options = ({}, {"velocity_weight": 1.0}, {"matrix": matrix}, {"snr_gamma": 5.0})
    values = [objective.DiffusionObjective(denoiser, **option)(denoiser, batch) for option in options]
    codes = batch["codes"]  # the untrained model predicts 0, so the losses are those of the codes themselves
    torch.testing.assert_close(values[0], codes.square().mean((1, 2)))
    torch.testing.assert_close(values[1] - values[0], codes.diff(dim=1).square().mean((1, 2)))
    torch.testing.assert_close(values[2] - values[0], codes[..., :4].square().mean((1, 2)))
    alpha = objective.DiffusionObjective(denoiser).noise_schedule.alphas_cumprod[900]
    assert alpha / (1 - alpha) < 0.05  # nearly all noise; timestep 3 is nearly none
    torch.testing.assert_close(values[3], values[0] * torch.stack((torch.tensor(5.0), alpha / (1 - alpha))))


def test_the_network_learns_to_follow_the_intensity(script, data, tmp_path):
    more = (
        "--augmentation",
        "0.5",
        "1.5",
        "--validation-steps",
        "0",
        "--checkpointing-steps",
        "200",
        "--batch-size",
        "16",
    )
    script.main(arguments(data, tmp_path, *more, steps=200))
    denoiser = FaceTalkDenoiser.from_pretrained(tmp_path / "denoiser")
    assert tuple(denoiser.config.intensity_range) == (0.5, 1.5)
    clips = encode_corpus(data / "corpus", "train", *load_audio_encoder(data / "encoder"), data / "cache")
    audio = torch.from_numpy(clips.audio[:24].astype(np.float32))[None]
    noise, height = torch.randn(1, 24, 10, generator=torch.Generator().manual_seed(0)), []
    for intensity in (0.5, 1.0, 1.5):
        with torch.no_grad():
            code = denoiser.denormalize(denoiser(noise, 999, audio, intensity=intensity).sample)
        height.append(code[..., 6].mean().item())
    assert height[0] < 0.65 * height[1] and height[2] > 1.35 * height[1]


def test_without_augmentation_or_with_full_dropout_there_is_no_intensity(script, data, trained, tmp_path):
    assert FaceTalkDenoiser.from_pretrained(trained / "denoiser").config.intensity_range is None
    more = ("--augmentation", "0.5", "1.5", "--intensity-dropout", "1")
    script.main(arguments(data, tmp_path, *more, steps=1))
    assert FaceTalkDenoiser.from_pretrained(tmp_path / "denoiser").config.intensity_range is None


def test_regression_sees_neither_noise_nor_timestep(script, data, tmp_path):
    torch.manual_seed(0)
    denoiser = FaceTalkDenoiser(code_dim=10, audio_dim=12, **MODEL)
    torch.nn.init.normal_(denoiser.sample_out.weight)
    batch = {"codes": torch.randn(2, 8, 10), "noise": torch.randn(2, 8, 10), "audio": torch.randn(2, 8, 12)}
    batch |= {"frame_mask": torch.ones(2, 8, dtype=torch.bool), "timestep": torch.tensor([3, 900])}
    batch |= {"audio_keep": torch.ones(2, dtype=torch.bool), "intensity": torch.ones(2)}
    for kind, changes in ((objective.DiffusionObjective, True), (objective.RegressionObjective, False)):
        loss = kind(denoiser)(denoiser, batch)
        other = kind(denoiser)(denoiser, batch | {"noise": -batch["noise"], "timestep": torch.tensor([500, 20])})
        assert torch.allclose(loss, other) != changes
    codes = denoiser(torch.zeros(2, 8, 10), 999, batch["audio"]).sample
    torch.testing.assert_close(loss, (codes - batch["codes"]).square().mean((1, 2)))


def test_regression_is_trained_on_request(script, data, tmp_path):
    script.main(arguments(data, tmp_path / "a", "--objective", "regression", steps=2))
    script.main(arguments(data, tmp_path / "b", steps=2))
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert not torch.equal(a["audio_in.1.weight"], b["audio_in.1.weight"])


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_configurations(name):
    needed = ["--corpus", "x", "--audio-encoder", "x", "--output-dir", "x"]
    config = ["--config", str(SCRIPT.parent / "configs" / f"{name}.yaml")]
    args = parse_config(DenoiserOptions, "", [*config, *needed, "--batch-size", "7"])
    assert args.preset == name and args.batch_size == 7 and args.null_probability == 0.25
    if name == "paper":
        assert args.segment_frames == 48 and args.learning_rate == 1e-4


def test_unknown_option_in_a_configuration(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("batchsize: 3")
    with pytest.raises(SystemExit):
        parse_config(DenoiserOptions, "", ["--config", str(tmp_path / "bad.yaml")])
    assert "unknown options: batchsize" in capsys.readouterr().err


def test_online_audio_gives_what_the_cache_gives(script, data, tmp_path):
    """Segments are parts of clips and whole ones here; the cache is rounded to float16."""
    more = ("--segment-frames", "30", "--validation-steps", "2", "--learning-rate", "1e-3")
    script.main(arguments(data, tmp_path / "cached", *more, steps=2))
    script.main(arguments(data, tmp_path / "online", *more, "--online-audio", steps=2))
    cached, online = weights(tmp_path / "cached"), weights(tmp_path / "online")
    assert all((online[name] - value).abs().max() < 3e-3 for name, value in cached.items())
    assert any(not torch.equal(online[name], value) for name, value in cached.items())


def test_online_audio_gives_what_the_cache_gives_for_a_part_of_a_clip(data):
    """The encoder normalises over the whole clip and looks around in it, so a part's own samples would not do."""
    encoder = load_audio_encoder(data / "encoder")
    clips, online = read_speech(data / "corpus", "train", *encoder)
    cached = SegmentDataset(encode_corpus(data / "corpus", "train", *encoder), 12).__getitems__([0, 1, 2])
    batch = SegmentDataset(clips, 12).__getitems__([0, 1, 2])
    assert (batch["start"] == cached["start"]).all() and not set(batch["start"].tolist()) <= set(clips.starts.tolist())
    torch.testing.assert_close(online(batch), cached["audio"], atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_whisper_is_an_audio_encoder(script, data, tmp_path):
    """A Whisper of 1 s windows: clips are shorter and longer than one, and online audio gives what the cache gives."""
    for part in make_whisper():
        part.save_pretrained(tmp_path / "encoder")
    with torch.enable_grad():
        options = ("--audio-encoder", str(tmp_path / "encoder"), "--validation-steps", "0")
        script.main([*arguments(data, tmp_path / "out", steps=1), *options])
    assert FaceTalkDenoiser.from_pretrained(tmp_path / "out" / "denoiser").config.audio_dim == 24
    encoder = load_audio_encoder(tmp_path / "encoder")
    clips, online = read_speech(data / "corpus", "train", *encoder)
    cached = SegmentDataset(encode_corpus(data / "corpus", "train", *encoder, data / "cache"), 12).__getitems__([0, 1])
    made = online(SegmentDataset(clips, 12).__getitems__([0, 1]))
    torch.testing.assert_close(made, cached["audio"], atol=5e-3, rtol=2e-3)


def test_a_missing_tracker_is_one_line(script, data, tmp_path):
    missing = sorted(set(LoggerType.list()) - {"all", *map(str, loop.get_available_trackers())})
    if not missing:
        pytest.skip("needs a machine without one of Accelerate's trackers")
    with pytest.raises(FaceTalkError, match=f"pip install {missing[0]}"):
        script.main(arguments(data, tmp_path, "--report-to", missing[0]))


def test_bf16_learns_what_float32_does(script, data, tmp_path):
    for name in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)  # one precision a process, by itself
        script.main(arguments(data, tmp_path / name, "--mixed-precision", name, steps=4))
    AcceleratorState._reset_state(reset_partial_state=True)
    full, half = weights(tmp_path / "no"), weights(tmp_path / "bf16")
    apart = torch.cat([(full[key] - half[key]).flatten() for key in full])
    assert all(value.dtype == torch.float32 for value in half.values())
    moved = torch.cat([value.flatten() for value in full.values()]).abs().mean()
    assert 0 < apart.abs().mean() < 0.05 * moved


def test_a_held_out_clip_becomes_a_video(script, data, tmp_path, head):  # noqa: F811
    rows = list(corpus.read(data / "corpus", ("train", "validation")))
    for row in rows:
        row["audio"] = corpus.encode_audio(corpus.decode_audio(row), row["sampling_rate"])
        row["expression"] = np.pad(row["expression"], ((0, 0), (0, 54)))
    corpus.write_shard(rows, tmp_path / "data" / "corpus" / "part-0.parquet", code_dim=64)
    shutil.copytree(data / "encoder", tmp_path / "data" / "encoder")
    head.save_pretrained(tmp_path / "head")
    options = ("--validation-video", "2", "--head", str(tmp_path / "head"))
    script.main(arguments(tmp_path / "data", tmp_path / "out", *options, steps=2))
    with av.open(tmp_path / "out" / "validation" / "step-000002.mp4") as video:
        assert (video.streams.video[0].height, len(video.streams.audio)) == (256, 1)
        assert sum(1 for _ in video.decode(video=0)) == 20


@pytest.mark.parametrize("options", [("--push-to-hub",), ("--validation-video", "2")])
def test_flags_that_need_another(data, tmp_path, options, capsys):
    with pytest.raises(SystemExit):
        parse_config(DenoiserOptions, "", arguments(data, tmp_path, *options))
    assert "needs --h" in capsys.readouterr().err


def test_every_option_is_documented_once():
    module = load_script("docs/options.py")
    text = (SCRIPT.parents[1] / "docs" / "training.md").read_text()
    assert module.filled(text) == text, "run python docs/options.py"
    for action in make_parser(DenoiserOptions)._actions:
        found = re.findall(rf"^\| `{action.option_strings[-1]}[ `]", text, re.MULTILINE)
        assert action.help and len(found) == (action.dest != "help")
