# SPDX-License-Identifier: MIT
"""benchmarks/ablations.py, baselines.py and sampling.py run to their ends on a tiny corpus, and can be interrupted."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from components import speech_like
from scripts import load_script, run_forked

import facetalk_hf
from facetalk_hf import FaceTalkError, NPHMModel
from facetalk_hf.blendshapes import INDEX
from facetalk_hf.data import corpus
from facetalk_hf.evaluation import studies


SCRIPTS = Path(__file__).parents[2] / "benchmarks"
FPS = 24.0
NETWORK = {"hidden_size": 16, "num_layers": 3, "num_heads": 2, "ff_mult": 2, "window": 4, "film_rank": 8}
RECIPE = """
preset: tiny
model_config: {MODEL}
segment_frames: 24
batch_size: 4
learning_rate: 1.0e-2
lr_scheduler: cosine
augmentation: [0.8, 1.2]
velocity_weight: 1.0
ema_decay: 0.9
"""


def load(name: str):
    return load_script(f"benchmarks/{name}.py")


def make_row(index: int, split: str, head: NPHMModel) -> dict:
    """Two seconds of a jaw that follows a sine, with a blink; the names of the clips make two voices."""
    frames, rng = 48, np.random.default_rng(index)
    weights = np.zeros((frames, 53), np.float32)
    weights[4:-4, INDEX["jawOpen"]] = 0.3 + 0.2 * np.sin(0.7 * np.arange(frames - 8) + index)
    weights[4:-4, INDEX["mouthPucker"]] = 0.5 * rng.random(frames - 8)
    weights[20:24, [INDEX["eyeBlink_L"], INDEX["eyeBlink_R"]]] = 1.0
    row = {"id": f"voice{index % 2}-0-{index}", "audio": corpus.encode_audio(speech_like(frames / FPS, index), 16000)}
    row |= {"weights": weights, "closure": np.zeros(frames, np.float32), "fps": FPS, "sampling_rate": 16000}
    row |= {"phones": [{"phone": "a", "start": 4 / FPS, "end": 44 / FPS}], "speaker": "", "language": "en"}
    row |= {"engine": "", "text": "", "split": split, "licence": "MIT"}
    return row | {"expression": head.expression_from_weights(torch.from_numpy(weights)).detach().numpy()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparisons")
    head = NPHMModel.from_pretrained(facetalk_hf.TINY, subfolder="head", torch_dtype=torch.float32)
    rows = [make_row(index, "train" if index < 3 else "test", head) for index in range(5)]
    corpus.write_shard(rows, folder / "corpus" / "part-0.parquet", code_dim=head.config.expression_dim)
    np.save(folder / "corpus" / "lips.npy", np.eye(head.config.expression_dim, 6, dtype=np.float32))
    (folder / "recipe.yaml").write_text(RECIPE.replace("{MODEL}", json.dumps(NETWORK)))
    return folder


def options(folder: Path, name: str, *more: str) -> list[str]:
    paths = {"corpus": "corpus", "work": "work", "config": "recipe.yaml", "output": f"{name}.json", "page": "page.md"}
    words = [word for key, value in paths.items() for word in (f"--{key}", str(folder / value))]
    words += ["--train-steps", "4", "--clips", "1", "--resolution", "32", "--samples", "2"]
    return [*words, *more, "--train-arguments", "--cpu"]


@pytest.fixture(scope="module")
def trained(folder):
    """The ablation script, run to its end for two variants."""
    script = load("ablations")
    script.GUIDANCE = (2.0,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", run_forked)
        script.main(options(folder, "ablations", "--only", "full", "regression", "guidance", "smoothing"))
    return script


def test_ablations(folder, trained):
    written = json.loads((folder / "ablations.json").read_text())
    assert set(written["rows"]) == {"full", "regression", "smoothing", "no_smoothing", "guidance 2"}
    full, regression = written["rows"]["full"], written["rows"]["regression"]
    assert full["lve_rooted"] > 0 and full["diversity"] > 0 and full["ms"] > 0
    assert "diversity" not in regression
    assert written["rows"]["no_smoothing"]["still_speed"] > 2 * written["rows"]["smoothing"]["still_speed"]
    page = (folder / "page.md").read_text()
    assert "| full |" in page and "| without diffusion" in page and "guidance scale 2" in page
    assert str(folder) not in page and str(folder) not in (folder / "ablations.json").read_text()


def test_rows_and_weights_are_kept(folder, trained, monkeypatch):
    """A second run trains and measures nothing; another recipe is not taken for this one."""
    before = (folder / "ablations.json").read_text()
    monkeypatch.setattr(studies, "measure", lambda *args: pytest.fail("measured again"))
    monkeypatch.setattr(trained.subprocess, "run", lambda *args: pytest.fail("trained again"))
    trained.main(options(folder, "ablations", "--only", "full", "regression", "guidance"))
    assert (folder / "ablations.json").read_text() == before
    changed = [word.replace("4", "5") if word == "4" else word for word in options(folder, "other", "--only", "full")]
    with pytest.raises(FaceTalkError, match="another recipe"):
        trained.main(changed)


def test_the_recipes_own_attention_is_trained_once(folder, trained):
    args = trained.parse_args(options(folder, "x"))
    assert set(trained.VARIANTS) == set(trained.variants(args))  # window 4 is none of the variants
    (folder / "causal.yaml").write_text("model_config: {attention_mode: causal, window: 32}")
    args.config = folder / "causal.yaml"
    assert set(trained.VARIANTS) - set(trained.variants(args)) == {"causal_32"}


def test_baselines(folder, trained, monkeypatch):
    script = load("baselines")
    monkeypatch.setattr(subprocess, "run", run_forked)
    script.main(options(folder, "baselines"))
    rows = json.loads((folder / "baselines.json").read_text())["rows"]
    assert list(rows) == list(script.ROWS)
    assert rows["diffusion"]["diversity"] > 0 and rows["autoregressive"]["lve_rooted"] > 0
    assert rows["autoregressive"]["lve_rooted"] != rows["teacher_forced"]["lve_rooted"]
    page = (folder / "page.md").read_text()
    assert "FaceFormer-style" in page and "| full |" in page  # beside the ablations, not in their place


def test_sampling(folder):
    script = load("sampling")
    script.OTHERS = {name: script.OTHERS[name] for name in ("lms", "pndm", "euler ancestral")}
    paths = ["--corpus", str(folder / "corpus"), "--output", str(folder / "s.json"), "--page", str(folder / "s.md")]
    more = ["--steps", "1", "3", "--schedulers", "ddim", "dpm++", "--clips", "1", "--resolution", "32"]
    script.main([*paths, *more])
    rows = json.loads((folder / "s.json").read_text())["rows"]
    assert list(rows) == ["support", "ddim 1", "dpm++ 1", "ddim 3", "dpm++ 3"]
    # One step is the network's x_0 of the same noise, whatever takes it.
    assert rows["ddim 1"]["lve_rooted"] == pytest.approx(rows["dpm++ 1"]["lve_rooted"], rel=1e-3)
    assert rows["dpm++ 3"]["blinks_target"] == pytest.approx(30)
    found = {name: row["works"] for name, row in rows["support"].items() if isinstance(row, dict)}
    working = {"ddpm", "ddim", "dpm++", "unipc", "euler", "lms"}
    assert found == {name: True for name in working} | {"pndm": False, "euler ancestral": False}
    assert rows["support"]["ddim"]["distance"] < rows["support"]["ddpm"]["distance"]
    assert "| dpm++ | 3 |" in (folder / "s.md").read_text()


def test_fewest_steps_within_the_tolerance():
    script = load("sampling")

    def row(error, shut=1.0, speed=1.0):
        return {"lve_rooted": error, "blinks": 10.0, "blinks_shut": shut, "speed_ratio": speed}

    rows = {("a", 1): row(0.5, shut=0.1), ("a", 4): row(1.01, speed=0.8), ("a", 8): row(1.02), ("a", 50): row(1.0)}
    rows |= {("b", 4): row(1.5), ("b", 8): row(1.03)}
    assert script.smallest(rows, rows["a", 50], 0.02) == {"a": (1, 8), "b": (None, None)}


def test_blinks_before_and_after(folder):
    paths = ["--corpus", str(folder / "corpus"), "--output", str(folder / "b.json"), "--page", str(folder / "b.md")]
    load("blinks").main([*paths, "--clips", "1", "--resolution", "32", "--samples", "2"])
    rows = json.loads((folder / "b.json").read_text())["rows"]
    target, raw, half, decided, *few = rows.values()
    assert target["blinks"] == pytest.approx(30) and target["shut"] == 1
    assert (decided["shut"] or 0) >= (raw["shut"] or 0) and decided["half"] <= raw["half"]
    assert len(few) == 3 and few[2]["half"] <= few[0]["half"]
    assert "few steps, `blink_contrast=1`, the default" in (folder / "b.md").read_text()
