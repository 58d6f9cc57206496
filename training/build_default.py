# SPDX-License-Identifier: MIT
"""Rebuild facetalk-tiny from ICT-FaceKit, speech programs and recordings of people, with fixed seeds.

    python training/build_default.py --ict ICT-FaceKit/FaceXModel --people LibriSpeech/dev-clean --work data \
        --output-dir facetalk-tiny

Runs the scripts of this folder one after the other. Each goes on where it was killed, and what has finished is left
out: start the same command again. `--dry-run` prints the commands.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path


HERE = Path(__file__).parent


def stages(work: Path, ict: Path, people: Path | None, output: Path) -> list[tuple]:
    """Script and arguments of every stage."""
    heads, nphm, speech, corpus = work / "heads", work / "nphm", work / "speech", work / "corpus"
    neural, aligned, voices = work / "neural", work / "people", work / "voices"
    encoder, denoiser, metrics = work / "encoder" if people else voices, work / "denoiser", work / "metrics.json"
    ear = ("--mixed-precision", "bf16", "--resume")
    # The encoder that is used ends with a phone head that knows dead silence as well.
    ending = ("--phone-head-steps", 1500)
    return [
        # 144 training and 8 held-out people with hair; then signed distances, anchors, landmarks and motion fields.
        ("build_heads.py", "--ict", ict, "--output-dir", heads, "--identities", 144),
        ("train_nphm.py", "--data", heads, "--output-dir", nphm, "--batch-size", 16, "--points", 700,
         "--identity-steps", 7000, "--forward-steps", 8000, "--backward-steps", 5500, "--resume"),
        # Speech with exact phone times, and the motion and acting that the rules give it; people, aligned.
        ("build_speech.py", "--output-dir", speech, "--hours", 5),
        ("build_speech.py", "--output-dir", neural, "--hours", 5, "--neural"),
        *([("align_speech.py", "--input", people, "--output-dir", aligned)] if people else []),
        # The encoder of the audio: first of voices that engines make, then with people among them.
        ("train_audio_encoder.py", "--corpus", speech, neural, "--share", 1, 2, *ear, "--output-dir", voices,
         "--max-train-steps", 12000, *([] if people else ending)),
        *([("train_audio_encoder.py", "--corpus", speech, neural, aligned, "--share", 0.32, 0.5, 0.18, *ear,
            "--init", voices / "audio_encoder", "--learning-rate", 1e-3, "--output-dir", encoder,
            "--max-train-steps", 1800, *ending)] if people else []),
        # The codes z = E w of the corpus, the denoiser, and all of it as one pipeline in half precision.
        ("build_corpus.py", "--speech", speech, neural, *([aligned] if people else []), "--head", nphm / "head",
         "--output-dir", corpus),
        ("train_denoiser.py", "--config", HERE / "configs" / "tiny.yaml", "--corpus", corpus,
         "--audio-encoder", encoder / "audio_encoder", "--feature-extractor", encoder / "feature_extractor",
         "--loss-matrix", corpus / "lips.npy", "--cache-dir", work / "cache", "--output-dir", denoiser, "--resume"),
        ("assemble.py", "--head", nphm / "head", "--encoder", encoder, "--denoiser", denoiser,
         "--closure-threshold", 0.5, "--output-dir", output),
        ("distill_denoiser.py", "--model", output, "--corpus", corpus, "--cache-dir", work / "cache",
         "--audio-augmentation", 0.6, "--loss-matrix", corpus / "lips.npy", "--output-dir", output / "few_steps"),
        ("evaluate.py", "--corpus", corpus, "--model", output, "--output", metrics, "--samples", 3),
        ("write_card.py", "--model", output, "--metrics", metrics),
    ]  # fmt: skip


def main() -> None:
    """Run what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path, required=True, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("--people", type=Path, help="recordings with transcripts, as align_speech.py takes them")
    parser.add_argument("--work", type=Path, required=True, help="corpora and checkpoints")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the finished pipeline")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    options = parser.parse_args()
    begun: list[str] = []
    for script, *arguments in stages(options.work, options.ict, options.people, options.output_dir):
        begun.append(script.removesuffix(".py"))
        times = begun.count(begun[-1])
        done = options.work / f"{begun[-1]}{f'-{times}' if times > 1 else ''}.done"
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
