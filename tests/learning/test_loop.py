# SPDX-License-Identifier: MIT
"""The training loop: what is minimised, averaged, logged, kept and taken up again."""

import shutil

import pytest
import torch
from diffusers.training_utils import EMAModel

from facetalk_hf.errors import FaceTalkError
from facetalk_hf.learning.checkpointing import checkpoints
from facetalk_hf.learning.loop import Event, Trainer, TrainingOptions


class Counter:
    """Something that is carried on from step to step."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.count = state["count"]


def train(folder, steps=7, break_at=None, events=(), spoil=None, **options):
    """Fit a line; the module, and the losses that were seen."""
    given = {"max_train_steps": steps, "checkpointing_steps": 2, "ema_decay": 0.9, "batch_size": 3} | options
    trainer = Trainer(TrainingOptions(output_dir=folder, **given), "line")
    torch.manual_seed(0)
    module, counter, seen = torch.nn.Linear(4, 1), Counter(), []
    optimizer = torch.optim.Adam(module.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def batches():
        for step in trainer.steps:
            if step == break_at:
                raise KeyboardInterrupt
            yield torch.randn(3, 4, generator=torch.Generator().manual_seed(step))

    def loss(model, batch):
        counter.count += 1
        noise = torch.randn(3, 1)  # from the global generator, whose state is in the checkpoints
        error = (model(batch) - batch.sum(1, keepdim=True) + 0.1 * noise).square().mean(1) * counter.count
        seen.append(error.mean().item())
        return {"loss": error * (float("nan") if len(seen) == spoil else 1), "count": error.new_tensor(counter.count)}

    trainer.run(module, optimizer, schedule, batches(), loss, events, state=[counter])
    trainer.close()
    return module, seen, trainer


def test_a_run_that_was_broken_off_ends_with_the_same_bits(tmp_path):
    whole, losses, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", break_at=5)
    assert [path.name for path in checkpoints(tmp_path / "broken")] == ["checkpoint-2", "checkpoint-4"]
    again, rest, trainer = train(tmp_path / "broken", resume=True)
    assert trainer.first_step == 4 and rest == losses[4:]
    assert torch.equal(whole.weight, again.weight)
    done, nothing, _ = train(tmp_path / "broken", resume=True)  # finished already: the same weights, no step
    assert not nothing and torch.equal(whole.weight, done.weight)


def test_what_a_run_left_that_was_killed_after_its_last_checkpoint_is_taken_away(tmp_path):
    train(tmp_path)
    shutil.copytree(tmp_path / "checkpoint-6", tmp_path / "checkpoint-2")
    shutil.copytree(tmp_path / "checkpoint-6", tmp_path / ".checkpoint-4")
    train(tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-6", "checkpoint-7"]


def test_the_result_is_the_average_and_events_see_it(tmp_path):
    seen = []

    def look(step):
        seen.append((step, module_weight()))
        return {"norm": 1.0}

    module = {}
    linear = torch.nn.Linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn, "Linear", lambda *args: module.setdefault("it", linear(*args)))

        def module_weight():
            return module["it"].weight.detach().clone()

        train(tmp_path / "a", events=[Event(3, look), Event(4, look, at_end=False), Event(0, look)])
    assert [step for step, _ in seen] == [3, 4, 6, 7]
    assert torch.equal(seen[-1][1], module["it"].weight)
    plain, *_ = train(tmp_path / "b", ema_decay=0)
    assert not torch.equal(plain.weight, module["it"].weight)
    # It is diffusers' average of the weights of each step, which looking at it does not disturb.
    average = EMAModel([torch.nn.Parameter(torch.zeros(1, 4))], 0.9, foreach=True)
    for steps in range(1, 8):
        weights, *_ = train(tmp_path / f"c{steps}", steps=steps, ema_decay=0)
        average.step([weights.weight])
    torch.testing.assert_close(average.shadow_params[0], module["it"].weight.detach())


def test_no_checkpoints_no_events(tmp_path):
    train(tmp_path, checkpointing_steps=0)
    assert not checkpoints(tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FaceTalkError, match=r"line: .*step 4 \(samples 12 to 14 of seed 0.*checkpoint-4"):
        train(tmp_path, spoil=5)


def test_checkpoints_are_not_overwritten_unasked(tmp_path):
    train(tmp_path)
    with pytest.raises(FaceTalkError, match="--resume"):
        train(tmp_path)
