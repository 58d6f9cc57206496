# SPDX-License-Identifier: MIT
"""Put trained parts together as one pipeline folder in half precision.

    python training/assemble.py --head data/nphm/head --encoder data/encoder --denoiser data/denoiser \
        --output-dir facetalk_hf/checkpoints/facetalk-tiny
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler

from facetalk_hf import FaceTalkDenoiser, FaceTalkPipeline, LogMelEncoder, LogMelFeatureExtractor, NPHMModel
from facetalk_hf.scripts import run_script


def tidy(folder: Path) -> None:
    """Remove the paths of this machine from the configurations, and let everybody read the weights."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", type=Path, required=True, help="folder of the head, from train_nphm.py")
    parser.add_argument("--encoder", type=Path, required=True, help="holds audio_encoder/ and feature_extractor/")
    parser.add_argument("--denoiser", type=Path, required=True, help="holds denoiser/ and scheduler/")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args()
    pipe = FaceTalkPipeline(
        denoiser=FaceTalkDenoiser.from_pretrained(options.denoiser / "denoiser"),
        scheduler=DPMSolverMultistepScheduler.from_pretrained(options.denoiser / "scheduler"),
        audio_encoder=LogMelEncoder.from_pretrained(options.encoder / "audio_encoder"),
        feature_extractor=LogMelFeatureExtractor.from_pretrained(options.encoder / "feature_extractor"),
        head=NPHMModel.from_pretrained(options.head),
    )
    pipe.to(dtype=torch.float16)
    # Written beside its place and moved there whole, so that a broken run leaves the old folder as it was.
    options.output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output_dir.parent) as folder:
        fresh = Path(folder) / "pipeline"
        pipe.save_pretrained(fresh)
        tidy(fresh)
        card = options.output_dir / "README.md"
        if card.exists():
            shutil.copy(card, fresh / card.name)
        if options.output_dir.exists():
            os.replace(options.output_dir, Path(folder) / "old")
        os.replace(fresh, options.output_dir)
    size = sum(file.stat().st_size for file in options.output_dir.rglob("*") if file.is_file())
    print(f"{options.output_dir}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
