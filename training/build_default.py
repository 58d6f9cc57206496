# SPDX-License-Identifier: MIT
"""Rebuild facetalk-tiny from nothing but ICT-FaceKit and Debian's speech programs, with fixed seeds.

    python training/build_default.py --ict ICT-FaceKit/FaceXModel --work data --output-dir facetalk-tiny

Runs the scripts of this folder one after the other. Each goes on where it was killed, and what has finished is left
out: start the same command again. `--dry-run` prints the commands.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path


HERE = Path(__file__).parent


def stages(work: Path, ict: Path, output: Path) -> list[tuple]:
    """Script and arguments of every stage."""
    heads, nphm, speech, corpus = work / "heads", work / "nphm", work / "speech", work / "corpus"
    encoder, denoiser, metrics = work / "encoder", work / "denoiser", work / "metrics.json"
    return [
        # 160 training and 8 held-out identities; then signed distances, anchors, landmarks and motion fields.
        ("build_heads.py", "--ict", ict, "--output-dir", heads),
        ("train_nphm.py", "--data", heads, "--output-dir", nphm, "--batch-size", 16, "--points", 480,
         "--identity-steps", 9000, "--forward-steps", 6000, "--backward-steps", 6000, "--resume"),
        # 11.45 hours with exact phone times, the motion that the rules give them, and the encoder of the audio.
        ("build_speech.py", "--output-dir", speech, "--hours", 10),
        ("train_audio_encoder.py", "--corpus", speech, "--output-dir", encoder, "--max-train-steps", 9000, "--resume"),
        # The codes z = E w of the corpus, the denoiser, and all of it as one pipeline in half precision.
        ("build_corpus.py", "--speech", speech, "--head", nphm / "head", "--output-dir", corpus),
        ("train_denoiser.py", "--config", HERE / "configs" / "tiny.yaml", "--corpus", corpus,
         "--audio-encoder", encoder / "audio_encoder", "--feature-extractor", encoder / "feature_extractor",
         "--loss-matrix", corpus / "lips.npy", "--cache-dir", work / "cache", "--output-dir", denoiser, "--resume"),
        ("assemble.py", "--head", nphm / "head", "--encoder", encoder, "--denoiser", denoiser, "--output-dir", output),
        ("distill_denoiser.py", "--model", output, "--corpus", corpus, "--cache-dir", work / "cache",
         "--output-dir", output / "few_steps"),
        ("evaluate.py", "--corpus", corpus, "--model", output, "--output", metrics, "--samples", 3),
        ("write_card.py", "--model", output, "--metrics", metrics),
    ]  # fmt: skip


def main() -> None:
    """Run what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("--work", type=Path, required=True, help="corpora and checkpoints")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the finished pipeline")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    options = parser.parse_args()
    for script, *arguments in stages(options.work, options.ict, options.output_dir):
        done = options.work / f"{script.removesuffix('.py')}.done"
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        print(f"{'done   ' if done.exists() else 'running'} {shlex.join(command[1:])}", flush=True)
        if done.exists() or options.dry_run:
            continue
        if code := subprocess.run(command).returncode:
            raise SystemExit(f"{script} ended with exit code {code}; start this command again when that is mended")
        options.work.mkdir(parents=True, exist_ok=True)
        done.touch()


if __name__ == "__main__":
    main()
