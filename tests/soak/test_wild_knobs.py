"""Every knob of every objective at its ends: it trains to a number, or is refused in a sentence with a cure."""

import math
from typing import Any, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from parts.test_objectives import CELLS, FOLDER, NAMES, prepare_small
from pydantic import ValidationError

from cellssl.config import plugins
from cellssl.errors import CellsslError
from cellssl.learning.training.loop import train
from cellssl.learning.training.memory import enough_memory

TOO_LONG = {"n_iterations", "local_crops", "heads", "depth"}
"""Knobs that cost time in proportion: large numbers are honoured, and nobody waits for them here."""


def ends(knob: str, field: Any) -> list[Any]:
    """The ends of what a knob allows, what lies beside them, numbers around that of the cells, and wild ones."""
    bounds = {type(bound): bound for bound in field.metadata if isinstance(bound, Ge | Gt | Le | Lt)}
    low, above = (getattr(bounds.get(kind), word, None) for kind, word in ((Ge, "ge"), (Gt, "gt")))
    high, below = (getattr(bounds.get(kind), word, None) for kind, word in ((Le, "le"), (Lt, "lt")))
    if field.annotation is int:
        large = [] if knob in TOO_LONG else [1000, 10**6, 2**40, 10**20]
        return [low or 0, (low or 0) + 1, CELLS - 1, CELLS, CELLS + 1, *large]
    if field.annotation is float:
        outer = [math.nextafter(below, -math.inf)] if below is not None else [high] if high is not None else [1e4, 1e30]
        inner = [low] if low is not None else [math.nextafter(above, math.inf)] if above is not None else [-1e30]
        return [float(value) for value in (*inner, 1e-30, 1e-3, 0.5, 1.0, 30.0, *outer)]
    return list(get_args(field.annotation)) if field.annotation is not bool else [True, False]


CASES = [
    (name, knob, value)
    for name in NAMES
    for knob, field in plugins.load(FOLDER, name).Settings.model_fields.items()
    for value in ends(knob, field)
    if value is not None and not isinstance(value, type)
]


@pytest.mark.soak
@pytest.mark.parametrize(("name", "knob", "value"), CASES, ids=str)
def test_a_knob_at_its_end_trains_or_is_refused_in_a_sentence(name: str, knob: str, value: Any) -> None:
    more = {"unrelated_weight": 0.01} if (name, knob) == ("dose_aware", "form") else {}
    if knob == "momentum":
        pytest.skip("the branch beside it has another; that these differ is refused elsewhere")
    try:
        with enough_memory("lower it"):
            state, plan = prepare_small(name, **{knob: value, **more})
            losses = [event.metrics["loss"] for event in train(state, plan)]
    except ValidationError:
        return
    except CellsslError as error:
        assert error.message and error.hint, (error.message, error.hint)
        return
    assert losses and all(map(math.isfinite, losses))
