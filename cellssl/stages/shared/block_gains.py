"""block_gains: what each block of joined vectors adds, as frozen objects; JSON for a card out, and the same back in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Bounds = tuple[float, float]
"""Lower and upper end of a 95 % interval."""
Finding = Literal["adds", "takes away", "unclear"]


@dataclass(frozen=True)
class BlockGain:
    """What one block adds to the others, by one score: balanced accuracy, or AMI of clusters and label."""

    without: float
    """The score of all other blocks together."""
    alone: float
    """The score of this block alone."""
    difference: float
    """The score of all blocks less that without this one."""
    interval: Bounds | None
    """95 % interval of the difference, paired; None where it is not known."""

    @property
    def finding(self) -> Finding:
        """Whether the interval of the difference is above 0, below 0, or includes it."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "unclear"
        return "adds" if self.difference > 0 else "takes away"


@dataclass(frozen=True)
class BlockGains:
    """What every block adds under one scheme of training and testing, or to clusters."""

    resampled: str
    """What the bootstrap draws: plates, wells or cells."""
    groups: int
    """How many of them there are."""
    gains: Mapping[str, Mapping[str, BlockGain]]
    """Classifier, or `ami` -> block -> what it adds."""

    def to_json(self) -> dict[str, Any]:
        """Return the numbers ready for JSON."""
        gains = {
            classifier: {block: asdict(gain) | {"finding": gain.finding} for block, gain in of_blocks.items()}
            for classifier, of_blocks in self.gains.items()
        }
        for of_blocks in gains.values():
            for gain in of_blocks.values():
                gain["interval"] = None if gain["interval"] is None else list(gain["interval"])
        names = list(next(iter(self.gains.values()), ()))  # keys of a file are sorted
        return {"names": names, "resampled": self.resampled, self.resampled: self.groups, **gains}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BlockGains:
        """Return the numbers that `to_json` wrote."""
        resampled = content["resampled"]
        gains = {name: value for name, value in content.items() if isinstance(value, dict)}
        return cls(
            resampled,
            content[resampled],
            {name: {block: _gain(of[block]) for block in content["names"]} for name, of in gains.items()},
        )


def _gain(content: Mapping[str, Any]) -> BlockGain:
    bounds = content["interval"]
    interval = None if bounds is None else (bounds[0], bounds[1])
    return BlockGain(content["without"], content["alone"], content["difference"], interval)
