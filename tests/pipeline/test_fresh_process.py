# SPDX-License-Identifier: MIT
"""Loading in processes that have imported nothing of ours: diffusers finds components in imported modules only."""

from pathlib import Path

import pytest
from fresh import ROOT, run_fresh

import facetalk_hf
from facetalk_hf.pipeline import COMPONENTS


pytestmark = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)
SAYS = "print([f'{type(part).__module__}.{type(part).__name__}' for part in pipe.components.values()])"
PARTS = sorted(f"{part.__module__}.{part.__name__}" for part in COMPONENTS)


def parts(program: str, *arguments: object, cwd: Path) -> list[str]:
    """Classes of ours among the components of the `pipe` that a program makes."""
    said = run_fresh(f"import sys\n{program}\n{SAYS}", *arguments, cwd=cwd).splitlines()[-1]
    return sorted(name for name in eval(said) if name.startswith("facetalk_hf"))


@pytest.mark.parametrize("name", ["pipeline.py", "streaming.py"])
def test_diffusers_loads_by_a_custom_pipeline(tmp_path, name):
    program = """
from diffusers import DiffusionPipeline
assert not [name for name in sys.modules if name.startswith("facetalk_hf")]
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], custom_pipeline=sys.argv[2], trust_remote_code=True)
"""
    assert parts(program, facetalk_hf.TINY, ROOT / "pipelines" / name, cwd=tmp_path) == PARTS


def test_the_first_import_is_enough(tmp_path):
    program = "import facetalk_hf\npipe = facetalk_hf.FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)"
    assert parts(program, cwd=tmp_path) == PARTS


def test_parts_load_by_the_paths_that_checkpoints_name(tmp_path):
    program = """
from facetalk_hf.audio_features import LogMelEncoder, LogMelFeatureExtractor
extractor = LogMelFeatureExtractor.from_pretrained(sys.argv[1], subfolder="feature_extractor")
encoder = LogMelEncoder.from_pretrained(sys.argv[1], subfolder="audio_encoder").float()
assert type(extractor).__module__ == "facetalk_hf.audio_features", type(extractor).__module__
import pickle
assert type(pickle.loads(pickle.dumps(extractor))) is LogMelFeatureExtractor
extractor.save_pretrained("kept")
assert LogMelFeatureExtractor.from_pretrained("kept").to_dict() == extractor.to_dict()
import numpy as np
features = extractor(np.zeros(16000, np.float32), sampling_rate=16000, return_tensors="pt")
print(tuple(encoder(**features).last_hidden_state.shape[:2]))
"""
    assert run_fresh("import sys" + program, facetalk_hf.TINY, cwd=tmp_path).splitlines()[-1] == "(1, 24)"
