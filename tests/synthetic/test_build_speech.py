# SPDX-License-Identifier: MIT
"""What training/build_speech.py plans: shards for the hours that are asked for, of the voices that are asked for."""

import argparse
from pathlib import Path

import pytest
from scripts import load_script

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.synthetic.voices import CLIPS, NEURAL_TEST_VOICES, NEURAL_VOICES, TEST_VOICES, VOICES


@pytest.fixture(scope="module")
def script():
    return load_script("training/build_speech.py")


def planned(script, **changes) -> list[tuple]:
    options = {"neural": False, "hours": 5.0, "seed": 0, "voices": []} | changes
    return script.plan(argparse.Namespace(**options), Path("work"))


@pytest.mark.parametrize(
    ("neural", "voices", "tested"), [(False, VOICES, TEST_VOICES), (True, NEURAL_VOICES, NEURAL_TEST_VOICES)]
)
def test_hours_are_about_those_asked_for(script, neural, voices, tested):
    for hours in (1.0, 5.0, 20.0):
        tasks = planned(script, neural=neural, hours=hours)
        assert {task[0] for task in tasks} == set(voices) | set(tested) | {"silence"}
        assert all(task[4].parts[1] == ("test" if task[0] in tested else "train") for task in tasks)
        assert len({task[4] for task in tasks}) == len(tasks)
        clips = sum(task[2] for task in tasks if task[0] in voices)
        assert 0.75 < clips * script.CLIP_SECONDS / 3600 / hours < 1.3
        assert max(task[2] for task in tasks if task[0] != "silence") <= CLIPS


def test_voices_can_be_chosen(script):
    tasks = planned(script, neural=True, hours=0.01, voices=["kokoro-jf_alpha", "kokoro-bf_lily"])
    assert [task[0] for task in tasks] == ["kokoro-bf_lily", "kokoro-jf_alpha", "silence"]
    assert 2 <= tasks[1][2] <= 6
    with pytest.raises(FaceTalkError, match="no voice flite-slt"):
        planned(script, neural=True, voices=["flite-slt"])
