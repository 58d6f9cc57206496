# SPDX-License-Identifier: MIT
"""docs/control.md: its examples do what they say, in Python and on the command line."""

import re
import shlex
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE, speech_like
from diffusers import DiffusionPipeline

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.cli import main


ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "control.md").read_text(encoding="utf-8")
needs_model = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with the files that the examples name; a call takes two steps."""
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((speech_like(1.0) * 32767).astype("<i2").tobytes())
    rows = re.search(r"( +frame,.*\n(?: +[\d,.]+\n)+)", TEXT)[1]
    (tmp_path / "keys.csv").write_text("\n".join(line.strip() for line in rows.splitlines()))
    monkeypatch.chdir(tmp_path)
    call = FaceTalkPipeline.__call__
    monkeypatch.setattr(
        FaceTalkPipeline, "__call__", lambda self, *args, **kw: call(self, *args, **{"num_inference_steps": 2} | kw)
    )
    return tmp_path


@needs_model
def test_examples_in_python(folder, monkeypatch):
    load = FaceTalkPipeline.from_pretrained.__func__

    def coarse(cls, *args, **options):
        pipe = load(cls, *args, **options)
        pipe.decoder.resolution = 32
        return pipe

    monkeypatch.setattr(FaceTalkPipeline, "from_pretrained", classmethod(coarse))
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        block = block.replace("pipelines/expression_edit.py", str(ROOT / "pipelines" / "expression_edit.py"))
        exec(compile(block, "control.md", "exec"), names)  # noqa: S102  our own page
        if "head_motion" in block:
            assert names["output"].animations[0].poses.shape == (24, 6)
    assert len(blocks) >= 10 and issubclass(type(names["editor"]), DiffusionPipeline)
    edited = names["edited"].animations[0]
    assert abs(edited.weights[3, edited.target_names.index("jawOpen")] - 0.5) < 1e-4
    np.testing.assert_allclose(edited.weights[:, edited.target_names.index("eyeBlink_L")], 0, atol=1e-4)
    assert torch.is_tensor(names["poses"])


@needs_model
def test_examples_on_the_command_line(folder, capsys):
    lines = re.findall(r"^    facetalk (generate .*)$", TEXT, re.MULTILINE)
    assert len(lines) >= 8
    # All at once: one model, one file; --seed and the like stand beside each other without a conflict.
    options = [word for line in lines for word in shlex.split(line.split("--output-dir out")[1])]
    with pytest.raises(SystemExit) as leave:
        main(["generate", "speech.wav", "--output-dir", "out", "--format", "npz", "--steps", "2", *options])
    assert leave.value.code == 0, capsys.readouterr().err
    with np.load("out/speech-2.npz") as arrays:
        assert arrays["fps"] == 60 and arrays["poses"].shape == (60, 6) and arrays["seed"] == 7
        names = arrays["target_names"].tolist()
        assert arrays["weights"][0, names.index("eyeLookOut_L")] > 0.3
        # Frame 6 of 24 a second is frame 15 of 60.
        assert abs(arrays["weights"][15, names.index("jawOpen")] - 0.4) < 1e-3
