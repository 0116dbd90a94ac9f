"""end_forecast: the steps of a training as they are done in; when it will end, in words and once, out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cellssl.durations import clock_after, in_words

LONG_STEP_S = 20.0
"""After one step that takes longer, the end is known well enough; otherwise after several."""
MEASURED_S = 10.0
STEPS = 3
LONG_S = 12 * 3600
"""A training that takes longer gets a warning, with the settings that make it shorter."""


@dataclass
class EndForecast:
    """Says when a training ends, once, after its first steps; a first step of several is slower and not counted."""

    at_latest: bool = False
    """Whether it may end earlier, by early stopping."""
    is_said: bool = False
    _began_s: float = field(default_factory=time.monotonic)
    _first: tuple[int, float] | None = None

    def after(self, step: int, total: int) -> str | None:
        """Return when the training ends, after this step; None where that is not known yet, or was said."""
        now_s = time.monotonic()
        if self._first is None:
            self._first = step, now_s
            if now_s - self._began_s < LONG_STEP_S:
                return None
        since, seconds = step - self._first[0], now_s - self._first[1]
        if self.is_said or step >= total or not (since == 0 or (since >= STEPS and seconds >= MEASURED_S)):
            return None
        self.is_said = True
        step_s = seconds / since if since else now_s - self._began_s
        return end_in_words((total - step) * step_s, at_latest=self.at_latest)


def end_in_words(left_s: float, *, at_latest: bool = False) -> str:
    """Return when a training with so many seconds left ends; above 12 hours with what makes it shorter."""
    words = f"ends {'at the latest ' if at_latest else ''}about {clock_after(left_s)}, in {in_words(left_s)}"
    return words if left_s <= LONG_S else f"{words}; {too_long()}"


def too_long() -> str:
    """Return a warning, with the settings that make a training shorter."""
    return (
        "warning: that is more than 12 hours. Shorter with fewer pretrain.epochs, a smaller pretrain.input_px, "
        'pretrain.encoder = "small", fewer cells (split.cells_per_class, fetch.sample), or on a GPU'
    )
