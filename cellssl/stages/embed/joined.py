"""joined: finished embeddings of the blocks in, the vectors of all of them side by side, cell by cell, out.

Nothing is scaled here: clusters and scores standardise every block, and give it its share of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.contents import input_of
from cellssl.artifacts.crops import in_blocks
from cellssl.artifacts.shared_models import find_model
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_split
from cellssl.engine.build import Job
from cellssl.errors import UsageError
from cellssl.profiling.blocks import Block
from cellssl.stages.embed.block_settings import BASELINES
from cellssl.stages.shared.card_shapes import embed_section, pretrain_section

if TYPE_CHECKING:
    import pandas as pd

ROWS = 16_384
"""Cells that are written at a time."""
KEY = "Metadata_cell_id"
WELL = ("Metadata_Plate", "Metadata_Well")
SPLIT = "Metadata_split"
PLACE = ("Nuclei_Location_Center_X", "Nuclei_Location_Center_Y")
"""Where a nucleus lies in its field: another place is another nucleus, whatever its name."""
SAME_PX = 1.0


@dataclass(frozen=True)
class JoinedBlock:
    """One block: its name, columns and weight, and the embeddings that it comes from."""

    block: Block
    names: list[str]
    source: Artifact
    is_learned: bool
    """Whether its model was trained on cells."""
    trained_on: Artifact | None = None
    """The split whose training cells its network has seen, where it is of the same segmented cells."""
    same_images: bool = True
    """Whether its cells are of the same fetched images as those that are embedded."""

    def metrics(self) -> dict[str, Any]:
        """Return what the card says of the block."""
        return {**vars(self.block), "artifact": self.source.fingerprint, "learned": self.is_learned}


def joined_blocks(job: Job) -> Iterator[JoinedBlock]:
    """Yield the blocks of a job in the order of the recipe."""
    images = _images_of(job.inputs[job.settings.cells], job.context.store)
    for settings in job.settings.blocks:
        name = settings.called()
        source = job.inputs[f"{name}/embed"]
        names = embeddings.read_names(source.file("embeddings.parquet"))
        around = job.context.store.with_store_of(source)
        kind = embed_section(source).cells
        same_images = images is not None and images == _images_of(around.find(kind, input_of(source, kind)), around)
        block = Block(name, len(names), settings.weight)
        trained_on = _trained_on(source, around)
        yield JoinedBlock(block, names, source, _is_learned(job, source), trained_on, same_images)


def column_names(blocks: Sequence[JoinedBlock]) -> list[str]:
    """Return the names of all columns: BLOCK:FEATURE."""
    return [embeddings.name_in_block(one.block.name, name) for one in blocks for name in one.names]


def join(blocks: Sequence[JoinedBlock], metadata: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yield the vectors of all cells of a table, some rows at a time.

    Raises UsageError where a block has no vector of a cell, or that of another nucleus.
    """
    parts = [_in_order(one, metadata) for one in blocks]
    for rows in in_blocks(np.arange(len(metadata)), ROWS):
        yield np.concatenate([vectors[rows_there[rows]] for vectors, rows_there in parts], axis=1)


def _in_order(block: JoinedBlock, metadata: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of a block, and the row of every cell in them."""
    import pandas as pd

    there, vectors = embeddings.read(block.source.file("embeddings.parquet"))
    rows = pd.Index(there[KEY]).get_indexer(metadata[KEY].to_numpy())
    where = f"the block {block.block.name!r} ({block.source.path})"
    if (missing := rows < 0).any():
        raise UsageError(
            f"{where} has no vectors of {missing.sum():,} of {len(metadata):,} cells; first: "
            f"{metadata[KEY].to_numpy()[missing.argmax()]!r}",
            hint="a block must have the same cells: name the pretrain artifact of its model, which embeds these cells, "
            "or set embed.cells and embed.cells_per_well as they were there",
        )
    _check_same_nuclei(where, metadata, there.iloc[rows], block.same_images)
    if block.is_learned:
        _check_not_trained_on(where, metadata, _training_cells(block, there))
    return vectors, rows


def _check_same_nuclei(where: str, here: pd.DataFrame, there: pd.DataFrame, same_images: bool) -> None:
    """Raise UsageError where cells of one name are not the same nuclei: another segmentation numbers its own.

    Finished crops may have no place in a field. They are the same where they come from the same fetched images.
    """
    moved, has_place = np.zeros(len(here), bool), np.ones(len(here), bool)
    for name in WELL:
        moved |= here[name].astype(str).to_numpy() != there[name].astype(str).to_numpy()
    for name in PLACE:
        if name in here and name in there:
            away = np.abs(here[name].to_numpy(float) - there[name].to_numpy(float))
            moved |= away > SAME_PX
            has_place &= np.isfinite(away)
        else:
            has_place[:] = False
    if moved.any():
        raise UsageError(
            f"{where} is of other cells: {moved.sum():,} of {len(here):,} nuclei of the same name lie elsewhere; "
            f"first: {here[KEY].to_numpy()[moved.argmax()]!r}",
            hint="a block must have the same cells: name the pretrain artifact of its model, which embeds these cells, "
            "or segment them as there",
        )
    if not same_images and not has_place.all():
        first = here[KEY].to_numpy()[has_place.argmin()]
        raise UsageError(
            f"{where} may be of other cells: it is not of the same fetched images, and {(~has_place).sum():,} of "
            f"{len(here):,} cells have no place in a field to compare; first: {first!r}",
            hint="a block must have the same cells: give its arm the same [fetch], or name the pretrain artifact of "
            "its model, which embeds these cells",
        )


def _training_cells(block: JoinedBlock, there: pd.DataFrame) -> pd.Series[str]:
    """Return the names of the cells that the network of a block was trained on, as far as they may be cells of ours."""
    if block.trained_on is not None:
        split = read_split(block.trained_on)
        return split["cell_id"][split["split"] == "train"]
    return there[KEY][(there[SPLIT] == "train").fillna(False)] if SPLIT in there else there[KEY].head(0)


def _check_not_trained_on(where: str, here: pd.DataFrame, training: pd.Series[str]) -> None:
    """Raise UsageError where cells that are to be scored as test cells have trained the network of a block."""
    if SPLIT not in here:
        return
    tested = (here[SPLIT] == "test").fillna(False).to_numpy(bool)
    seen = tested & here[KEY].isin(training).to_numpy()
    if seen.any():
        raise UsageError(
            f"{where} has learned from test cells: its network was trained on {seen.sum():,} of {tested.sum():,} test "
            f"cells of this split; first: {here[KEY].to_numpy()[seen.argmax()]!r}",
            hint="give the arm that trains the block the same [split] as this one, and train it with that",
        )


def _trained_on(source: Artifact, store: Store) -> Artifact | None:
    """Return the split that the network of a block was trained on; None where it is of other cells, or not known."""
    trained = source.card.inputs.get("model") or source.card.inputs.get("pretrain")
    model = find_model(store, trained) if trained else None
    split = store.find("split", model.card.inputs["split"]) if model and "split" in model.card.inputs else None
    kind = embed_section(source).cells
    cells = store.find(kind, input_of(source, kind))
    if split is None or cells is None:
        return None
    segment = cells.fingerprint if kind == "segment" else cells.card.inputs.get("segment")
    return split if split.card.inputs.get("segment") == segment else None


def _images_of(cells: Artifact | None, store: Store) -> str | None:
    """Return the fingerprint of the fetched images of a split or segment artifact; None where it is not known."""
    if cells is not None and cells.card.kind == "split":
        cells = store.with_store_of(cells).find("segment", input_of(cells, "segment"))
    return cells.card.inputs.get("fetch") if cells is not None else None


def _is_learned(job: Job, source: Artifact) -> bool:
    """Return whether a network was trained for a block; where its card is not there, the model of the block decides."""
    trained = source.card.inputs.get("model") or source.card.inputs.get("pretrain")
    model = find_model(job.context.store.with_store_of(source), trained) if trained else None
    if model is None:
        return trained is not None and embed_section(source).model not in BASELINES
    return pretrain_section(model).epochs > 0
