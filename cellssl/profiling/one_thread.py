"""one_thread: numbers that must not depend on the number of cores in; numpy and scikit-learn on one thread."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which the libraries of numpy, scipy and scikit-learn use one thread each."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1)
    return limited


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries of this process: finding them takes 5 ms, as long as a small fit."""
    import sklearn.utils._openmp_helpers  # noqa: F401  - loads OpenMP, so that it is among them

    return ThreadpoolController()
