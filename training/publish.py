# SPDX-License-Identifier: MIT
"""Publish a model, a corpus or the demo on the Hub, or write what would go there.

    python training/publish.py model   --repo-id USER/NAME --model DIR --dry-run --output-dir out/model
    python training/publish.py dataset --repo-id USER/NAME --corpus DIR
    python training/publish.py space   --repo-id USER/NAME --model USER/MODEL

A dry run writes the folder and asks no network. The token is that of `hf auth login` or HF_TOKEN. See
docs/publishing.md.
"""

import argparse
import json
import tempfile
from pathlib import Path

from facetalk_hf import TINY, FaceTalkPipeline
from facetalk_hf.data.publishing import write_dataset
from facetalk_hf.hub.publishing import upload, write_model
from facetalk_hf.hub.space import write_space
from facetalk_hf.scripts import run_script


SPACE = Path(__file__).parent.parent / "spaces_app"


def make_parser() -> argparse.ArgumentParser:
    """The options; which of them a kind of repository takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("model", "dataset", "space"):
        add = kinds.add_parser(kind, allow_abbrev=False).add_argument
        add("--repo-id", required=True, help="USER/NAME; made where there is none")
        add("--dry-run", action="store_true", help="only write the folder: no network")
        add("--output-dir", type=Path, help="folder to write, new or empty; needed with --dry-run")
        add("--private", action="store_true", help="a new repository is private")
        add("--revision", help="branch to commit to, made where there is none")
        if kind != "dataset":
            add("--code", help="address of the git repository that facetalk_hf is installed from")
        if kind == "model":
            add("--model", default=TINY, help="folder of a pipeline; the embedded one by default")
            add("--metrics", type=Path, help="JSON of evaluate.py; by default what the model's card says")
            add("--license-name", help="for --license other")
            add("--license-link", help="for --license other")
            add("--datasets", nargs="*", help="Hub ids of what it was trained on")
            add("--base-model", help="Hub id of what it was trained from, for instance the audio encoder")
            add("--language", nargs="*", help="codes of the languages it was trained on")
        if kind == "space":
            add("--model", help="Hub id of the model that it shows; the embedded one by default")
        else:
            add("--license", help="by default what the model's card says, or the corpus' rows")
        if kind == "dataset":
            add("--corpus", type=Path, required=True, help="folder of Parquet shards")
    return parser


def write(args: argparse.Namespace, folder: Path) -> list[str]:
    """The files of the repository."""
    if args.kind == "dataset":
        return write_dataset(args.corpus, folder, args.repo_id, args.license)
    if args.kind == "space":
        return write_space(SPACE, folder, args.model, args.code)
    names = ("license", "license_name", "license_link", "datasets", "base_model", "language", "code")
    facts = {name: getattr(args, name) for name in names if getattr(args, name)}
    if args.metrics:
        facts["measured"] = json.loads(args.metrics.read_text())
    return write_model(FaceTalkPipeline.from_pretrained(args.model), folder, args.repo_id, **facts)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.dry_run and args.output_dir is None:
        parser.error("--dry-run needs --output-dir")
    with tempfile.TemporaryDirectory() as place:
        folder = args.output_dir or Path(place) / "repository"
        for name in write(args, folder):
            print(f"{(folder / name).stat().st_size:>12,}  {name}")
        if args.dry_run:
            print(f"written to {folder}, not published")
            return
        variables = {"FACETALK_MODEL": args.model} if args.kind == "space" and args.model else None
        options = {"private": args.private or None, "revision": args.revision, "variables": variables}
        print(upload(folder, args.repo_id, args.kind, **options))


if __name__ == "__main__":
    run_script(main)
