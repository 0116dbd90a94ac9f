"""verify: the command `cellssl verify`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.artifacts.store import Store
    from cellssl.artifacts.verification import Findings
    from cellssl.cli.console import Console
    from cellssl.errors import UsageError

References = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders, card files or fingerprints; without any, every artifact of the store.", metavar="[ARTIFACT...]"
    ),
]
Shallow = Annotated[bool, typer.Option("--shallow", help="Leave out parts, inputs and your own images.")]
SHOWN = 20
"""So many faults are printed; all of them are in the output of --json."""


@o.flags("store", "json", "quiet", "log_file", "log_format")
def command(common: o.Common, artifacts: References = None, shallow: Shallow = False) -> None:
    """Read every byte of artifacts and of what they stand on, and compare it with the cards; exit 5 where it differs.

    Parts, inputs and your own images are followed. Exit 2 where an input lies in no known store.

    Example: cellssl verify artifacts/segment/3f9a2c71d0e4
    """
    from cellssl.artifacts.hash_cache import FOLDER, HashCache
    from cellssl.artifacts.store import Store
    from cellssl.artifacts.verification import verify
    from cellssl.cli.runner import console_for

    console, (root, upstreams) = console_for(common), common.stores()
    hashes = HashCache(root.absolute() / FOLDER) if root.is_dir() else HashCache()  # makes no store
    store = Store(root, upstreams, hashes)
    folders = [_folder_of(reference, store) for reference in artifacts] if artifacts else _all_of(store, console)
    work = verify(folders, store, shallow=shallow)
    with console.working_on("verify"):
        while True:
            try:
                console.show(next(work))
            except StopIteration as end:
                findings: Findings = end.value
                break
    _report(findings, console)


def _report(findings: Findings, console: Console) -> None:
    """Print what was found; IntegrityError where a file differs, UsageError where an input was not found."""
    from cellssl.errors import IntegrityError, UsageError

    faults, not_found = findings.faults, findings.not_found
    counted = f"{findings.files:,} files of {len(findings.artifacts):,} artifacts"
    if console.as_json or not (faults or not_found):
        details = asdict(findings)
        console.result(f"{counted} are as they were written", json_ready(details))
    if not_found:
        first, *others = {(one.kind, one.fingerprint): one for one in not_found}.values()
        missing = UsageError(
            f"{first.kind} {first.fingerprint}, from which {first.needed_by} was made, is in no known store, so it was "
            f"not compared{f'; nor were {len(others):,} others' if others else ''}",
            hint="name their store with a further --store, or leave inputs out with --shallow",
        )
        if not faults:
            console.say(f"verify: {counted} are as they were written")
            raise missing
        console.error(missing)
    if not faults:
        return
    errors = [IntegrityError(f"{fault.file} {fault.what}", hint=fault.cure) for fault in faults]
    if len(errors) == 1:
        raise errors[0]
    for error in errors[:SHOWN]:
        console.error(error)
    damaged = len({fault.artifact for fault in faults})
    raise IntegrityError(
        f"{len(faults):,} files are damaged, in {damaged:,} of {len(findings.artifacts):,} artifacts",
        hint="follow the cures above, in this order"
        if len(errors) <= SHOWN
        else f"the first {SHOWN} stand above, with their cures; --json lists all",
    )


def json_ready(details: dict[str, object]) -> dict[str, object]:
    """Return nested values with every path as text."""
    import json

    ready: dict[str, object] = json.loads(json.dumps(details, default=str))
    return ready


def _folder_of(reference: str, store: Store) -> Path:
    """Return the folder of the artifact that a user names; UsageError where there is none."""
    from cellssl.artifacts.card import NAME
    from cellssl.config.recipe import CHAIN

    path = Path(reference)
    if path.is_dir():
        if os.path.lexists(path / NAME) and not path.name.endswith(".partial"):
            return path
        raise _no_artifact(path)
    if path.is_file() and path.suffix != ".json":
        raise _no_artifact(path)
    return store.resolve(reference, CHAIN).path


def _no_artifact(path: Path) -> UsageError:
    from cellssl.artifacts.card import NAME
    from cellssl.artifacts.naming import no_artifact
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import UsageError

    if path.name.endswith(".partial"):
        return no_artifact(path, CHAIN)
    if next(path.glob(f"*/*/{NAME}"), None):
        return UsageError(f"{path} is a store, not an artifact", hint=f"cellssl verify --store {path}")
    if next(path.glob(f"*/{NAME}"), None):
        return UsageError(
            f"{path} is a folder of artifacts",
            hint=f"give some of them; cellssl verify --store {path.parent} reads all",
        )
    return no_artifact(path, CHAIN)


def _all_of(store: Store, console: Console) -> list[Path]:
    """Return the folder of every artifact of the store, and say what is left out; UsageError where there is none."""
    from cellssl.artifacts.card import FINGERPRINT
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import UsageError

    inside = sorted(path for kind in CHAIN for path in (store.root / kind).glob("*") if path.is_dir())
    folders = [path for path in inside if FINGERPRINT.fullmatch(path.name)]
    if not folders:
        raise UsageError(
            f"{store.root} holds no artifact" if store.root.is_dir() else f"there is no store {store.root}",
            hint="name the store with --store, or artifacts to compare",
        )
    aside, partial = (sum(mark in path.name for path in inside) for mark in (".aside-", ".partial"))
    if aside or partial:
        console.say(f"verify: {aside} results set aside and {partial} unfinished ones are left out")
    return folders
