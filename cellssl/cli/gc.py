"""gc: the command `cellssl gc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellssl.cli import options as o
from cellssl.errors import FailedError, IntegrityError, UsageError

if TYPE_CHECKING:
    from cellssl.artifacts.garbage import Folder, Outcome, Survey
    from cellssl.artifacts.trash import Trashed

YesOption = Annotated[
    bool,
    typer.Option(
        "--yes", help="Move them to .trash in the store, and delete what has been there for 7 days; else only list."
    ),
]
OlderOption = Annotated[
    float | None,
    typer.Option(
        "--older-than",
        help="Only what was last written so many days ago [default: 7 for a training that can continue, 0 for the "
        "rest; 0 takes those trainings too].",
        metavar="DAYS",
        min=0,
    ),
]
PurgeOption = Annotated[bool, typer.Option("--purge", help="Delete all of .trash now, whatever its age.")]
RestoreOption = Annotated[
    str | None,
    typer.Option("--restore", help="Move a folder, such as segment/3f9a2c71d0e4, back from .trash.", metavar="FOLDER"),
]


def command(
    store: o.StoreOption = None,
    yes: YesOption = False,
    older_than: OlderOption = None,
    purge: PurgeOption = False,
    restore: RestoreOption = None,
    json: o.JsonOption = False,
) -> None:
    """List what no recipe needs: unfinished results, those set aside, and those to which no pointer leads.

    Further --store folders are only read: what their recipes need is kept too.

    Example: cellssl gc --yes
    """
    from cellssl.artifacts.garbage import Collector, check_is_store
    from cellssl.artifacts.trash import find_trashed, put_back, trashed
    from cellssl.cli.console import Console

    root, others = o.Common(store=store).stores()
    console = Console(as_json=json)
    if restore is not None and (yes or purge or older_than is not None):
        raise UsageError("--restore goes with no other flag of gc", hint="give them one after the other")
    try:
        if restore is not None:
            check_is_store(root)
            back = put_back(root, find_trashed(root, _place_of(restore, root)))
            console.result(str(back), {"restored": str(back)})
            return
        collector = Collector(root, others, older_than)
        survey = collector.survey()
        done = collector.collect(survey, move=yes, purge=purge)
        left = trashed(root)
    except OSError as error:
        raise FailedError(
            f"{error.filename or root} cannot be read or moved: {error.strerror}", hint="nothing was deleted"
        ) from error
    lines = [*_lines(survey, done), *_trash_lines(left), _last_line(survey, done, yes=yes, purge=purge)]
    console.result("\n".join(line for line in lines if line), _details(survey, done, left))
    _raise_faults(survey, done)


def _place_of(folder: str, root: Path) -> str:
    """Return the place of a folder in its store, given as it is printed: with the store before it, or without."""
    path, within = Path(folder).absolute(), root.absolute()
    return path.relative_to(within).as_posix() if path.is_relative_to(within) else folder.strip("/")


def _lines(survey: Survey, done: Outcome) -> list[str]:
    """Return one line per folder: what is not needed, then what stays and why."""
    fresh = [folder for folder in survey.unneeded if folder.path not in {stayed.path for stayed in done.stayed}]
    return [
        *(_line(folder) for folder in fresh),
        *(f"stays: {_line(folder)}" for folder in (*survey.kept, *done.stayed)),
        *(f"unreadable: {sentence}" for sentence in survey.unreadable),
        *(f"failed: {fault.message}" for fault in done.faults),
        "a process works in the store; meanwhile no finished result is listed" if survey.busy else "",
    ]


def _line(folder: Folder) -> str:
    return f"{folder.path}  {_size(folder.bytes)}  {_age(folder.age_s)} old: {folder.reason}"


def _trash_lines(left: list[Trashed]) -> list[str]:
    """Return one line per folder in the trash, and what happens to them."""
    from cellssl.artifacts.trash import DAY_S, KEPT_DAYS, measured

    if not left:
        return []
    lines = [
        f"{entry.path}  {_size(measured(entry.path)[0])}  moved {_age(entry.age_s)} ago: {entry.reason()}"
        for entry in left
    ]
    due_days = max(0.0, KEPT_DAYS - left[0].age_s / DAY_S)
    when = f"in {due_days:.0f} days" if due_days >= 1 else "next"
    return [*lines, f".trash holds {len(left)} folders; --yes deletes the oldest {when}, --purge all of them now"]


def _last_line(survey: Survey, done: Outcome, *, yes: bool, purge: bool) -> str:
    """Return what was done, or what --yes would do."""
    count, size = len(survey.unneeded), _size(sum(folder.bytes for folder in survey.unneeded))
    deleted = f"; deleted {len(done.deleted)} folders from .trash" if done.deleted or purge else ""
    if yes:
        size = _size(sum(folder.bytes for folder in done.moved))
        return f"moved {len(done.moved)} of {count} to .trash ({size}){deleted}"
    return f"{count} are not needed ({size}); --yes moves them to .trash{deleted}"


def _details(survey: Survey, done: Outcome, left: list[Trashed]) -> dict[str, Any]:
    return {
        "unneeded": [_as_json(folder) for folder in survey.unneeded],
        "kept": [_as_json(folder) for folder in (*survey.kept, *done.stayed)],
        "unreadable": survey.unreadable,
        "moved": [str(folder.path) for folder in done.moved],
        "deleted": [str(entry.path) for entry in done.deleted],
        "failed": [fault.message for fault in done.faults],
        "trash": [_trashed_as_json(entry) for entry in left],
    }


def _trashed_as_json(entry: Trashed) -> dict[str, Any]:
    from cellssl.artifacts.trash import measured

    return {
        "path": str(entry.path),
        "origin": entry.origin,
        "bytes": measured(entry.path)[0],
        "age_s": round(entry.age_s),
        "reason": entry.reason(),
    }


def _as_json(folder: Folder) -> dict[str, Any]:
    return {
        "path": str(folder.path),
        "bytes": folder.bytes,
        "age_s": round(folder.age_s),
        "reason": folder.reason,
    }


def _raise_faults(survey: Survey, done: Outcome) -> None:
    """Raise IntegrityError where it is not known what is needed, and FailedError where something could not be moved."""
    if survey.unreadable:
        raise IntegrityError(
            f"it is not known which results are needed, so every finished one stays: {survey.unreadable[0]}"
            + (f" (and {len(survey.unreadable) - 1} more)" if len(survey.unreadable) > 1 else ""),
            hint="run the command that made it again, with --force for a card; or remove it if nothing needs it",
        )
    if done.faults:
        raise FailedError(
            f"{len(done.faults)} folders could not be moved or deleted; first: {done.faults[0].message}",
            hint=done.faults[0].hint,
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def _age(seconds: float) -> str:
    from cellssl.artifacts.trash import DAY_S

    if seconds >= DAY_S:
        return f"{seconds / DAY_S:.1f} days"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
