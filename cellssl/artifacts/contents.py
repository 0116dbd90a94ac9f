"""contents: an artifact in; its JSON files, and the values of its card in the types that a stage needs, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cellssl.artifacts.card import is_shared_model
from cellssl.artifacts.store import Artifact, cure_of_shared
from cellssl.bounded import parse_json, read_bytes, read_json
from cellssl.errors import IntegrityError, reason_of

LINES_BYTES = 2**30
"""Size of the largest log or table of text in an artifact that is read."""
Shape = TypeVar("Shape")
Built = TypeVar("Built")


def not_as_written(artifact: Artifact, name: str, why: str) -> IntegrityError:
    """Return the error for a file of an artifact, or a part of its card, that holds something that no stage writes."""
    cure = "make the artifact again with --force, or get it again from where it came from"
    if is_shared_model(artifact.card):
        cure = cure_of_shared(artifact.path)
    return IntegrityError(f"{artifact.path / name} is not as a stage writes it: {why}", hint=cure)


def read_json_file(artifact: Artifact, name: str) -> Any:
    """Return the content of a JSON file of an artifact; IntegrityError where it is none."""
    path = artifact.file(name)
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise not_as_written(artifact, name, str(error)) from error


def read_json_of(artifact: Artifact, name: str, shape: type[Shape]) -> Shape:
    """Return the content of a JSON file of an artifact, which must have the types of `shape`."""
    return _shaped(artifact, name, shape, read_json_file(artifact, name))


def read_text(artifact: Artifact, name: str) -> str:
    """Return a text file of an artifact; IntegrityError where it is none."""
    path = artifact.file(name)
    try:
        return read_bytes(path, LINES_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise not_as_written(artifact, name, str(error)) from error


def read_json_lines(artifact: Artifact, name: str, shape: type[Shape]) -> list[Shape]:
    """Return the values of a file with one JSON value in every line, each of the types of `shape`."""
    try:
        lines = [parse_json(line) for line in read_text(artifact, name).splitlines()]
    except ValueError as error:
        raise not_as_written(artifact, name, str(error)) from error
    return [_shaped(artifact, name, shape, line) for line in lines]


def metrics_of(artifact: Artifact, shape: type[Shape]) -> Shape:
    """Return those metrics of a card that `shape`, a pydantic model, names, in its types.

    Raises IntegrityError where one is missing or of another type: a card may come from anyone.
    """
    return _shaped(artifact, "artifact.json", shape, artifact.card.metrics, "metrics")


def section_of(artifact: Artifact, shape: type[Shape]) -> Shape:
    """Return those settings of a card that `shape` names, in its types; IntegrityError as above."""
    return _shaped(artifact, "artifact.json", shape, artifact.card.section, "section")


def input_of(artifact: Artifact, name: str) -> str:
    """Return the fingerprint of an input of an artifact; IntegrityError where its card names no such input."""
    found = artifact.card.inputs.get(name)
    if found is None:
        raise not_as_written(artifact, "artifact.json", f"it was made from no {name}")
    return found


def built_of_metrics(artifact: Artifact, build: Callable[[Mapping[str, Any]], Built], shape: type[Built]) -> Built:
    """Return the dataclass `shape` that `build` makes of the metrics of a card, with its types checked."""
    try:
        found: Any = build(artifact.card.metrics)
        built: Built = _adapter(shape).validate_python(asdict(found))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise not_as_written(artifact, "artifact.json", f"metrics: {reason_of(error)}") from error
    return built


def _shaped(artifact: Artifact, name: str, shape: type[Shape], value: Any, part: str = "") -> Shape:
    try:
        shaped: Shape = _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, [*([part] if part else []), *first["loc"]]))
        raise not_as_written(artifact, name, f"{where}: {first['msg']}" if where else first["msg"]) from error
    return shaped


_adapter: Any = cache(TypeAdapter)
