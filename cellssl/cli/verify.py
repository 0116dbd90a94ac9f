"""verify: the command `cellssl verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from cellssl.cli import options as o

References = Annotated[list[str], typer.Argument(help="Folders, card files or fingerprints.", metavar="ARTIFACT...")]


def command(artifacts: References, store: o.StoreOption = None, json: o.JsonOption = False) -> None:
    """Compare every byte of artifacts with the hashes in their cards; exit 5 where one differs.

    Example: cellssl verify artifacts/segment/3f9a2c71d0e4
    """
    from cellssl.artifacts.store import Store
    from cellssl.cli.console import Console
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import IntegrityError

    common = o.Common(store=store)
    found = [Store(*common.stores()).resolve(reference, CHAIN) for reference in artifacts]
    faults = {str(artifact.path): artifact.faults() for artifact in found}
    bad = {path: sentences for path, sentences in faults.items() if sentences}
    if bad:
        path, sentences = next(iter(bad.items()))
        raise IntegrityError(
            f"{len(bad)} of {len(found)} artifacts are damaged; first {path}: {'; '.join(sentences)}",
            hint="remove that folder and run the command that made it again",
        )
    files = sum(len(artifact.card.files) for artifact in found)
    details = {"artifacts": list(faults), "files": files}
    Console(as_json=json).result(f"{files} files of {len(found)} artifacts are as they were written", details)
