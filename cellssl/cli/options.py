"""options: the flags that mean the same in every command in, one object with their values out."""

from __future__ import annotations

import functools
import inspect
import json as json_
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cellssl.config import recipe as recipes
from cellssl.errors import UsageError


def recipes_beginning(text: str) -> list[str]:
    """Complete a recipe in a shell: recipes and folders of that folder, and the shipped recipes."""
    from cellssl.config.paths import shipped_folder

    folder = Path(text).parent if text and not text.endswith("/") else Path(text)
    here = (path for path in folder.glob("*") if path.suffix == ".toml" or path.is_dir())
    own = [f"{path}/" if path.is_dir() else str(path) for path in here]
    shipped = [path.stem for path in shipped_folder("recipes").glob("*.toml")]
    return sorted(word for word in (*own, *shipped) if word.startswith(text))


RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="Path of a recipe, or the name of a shipped one.", metavar="RECIPE", autocompletion=recipes_beginning
    ),
]
StoreOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--store",
        help="Folder of artifacts [default: $CELLSSL_STORE, then ./artifacts]; more are read only.",
        metavar="DIR",
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Upstream artifact: folder, card file or fingerprint; found by fingerprint otherwise.",
        metavar="ARTIFACT",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", help="F.json gets a copy of the card, DIR/ copies of all files; never links.", metavar="F.json|DIR/"
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting of the recipe, such as pretrain.epochs=20.", metavar="KEY=VALUE"),
]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        help="Another source of the data set: an http, https or s3 address, or a folder.",
        metavar="URL",
    ),
]
PlateOption = Annotated[str | None, typer.Option("--plate", help="Make the part of this plate only.")]
ArmOption = Annotated[str | None, typer.Option("--arm", help="One arm of the recipe.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="One seed of the recipe.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1; a missing GPU is an error.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", help="Cores for the work, and threads of a training [default: as its network needs].", min=1
    ),
]
JobsOption = Annotated[
    str,
    typer.Option("--jobs", help="How many stages to make at once: a number, or auto: what cores and memory allow."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Make it again; the old result is set aside.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="List what would be made, and make nothing.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Exit 75 when another process makes the same result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only the result and errors.")]
LogFileOption = Annotated[Path | None, typer.Option("--log-file", help="Add every event to this file.")]
LogFormatOption = Annotated[str, typer.Option("--log-format", help="text or json.")]


def jobs_of(text: str) -> int | None:
    """Return the number of --jobs, None for auto; UsageError for anything else."""
    if text == "auto":
        return None
    if not (text.isdecimal() and int(text[:9]) > 0 and len(text) < 9):
        raise UsageError(f"--jobs {text!r} is not a number of jobs", hint="use auto, or a number from 1 on")
    return int(text)


def mirrored(recipe: str, common: Common, mirror: str | None) -> list[str] | None:
    """Return the overrides and the one that sets the mirror; where images come from is not part of a result.

    Raises UsageError where the recipe's data set has no source.
    """
    overrides = common.overrides
    if mirror is None:
        return overrides
    dataset = recipes.load(recipe, overrides or [], common.arm).settings("fetch").dataset
    if "source" not in type(dataset).model_fields:
        raise UsageError(
            f"--mirror {mirror} works only for downloaded data sets, and {dataset.plugin_name()} has no source",
            hint="leave --mirror out",
        )
    return [*(overrides or []), f"fetch.dataset.source={json_.dumps(mirror)}"]


@dataclass(frozen=True)
class Common:
    """The flags that mean the same in every command, and their defaults."""

    store: StoreOption = None
    inputs: InputOption = None
    output: OutputOption = None
    overrides: SetOption = None
    plate: PlateOption = None
    arm: ArmOption = None
    seed: SeedOption = None
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    force: ForceOption = False
    dry_run: DryRunOption = False
    no_wait: NoWaitOption = False
    json: JsonOption = False
    quiet: QuietOption = False
    log_file: LogFileOption = None
    log_format: LogFormatOption = "text"

    def as_flags(self) -> str:
        """Return the flags that another command must repeat to make what this one needs."""
        stores = [word for store in self.store or [] for word in ("--store", str(store))]
        return shlex.join([*stores, *(word for text in self.overrides or [] for word in ("--set", text))])

    def stores(self) -> tuple[Path, tuple[Path, ...]]:
        """Return the store to write to, and further stores to read from."""
        root, *upstreams = self.store or [Path(os.environ.get("CELLSSL_STORE") or "artifacts")]
        return root, tuple(upstreams)


Command = Callable[..., None]
FLAGS = tuple(field.name for field in fields(Common))


def flags(*names: str) -> Callable[[Command], Command]:
    """Turn a command that takes `common: Common` into one that takes the named fields as flags.

    Typer reads the flags of a command from the function's signature, so the new function gets a signature with them.
    """

    def spelled_out(command: Command) -> Command:
        hints = get_type_hints(Common, include_extras=True)
        own = inspect.signature(command, eval_str=True).parameters
        kept = [one for name, one in own.items() if name != "common"]
        added = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
            for one in fields(Common)
            if one.name in names
        ]

        @functools.wraps(command)
        def spelled(**given: Any) -> None:
            common = Common(**{name: given.pop(name) for name in names})
            command(**given, common=common)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*kept, *added)]
        spelled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        spelled.__annotations__ = {one.name: one.annotation for one in parameters}
        return spelled

    return spelled_out


def all_but(*names: str) -> tuple[str, ...]:
    """Return the names of all flags but some."""
    return tuple(name for name in FLAGS if name not in names)
