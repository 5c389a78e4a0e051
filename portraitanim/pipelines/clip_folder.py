"""Finished clips of a video in the making, on disk: an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraitanim.errors import InputError
from portraitanim.media.files import discard, whole_file, write_error

logger = logging.getLogger(__name__)

_JOB = "job.json"
_CLIP_NAME = re.compile(r"clip-\d{6,}\.safetensors")
_OWN_NAME = re.compile(r"(job(\.partial)?\.json|(clip-\d{6,}|step)(\.partial)?\.safetensors)")

SECONDS_BETWEEN_STEPS = 30.0
"""A slow clip's latents are kept this often, so that less than a minute of work can be lost."""


def work_folder(output: Path) -> Path:
    """Where the finished clips of a video lie until it is complete: ``clip.mp4`` has ``clip.mp4.work``."""
    return output.with_name(f"{output.name}.work")


class ClipFolder:
    """A `ClipStore` on disk. Latents are kept as they are, so a resumed video has the same frames.

    Args:
        folder: from `work_folder`.
        job: everything that decides what the frames look like, as plain data. A folder of another job is refused.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder = folder
        self._job = job
        self._saved_at = time.monotonic()
        self.num_restored = 0

    def open(self, *, resume: bool) -> int:
        """Find what an interrupted run left. The folder itself is made with the first finished clip.

        Args:
            resume: go on with what is there; without, an unfinished run of the same job is refused, since nobody
                wants to lose hours by leaving out a word.

        Returns:
            The number of clips that are there already.

        Raises:
            InputError: there is an unfinished run and ``resume`` is off, it is one of another job, or the folder holds
                files that no run has put there.
        """
        found = self._read_job()
        count = sum(_CLIP_NAME.fullmatch(file.name) is not None for file in self.folder.glob("clip-*"))
        if found is not None and found != self._job:
            differing = sorted(key for key in {*found, *self._job} if found.get(key) != self._job.get(key))
            if resume:
                raise InputError(
                    f"The unfinished run in {self.folder} was started with another {', '.join(differing)}. "
                    "Use the options it was started with, or leave out --resume to start anew."
                )
            logger.warning("An unfinished run of another job in %s is dropped.", self.folder)
            self.remove()
            found, count = None, 0
        if found is not None and not resume:
            raise InputError(
                f"An earlier run of this job was interrupted; what it had done is kept in {self.folder}. "
                "Add --resume to go on, or delete that folder to start anew."
            )
        if found is None:
            if resume:
                logger.warning("There is nothing to resume in %s; starting from the beginning.", self.folder)
            self._check_own()
            self.remove()
            count = 0
        return count

    def _check_own(self) -> None:
        """Somebody's own folder may have the name: it must not be deleted."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            foreign = [self.folder]
        else:
            foreign = [file for file in self.folder.glob("*") if not _OWN_NAME.fullmatch(file.name)]
        if foreign:
            raise InputError(
                f"{self.folder} is needed for this run, but {foreign[0].name} there does not come from an earlier one. "
                "Move it away, or choose another --output."
            )

    def load(self, number: int) -> tuple[Tensor, Tensor | None] | None:
        """See `ClipStore.load`; a damaged file counts as absent."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            logger.warning("%s cannot be read (%s); the clip is made again.", path, error)
            return None
        self.num_restored += 1
        return tensors["latents"], tensors.get("generator_state")

    def save(self, number: int, latents: Tensor, generator_state: Tensor | None) -> None:
        """See `ClipStore.save`.

        Raises:
            MediaError: the disk is full or refuses.
        """
        tensors = {"latents": latents.detach().cpu().contiguous()}
        if generator_state is not None:
            tensors["generator_state"] = generator_state.cpu()
        self._write(self._path(number), tensors)

    def load_step(self, number: int) -> tuple[int, Tensor] | None:
        """See `ClipStore.load_step`."""
        try:
            tensors = load_file(self._step_path)
        except (SafetensorError, OSError):
            return None
        if int(tensors["number"]) != number:
            return None
        logger.info("Going on after step %d of clip %d.", int(tensors["num_steps_done"]), number)
        return int(tensors["num_steps_done"]), tensors["latents"]

    def save_step(self, number: int, num_steps_done: int, latents: Tensor) -> None:
        """See `ClipStore.save_step`; at most one is kept in `SECONDS_BETWEEN_STEPS`, the newest.

        Raises:
            MediaError: the disk is full or refuses.
        """
        if time.monotonic() - self._saved_at < SECONDS_BETWEEN_STEPS:
            return
        self._write(
            self._step_path,
            {
                "latents": latents.detach().cpu().contiguous(),
                "number": torch.tensor(number),
                "num_steps_done": torch.tensor(num_steps_done),
            },
        )

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        discard(self.folder)

    def _write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        if self._read_job() is None:
            with whole_file(self.folder / _JOB) as partial:
                partial.write_text(json.dumps(self._job, indent=2, sort_keys=True), encoding="utf-8")
        with whole_file(path) as partial:
            try:
                save_file(tensors, partial)
            except SafetensorError as error:
                raise write_error(path, error) from error
        self._saved_at = time.monotonic()

    @property
    def _step_path(self) -> Path:
        return self.folder / "step.safetensors"

    def _path(self, number: int) -> Path:
        return self.folder / f"clip-{number:06d}.safetensors"

    def _read_job(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None
