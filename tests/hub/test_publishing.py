# SPDX-License-Identifier: MIT
"""Repositories as folders: what is in them, what their cards say, and what is refused. All of it offline."""

import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from components import codes, make_head, make_pipeline
from huggingface_hub import DatasetCard, ModelCard, SpaceCard
from rows import make_row
from safetensors.torch import load_file, save_file
from scores import SCORES
from scripts import load_script

from facetalk_hf import FaceTalkPipeline
from facetalk_hf.data import corpus
from facetalk_hf.data.publishing import push_to_hub, write_dataset
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.hub.checks import check_folder
from facetalk_hf.hub.publishing import upload, write_model
from facetalk_hf.hub.space import requirements, write_space


ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "a1B2c3D4e5" * 3
MEASURED = {"scores": SCORES, "settings": {"clips": 2, "samples": 1, "seed": 0}}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model folder with things beside it that are nobody's business."""
    folder = tmp_path_factory.mktemp("run") / "model"
    make_pipeline(head=make_head()).save_pretrained(folder)
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\ntags:\n- mine\ndatasets:\n- a/c\n---\n# Old name\nA talker of mine.\n"
        "## Training\nOn my voice.\n## Ethics\nAsk first.\n### More\n"
    )
    (folder / ".env").write_text(TOKEN)
    (folder / "optimizer.bin").write_bytes(b"state")
    (folder / "denoiser" / "train.log").write_text("loss")
    return folder


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """What is published of it."""
    folder = tmp_path_factory.mktemp("model") / "talker"
    pipe = FaceTalkPipeline.from_pretrained(source, dtype=torch.float16)
    files = write_model(pipe, folder, "someone/talker", measured=MEASURED, base_model="a/b")
    assert pipe.denoiser.dtype == torch.float16
    return folder, files


def test_a_model_goes_up_in_two_precisions_and_nothing_else_does(written, source):
    folder, files = written
    names = {"README.md", "model_index.json", "pipeline.py", "scheduler/scheduler_config.json"}
    names.add("feature_extractor/preprocessor_config.json")
    for part, stem in (("audio_encoder", "model"), ("denoiser", "diffusion_pytorch_model"),
                       ("head", "diffusion_pytorch_model")):  # fmt: skip
        names |= {f"{part}/config.json", f"{part}/{stem}.safetensors", f"{part}/{stem}.fp16.safetensors"}
        for ending, dtype in (("", torch.float32), (".fp16", torch.float16)):
            weights = load_file(folder / part / f"{stem}{ending}.safetensors")
            assert {value.dtype for value in weights.values() if value.is_floating_point()} == {dtype}
    assert set(files) == names == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert (folder / "pipeline.py").read_text() == (ROOT / "pipelines" / "pipeline.py").read_text()
    for name in names - {"README.md"}:
        assert str(source.parent) not in (folder / name).read_bytes().decode(errors="replace")
    pipe = FaceTalkPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    near = codes(FaceTalkPipeline.from_pretrained(source))[0]
    assert (codes(pipe)[0] - near).abs().max() < 0.05 * near.abs().max()


def test_the_card_keeps_what_only_its_author_knows(written):
    card = ModelCard.load(written[0] / "README.md")
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "diffusers", "other")
    assert data.datasets == ["a/c"] and data.base_model == "a/b" and "mine" in data.tags and "nphm" in data.tags
    values = {(item.dataset_config, item.metric_type): item.metric_value for item in data.eval_results}
    assert values[("rms", "aperture")] == 0.8 and data.model_name == "talker"
    assert "# talker\n\nA talker of mine.\n" in card.text and "## Training\n\nOn my voice.\n" in card.text
    assert "## Ethics\n\nAsk first.\n### More\n" in card.text and "| rms | diffusion | 0.800 |" in card.text
    assert "### Must not be used for" in card.text and 'from_pretrained("someone/talker")' in card.text
    assert "{%" not in card.text and "ICT-FaceKit" not in card.text and "few_steps" not in card.text


def test_a_card_says_nothing_about_other_weights(source, tmp_path):
    pipe = FaceTalkPipeline.from_pretrained(source)
    with torch.no_grad():
        pipe.denoiser.sample_out.bias.add_(0.1)
    pipe.head = None
    write_model(pipe, tmp_path / "new")
    card = ModelCard.load(tmp_path / "new" / "README.md")
    assert card.data.license is None and "not stated" in card.text and "my voice" not in card.text
    assert 'output_type="expression"' in card.text and ".mp4" not in card.text


def test_weights_under_other_peoples_terms_need_them_stated(tmp_path):
    pipe = make_pipeline(head=make_head())
    pipe.head.register_to_config(official_ensemble={})
    with pytest.raises(FaceTalkError, match="license_link"):
        write_model(pipe, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_that_do_not_fit_half_precision_are_refused(tmp_path):
    pipe = make_pipeline()
    with torch.no_grad():
        pipe.denoiser.sample_out.bias[0] = 1e6
    with pytest.raises(FaceTalkError, match=r"denoiser: sample_out.bias .* fp16"):
        write_model(pipe, tmp_path / "model")


@pytest.mark.parametrize("name, content, words", [
    ("README.md", f"token: {TOKEN}", "a token of the Hub"),
    ("pipeline.py", "open('" + "/ho" + "me/anna/x.wav')", "a path of a machine"),
    ("denoiser/config.json", json.dumps({"_name_or_path": "/ro" + "ot/x"}), "a path of a machine"),
    ("pipeline.py", "-----BEGIN RSA PRIVATE " + "KEY-----", "a private key"),
    (".env", "A=1", "no place"),
    (".git/config", "[core]", "no place"),
    ("optimizer.bin", "x", "no place"),
    ("denoiser/train.log", "x", "no place"),
    ("denoiser/secret.safetensors", "path", "a path of a machine"),
    ("denoiser/link.safetensors", None, "a link"),
])  # fmt: skip
def test_a_folder_is_looked_through_before_anything_goes_up(tmp_path, name, content, words):
    (tmp_path / "model_index.json").write_text("{}")
    assert check_folder(tmp_path, "model") == ["model_index.json"]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.symlink_to("/etc/hostname")
    elif path.suffix == ".safetensors":
        save_file({"x": torch.zeros(1)}, path, metadata={"file": "/ho" + "me/anna/x.pt"})
    else:
        path.write_text(content)
    with pytest.raises(FaceTalkError) as error:
        upload(tmp_path, "someone/talker")
    message = str(error.value)
    assert str(path) in message and words in message and "\n" not in message and TOKEN not in message


def test_upload_offline_is_one_line(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(FaceTalkError, match="HF_HUB_OFFLINE") as error:
        upload(tmp_path, "someone/talker")
    assert "\n" not in str(error.value)


@pytest.fixture
def speech(tmp_path):
    """A corpus of two mixed shards, as older versions wrote them, with a card and a file of a run."""
    folder = tmp_path / "speech"
    corpus.write_shard([make_row("a_0", text="Ba."), make_row("b_1", "test", engine="us1")], folder / "a.parquet")
    corpus.write_shard([make_row("a_2"), make_row("d_3")], folder / "b.parquet")
    np.save(folder / "lips.npy", np.zeros((2, 2)))
    card = "# Old voices\nOf my aunts.\n## Columns\nLost.\n## Thanks\nTo all.\n"
    (folder / "README.md").write_text(f"---\npretty_name: Old voices\nlicense: mit\n---\n{card}")
    (folder / "run.log").write_text("started")
    return folder


def test_a_corpus_becomes_a_dataset(speech, tmp_path):
    import datasets

    files = write_dataset(speech, tmp_path / "out", "someone/speech")
    assert set(files) == {"README.md", "corpus.json", "lips.npy", "train/00000.parquet", "test/00000.parquet"}
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.language is None and card.data.size_categories == ["n<1K"]
    assert "# Old voices\n\nOf my aunts.\n" in card.text and card.text.endswith("## Thanks\n\nTo all.\n")
    assert "| train | 3 | 2 | 72 | 0.1 |" in card.text and "Licence: CC-BY-4.0 (4 sequences)" in card.text
    assert "Lost." not in card.text and "- Spoken by: us1 (1 sequences)" in card.text
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: read[split].num_rows for split in read} == {"train": 3, "test": 1}
    assert isinstance(read["train"].features["audio"], datasets.Audio)  # the viewer plays the column
    # Every column that there is has its line, by its own name.
    assert all(f"| {name} | " in card.text for name in read["train"].features)
    assert re.search(r"\| text \| string \| .* \| 1 of 4 rows \|", card.text) and "| no row |" in card.text
    rows = list(corpus.read(tmp_path / "out", ("train",)))
    assert [row["id"] for row in rows] == ["a_0", "a_2", "d_3"] and rows[0]["expression"].shape == (24, 6)
    assert len(corpus.decode_audio(rows[0])) == 16000
    # What was published can be published again, and says the same.
    write_dataset(tmp_path / "out", tmp_path / "again", "someone/speech")
    for name in ("README.md", "corpus.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    write_dataset(speech, tmp_path / "other", license="other")
    assert DatasetCard.load(tmp_path / "other" / "README.md").data.license == "other"


@pytest.mark.parametrize("publish", [write_dataset, push_to_hub])
def test_a_corpus_with_a_path_or_other_columns_is_refused(speech, tmp_path, publish):
    target = "someone/speech" if publish is push_to_hub else tmp_path / "out"
    for row, message in (
        (make_row("e_4", "test", text="/ho" + "me/anna/take 1.wav"), "test/00000.parquet .* a path of a machine"),
        (make_row("e_4", "dev"), r"c.parquet: the split must be one of .*'dev'"),
        (make_row("a_0"), "the name a_0 is there twice"),
        (make_row("e_4", code_dim=7), "c.parquet has other columns"),
    ):
        corpus.write_shard([row], speech / "c.parquet")
        with pytest.raises(FaceTalkError, match=message):
            publish(speech, target)
        assert not (tmp_path / "out").exists()
    with pytest.raises(FaceTalkError, match="is not empty"):
        write_dataset(speech, speech)


def test_a_space_starts_by_what_is_in_it(tmp_path):
    app = tmp_path / "app"
    shutil.copytree(ROOT / "spaces_app", app, ignore=shutil.ignore_patterns("__pycache__"))
    (app / ".env").write_text(TOKEN)
    (app / "requirements.txt").write_text("facetalk_hf[usd]\nspaces\n")
    files = write_space(app, tmp_path / "out", "someone/talker")
    wanted = (tmp_path / "out" / "requirements.txt").read_text().splitlines()
    assert set(requirements("usd")) <= set(wanted) and "spaces" in wanted and len(requirements("usd")) > 10
    assert any(line.startswith("torch>=") for line in wanted) and any(line.startswith("usd-core") for line in wanted)
    assert not any("facetalk" in line or line.startswith("gradio") for line in wanted if line[0] != "#")
    card = SpaceCard.load(tmp_path / "out" / "README.md")
    assert card.data.models == ["someone/talker"] and card.data.sdk == "gradio"
    library = ROOT / "facetalk_hf"
    tree = {f"facetalk_hf/{p.relative_to(library).as_posix()}" for p in library.rglob("*") if p.is_file()}
    tree = {name for name in tree if "__pycache__" not in name} | {"facetalk_hf/assets/model_card.md"}
    assert {name for name in files if name.startswith("facetalk_hf/")} == tree | {"facetalk_hf/assets/pipeline.py"}
    assert ".env" not in files and not (tmp_path / "out" / ".env").exists()
    files = write_space(app, tmp_path / "git", code="https://example.org/facetalk_hf")
    wanted = (tmp_path / "git" / "requirements.txt").read_text().splitlines()
    assert wanted == ["facetalk_hf[usd] @ git+https://example.org/facetalk_hf", "spaces"]
    assert not [name for name in files if name.startswith("facetalk_hf/")]


def test_dry_runs_ask_no_network(source, speech, tmp_path, monkeypatch, capsys):
    def connect(*_: object) -> None:
        raise AssertionError("a dry run went to the network")

    script = load_script("training/publish.py")
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "metrics.json").write_text(json.dumps(MEASURED))
    for kind, *options in (
        ("model", "--model", source, "--metrics", tmp_path / "metrics.json", "--license", "mit"),
        ("dataset", "--corpus", speech),
        ("space", "--model", "someone/talker"),
    ):
        output = tmp_path / f"out-{kind}"
        more = ["--repo-id", "someone/it", "--dry-run", "--output-dir", output]
        script.main([kind, *map(str, options), *map(str, more)])
        assert (output / "README.md").is_file() and "not published" in capsys.readouterr().out
    assert "license: mit" in (tmp_path / "out-model" / "README.md").read_text()
    with pytest.raises(SystemExit):
        script.main(["space", "--repo-id", "someone/it", "--dry-run"])
    assert "--output-dir" in capsys.readouterr().err
