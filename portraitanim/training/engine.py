"""The training loop: steps, checkpoints, resuming, and ends that lose nothing."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from portraitanim.config.training import EngineConfig
from portraitanim.errors import CheckpointError, MediaError, PortraitAnimError, TrainingError
from portraitanim.media.files import whole_file, write_error
from portraitanim.progress import ProgressReporter, SilentProgress
from portraitanim.training.checkpoint import (
    checkpoint_folder,
    list_checkpoints,
    read_checkpoint,
    whole_folder,
    write_checkpoint,
)
from portraitanim.training.ema import MovingAverage
from portraitanim.training.optimizer import learning_rate, make_optimizer
from portraitanim.training.run_setup import TrainingResult, make_accelerator
from portraitanim.training.sharding import (
    gather,
    module_to_spread,
    restore_whole_optimizer,
    spread_like,
    weights_in,
    whole_optimizer,
)
from portraitanim.training.stopping import OrderlyStop, leave_signals_to_the_trainer
from portraitanim.training.task import SampleSource, StepSampler, TrainingTask, move
from portraitanim.training.zero import gradient_norm, gradients_together, is_zero

logger = logging.getLogger(__name__)

WEIGHTS = "weights"
"""Folder of the run with the weights that the rest of the package reads."""
LOG = "log.jsonl"
VALIDATION = "validation"


class TrainingEngine:
    """Trains a task, on one device or on as many as ``accelerate launch`` started.

    Every random choice belongs to a sample and is drawn from its number, so a run that is resumed, or shared by another
    number of processes, reads what the uninterrupted one reads.

    Args:
        task: what is trained.
        config: how.
        output: folder of the run: checkpoints, log, weights.
        settings: the resolved config, written into the folder.
        progress: shows the steps.
        device: ``None`` lets accelerate choose, ``"cpu"`` keeps it from a GPU.
        validate: called with a folder and the number of the step; the numbers that it returns are logged.
        validate_every_steps: how often; 0 is never.
    """

    def __init__(
        self,
        task: TrainingTask,
        config: EngineConfig,
        output: Path,
        settings: dict[str, Any] | None = None,
        progress: ProgressReporter | None = None,
        device: str | None = None,
        validate: Callable[[Path, int], dict[str, float]] | None = None,
        validate_every_steps: int = 0,
    ) -> None:
        self.task, self.config, self.output = task, config, Path(output)
        self.progress = progress or SilentProgress()
        self.settings = settings or {}
        self.validate, self.validate_every_steps = validate, validate_every_steps
        self.accelerator = make_accelerator(config, self.output, device)
        torch.manual_seed(config.seed)
        self.is_spread = self.accelerator.is_fsdp2
        module = module_to_spread(self.accelerator, task.module) if self.is_spread else task.module
        optimizer = make_optimizer([p for p in module.parameters() if p.requires_grad], config)
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.is_zero = is_zero(self.optimizer)
        if self.is_zero:
            gradients_together(module)
        # Only now, since accelerate may have put other parameters in their places.
        self.learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = None if config.ema_decay is None else MovingAverage(self.learning, config.ema_decay)
        self.step = 0
        self._stop = OrderlyStop()

    def run(self, resume: bool = False) -> TrainingResult:
        """Make the steps that are left, then write the weights.

        Args:
            resume: go on from the newest checkpoint in the output folder, if there is one.

        Raises:
            TrainingError: the loss or gradient is not finite, the disk is full, or the process was told to end; the
                message names the state that is left.
            CheckpointError: the folder holds checkpoints and ``resume`` is off, or one does not fit.
        """
        self._begin(resume)
        started, losses = time.monotonic(), deque[float](maxlen=100)
        if self.step >= self.config.num_steps:
            logger.info("The run has made %d steps, engine.num_steps is %d.", self.step, self.config.num_steps)
            if not (self.output / WEIGHTS).is_dir():  # it was killed between its last checkpoint and its weights
                self.save()
        try:
            with self._stop.listening(), self.progress.task("training", self.config.num_steps - self.step) as shown:
                for loss in self._steps():
                    if math.isfinite(loss):
                        losses.append(loss)
                    shown.advance()
                    due, stop = self.step % self.config.checkpoint_every_steps == 0, self._stop.agreed(self.accelerator)
                    if due or stop or self.step == self.config.num_steps:
                        self.save()
                    if self.validate_every_steps and self.step % self.validate_every_steps == 0:
                        self._validate()
                    if stop and self.step < self.config.num_steps:
                        raise TrainingError(
                            f"Stopped by {stop} after step {self.step} of {self.config.num_steps}. "
                            f"The state is in {checkpoint_folder(self.output, self.step)}; --resume goes on from there."
                        )
        except MediaError as error:
            raise TrainingError(f"{error} {self._last_state()}") from error
        finally:
            self.accelerator.end_training()
        return TrainingResult(
            output=self.output,
            weights=self.output / WEIGHTS,
            num_steps=self.step,
            loss=sum(losses) / len(losses) if losses else None,
            seconds=time.monotonic() - started,
        )

    def save(self) -> None:
        """Write a checkpoint, and the weights as the package reads them."""
        self.accelerator.wait_for_everyone()
        is_main = self.accelerator.is_main_process
        optimizer, values = whole_optimizer(self.optimizer, self.learning, is_main)
        tensors = {"parameters": gather(self.learning, is_main), "optimizer": optimizer}
        if self.average is not None:
            tensors["average"] = gather(self.average.values, is_main)
        if is_main:
            state: dict[str, Any] = {"step": self.step, "optimizer": values, "settings": self.settings}
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            folder = checkpoint_folder(self.output, self.step)
            write_checkpoint(folder, tensors, state, self.config.keep_checkpoints)
            kept = tensors.get("average", tensors["parameters"])
            with self._kept_weights(kept), whole_folder(self.output / WEIGHTS) as partial:
                self.task.save(partial, self.accelerator.device)
        self.accelerator.wait_for_everyone()

    def _begin(self, resume: bool) -> None:
        found = list_checkpoints(self.output)
        if found and not resume:
            raise CheckpointError(
                f"{self.output} holds {found[-1].name} of an earlier run. Go on from it with --resume, or choose "
                "another --output."
            )
        if found:
            self._restore(found[-1])
        if self.accelerator.is_main_process:
            with whole_file(self.output / "config.json") as partial:
                partial.write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
            self._shorten_log()
        if self.accelerator.log_with:
            # TensorBoard is told, too, that what a killed run logged behind its checkpoint does not count.
            tensorboard = {"purge_step": self.step + 1} if found else {}
            self.accelerator.init_trackers("logs", init_kwargs={"tensorboard": tensorboard})

    def _restore(self, folder: Path) -> None:
        tensors, state = read_checkpoint(folder)
        saved = tensors.get("parameters", {})
        if set(saved) != set(self.learning) or any(saved[n].shape != p.shape for n, p in self.learning.items()):
            raise CheckpointError(
                f"{folder} holds other parameters than this config trains. Resume with the config that it was made "
                "with, or choose another --output."
            )
        with torch.no_grad():
            for name, parameter in self.learning.items():
                parameter.copy_(spread_like(saved[name], parameter))
        if self.average is not None:
            average = tensors.get("average", saved)
            self.average.load({name: spread_like(average[name], p) for name, p in self.learning.items()})
        restore_whole_optimizer(self.optimizer, self.learning, tensors["optimizer"], state["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]

    def _steps(self) -> Iterator[float]:
        """Make step after step; yields the loss of each."""
        total, first, logged = 0.0, time.monotonic(), self.step
        for micro, batch in enumerate(self._loader(), 1):
            if isinstance(batch, PortraitAnimError):
                raise batch
            batch = move(batch, self.accelerator.device)
            # Before the backward pass, at whose end DeepSpeed makes the step.
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.config)
            with self.accelerator.accumulate(self.module):
                with self.accelerator.autocast():
                    loss, parts = self.module(batch)
                self.accelerator.backward(loss)
                total += float(loss.detach()) / self.config.accumulation_steps
                if not self.accelerator.sync_gradients:
                    continue
                self._update(total)
            self.step += 1
            if self.step % self.config.log_every_steps == 0 or self.step == self.config.num_steps:
                self._log(total, parts, (time.monotonic() - first) / (self.step - logged))
                first, logged = time.monotonic(), self.step
            paused = time.monotonic()
            yield total
            first += time.monotonic() - paused  # saving and validating are no part of a step's time
            total = 0.0
            assert micro % self.config.accumulation_steps == 0

    def _update(self, loss: float) -> None:
        if self.is_zero:
            norm = gradient_norm(self.module)
        else:
            norm = float(self.accelerator.clip_grad_norm_(list(self.learning.values()), self.config.max_gradient_norm))
        # With fp16 a gradient that is not finite is normal: the scaler skips the step and scales less.
        finite = math.isfinite(loss) and (self.accelerator.scaler is not None or math.isfinite(norm))
        if not finite:
            raise TrainingError(
                f"The loss of step {self.step + 1} is {loss:.4g} and the gradient's norm {norm:.4g}: not "
                f"finite. {self._last_state()} Try a smaller engine.learning_rate, or engine.mixed_precision=fp32."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.learning, self.step + 1)

    def _loader(self) -> DataLoader:
        sampler = StepSampler(
            self.step,
            self.config.num_steps,
            self.config.batch_size,
            self.config.accumulation_steps,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        samples = SampleSource(self.task)
        return DataLoader(
            samples,
            batch_sampler=sampler,
            collate_fn=samples.collate,
            num_workers=self.config.num_workers,
            worker_init_fn=leave_signals_to_the_trainer,
            persistent_workers=False,
        )

    def _log(self, loss: float, parts: dict[str, Tensor], seconds_per_step: float) -> None:
        values = {
            "loss": loss,
            **{name: float(value) for name, value in parts.items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds_per_step": seconds_per_step,
        }
        self._write_log(values)

    def _write_log(self, values: dict[str, float]) -> None:
        logger.info("Step %d: %s", self.step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        self.accelerator.log(values, step=self.step)
        if self.accelerator.is_main_process:
            path = self.output / LOG
            try:
                with path.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"step": self.step, **values}) + "\n")
            except OSError as error:
                raise write_error(path, error) from error

    def _shorten_log(self) -> None:
        """Drop what a run that was killed logged behind its checkpoint: those steps are made, and logged, again."""
        path = self.output / LOG
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step]
        if len(kept) < len(lines):
            with whole_file(path) as partial:
                partial.write_text("".join(kept), encoding="utf-8")

    def _validate(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.validate is not None:
            values = self.learning if self.average is None else self.average.values
            whole = gather(values, self.accelerator.is_main_process)
            if self.accelerator.is_main_process:
                folder = self.output / VALIDATION
                with self._kept_weights(whole):
                    measured = self.validate(folder, self.step)
                self._write_log({f"validation_{name}": value for name, value in measured.items()})
        self.accelerator.wait_for_everyone()

    def _kept_weights(self, values: dict[str, Tensor]) -> AbstractContextManager[None]:
        """Within the block, the task's module has the weights of the main process that are written and validated."""
        if self.is_spread:
            return weights_in(self.task.module, values, self.accelerator.device)
        return nullcontext() if self.average is None else self.average.applied(self.learning)

    def _last_state(self) -> str:
        found = list_checkpoints(self.output)
        if not found:
            return "No checkpoint had been written yet."
        return f"The last good state is intact in {found[-1]}; --resume goes on from there."
