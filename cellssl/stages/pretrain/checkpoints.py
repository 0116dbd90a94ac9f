"""checkpoints: a training state in, checkpoint files on disk out, from which a stopped training continues."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cellssl.artifacts.store import SCRATCH
from cellssl.files import atomic_path

if TYPE_CHECKING:
    from cellssl.artifacts.store import Draft
    from cellssl.learning.training.state import TrainState


@dataclass
class Checkpoints:
    """`last.ckpt`, from which training continues, and beside it the state with the lowest validation loss."""

    folder: Path
    saved_step: int = 0

    @classmethod
    def of(cls, draft: Draft) -> Checkpoints:
        """Return the checkpoints of an unfinished result; nothing is created here."""
        return cls(draft.path / SCRATCH)

    @property
    def last(self) -> Path:
        """The file from which training continues."""
        return self.folder / "last.ckpt"

    def best_path(self, step: int) -> Path:
        """Return the file of the state after this step, which had the lowest validation loss."""
        return self.folder / f"lowest-{step}.ckpt"

    def restore(self, state: TrainState) -> bool:
        """Load the last checkpoint of an earlier process; return whether there was one."""
        if not self.last.is_file():
            return False
        state.load(self.last)
        self.saved_step = state.step
        return True

    def restore_best(self, state: TrainState) -> None:
        """Load the state with the lowest validation loss."""
        state.load(self.best_path(state.best.step))

    def save(self, state: TrainState, *logs: TextIO) -> bool:
        """Write `last.ckpt`; return False for infinite or nan weights, which must not replace a good checkpoint.

        The logs are written to disk first, so that a checkpoint never has more steps than the logs.
        """
        if not state.is_finite():
            return False
        for log in logs:
            log.flush()
            os.fsync(log.fileno())
        with atomic_path(self.last) as draft:
            state.save(draft)
        self.saved_step = state.step
        return True

    def save_best(self, state: TrainState, *logs: TextIO) -> None:
        """Keep this state as the best; delete the former best once `last.ckpt` no longer refers to it."""
        kept = self.best_path(state.step)
        with atomic_path(kept) as draft:
            state.save(draft)
        if self.save(state, *logs):
            for path in self.folder.glob("lowest-*.ckpt"):
                if path != kept:
                    path.unlink()
