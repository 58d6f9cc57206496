# SPDX-License-Identifier: MIT
"""spaces_app/app.py: what the button does, and what a visitor is told when it cannot be done."""

import importlib.util
import wave
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import yaml

import facetalk_hf


SPACE = Path(__file__).parent.parent / "spaces_app"
needs_model = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("facetalk_space", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_front_matter_names_the_app_and_the_sdk():
    front = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio" and (SPACE / front["app_file"]).is_file()
    assert front["license"] == "mit" and front["python_version"] == "3.11"
    assert str(front["sdk_version"]) in (SPACE.parent / "constraints.txt").read_text(encoding="utf-8")


@needs_model
def test_a_recording_becomes_three_files(app, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "FOLDER", tmp_path / "results")
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.zeros(4000, "<i2").tobytes())
    paths = [Path(path) for path in app.animate(str(tmp_path / "clip.wav"))]
    assert [path.suffix for path in paths] == [".mp4", ".glb", ".npz"]
    assert all(path.stat().st_size for path in paths)


@needs_model
def test_a_visitor_is_told_plainly(app, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(gr.Error) as told:
        app.animate(str(tmp_path / "text.wav"))
    assert str(tmp_path) not in told.value.message and "audio" in told.value.message
    with pytest.raises(gr.Error, match="first"):
        app.animate(None)
