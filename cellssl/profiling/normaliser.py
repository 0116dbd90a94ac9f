"""normaliser: a chain of names or tables in a recipe -> its links; base class of all files in the folder `normalisers`.

A link may have two parts. Its *pooled* part is fitted once on cells of all plates, saved, and applied as saved to a
later plate. Its *per-plate* part is fitted on the controls of every plate, also on those of a later one.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from cellssl.config.settings import FROM_CARD, Plugin, PluginField

FOLDER = "cellssl.profiling.normalisers"
RENAMED = {"pca_whiten": "pca"}
"""Former name of a link -> its name today. A recipe with a former name gets an error that says so."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ReferenceRows:
    """The rows that the pooled part of a link is fitted on, as the links before it leave them."""

    x: Float[np.ndarray, "n d"]
    plate: Int[np.ndarray, "n"]
    """Number of the plate of every row."""
    is_control: Bool[np.ndarray, "n"]
    """The controls among them. The other rows only help where controls do not vary."""


class NormaliserSettings(Plugin):
    """Base class for the settings of a link of a chain, which fit it and apply it."""

    of_plate: ClassVar[bool] = False
    """Whether the link has a part that is fitted on the controls of every plate."""
    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "nothing"
    """The rows of all plates that its pooled part is fitted on; "nothing" where it has none."""

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the pooled part. Raises DataError where the rows give none, as where all of them are equal."""
        return {}

    def fit_plate(self, controls: Float[np.ndarray, "m d"], pooled: Arrays) -> Arrays:
        """Return the part of one plate; one control is enough, but gives no scale."""
        return {}

    @abstractmethod
    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n _"]:
        """Return the rows transformed, each by itself, in their own dtype. `arrays` are the pooled part and that of the
        plate."""

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Return the number of features that come out; raise KeyError or ValueError where a pooled part is forged."""
        return dim


def check_array(pooled: Arrays, name: str, shape: tuple[int, ...], *, positive: bool = False) -> np.ndarray:
    """Return a stored array; raise KeyError or ValueError where it has another shape or is not made of numbers.

    A `positive` array may hold infinity: the scale of a feature that becomes 0.
    """
    array = pooled[name]
    if array.dtype.kind != "f" or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} of the shape {array.shape}, not numbers of the shape {shape}")
    if not ((array > 0).all() if positive else np.isfinite(array).all()):
        raise ValueError(f"{name} has numbers that cannot be")
    return array


def check_axes(pooled: Arrays, name: str, dim: int) -> int:
    """Return the number of stored axes, each of `dim` features; raise KeyError or ValueError where they are forged."""
    count = len(pooled[name]) if pooled[name].ndim == 2 else 0
    if not 1 <= count <= dim:
        raise ValueError(f"{name} are {count} axes of {dim} features")
    check_array(pooled, name, (count, dim))
    return count


def _links(given: Any, info: Any) -> Any:  # ValidationInfo of pydantic, which cannot be checked while tests run
    """Return the links of a chain as a tuple: "none" has no link, a name or a table is a chain of one."""
    links = (given,) if isinstance(given, str | dict | Plugin) else given
    if links == ("none",):
        return ()
    if not isinstance(links, list | tuple):
        raise _fault("must be a list of links, each a name or a table with a name", "cellssl explain normalisers")
    of_card = bool(info.context and info.context.get(FROM_CARD))
    return tuple(_with_name_of_today(link, of_card) for link in links)


def _with_name_of_today(link: Any, of_card: bool) -> Any:
    name = link.get("name") if isinstance(link, dict) else link
    if name == "none":
        raise _fault('"none" cannot be a link among others', "leave it out, or write [] for no normalisation")
    if not isinstance(name, str) or name not in RENAMED:
        return link
    if not of_card:
        raise _fault(f"{name!r} was renamed to {RENAMED[name]!r}", f"write {RENAMED[name]} instead")
    return {**(link if isinstance(link, dict) else {}), "name": RENAMED[name]}


def _fault(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("fault", "{message}", {"path": (), "message": message, "hint": hint})


Link = Annotated[NormaliserSettings, PluginField(FOLDER)]
Written = Literal["none"] | tuple[Literal["none"]] | Link | tuple[Link, ...]
ChainSettings = Annotated[tuple[Link, ...], BeforeValidator(_links, json_schema_input_type=Written)]
"""The type of a field that holds a chain: a list of names or tables, one of them alone, or "none"."""


def chain(*links: str | Mapping[str, Any]) -> tuple[NormaliserSettings, ...]:
    """Return the links of a chain by their names or tables, as for the default of a field."""
    choose = PluginField(FOLDER).choose
    found = (choose(dict(link) if isinstance(link, Mapping) else link) for link in links)
    return tuple(link for link in found if isinstance(link, NormaliserSettings))


def chain_names(links: tuple[NormaliserSettings, ...]) -> list[str]:
    """Return the names of the links."""
    return [link.plugin_name() for link in links]
