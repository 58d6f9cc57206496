# SPDX-License-Identifier: MIT
"""What people do with the Hub, in a process whose Hub is the loopback one: tests/hub/test_end_to_end.py starts it.

`online` publishes and loads; `offline` goes on with the same cache when the server is gone.
"""

import os
import re
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy
import torch
from huggingface_hub import DatasetCard, ModelCard, constants

import facetalk_hf
from facetalk_hf import FaceTalkError, FaceTalkPipeline
from facetalk_hf.cli.main import main
from facetalk_hf.data import corpus
from facetalk_hf.data.publishing import push_to_hub
from facetalk_hf.head.decoding import make_decoder
from facetalk_hf.head.loading import load_head
from facetalk_hf.hub.fetching import fetch_weights
from facetalk_hf.models.lora import fuse_lora


TOKEN = os.environ["GIVEN_TOKEN"]
PAGE = (Path(os.environ["TRAINING"]).parent / "docs" / "publishing.md").read_text(encoding="utf-8")
sys.path.insert(0, os.environ["TRAINING"])


def codes(pipe, **options):
    """Expression codes of the clip in two steps from seed 0."""
    pipe.set_progress_bar_config(disable=True)
    clip, seed = numpy.load("clip.npy"), torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 2, "generator": seed, "output_type": "expression"} | options
    return pipe(clip, 16000, **options).expressions[0]


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Weights that lie elsewhere in memory may be multiplied in another order: equal to rounding."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@contextmanager
def refused(*words: str):
    """The block must end with one line that holds these words."""
    try:
        yield
    except FaceTalkError as error:
        assert "\n" not in str(error) and all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"nothing was refused: {words}")


def python_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def publish() -> None:
    """The commands and examples of docs/publishing.md, and push_to_hub of other weights."""
    import publish as script

    commands = re.findall(r"^python training/publish.py (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 8
    for command in map(shlex.split, commands):
        if command[0] == "dataset" and "--dry-run" not in command:
            with refused("someone/speech", "log in"):
                script.main(command)
        if "--dry-run" in command:
            script.main(command)
            continue
        os.environ["HF_TOKEN"] = TOKEN
        script.main(command)
        del os.environ["HF_TOKEN"]
    changed = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    fuse_lora(changed.denoiser, {"sample_out.bias": torch.full_like(changed.denoiser.sample_out.bias, 0.1)})
    assert changed.model_folder is not None
    changed.push_to_hub("someone/talker", revision="v2", token=TOKEN, license="cc-by-4.0")
    quick = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY).few_steps()
    quick.push_to_hub("someone/quick", token=TOKEN, license="mit")
    for options in ({"variant": "fp16"}, {"subfolder": "x"}, {"safe_serialization": False}):
        with refused("whole models"):
            quick.push_to_hub("someone/quick", token=TOKEN, **options)


def load() -> None:
    """By id, with all the options there are."""
    expected = codes(FaceTalkPipeline.from_pretrained(facetalk_hf.TINY))
    pipe = FaceTalkPipeline.from_pretrained("someone/talker")
    same(codes(pipe), expected)
    assert pipe.config._name_or_path == "someone/talker"
    assert codes(pipe.few_steps(), num_inference_steps=4).isfinite().all()
    quick, few = FaceTalkPipeline.from_pretrained("someone/quick", cache_dir="quick-cache"), pipe.few_steps()
    assert quick.config["is_distilled"]
    same(codes(quick), codes(few))
    cached = {path.name for path in Path(constants.HF_HUB_CACHE).rglob("*.*")}
    assert "model.safetensors" in cached and not cached & {"pipeline.py", "model.fp16.safetensors"}, cached

    half = {"variant": "fp16", "dtype": torch.float16, "cache_dir": "other-cache"}
    pipe = FaceTalkPipeline.from_pretrained("someone/talker", **half)
    assert pipe.denoiser.dtype == pipe.audio_encoder.dtype == pipe.head.dtype == torch.float16
    assert (codes(pipe) - expected).abs().max() < 0.05 * expected.abs().max()
    names = {path.name for path in Path("other-cache").rglob("*.safetensors")}
    weights = {"diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors", "low_rank.safetensors"}
    assert names == weights, names
    pipe.few_steps()
    mixed = {"denoiser": torch.float16, "default": torch.float32}
    pipe = FaceTalkPipeline.from_pretrained("someone/talker", variant="fp16", dtype=mixed)
    assert (pipe.denoiser.dtype, pipe.head.dtype) == (torch.float16, torch.float32)

    alone = Path(fetch_weights("someone/talker", folder="head", cache_dir="head-cache"))
    assert [path.relative_to(alone).parent.name for path in alone.rglob("*.safetensors")] == ["head"]
    assert torch.equal(load_head("someone/talker").anchor_mean, load_head(facetalk_hf.TINY).anchor_mean)
    with refused("someone/nothing", "check its name"):
        load_head("someone/nothing")

    other = FaceTalkPipeline.from_pretrained("someone/talker", revision="v2")
    assert not torch.equal(codes(other), expected)
    assert other.model_folder != FaceTalkPipeline.from_pretrained("someone/talker").model_folder
    commit = other.model_folder.name
    same(codes(FaceTalkPipeline.from_pretrained("someone/talker", revision=commit)), codes(other))
    with refused("no weights for few steps"):
        other.few_steps()

    FaceTalkPipeline.from_pretrained("someone/secret", token=TOKEN, cache_dir="secret-cache")
    os.environ["HF_TOKEN"] = TOKEN
    FaceTalkPipeline.from_pretrained("someone/secret", cache_dir="secret-cache-2")
    del os.environ["HF_TOKEN"]
    for name, options, words in (
        ("someone/secret", {}, ("someone/secret", "private", "hf auth login")),
        ("someone/secret", {"token": "hf_wrong"}, ("someone/secret", "token")),
        ("someone/nothing", {}, ("someone/nothing", "check its name")),
        ("someone/nothing", {"token": TOKEN}, ("someone/nothing", "check its name")),
        ("someone/gated", {}, ("someone/gated", "gated", "accept its terms")),
        ("someone/talker", {"revision": "v3"}, ("no revision v3",)),
        ("someone/talker", {"variant": "bf16"}, ("no weights of variant='bf16'", "variant='fp16'")),
        ("someone/talker", {"local_files_only": True, "cache_dir": "empty"}, ("not in the cache",)),
        ("some one/talker", {}, ("some one/talker", "user/name")),
    ):
        with refused(*words):
            FaceTalkPipeline.from_pretrained(name, **options)

    names = {}
    make_decoder.__defaults__ = (32, True, 4)  # the examples are run for their lines, not for their looks
    for block in (*python_of(ModelCard.load("someone/talker").text), *python_of(PAGE)):
        if "push_to_hub" in block:
            os.environ["HF_TOKEN"] = TOKEN
        exec(compile(block, "card", "exec"), names)  # noqa: S102  our own pages
        os.environ.pop("HF_TOKEN", None)
        if "DiffusionPipeline" in block:
            same(codes(names["pipe"]), expected)
            names["pipe"].few_steps()
    assert Path("speech.mp4").stat().st_size and Path("speech.glb").stat().st_size
    (line,) = re.findall(r"^facetalk (generate .*)$", ModelCard.load("someone/talker").text, re.MULTILINE)
    try:
        main([*shlex.split(line), "--steps", "1", "--format", "npz"])
    except SystemExit as leave:
        assert not leave.code
    assert Path("out/speech.npz").stat().st_size


def read() -> None:
    """Published corpora: by the card's own lines, by datasets alone, whole, by streaming, for training."""
    names = {}
    for block in python_of(DatasetCard.load("someone/speech").text):
        exec(compile(block, "card", "exec"), names)  # noqa: S102
    assert names["rate"] == 16000 and names["row"]["id"] == "anna_one" and len(names["samples"]) == 16000
    ids = {"train": ["anna_one", "anna_two"], "validation": ["bob_one"], "test": ["cy_one"]}
    for data in (datasets.load_dataset("someone/speech"), corpus.load("someone/speech")):
        assert {name: part["id"][:] for name, part in data.items()} == ids
    second = list(corpus.read("corpus"))[1]
    numpy.testing.assert_array_equal(data["train"].with_format("numpy")[1]["expression"], second["expression"])
    numpy.testing.assert_array_equal(corpus.decode_audio(data["train"][1]), corpus.decode_audio(second))
    stream = corpus.load("someone/speech", "train", streaming=True)
    assert [(row["id"], len(corpus.decode_audio(row))) for row in stream] == [(name, 16000) for name in ids["train"]]
    assert [row["id"] for row in corpus.read("someone/speech", tuple(ids))] == ["cy_one", *ids["train"], "bob_one"]
    with refused("someone/nothing"):
        corpus.load("someone/nothing")
    with refused("someone/nothing"):
        next(corpus.read("someone/nothing"))

    # Shards of an older version, with rows of several splits, and no private text, by the other way of publishing.
    assert push_to_hub("mixed", "someone/mixed", private=True, token=TOKEN).startswith("http")
    data = corpus.load("someone/mixed", token=TOKEN)
    assert {name: part["id"][:] for name, part in data.items()} == {"train": ["a_one"], "test": ["b_one"]}
    row = next(corpus.read("mixed")) | {"id": "c_one", "text": str(Path.home() / "c.wav")}
    corpus.write_shard([row], "mixed/b.parquet")
    with refused("a path of a machine"):
        push_to_hub("mixed", "someone/leak", token=TOKEN)


if __name__ == "__main__":
    if sys.argv[1] == "online":
        publish()
        load()
        read()
    else:
        expected = codes(FaceTalkPipeline.from_pretrained(facetalk_hf.TINY))
        pipe = FaceTalkPipeline.from_pretrained("someone/talker")
        same(codes(pipe), expected)
        pipe.few_steps()
        FaceTalkPipeline.from_pretrained("someone/talker", revision="v2")
        half = FaceTalkPipeline.from_pretrained("someone/talker", variant="fp16", cache_dir="other-cache")
        assert half.denoiser.dtype == torch.float32
        with refused("someone/nothing", "HF_HUB_OFFLINE"):
            FaceTalkPipeline.from_pretrained("someone/nothing")
        with refused("not all files", "someone/talker"):
            FaceTalkPipeline.from_pretrained("someone/talker", cache_dir="other-cache")
        with refused("someone/talker", "HF_HUB_OFFLINE"):
            pipe.push_to_hub("someone/talker", token=TOKEN)
        constants.HF_HUB_OFFLINE = False  # now the address of a server that is gone is tried
        same(codes(FaceTalkPipeline.from_pretrained("someone/talker")), expected)
        with refused("someone/nothing", "cannot be reached"):
            FaceTalkPipeline.from_pretrained("someone/nothing")
