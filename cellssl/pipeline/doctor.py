"""doctor: a machine, a store and a recipe in; findings about what is there and what is missing, with cures, out."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from cellssl.artifacts.card import is_shared_model
from cellssl.artifacts.hub_names import NotDownloadedError
from cellssl.artifacts.shared_models import model_to_use
from cellssl.artifacts.store import Store
from cellssl.config.recipe import CHAIN, Recipe
from cellssl.durations import about
from cellssl.engine.weights_cache import Download
from cellssl.errors import CellsslError
from cellssl.pipeline.blocks import sources, with_block_arms
from cellssl.pipeline.plan import Planner
from cellssl.pipeline.session import Session
from cellssl.stages.fetch.findings import Check, kinds_of

LIBRARIES = ("torch", "torchvision", "cellpose", "timm", "tensorboard")
"""Libraries whose version or absence explains most faults."""


@dataclass(frozen=True)
class Finding:
    """What was checked, what was found, and the cure where something is missing."""

    subject: str
    words: str
    cure: str = ""
    missing: bool = False


def machine(device: str) -> Iterator[Finding]:
    """Yield what this machine has; `device` is the one that the user asks for."""
    import torch

    from cellssl.device import allowed_cores, device_for, dtype_for

    yield Finding("cellssl", f"{version('cellssl')}, Python {platform.python_version()}, {platform.platform()}")
    yield Finding("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES))
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    yield Finding("processor", f"{allowed_cores()} cores, {memory_gb:,.0f} GB of memory")
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    yield Finding("GPU", ", ".join(f"{gpu.name}, {gpu.total_memory / 1e9:,.0f} GB" for gpu in gpus) or "none")

    try:
        found = device_for(device)
    except CellsslError as error:
        yield Finding("device", error.message, error.hint, missing=True)
    else:
        words = f"{device} is {found}, where training runs in {str(dtype_for('auto', found)).removeprefix('torch.')}"
        yield Finding("device", words)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "is not installed"


def store(checked: Store, crop_px: int, channels: int = 3) -> Iterator[Finding]:
    """Yield whether results can be written to the store, and how many crops its disk has room for."""
    root = checked.root.absolute()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        cure = "choose another --store, or let this user write there"
        yield Finding("store", f"{existing} cannot be written: {error.strerror}", cure, missing=True)
    else:
        free = shutil.disk_usage(existing).free
        crops = free // (2 * channels * crop_px**2)
        yield Finding(
            "store",
            f"{root}, {free / 1e9:,.0f} GB free: room for {crops:,} crops of {crop_px} px in {channels} channels",
            cure="" if crops else "free some space",
            missing=not crops,
        )
    for upstream in checked.upstreams:
        is_there = upstream.is_dir()
        words = f"{upstream}, read only" if is_there else f"{upstream} is not there"
        yield Finding("store", words, cure="" if is_there else "correct --store", missing=not is_there)


def images(check: Check) -> Iterator[Finding]:
    """Yield one finding per kind of what a check of tables and images found; only errors count as missing."""
    for is_missing, findings in ((True, check.errors), (False, check.warnings)):
        for kind, count in kinds_of(findings).items():
            first = next(one for one in findings if one.kind == kind)
            yield Finding("images", f"{kind}, {count:,} times; first: {first.what}", first.cure, missing=is_missing)


def recipe(session: Session, of_images: Sequence[Finding]) -> Iterator[Finding]:
    """Yield what the stages of every arm need besides the package: libraries, files, images, weights, models.

    The recipe is also planned, as `status` does, so that what it refuses is found here. `of_images` is what was found
    of images that are the user's.
    """
    checked, results = session.recipe, session.store
    stages = list(_stages(checked, results, checked.arm_names()))
    faults = [fault for planner, stage in stages if (fault := _fault(planner, stage))]
    faults = [*(faults or _faults_of_plan(session)), *(of_images or _absent_images(stages))]
    weights = [_found(download, results, checked) for download in downloads(checked, results)]
    yield from dict.fromkeys([*faults, *weights])
    if not any(finding.missing for finding in (*faults, *weights)):
        yield Finding("recipe", f"{checked.source}: every stage has what it needs")


def costs(session: Session, device: str) -> Iterator[Finding]:
    """Yield the time, memory and disk that stages will take that are not made yet, and what is too much.

    A recipe with something missing is left out: what it will take is not known.
    """
    from cellssl.pipeline.estimates import estimates

    planned = session.plan()
    todo = {row["fingerprint"] for row in session.states(planned) if row["state"] != "done"}
    if not todo:
        return
    found = estimates(session, [one for one in planned if one.fingerprint in todo], device)
    for one in found.of_stages():
        cost = f"{about(one.seconds)}, {one.memory_mb / 1000:.1f} GB of memory, {one.disk_bytes / 1e9:.2f} GB of disk"
        yield Finding(f"cost of {one.stage}", f"{cost} ({one.basis})")
    yield Finding("cost", found.in_words())
    yield from (Finding("cost", warning) for warning in found.warnings)


def _absent_images(stages: Iterable[tuple[Planner, str]]) -> Iterator[Finding]:
    """Yield how many images of this machine a data set names that are not there, and the first of them."""
    fetching = [planner.settings(stage) for planner, stage in stages if stage == "fetch"]
    for dataset in {repr(settings.dataset): settings.dataset for settings in fetching}.values():
        try:
            absent = dataset.absent_images()
        except CellsslError as error:
            yield Finding("images", error.message, error.hint, missing=True)
            continue
        if absent:
            words = f"{len(absent):,} images that the data set names are not there; first: {absent[0]}"
            yield Finding("images", words, "bring them back, or correct the table or the folder", missing=True)


def _faults_of_plan(session: Session) -> list[Finding]:
    """Return why the recipe cannot be planned; nothing where it can."""
    try:
        session.plan()
    except NotDownloadedError:
        return []  # it is among the downloads
    except CellsslError as error:
        return [Finding("recipe", error.message, error.hint, missing=True)]
    return []


def _stages(checked: Recipe, results: Store, arms: Iterable[str]) -> Iterator[tuple[Planner, str]]:
    """Yield the planner of every arm with each stage that it needs, upstream first."""
    for arm in arms:
        yield from _stages_of_blocks(checked, arm, results)
        planner = Planner(checked, arm, checked.seeds[0], results)
        used: dict[str, None] = {}
        for stage in CHAIN[:-1]:
            if checked.has(stage, arm):
                _use(planner, stage, used)
        yield from ((planner, stage) for stage in used)


def _stages_of_blocks(checked: Recipe, arm: str, results: Store) -> list[tuple[Planner, str]]:
    """Return the planner of every block that is embedded for an arm, with its stages; what is wrong, planning says."""
    found: list[tuple[Planner, str]] = []
    with suppress(CellsslError):
        extended = with_block_arms(checked, arm)
        for name in (one.arm for one in sources(checked, arm) if one.arm in extended.blocks and not one.reference):
            planner = Planner(extended, name, checked.seeds[0], results)
            found += [(planner, stage) for stage in ("pretrain", "embed") if stage in _used(planner, "embed")]
    return found


def _used(planner: Planner, stage: str) -> dict[str, None]:
    used: dict[str, None] = {}
    _use(planner, stage, used)
    return used


def _use(planner: Planner, stage: str, used: dict[str, None]) -> None:
    for upstream in planner.settings(stage).inputs():
        _use(planner, upstream, used)
    used[stage] = None


def _fault(planner: Planner, stage: str) -> Finding | None:
    """Return the first thing that a stage lacks on this machine, or None."""
    settings = planner.settings(stage)
    try:
        settings.check()
        settings.external_files()
        for reference, kinds in settings.artifact_references().values():
            with suppress(NotDownloadedError):  # it is among the downloads
                found = planner.store.resolve(reference, kinds)
                if is_shared_model(found.card):
                    model_to_use(found, planner.store)
        if stage == "segment":
            planner.earlier_models.check_settings()
    except CellsslError as error:
        return Finding(stage, error.message, error.hint, missing=True)
    return None


def models_to_download(session: Session, to: str) -> list[Download]:
    """Return the models of hubs that the selected arms name up to a stage and no store has: they are planned with."""
    last = CHAIN.index(to)
    needed = [stage for stage in ("pretrain", "embed") if CHAIN.index(stage) <= last]
    found = downloads(session.recipe, session.store, session.arms(), needed) if needed else []
    return [download for download in found if download.is_model and not download.is_cached(session.store)]


def downloads(
    checked: Recipe, results: Store, arms: Iterable[str] | None = None, of_stages: Collection[str] = CHAIN
) -> list[Download]:
    """Return the published weights and the models of hubs that these arms need, once each; by default of all arms.

    Stages with a fault are left to `recipe`.
    """
    found: dict[str, Download] = {}
    for planner, stage in _stages(checked, results, checked.arm_names() if arms is None else arms):
        if stage not in of_stages:
            continue
        with suppress(CellsslError):
            for download in planner.settings(stage).downloads():
                found.setdefault(download.what, download)
    return list(found.values())


def _found(download: Download, results: Store, checked: Recipe) -> Finding:
    try:
        if download.is_cached(results):
            return Finding("weights", f"{download.what} are there")
    except CellsslError as error:
        return Finding("weights", error.message, error.hint, missing=True)
    return Finding(
        "weights", f"{download.what} are not there", f"cellssl doctor {checked.source} --download", missing=True
    )
