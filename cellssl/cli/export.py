"""export: the command `cellssl export`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from cellssl.cli import options as o

Reference = Annotated[
    str,
    typer.Argument(help="A pretrain, embed or cluster artifact: folder, card file or fingerprint.", metavar="ARTIFACT"),
]
Folder = Annotated[Path, typer.Argument(help="Folder to write to.", metavar="DIR")]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="model or onnx for a model; h5ad for vectors; h5ad or ome-zarr for clusters."),
]
WRITERS = {
    "model": "cellssl.sharing.model_folder",
    "onnx": "cellssl.sharing.model_folder",
    "h5ad": "cellssl.sharing.anndata_cells",
    "ome-zarr": "cellssl.sharing.label_zarr",
}
"""Format -> the module that writes it, together with the other formats of the job that are its own."""
Licence = Annotated[
    str | None,
    typer.Option("--license", help="Licence of a model, such as mit or cc-by-4.0, for its model card.", metavar="ID"),
]


@o.flags("store", "plate", "json", "quiet", "log_file", "log_format")
def command(
    common: o.Common, artifact: Reference, folder: Folder, format_: Formats = None, license_: Licence = None
) -> None:
    """Write a model, vectors or clusters as files that other programs open; prints the folder.

    Example: cellssl export pretrain/3f9a2c71d0e4 my-model --format onnx
    """
    from cellssl.artifacts.store import Store
    from cellssl.cli.runner import console_for
    from cellssl.sharing.request import FORMATS, checked

    console, (root, upstreams) = console_for(common), common.stores()
    store = Store(root, upstreams)
    found, formats = store.resolve(artifact, tuple(FORMATS)), tuple(format_ or ())
    job = checked(found, store, folder, formats, license_, common.plate)
    with console.working_on("export"):
        for module in dict.fromkeys(WRITERS[name] for name in job.formats):
            for event in importlib.import_module(module).export(job):
                console.show(event)
    console.result(str(folder), {"folder": str(folder.absolute()), "formats": list(job.formats)})
