# SPDX-License-Identifier: MIT
"""The training loop, on Accelerate: accumulation, moving average, whole checkpoints, exact resume, trackers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import FaceTalkError
from ..scripts import REQUIRED, option
from .checkpointing import begin, checkpoints, finish, rotate, step_of


LOG_STEPS = 20
"""Updates from one logged loss to the next."""


@dataclass(kw_only=True)
class TrainingOptions:
    """What the loop needs to know; the scripts in training/ add what their networks need."""

    output_dir: Path = option(REQUIRED, "checkpoints and the result go there")
    batch_size: int = option(32, "samples in a batch, of one process")
    max_train_steps: int = option(1000, "updates")
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm")
    ema_decay: float = option(0.0, "the result is a moving average of the weights; 0 for none")
    seed: int = option(0, "of the weights and of everything that is drawn")
    checkpointing_steps: int = option(1000, "updates from one checkpoint to the next; 0 for none")
    checkpoints_total_limit: int = option(2, "older checkpoints are removed")
    validation_steps: int = option(1000, "updates from one validation to the next; 0 for none")
    resume: bool = option(False, "go on from the last checkpoint in OUTPUT_DIR, if there is one")
    report_to: str | None = option(None, "tensorboard, wandb, trackio, ... (names of Accelerate's trackers)")


class Event(NamedTuple):
    """A function that is called while training goes on, with the weights that will be saved (the average, if any).

    Args:
        every (`int`): updates from one call to the next; 0 for none.
        function: called with the number of updates so far; what it returns, numbers by name, is logged.
        at_end (`bool`): call it after the last update as well.
    """

    every: int
    function: Callable[[int], Mapping[str, float] | None]
    at_end: bool = True


class Trainer:
    """Trains a module: the loop of every script in training/.

    A run that was killed at any moment and is started again with `resume` ends with the same bits as one left in
    peace, if its batches are a function of the seed and the step, and what they carry on is in `state` of [`run`].

    Args:
        options ([`TrainingOptions`]): what is asked for.
        name (`str`): of the run, for the progress bar and the tracker.
        cpu (`bool`): use no accelerator that is there.
        mixed_precision (`str`, *optional*): "no", "fp16" or "bf16"; by default as in `accelerate launch`.
        accumulation (`int`): batches an update.

    Raises:
        FaceTalkError: checkpoints in `output_dir` that are not asked for; an unknown tracker or precision.
    """

    def __init__(
        self,
        options: TrainingOptions,
        name: str,
        *,
        cpu: bool = True,
        mixed_precision: str | None = None,
        accumulation: int = 1,
    ) -> None:
        self.options, self.name = options, name
        trackers = [str(tracker) for tracker in get_available_trackers()]  # members of it equal no string
        if options.report_to and options.report_to not in trackers:
            raise FaceTalkError(f"--report-to {options.report_to} needs a package: pip install {options.report_to}")
        try:
            self.accelerator = Accelerator(
                cpu=cpu,
                mixed_precision=mixed_precision,
                gradient_accumulation_steps=accumulation,
                log_with=options.report_to,
                project_dir=options.output_dir,
            )
        except ValueError as error:
            raise FaceTalkError(f"--mixed-precision {mixed_precision}: {error}") from error
        self.last = next(reversed(checkpoints(options.output_dir)), None)
        if self.last and not options.resume:
            raise FaceTalkError(
                f"{options.output_dir} has checkpoints already; add --resume, or choose another --output-dir"
            )
        self.first_step = step_of(self.last) if self.last else 0
        self.samples_per_update = options.batch_size * self.accelerator.num_processes * accumulation
        self._average: EMAModel | None = None
        self._parameters: list[torch.nn.Parameter] = []

    @property
    def steps(self) -> range:
        """Numbers of the updates that are still to be done; one for each batch where nothing is accumulated."""
        return range(self.first_step, self.options.max_train_steps)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the module, for a while, the weights that will be saved."""
        if self._average:
            self._average.store(self._parameters)
            self._average.copy_to(self._parameters)
        yield
        if self._average:
            self._average.restore(self._parameters)

    def run(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        batches: Iterable[Any],
        loss: Callable[[torch.nn.Module, Any], Mapping[str, torch.Tensor]],
        events: Sequence[Event] = (),
        state: Sequence[Any] = (),
    ) -> None:
        """Train until `max_train_steps`; afterwards the module has its final weights, the average if there is one.

        Args:
            module (`torch.nn.Module`): what is trained and saved in checkpoints.
            optimizer, schedule: of its parameters. The schedule is stepped once an update.
            batches: those from `first_step` on. A `DataLoader` is spread over the processes.
            loss: called with the module, wrapped for several processes, and a batch; returns tensors by name. The mean
                of "loss", a number or one a sample, is minimised, the others are logged.
            events: what is done on the way.
            state: objects with `state_dict` and `load_state_dict` that go into checkpoints as well.

        Raises:
            FaceTalkError: a gradient that is not finite, or with fp16, where gradients overflow now and then and the
                scaler sees to it, a loss that is not.
        """
        accelerator, options = self.accelerator, self.options
        spread = [batches] if isinstance(batches, DataLoader) else []
        model, optimizer, *spread = accelerator.prepare(module, optimizer, *spread)
        # The schedule is not prepared: a prepared one advances once a process. It is stepped here, once an update.
        accelerator.register_for_checkpointing(schedule)
        self._parameters = list(module.parameters())
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if options.ema_decay:
            self._average = EMAModel(self._parameters, options.ema_decay, foreach=True)
            self._average.to(accelerator.device)
            accelerator.register_for_checkpointing(self._average)
        for item in state:
            accelerator.register_for_checkpointing(item)
        if self.last:
            accelerator.load_state(str(self.last))
        if options.report_to:
            plain = {key: value for key, value in vars(options).items() if isinstance(value, int | float | str)}
            accelerator.init_trackers(self.name, plain)
        bar = tqdm(
            total=options.max_train_steps, initial=self.first_step, desc=self.name,
            disable=not accelerator.is_main_process,
        )  # fmt: skip
        step, running = self.first_step, None
        shown: dict[str, str] = {}
        for batch in spread[0] if spread else batches:
            with accelerator.accumulate(model):
                terms = loss(model, batch)
                accelerator.backward(terms["loss"].mean())
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trained, options.max_grad_norm)
                    self._check(step, norm, terms["loss"].detach())
                optimizer.step()
                optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            schedule.step()
            if self._average:
                self._average.step(self._parameters)
            step += 1
            bar.update()
            last = step == options.max_train_steps
            if step % LOG_STEPS == 0 or last:
                values = {key: accelerator.reduce(term.detach().mean(), "mean").item() for key, term in terms.items()}
                running = values["loss"] if running is None else 0.95 * running + 0.05 * values["loss"]
                rate = schedule.get_last_lr()[0]
                shown |= {"loss": f"{running:.4f}", "lr": f"{rate:.1e}"}
                accelerator.log(values | {"lr": rate}, step)
                bar.set_postfix(shown, refresh=False)
            for event in events:
                if event.every and (step % event.every == 0 or (last and event.at_end)):
                    with self.averaged():
                        found = event.function(step)
                    if found:
                        accelerator.log(dict(found), step)
                        said = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
                        if accelerator.is_main_process:
                            bar.write(f"step {step}: {said}")
            if options.checkpointing_steps and (step % options.checkpointing_steps == 0 or last):
                self._save(step)
        bar.close()
        accelerator.wait_for_everyone()
        if options.checkpointing_steps and accelerator.is_main_process:
            # A run that was killed after its last checkpoint has not taken the older ones away.
            rotate(options.output_dir, options.checkpoints_total_limit)
        if self._average:
            self._average.copy_to(self._parameters)

    def close(self) -> None:
        """End the trackers and the group of processes."""
        self.accelerator.end_training()

    def _check(self, step: int, norm: torch.Tensor, losses: torch.Tensor) -> None:
        """Stop for a gradient that is not finite: the mean over all processes, so all of them stop together."""
        if self.accelerator.scaler is not None:
            norm = self.accelerator.reduce(losses.mean())
        if torch.isfinite(norm):
            return
        self.accelerator.wait_for_everyone()
        last, count = checkpoints(self.options.output_dir), self.samples_per_update
        raise FaceTalkError(
            f"{self.name}: the gradient is not finite at step {step} (samples {step * count} to "
            f"{(step + 1) * count - 1} of seed {self.options.seed}, losses {losses.tolist()}); last good checkpoint: "
            f"{last[-1] if last else 'none'}; try a lower learning rate"
        )

    def _save(self, step: int) -> None:
        """Write the state of all processes beside its place, rename it, remove the oldest."""
        accelerator, target = self.accelerator, self.options.output_dir / f"checkpoint-{step}"
        if accelerator.is_main_process:
            begin(target)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(target.with_name(f".{target.name}")))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            finish(target)
            rotate(self.options.output_dir, self.options.checkpoints_total_limit)
