"""What of the settings counts in a fingerprint."""

import pytest

from cellssl.datasets import simulated
from cellssl.stages.fetch.settings import Settings


def test_a_part_whose_file_gives_other_results_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Settings.model_validate({"dataset": "simulated"})
    before = fetch.fingerprint_values()
    monkeypatch.setattr(simulated, "ALGORITHM", simulated.ALGORITHM + 1)
    assert fetch.fingerprint_values() != before
    assert fetch.fingerprint_values()["dataset"]["algorithm"] == before["dataset"]["algorithm"] + 1


def test_the_number_of_workers_does_not_count() -> None:
    few, many = (Settings.model_validate({"dataset": {"name": "simulated", "workers": n}}) for n in (1, 8))
    assert few.non_default() == many.non_default()
