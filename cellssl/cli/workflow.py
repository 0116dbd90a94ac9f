"""workflow: the command `cellssl workflow`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellssl.cli import options as o

WORKFLOWS = {"snakemake": "Snakefile", "nextflow": "main.nf"}
"""Name of a workflow -> its main file."""
Name = Annotated[str, typer.Argument(help="snakemake or nextflow.", metavar="NAME")]
Folder = Annotated[Path, typer.Argument(help="Folder to write to.", metavar="[DIR]")]


@o.flags("json", "quiet")
def command(name: Name, common: o.Common, folder: Folder = Path("workflow")) -> None:
    """Copy the workflow that comes with the program to a folder, to be run and changed there; prints the folder.

    Example: cellssl workflow snakemake
    """
    from cellssl.cli.init import write_all
    from cellssl.cli.runner import console_for
    from cellssl.config.paths import shipped_folder
    from cellssl.config.plugins import did_you_mean
    from cellssl.errors import UsageError

    if name not in WORKFLOWS:
        raise UsageError(f"there is no workflow {name!r}", hint=did_you_mean(name, tuple(WORKFLOWS)))
    for other, main in WORKFLOWS.items():
        if other != name and (folder / main).exists():
            raise UsageError(
                f"{folder} has the workflow for {other}", hint=f"give another folder: cellssl workflow {name} {name}"
            )
    console, shipped = console_for(common), shipped_folder("recipes") / name
    paths = sorted(path for path in shipped.rglob("*") if path.is_file())
    files = {path.relative_to(shipped).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    is_new = write_all(files, folder, flag=f"cellssl workflow {name} ")
    console.say(f"workflow: {'wrote' if is_new else 'up to date'}: {', '.join(str(folder / file) for file in files)}")
    console.result(str(folder), {"folder": str(folder.absolute()), "files": list(files)})
