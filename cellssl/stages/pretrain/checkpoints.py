"""checkpoints: a training state in, files on disk from which it resumes out."""

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
    """`last.ckpt` to go on from, and beside it the state of the lowest validation loss."""

    folder: Path
    saved_step: int = 0

    @classmethod
    def of(cls, draft: Draft) -> Checkpoints:
        """Those of a result in the making; nothing is made for them yet."""
        return cls(draft.path / SCRATCH)

    @property
    def last(self) -> Path:
        """The resume point."""
        return self.folder / "last.ckpt"

    def best_path(self, step: int) -> Path:
        """The state after this step, which had the lowest validation loss."""
        return self.folder / f"lowest-{step}.ckpt"

    def restore(self, state: TrainState) -> bool:
        """Go on from where an earlier process was, if one was."""
        if not self.last.is_file():
            return False
        state.load(self.last)
        self.saved_step = state.step
        return True

    def restore_best(self, state: TrainState) -> None:
        """Go back to the state of the lowest validation loss."""
        state.load(self.best_path(state.best.step))

    def save(self, state: TrainState, *logs: TextIO) -> bool:
        """Write `last.ckpt`, and say whether it was: weights that overflowed do not replace a good checkpoint.

        Logs go first, so that a checkpoint never knows more steps than they do.
        """
        if not state.is_finite():
            return False
        for log in logs:
            log.flush()
            os.fsync(log.fileno())
        with atomic_path(self.last) as beside:
            state.save(beside)
        self.saved_step = state.step
        return True

    def save_best(self, state: TrainState, *logs: TextIO) -> None:
        """Keep this state; the one before is forgotten when `last.ckpt` no longer speaks of it."""
        kept = self.best_path(state.step)
        with atomic_path(kept) as beside:
            state.save(beside)
        if self.save(state, *logs):
            for path in self.folder.glob("lowest-*.ckpt"):
                if path != kept:
                    path.unlink()
