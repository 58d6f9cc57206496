# SPDX-License-Identifier: MIT
"""Options that are declared once: signatures, docstrings, checks and tables made from them."""

import inspect
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from components import RATE, codes, make_pipeline, seed, speech_like
from scripts import load_script

from facetalk_hf import FaceTalkError, FaceTalkPipeline, MotionControls
from facetalk_hf.cli.generate import generate
from facetalk_hf.cli.stream import stream
from facetalk_hf.motion.controls import GenerationOptions, LiveOptions
from facetalk_hf.motion.options import Option, option, options_of, takes


ROOT = Path(__file__).parents[2]


@dataclass
class Drink:
    size: int = option(2, low=1, high=5, unit="spoons", help="How much.")
    heat: float | None = option(None, low=0, unset="as it comes", live=True, help="How warm.")
    mixed: bool = option(False, help="Stir.")
    tilt: tuple | None = option(None, low=(-3, 0), high=(3, 1), parts=("left", "up"), unset="none", help="Lean.")


@takes(Drink)
def brew(leaf, *, controls: Drink | None = None, water=1, **options):
    """Make it.

    Args:
        leaf: of which plant.
        controls ([`Drink`], *optional*): as an object.
        water: litres.
    """
    return leaf, controls, water


def test_a_function_takes_options_by_position_by_name_and_as_an_object():
    assert list(inspect.signature(brew).parameters) == ["leaf", "size", "heat", "mixed", "tilt", "water", "controls"]
    assert brew("tea") == ("tea", Drink(), 1)
    assert brew("tea", 3, 80.0, water=2) == ("tea", Drink(3, 80.0), 2)
    assert brew("tea", controls=Drink(4, 50.0), heat=60.0) == ("tea", Drink(4, 60.0), 1)
    text = inspect.getdoc(brew)
    assert "size (`int`, *optional*, defaults to 2): How much (1 to 5 spoons).\n" in text
    assert "heat (`float`, *optional*): How warm (at least 0). By default as it comes.\n" in text
    assert (
        text.index("leaf:") < text.index("tilt (left and up, each") < text.index("controls (") < text.index("water:")
    )


@pytest.mark.parametrize("arguments, options, words", [
    ((), {}, "missing a required argument: 'leaf'"), (("a",), {"sise": 1}, "unexpected keyword argument 'sise'"),
    (("a", 1), {"size": 1}, "multiple values for argument 'size'"), ((1, 2, 3, 4, 5, 6, 7), {}, "too many positional"),
    (("a",), {"controls": 3}, "controls must be Drink, not int"),
])  # fmt: skip
def test_wrong_arguments_are_type_errors(arguments, options, words):
    with pytest.raises(TypeError, match=words):
        brew(*arguments, **options)


@pytest.mark.parametrize("name, value, words", [
    ("size", 0, "size must be a whole number between 1 and 5, not 0"), ("size", 2.5, "whole number"),
    ("size", None, "whole number"), ("heat", -1, "heat must be a number of at least 0, not -1"),
    ("heat", float("inf"), "not inf"), ("heat", float("nan"), "not nan"), ("heat", "hot", "not hot"),
    ("heat", [1.0], "heat must be a number"), ("tilt", 1.0, "left and up"), ("tilt", (1.0,), "left and up"),
    ("tilt", (0, 2), "the up of tilt must be a number between 0 and 1, not 2"),
    ("tilt", (np.array([0, -4.0]), 0), "the left of tilt"), ("tilt", (torch.zeros(2, 2), 0), "left and up"),
])  # fmt: skip
def test_values_are_checked_in_one_place(name, value, words):
    (item,) = [item for item in options_of(Drink) if item.name == name]
    with pytest.raises(FaceTalkError, match=words) as error:
        item.check(value)
    assert "\n" not in str(error.value)
    with pytest.raises(FaceTalkError, match=f"--{name} must|of --{name} must"):
        item.check(value, f"--{name}")


def test_values_of_numpy_torch_and_none_pass():
    size, heat, mixed, tilt = options_of(Drink)
    for item, value in (
        (size, np.int64(3)), (heat, None), (heat, np.float32(3)), (heat, torch.tensor(2.0)), (mixed, True),
        (tilt, None), (tilt, (0, np.zeros(7))), (tilt, [torch.zeros(3), 1]), (tilt, ([1, 2], 0.5)),
    ):  # fmt: skip
        item.check(value)
    assert [item.name for item in options_of(Drink, live=True)] == ["heat"]
    assert isinstance(size, Option) and size.limits == "1 to 5 spoons" and tilt.limits == "-3 to 3, 0 to 1"


# The controls of the pipeline


def names(live: bool = False) -> list[str]:
    return [item.name for item in options_of(MotionControls, live)]


@pytest.mark.parametrize("function, live", [
    (FaceTalkPipeline.__call__, False), (generate, False), (FaceTalkPipeline.stream, True),
    (FaceTalkPipeline.open_stream, True), (stream, True),
])  # fmt: skip
def test_everything_is_made_from_the_fields(function, live):
    parameters = inspect.signature(function).parameters
    for item in options_of(MotionControls):
        assert (item.name in parameters) == (item.live or not live), item.name
        assert item.name not in parameters or parameters[item.name].default == item.default
    if function not in (generate, stream):
        text = " ".join(inspect.getdoc(function).split())
        assert all(item.sentence in text for item in options_of(MotionControls, live))


def test_every_field_is_an_option_with_one_sentence_and_what_none_means():
    assert names() == [field.name for field in fields(MotionControls)]
    for item in options_of(MotionControls):
        assert item.help.endswith(".") and item.help.count(". ") == 0 and item.help[0].isupper(), item.name
        assert (item.unset is None) == (item.default is not None)
        item.check(item.default)
        assert not item.decoded or not item.live


def test_type_checkers_know_the_same_names_and_types():
    types = get_type_hints(MotionControls)
    assert get_type_hints(GenerationOptions) == types
    assert get_type_hints(LiveOptions) == {name: types[name] for name in names(live=True)}


def test_controls_as_an_object_and_by_name_are_the_same():
    pipe = make_pipeline()
    given = MotionControls(intensity=0.5, smoothing=0.02, num_inference_steps=2)
    by_name = codes(pipe, intensity=0.5, smoothing=0.02, num_inference_steps=2)[0]
    assert torch.equal(codes(pipe, controls=given, num_inference_steps=2)[0], by_name)
    old_order = pipe(speech_like(1.0), RATE, None, 3, 1.25, 1, 1.0, 0.5, generator=seed(), output_type="expression")
    assert torch.equal(old_order.expressions[0], codes(pipe, intensity=0.5)[0])
    with pytest.raises(TypeError, match=r"__call__\(\) got an unexpected keyword argument 'blink_rat'"):
        codes(pipe, blink_rat=3)
    with pytest.raises(FaceTalkError, match="smoothing is for whole clips"):
        pipe.open_stream(RATE, controls=given)
    with pytest.raises(TypeError, match="unexpected keyword argument 'smoothing'"):
        pipe.stream([], RATE, smoothing=0.1)


def test_the_documentation_has_the_tables_of_the_fields():
    module = load_script("docs/options.py")
    for page in module.PAGES_OF_CONTROLS:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert module.with_controls(text) == text, "run python docs/options.py"
        assert all(f"`{item.name}`" in text or f"`--{item.spelling}" in text for item in options_of(MotionControls))


def test_the_declaration_loads_nothing_heavy():
    code = "import sys, facetalk_hf.motion.controls; print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
