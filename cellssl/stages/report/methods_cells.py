"""methods_cells: a run in; what a paper says on its images, segmentation and split out, each clause from a card."""

from __future__ import annotations

from typing import Any

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields
from cellssl.counting import counted
from cellssl.stages.report.method_words import CELL_SEGMENTERS, DATASETS, SEGMENTERS, called, joined, listed, value_text
from cellssl.stages.report.runs import Run
from cellssl.stages.segment.counts import ALL_REASONS, IN_WORDS
from cellssl.stages.shared.card_shapes import (
    FetchMetrics,
    FetchSection,
    pretrain_metrics,
    segment_metrics,
    split_metrics,
)

PARTS = {"train": "training", "val": "validation", "test": "test"}
BORDERS = {"reflect": "reflection", "pad": "zeros"}
UNITS = {
    "cell": "cell by cell, so that cells of one well are in several parts",
    "well": "by wells",
    "plate": "by plates",
    "compound": "by compounds",
}


def data_words(run: Run) -> str:
    """Return the sentences on the data set: plates, wells, fields, controls and channels."""
    sentences = []
    if run.fetch is not None:
        dataset = section_of(run.fetch, FetchSection).dataset.name
        seed = run.fetch.card.section.get("dataset", {}).get("seed")
        known = dataset in DATASETS
        words = called(DATASETS, dataset) if known else f"Images were read as the data set type “{dataset}”"
        sentences.append(words + (f", seed {seed}" if seed is not None and dataset == "simulated" else ""))
    fields = read_fields(run.segment)
    wells = len(fields[["plate", "well"]].dropna().drop_duplicates())
    found = [counted(int(fields["plate"].nunique()), "plate"), counted(wells, "well") if wells else ""]
    found.append(counted(segment_metrics(run.segment).fields, "field"))
    text = f"{joined([words for words in found if words])} were used"
    if run.fetch is not None:
        fetched = metrics_of(run.fetch, FetchMetrics)
        text += f"; {counted(fetched.quarantined, 'further field')} could not be read" if fetched.quarantined else ""
        if fetched.sampled_of is not None:
            text += f"; they are a sample of the {fetched.sampled_of:,} fields of the data set"
    sentences.append(text)
    if run.fetch is not None and (controls := section_of(run.fetch, FetchSection).controls) and _has_controls(run):
        sentences.append(f"Control wells were those with {joined(controls)}")
    return ". ".join(sentences) + "."


def _has_controls(run: Run) -> bool:
    return bool(read_fields(run.segment)["control"].any())


def segmentation_words(run: Run) -> str:
    """Return the sentences on nuclei, crops and the intensity scale."""
    section = run.segment.card.section
    found = segment_metrics(run.segment)
    sentences = []
    if "dropped.parquet" in run.segment.card.files:
        sentences += _detection(run.segment, section)
    else:
        sentences.append(f"{found.kept:,} crops of single cells came with the data")
    sentences += [*_crops(run, section), *_scale(section)]
    return ". ".join(sentences) + "."


def _detection(segment: Artifact, section: dict[str, Any]) -> list[str]:
    """Return how nuclei were found, and how many were kept."""
    method = dict(section.get("method", {}))
    name = str(method.pop("name", ""))
    channel = section.get("nucleus_channel")
    where = f"in the channel “{channel}”" if channel else "in the first channel"
    settings = listed(method)
    text = f"Nuclei were found {where} {called(SEGMENTERS, name)}{f' ({settings})' if settings else ''}"
    if section.get("illumination") == "mean":
        text += ", after division by a flat field (the blurred mean image of each plate, site and channel)"
    sentences = [text]
    if isinstance(lobes := section.get("lobes"), dict):
        sentences.append(f"Nuclei that are lobes of one cell were merged ({listed(lobes)})")
    if isinstance(cells := section.get("cells"), dict):
        method = dict(cells.get("method", {}))
        words = called(CELL_SEGMENTERS, str(method.pop("name", "")))
        sentences.append(f"Whole cells were found in the channel “{cells.get('channel')}” {words}")
    found, counts = segment_metrics(segment), segment.card.metrics
    dropped = [f"{counts[name]:,} {IN_WORDS[name]}" for name in ALL_REASONS if counts.get(name) and name in IN_WORDS]
    why = f"; left out were {joined(dropped)}" if dropped else ""
    return [*sentences, f"Of {found.detected:,} nuclei, {found.kept:,} were kept{why}"]


def _crops(run: Run, section: dict[str, Any]) -> list[str]:
    """Return the size of crops in pixels and micrometres, and what was done at the border and around a cell."""
    is_cut = "dropped.parquet" in run.segment.card.files
    model = next((part.model for part in run.parts if part.model is not None), None)
    side = section.get("crop_px") if is_cut else pretrain_metrics(model).crop_px if model is not None else None
    if side is None:
        return []
    sizes = read_fields(run.segment)["pixel_um"].dropna().unique().tolist()
    size_um = section.get("crop_um") or (side * sizes[0] if len(sizes) == 1 else None)
    um = "" if size_um is None else f", {size_um:.1f} × {size_um:.1f} µm"
    text = f"A window of {side} × {side} pixels{um}, around the centre of every kept nucleus was cut out"
    if not is_cut:
        return [f"Crops were {side} × {side} pixels{um}"]
    border = section.get("border")
    if border in BORDERS:
        text += f"; what lies outside the field was filled by {BORDERS[border]}"
    elif border == "drop":
        text += "; cells whose window leaves the field were left out"
    if section.get("crop_mask") not in (None, "none"):
        text += f"; what lies outside the {section['crop_mask']} was set to black"
    return [text]


def _scale(section: dict[str, Any]) -> list[str]:
    """Return which grey values became black and white."""
    scale, reference = section.get("scale"), section.get("reference")
    if reference == "range" or not isinstance(scale, dict):
        return []
    wells = "control wells" if reference == "controls" else "all wells"
    group = "of a batch" if scale.get("pool") == "batch" else "of a plate"
    if scale.get("of") == "cells":
        return [
            f"Intensities were scaled to 8 bits, one scale for every channel {group}: black is the background between "
            f"cells, and white lies {value_text(scale.get('headroom'))} times as far above it as a typical cell of the "
            f"{wells} is bright"
        ]
    low, high = (value_text(scale.get(name)) for name in ("low_percentile", "high_percentile"))
    return [
        f"Intensities were scaled to 8 bits, one scale for every channel of a plate: percentiles {low} and {high} of "
        f"the pixels of {wells} became 0 and 255"
    ]


def split_words(run: Run) -> str:
    """Return the sentences on labels, and on the parts for training and test; nothing without a split."""
    if run.split is None:
        return ""
    section = run.split.card.section
    sentences = []
    treated, classes = section.get("treated"), section.get("classes")
    if isinstance(treated, dict):
        doses = treated.get("doses")
        which = "at all doses" if doses == "all" else f"at doses: {value_text(doses)}"
        sentences.append(
            f"Cells treated with {joined(map(str, treated.get('compounds', [])))} ({which}) are the class "
            "“treated”, cells of control wells the class “control”"
        )
    elif classes:
        sentences.append(f"Cells were labelled by their {str(classes).replace('_', ' ')}")
    else:
        sentences.append("Cells had no labels")
    parts: dict[str, int] = {}
    for name, count in split_metrics(run.split).counts.items():
        part = name.partition("/")[0].partition(" ")[0]
        parts[part] = parts.get(part, 0) + count
    counts = joined(f"{parts.get(part, 0):,} for {words}" for part, words in PARTS.items() if parts.get(part))
    unit = UNITS.get(str(section.get("group_by")), f"by {section.get('group_by')}")
    if section.get("split_column"):
        unit = f"by the column “{section['split_column']}” of the data"
    elif section.get("test_plates"):
        unit = f"with plates {joined(map(str, section['test_plates']))} for test"
    balance = ", the same number of every class" if section.get("balance") and (treated or classes) else ""
    limit = section.get("cells_per_class")
    most = f", at most {limit:,} of a class" if limit else ""
    sentences.append(f"Cells were divided {unit} (seed {section.get('seed')}){balance}{most}: {counts}")
    return ". ".join(sentences) + "."
