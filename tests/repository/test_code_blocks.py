# SPDX-License-Identifier: MIT
"""Every code block of the README and of docs/ is run, or says in a comment above it why not: see code_blocks.py."""

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from code_blocks import ROOT, blocks, check_python_block, check_shell, commands, run_shell
from command import write_wav
from components import speech_like
from diffusers import DiffusionPipeline

import facetalk_hf
from facetalk_hf import FaceTalkPipeline
from facetalk_hf.animation import video as video_writer
from facetalk_hf.animation.formats import READERS, WRITERS
from facetalk_hf.cli.main import app, main
from facetalk_hf.head.blendshape_decoder import BlendshapeDecoder


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
needs_model = pytest.mark.skipif(
    not Path(facetalk_hf.TINY, "model_index.json").is_file(), reason="needs the embedded checkpoint facetalk-tiny"
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.fixture(scope="module")
def quick():
    """Small and few of everything: two steps, one second, a coarse head, two frames of a film."""
    call, load = FaceTalkPipeline.__call__, FaceTalkPipeline.from_pretrained.__func__
    decoder, video = BlendshapeDecoder.__init__, video_writer.render_video
    pipes: dict = {}  # each model is loaded once

    @functools.wraps(call)  # streaming reads the defaults of the signature
    def call_quickly(self, *args, **options):
        return call(self, *args, **options | {"num_inference_steps": 2})

    def load_once(cls, *args, **options):
        key = repr((cls, args, sorted(options.items(), key=str)))
        if key not in pipes:
            pipes[key] = load(cls, *args, **options)
            pipes[key].set_progress_bar_config(disable=True)
        return pipes[key]

    def coarse(self, head, resolution=32, *rest, **options):
        decoder(self, head, 32, *rest, **options)

    def small_video(animation, path, size=64, **options):
        return video(animation, path, 64, frames=range(2), key_poses=0, samples=0, progress=False, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceTalkPipeline, "__call__", call_quickly)
        patch.setattr(FaceTalkPipeline, "from_pretrained", classmethod(load_once))
        patch.setattr(BlendshapeDecoder, "__init__", coarse)
        patch.setattr(video_writer, "render_video", small_video)
        yield


@pytest.fixture(scope="module")
def files(quick, tmp_path_factory):
    """The files that examples name: recordings, a result, and heads of others."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "out").mkdir()
    write_wav(folder / "speech.wav", speech_like(1.0))
    for name in ("talk.wav", "interview.flac"):  # a suffix is no promise
        shutil.copy(folder / "speech.wav", folder / name)
    pipe = FaceTalkPipeline.from_pretrained(facetalk_hf.TINY)
    animation = pipe(folder / "talk.wav", generator=torch.Generator().manual_seed(0)).animations[0]
    for path in ("talk.npz", "out/talk.npz"):
        animation.save(folder / path)
    animation.save(folder / "avatar.glb")
    (folder / "shapes").mkdir()
    square = np.array([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]])
    for name, move in (("neutral", 0), ("jawOpen", -3), ("eyeBlinkLeft", 2)):
        rows = [f"v {x} {y + move * (y > 0)} {z}" for x, y, z in square]
        (folder / "shapes" / f"{name}.obj").write_text("\n".join([*rows, "f 1 2 3 4", ""]))
    return folder


@pytest.fixture(autouse=True)
def formats_as_they_were():
    """Examples may register formats; the tests of other files must not see them."""
    tables = [(table, dict(table)) for table in (WRITERS, READERS)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """A copy of these files, to work in."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(page: Path) -> list:
    """The blocks of a page but for those that are files, which are written into the working folder."""
    found = blocks(page)
    for block in found:
        if block.mark == "file":
            Path(block.reason).write_text(block.text)
    return [block for block in found if block.mark != "file"]


@needs_model
@each_page
def test_blocks_run_or_say_why_not(page, folder, capsys):
    names: dict = {}
    for block in written(page):
        place = f"{page.name}, line {block.line}"
        try:
            if block.mark == "not run":
                continue
            if block.language == "python":
                if block.mark:
                    check_python_block(block.text)
                else:
                    exec(compile(block.text, place, "exec"), names)  # noqa: S102  our own page
            elif block.language == "bash":
                (check_shell if block.mark else run_shell)(block.text)
            else:
                pytest.fail("neither run nor marked: a block is python or bash, or has a comment above it")
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{place}: {error!r}\n{block.text}{capsys.readouterr().err}") from error


def test_the_reasons_are_reasons():
    for page in PAGES:
        for block in blocks(page):
            assert block.reason is None or len(block.reason) > 5, f"{page.name}, line {block.line}"


@pytest.mark.parametrize(
    "line",
    [
        "facetalk generate a.wav --output-dir out --no-such-option 3",
        "facetalk generte a.wav",
        "python training/evaluate.py --corpus a --model b --output c --clisp 40",
        "python training/no_such_script.py",
        "make nonsense",
        "make bench ARG=--long",
        'pip install -e ".[nothing]"',
        "pip install -c no_constraints.txt .",
        "accelerate launch --num_processes 2 training/train_denoiser.py --no_such_option 1",
        "rm -rf /",
    ],
)
def test_the_check_bites(line, capsys):
    with pytest.raises((Exception, SystemExit)):
        check_shell(line)


def test_shell_is_read_as_a_shell_does():
    text = "A=1 .venv/bin/facetalk stream a.wav \\\n    --hop 1 > b.csv  # why\n# no\npython3 -m venv x && pip list"
    first, second, third = commands(text)
    assert first.words == ["facetalk", "stream", "a.wav", "--hop", "1"] and first.stdout == "b.csv"
    assert second.words[0] == "python3" and third.words == ["pip", "list"]


@needs_model
def test_the_controls_do_what_their_page_says(folder, capsys):
    names: dict = {}
    found = written(ROOT / "docs" / "control.md")
    for block in found:
        if block.language == "python":
            exec(compile(block.text, "control.md", "exec"), names)  # noqa: S102  our own page
            if "head_motion" in block.text:
                assert names["output"].animations[0].poses.shape == (24, 6)
    assert issubclass(type(names["editor"]), DiffusionPipeline)
    edited = names["edited"].animations[0]
    assert abs(edited.weights[3, edited.target_names.index("jawOpen")] - 0.5) < 1e-4
    np.testing.assert_allclose(edited.weights[:, edited.target_names.index("eyeBlink_L")], 0, atol=1e-4)
    assert torch.is_tensor(names["poses"])

    # All options of its commands at once: none excludes another, but the three ways to tell an emotion.
    lines = [command.words for block in found if block.language == "bash" for command in commands(block.text)]
    lines = [words for words in lines if words[0] == "facetalk" and not {"--emotion-file", "auto"} & set(words)]
    options = [word for words in lines for word in words[words.index("--output-dir") + 2 :]]
    assert len(lines) >= 8
    with pytest.raises(SystemExit) as leave:
        main(["generate", "speech.wav", "--output-dir", "out", "--format", "npz", *options])
    assert leave.value.code == 0, capsys.readouterr().err
    with np.load("out/speech-2.npz") as arrays:
        assert arrays["fps"] == 60 and arrays["poses"].shape == (60, 6) and arrays["seed"] == 7
        names = arrays["target_names"].tolist()
        assert arrays["weights"][0, names.index("eyeLookOut_L")] > 0.3
        # Frame 6 of 24 a second is frame 15 of 60.
        assert abs(arrays["weights"][15, names.index("jawOpen")] - 0.4) < 1e-3


def test_the_example_of_json_keyframes_is_json():
    text = (ROOT / "docs" / "control.md").read_text(encoding="utf-8")
    (example,) = [part for part in text.split("`") if part.startswith('{"frames"')]
    assert json.loads(example)["channels"]


def test_every_option_of_the_command_is_documented():
    pages = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("command-line.md", "fitting.md")}
    text = "\n".join(pages.values())
    missing = []
    for name, command in typer.main.get_command(app).commands.items():
        for parameter in [one for part in getattr(command, "commands", {"": command}).values() for one in part.params]:
            option = parameter.opts[0]
            if option.startswith("--") and not re.search(rf"{option}\b", text):
                missing.append(f"{name} {option}")
    assert not missing
