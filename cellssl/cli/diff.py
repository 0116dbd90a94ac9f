"""diff: the command `cellssl diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from cellssl.cli import options as o

Reference = Annotated[str, typer.Argument(help="Folder, card file or fingerprint.", metavar="ARTIFACT")]


def command(first: Reference, second: Reference, store: o.StoreOption = None, json: o.JsonOption = False) -> None:
    """List what differs between two artifacts: recipe, inputs, versions, files.

    Example: cellssl diff 3f9a2c71d0e4 9b20f1aa7c3d
    """
    from cellssl.artifacts.diff import differences
    from cellssl.artifacts.store import Store
    from cellssl.cli.console import Console
    from cellssl.config.recipe import CHAIN

    shelf = Store(*o.Common(store=store).stores())
    cards = [shelf.resolve(reference, CHAIN).card for reference in (first, second)]
    found = differences(*cards)
    text = "\n".join(found) or "no differences in what determines the results, or in their files"
    Console(as_json=json).result(text, {"differences": found})
