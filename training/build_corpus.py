# SPDX-License-Identifier: MIT
"""Build the corpus that the denoiser is trained on, from speech with blendshape weights or from recordings.

    python training/build_corpus.py --speech DIR [DIR ...] --head DIR --output-dir DIR    # weights -> codes z = E w
    python training/build_corpus.py --from fits --input DIR --audio DIR --output-dir DIR  # results of `facetalk fit`
    python training/build_corpus.py --from tracked --input DIR --output-dir DIR           # FaceTalk's authors' layout
    python training/build_corpus.py --from vertices --input DIR --output-dir DIR --fps 60 --every 2   # VOCASET

The folder appears when it is complete; docs/corpus.md says what it holds. `--speech` is resumable, and puts `lips.npy`
beside the shards: the motion in mm of the mean head's lip landmarks for a unit of each number of the code, (64, 60),
the matrix of train_denoiser.py's lip loss. `--head` is a folder of NPHMModel with an expression basis
(training/train_nphm.py). `vertices` puts `basis.npz` there, and `lips.npy` where `--lips` is given.
"""

import argparse
from pathlib import Path

import datasets
import torch
from tqdm import tqdm

from facetalk_hf.data.building import building, complete
from facetalk_hf.data.checks import SPLITS
from facetalk_hf.data.coding import check_basis, write_codes, write_lip_matrix
from facetalk_hf.data.corpus import read, shards
from facetalk_hf.errors import FaceTalkError
from facetalk_hf.importers.building import ABOUT, build_recordings, splits_of
from facetalk_hf.models.nphm import NPHMModel
from facetalk_hf.scripts import run_script


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--from", dest="kind", choices=tuple(ABOUT), default="speech", help="what the input is")
    add("--input", type=Path, nargs="+", default=[], help="folder; several but for vertices")
    add(
        "--speech",
        type=Path,
        nargs="+",
        help="corpora of build_speech.py and align_speech.py: --input of --from speech",
    )
    add("--output-dir", type=Path, required=True)
    add("--head", type=Path, help="speech: folder of the head")
    add("--audio", type=Path, help="fits, vertices: folder of NAME.wav, where sounds lie apart")
    add("--fps", type=float, default=24.0, help="frames a second of the recordings; fits know their own")
    add("--model-fps", type=float, help="frames a second of the corpus: motion is resampled; by default it is not")
    add("--every", type=int, default=1, help="keep every N-th frame: --fps 60 --every 2 makes 30 a second")
    add("--speaker", choices=("first", "last"), help="underscore of a name that the speaker's part ends at")
    add("--validation", type=float, default=0.1, help="share of the speakers")
    add("--test", type=float, default=0.1, help="share of the speakers")
    add("--validation-speakers", nargs="*", help="names, in place of a share")
    add("--test-speakers", nargs="*", help="names, in place of a share")
    add("--keep-splits", action=argparse.BooleanOptionalAction, default=True, help="speech: splits as they are there")
    add("--seed", type=int, default=0, help="another one gives speakers to other splits")
    add("--name", help="title of the card; the folder's name by default")
    add("--source", help="where the recordings are from; the input's name by default")
    add("--licence", help="terms of the recordings")
    add("--consent", help="how the people agreed to this use of the recordings")
    add("--language", help="of the speech, ISO 639-1")
    add("--components", type=int, default=64, help="vertices: numbers of a code; 0: the displacements themselves")
    add("--unit", choices=("auto", "mm", "cm", "m"), default="auto", help="vertices: unit of the files")
    add("--templates", type=Path, help="vertices: faces at rest, where the input does not have them in a usual place")
    add("--topology", type=Path, help="vertices: mesh with the triangles, where templates have none")
    add("--lips", type=Path, help="vertices: .npy or text with the indices of the lips' vertices")
    options = parser.parse_args()
    options.input = options.input or options.speech or []
    if not options.input:
        parser.error("--input is needed")
    if len(options.input) > 1 and options.kind == "vertices":
        parser.error(f"--from {options.kind} takes one --input")
    if options.kind == "speech" and options.head is None:
        parser.error("--from speech needs --head")
    if options.every < 1 or not options.fps > 0:
        parser.error("--fps and --every must be positive")
    return options


def build_speech(options: argparse.Namespace, work: Path) -> None:
    """Codes of weights, shard by shard."""
    if len({folder.resolve().name for folder in options.input}) < len(options.input):
        raise FaceTalkError("--speech: the folders need different names, which their shards take")
    head = NPHMModel.from_pretrained(options.head)
    check_basis(head, options.head)
    write_lip_matrix(head.float(), work)
    splits = None
    if not options.keep_splits:
        rows = (row for folder in options.input for row in read(folder, SPLITS, ("speaker",)))
        splits = splits_of({row["speaker"] for row in rows}, options)
    for folder in options.input:
        prefix = f"{folder.resolve().name}-" if len(options.input) > 1 else ""
        paths = tqdm(shards(folder), desc=f"codes of {folder.name}", unit=" shards")
        write_codes(paths, folder, head, work, splits, options.source or "training/build_speech.py", prefix)


def main() -> None:
    options = parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    if complete(options.output_dir) and options.kind == "speech":
        print(f"{options.output_dir} is complete; remove it to build it anew")
        return
    build = build_speech if options.kind == "speech" else build_recordings
    with building(options.output_dir, options.name, ABOUT[options.kind], keep=options.kind == "speech") as work:
        build(options, work)


if __name__ == "__main__":
    run_script(main)
