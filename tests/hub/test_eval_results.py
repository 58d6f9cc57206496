# SPDX-License-Identifier: MIT
"""Tables and metadata say what was measured; the two scripts work together on a small corpus."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from scores import SCORES  # noqa: F401

import facetalk_hf
from facetalk_hf.data import corpus
from facetalk_hf.hub import eval_results as evaluation_report


ROOT = Path(__file__).parents[2]


def test_titles():
    assert evaluation_report.title("mve_min") == "MVE, mm, best of the samples"
    assert evaluation_report.title("fdd_absolute_mean_estimate").startswith("FDD absolute, mm^2, mean")
    assert evaluation_report.title("unknown") == "unknown"
    assert set(evaluation_report.HEADLINE) <= set(evaluation_report.TITLES)


def test_tables_hold_every_number():
    plain = evaluation_report.plain_table(SCORES).splitlines()
    assert plain[0].split() == ["rms", "rms", "lj"] and plain[1].split() == ["regression", "diffusion", "diffusion"]
    rows = {line.split("  ")[0]: line for line in plain[2:]}
    assert rows["lip aperture, Pearson r"].split()[-3:] == ["0.900", "0.800", "0.600"]
    assert rows["made_up"].split() == ["made_up", "3.000"] and "0.250" in rows["MVE, mm, best of the samples"]
    markdown = evaluation_report.card_table(SCORES, ("aperture", "mve_min")).splitlines()
    assert markdown[2:] == ["| rms | regression | 0.900 |  |", "| rms | diffusion | 0.800 | 0.250 |",
                            "| lj | diffusion | 0.600 |  |"]  # fmt: skip


def test_metadata_survives_a_model_card():
    results = evaluation_report.eval_results(SCORES, "diffusion", "our speech", ("aperture", "f1", "silence"))
    assert len(results) == 4
    card = ModelCard(f"---\n{ModelCardData(model_name='tiny', eval_results=results)}\n---\n")
    back = ModelCard(str(card)).data.eval_results
    values = {(item.dataset_config, item.metric_type): item.metric_value for item in back}
    assert values == {("rms", "aperture"): 0.8, ("rms", "f1"): 0.75, ("lj", "aperture"): 0.6, ("lj", "f1"): 0.5}


def test_evaluate_and_write_card_work_together(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datasets", reason='needs datasets: pip install "facetalk_hf[train]"')
    from scored_rows import make_row

    def run(script: str, *arguments: object) -> None:
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(str(ROOT / "training" / f"{script}.py"), run_name="__main__")

    rest = {
        "sampling_rate": 16000,
        "speaker": "v",
        "language": "en",
        "engine": "none",
        "text": "Bab.",
        "licence": "MIT",
    }
    rows = [make_row(index, 50) | rest | {"split": "test"} for index in range(3)]
    corpus.write_shard(rows, tmp_path / "corpus" / "a.parquet")
    output, card = tmp_path / "metrics.json", tmp_path / "tiny"
    shutil.copytree(facetalk_hf.TINY, card)
    run("evaluate", "--corpus", tmp_path / "corpus", "--model", facetalk_hf.TINY, "--output", output, "--clips", 2,
        "--samples", 2, "--steps", 2)  # fmt: skip
    printed = capsys.readouterr().out
    assert "LVE rooted, mm" in printed and "2 clips" in printed
    measured = json.loads(output.read_text())
    assert measured["settings"]["clips"] == 2 and measured["settings"]["num_inference_steps"] == 2
    assert set(measured["scores"]["v"]) == {"regression", "diffusion"}
    assert measured["scores"]["v"]["diffusion"]["diversity"] > 0
    run("write_card", "--model", card, "--metrics", output)
    loaded = ModelCard.load(card / "README.md")
    values = {item.metric_type: item.metric_value for item in loaded.data.eval_results}
    assert values["lve_rooted"] == pytest.approx(measured["scores"]["v"]["diffusion"]["lve_rooted"], abs=1e-4)
    assert "| v | diffusion |" in loaded.text
