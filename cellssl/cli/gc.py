"""gc: the command `cellssl gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from cellssl.cli import options as o

YesOption = Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")]


def command(store: o.StoreOption = None, yes: YesOption = False, json: o.JsonOption = False) -> None:
    """List what is not needed: abandoned partials, old results set aside, artifacts to which no recipe points.

    Example: cellssl gc --yes
    """
    from cellssl.artifacts.garbage import remove, unneeded
    from cellssl.cli.console import Console

    root, _ = o.Common(store=store).stores()
    found = unneeded(root)
    removed = [path for path in found if yes and remove(path)]
    done = f"removed {len(removed)} of {len(found)}" if yes else f"{len(found)} are not needed; --yes removes them"
    text = "\n".join([*(str(path) for path in found), done])
    Console(as_json=json).result(text, {"unneeded": [str(path) for path in found], "removed": len(removed)})
