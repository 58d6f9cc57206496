# SPDX-License-Identifier: MIT
"""Publishing and loading by id, against a loopback Hub, in processes with a cache of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_hub
import numpy as np
import pytest
from command import write_wav
from components import speech_like
from huggingface_hub import DatasetCard, ModelCard, SpaceCard
from rows import make_corpus, make_row

import facetalk_hf
from facetalk_hf.data import corpus


ROOT = Path(__file__).parents[2]


def start(step: str, cwd: Path, address: str, **more: str) -> None:
    """Run a step of hub_session.py."""
    environment = fake_hub.client_environment(address, cwd / "home") | more
    environment |= {"PYTHONPATH": str(ROOT), "TRAINING": str(ROOT / "training"), "GIVEN_TOKEN": fake_hub.TOKEN}
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "hub_session.py"), step]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)
def test_publish_load_and_go_offline(tmp_path):
    np.save(make_corpus(tmp_path / "corpus", about="Four sentences.") / "lips.npy", np.eye(6))
    corpus.write_shard([make_row("a_one"), make_row("b_one", "test")], tmp_path / "mixed" / "a.parquet")
    shutil.copytree(facetalk_hf.TINY, tmp_path / "my-model")
    np.save(tmp_path / "clip.npy", speech_like(1.0))
    write_wav(tmp_path / "speech.wav", speech_like(0.2))
    with fake_hub.hub() as hub:
        gated = hub.create("someone/gated", gated=True)
        gated.add_folder(Path(facetalk_hf.TINY))
        start("online", tmp_path, hub.address)
    start("offline", tmp_path, hub.address, HF_HUB_OFFLINE="1")

    files = hub["someone/talker"].files()
    names = {"README.md", "model_index.json", "pipeline.py", "scheduler/scheduler_config.json"}
    names |= {"feature_extractor/preprocessor_config.json", "few_steps/config.json", "few_steps/low_rank.safetensors"}
    for part, stem in (("audio_encoder", "model"), ("denoiser", ""), ("head", "")):
        stem = stem or "diffusion_pytorch_model"
        names |= {f"{part}/config.json", f"{part}/{stem}.safetensors", f"{part}/{stem}.fp16.safetensors"}
    assert set(files) == names
    assert not [name for name, data in files.items() if os.fsencode(tmp_path) in data]
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.library_name, card.data.language) == ("mit", "diffusers", ["en"])
    assert card.data.datasets == ["someone/speech"] and "facetalk" in card.data.tags
    shipped = ModelCard.load(Path(facetalk_hf.TINY) / "README.md")
    scores = [[(item.dataset_config, item.metric_type, item.metric_value) for item in page.data.eval_results]
              for page in (card, shipped)]  # fmt: skip
    assert scores[0] == scores[1] and "Must not be used for" in card.text and "ICT-FaceKit" in card.text

    # Other weights: what was measured and few_steps/ are not about them.
    second = hub["someone/talker"].files("v2")
    assert not [name for name in second if name.startswith("few_steps/")]
    card = ModelCard(second["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.eval_results is None and "ICT-FaceKit" not in card.text
    assert hub["someone/secret"].private and hub["someone/pushed"].private and not hub["someone/talker"].private
    assert b"# pushed" in hub["someone/pushed"].files()["README.md"] and "experiment" in hub["someone/talker"].branches
    dry = {path.relative_to(tmp_path / "out/talker").as_posix() for path in (tmp_path / "out/talker").rglob("*.*")}
    assert names <= dry

    files = hub["someone/speech"].files()
    names = {"README.md", "corpus.json", "lips.npy", "train/00000.parquet", "validation/00000.parquet"}
    assert set(files) == names | {"test/00000.parquet"} and "someone/leak" not in str(hub.repositories)
    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and "Four sentences." in card.text
    assert hub["someone/mixed"].private and "train/00000.parquet" in hub["someone/mixed"].files()
    space = hub["someone/show"]
    assert space.variables == {"FACETALK_MODEL": "someone/talker"}
    assert SpaceCard(space.files()["README.md"].decode()).data.models == ["someone/talker"]
    assert {"app.py", "requirements.txt", "facetalk_hf/__init__.py"} <= set(space.files())
