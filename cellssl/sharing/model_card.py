"""model_card: a model, and the store that it was made in; the README of its shared folder, as hubs read it, out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import Field

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.artifacts.store import Artifact, Store
from cellssl.counting import counted
from cellssl.errors import CellsslError
from cellssl.sharing.model_config import done_before, scales_of_plates, without_folders
from cellssl.sharing.model_scores import METRICS, Table, scores_of
from cellssl.sharing.request import Export
from cellssl.stages.shared import preparation
from cellssl.stages.shared.card_shapes import (
    CardShape,
    FetchSection,
    SplitSection,
    pretrain_metrics,
    pretrain_section,
)
from cellssl.stages.shared.learned_labels import WithLearnedLabels

NO_LICENCE = "unknown"
"""The hub's word where no licence of a model was chosen."""
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#&])")
HUB_METRICS = {"ami": "adjusted_mutual_info", "knn": "balanced_accuracy", "linear": "balanced_accuracy"}
"""Score -> its type in the results of a model on a hub."""
FEW_PLATES = 3
"""With fewer plates, what belongs to a plate can hardly be separated from what belongs to a treatment."""
LONGEST_LIST = 20
"""How many names of plates or treatments are listed; the others are counted."""


def model_card(job: Export, features: int, *, with_onnx: bool) -> str:
    """Return the model card: YAML for the hub, then text for people."""
    table = scores_of(job.artifact, job.store)
    data = _Data.of(job.artifact, job.store)
    sections = (
        _what_it_is(job.artifact, features),
        _use(job, with_onnx=with_onnx),
        _input(job.artifact, job.store),
        _data_section(job.artifact, data),
        _training(job.artifact),
        _scores(table),
        _limits(job.artifact, data),
        _licence(job),
        _made(job.artifact),
    )
    text = "\n\n".join("\n\n".join(section) for section in sections)
    return f"---\n{_front_matter(job, data, table)}---\n\n{text}\n"


def plain(text: object) -> str:
    """Return text that Markdown and HTML show as it is: it may come from a card that anyone has written."""
    return MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


class _SplitCounts(CardShape):
    counts: dict[str, int] = Field(default_factory=dict)


class _Data:
    """What the cards upstream of a model say of its cells; what no store has is None."""

    def __init__(self, fetch: Any, split: Any, plates: list[str], counts: Mapping[str, int]) -> None:
        self.fetch: FetchSection | None = fetch
        self.split: SplitSection | None = split
        self.plates = plates
        self.counts = counts

    @classmethod
    def of(cls, model: Artifact, store: Store) -> _Data:
        """Return what is known of the data of a model."""
        around = store.with_store_of(model)
        fetch = split = None
        counts: Mapping[str, int] = {}
        with suppress(CellsslError):
            if found := around.find("split", model.card.inputs.get("split", "")):
                split, counts = section_of(found, SplitSection), metrics_of(found, _SplitCounts).counts
                segment = around.find("segment", found.card.inputs.get("segment", ""))
                made = around.find("fetch", segment.card.inputs.get("fetch", "")) if segment else None
                fetch = section_of(made, FetchSection) if made else None
        plates = list(dict.fromkeys(one["plate"] for one in scales_of_plates(model, store)))
        return cls(fetch, split, plates, counts)

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.fetch.dataset.name if self.fetch else "not known"


def _front_matter(job: Export, data: _Data, table: Table | None) -> str:
    """Return the YAML that hubs read; every value is written as JSON, which is YAML, so that none can break out."""
    lines = [
        f"license: {_yaml(job.licence or NO_LICENCE)}",
        "library_name: cellssl",
        "pipeline_tag: image-feature-extraction",
        "tags:",
        *(
            f"- {tag}"
            for tag in ("cellssl", "microscopy", "cells", "self-supervised-learning", "biology", "safetensors")
        ),
    ]
    own = table.rows[0].scores if table else {}
    if own:
        lines += [
            "model-index:",
            f"- name: {_yaml(f'cellssl {job.artifact.fingerprint}')}",
            "  results:",
            "  - task:",
            "      type: image-feature-extraction",
            "    dataset:",
            f"      name: {_yaml(data.name)}",
            f"      type: {_yaml(re.sub(r'[^a-z0-9_-]', '-', data.name.lower()))}",
            "    metrics:",
        ]
        for name, score in own.items():
            lines += [
                f"    - type: {HUB_METRICS[name]}",
                f"      name: {_yaml(METRICS[name])}",
                f"      value: {score.value!r}",
            ]
    return "\n".join(lines) + "\n"


def _yaml(text: str) -> str:
    return json.dumps(" ".join(text.split()))


def _what_it_is(model: Artifact, features: int) -> Iterator[str]:
    found, section = pretrain_metrics(model), pretrain_section(model)
    channels = ", ".join(map(plain, found.channels))
    yield f"# Encoder of single cells, cellssl {model.fingerprint}"
    learned = "It was not trained on cells."
    if section.epochs > 0:
        learned = "It learned without labels which changes of a cell to ignore: the views below say which."
    if labels := metrics_of(model, WithLearnedLabels).learned_labels:
        learned = f"It learned from labels, too: {plain('; '.join(one.words() for one in labels))}."
    yield (
        f"This network turns the crop of one cell ({found.crop_px} × {found.crop_px} px, channels: {channels}) into a "
        f"vector of {features:,} numbers. {learned} Compare the vectors of cells, cluster them, or average them per "
        "well."
    )
    yield (
        f"The encoder is `{_code(section.encoder.name)}`; it gets {counted(len(found.channels), 'channel')} of "
        f"{found.input_px} × {found.input_px} px."
    )


def _use(job: Export, *, with_onnx: bool) -> Iterator[str]:
    yield "## How to use it"
    yield "With torch and safetensors alone, in this folder:"
    yield fenced(
        "from load_model import embed\n\nvectors = embed(crops, low, high)  # (n, channels, y, x), see below", "python"
    )
    yield (
        'From another folder, add this one to the path first: `sys.path.insert(0, "FOLDER")`. Load a second one in the '
        "same program by its path, because Python keeps the first `load_model`: "
        '`embed_other = runpy.run_path("FOLDER/load_model.py")["embed"]`. `network.py` is the '
        "network in plain torch, `preprocess.py` the scaling and the resizing; read them before you run them, as any "
        "program from elsewhere."
    )
    if with_onnx:
        yield "Without torch, with numpy and onnxruntime:"
        yield fenced("from load_onnx import embed\n\nvectors = embed(crops, low, high)", "python")
    yield "In a recipe of cellssl, for your own plates:"
    yield fenced('[embed]\nmodel = "FOLDER"', "toml")


def _input(model: Artifact, store: Store) -> Iterator[str]:
    found, expected = pretrain_metrics(model), preparation.of_model(model, store)
    done = done_before(expected)
    yield "## What it expects"
    sizes = ", ".join(f"{size:g}" for size in expected.get("pixel_um", []))
    lines = [
        f"- Channels in this order: {', '.join(map(plain, found.channels))}.",
        f"- Crops of {found.crop_px} px with the nucleus in the middle"
        + (f", pixels of {sizes} µm." if sizes else "; the size of a pixel is not known."),
        *(
            f"- **Before the scaling:** {sentence} Do the same to yours: other crops give other vectors."
            for sentence in done
        ),
        f"- {'Grey values of such crops' if done else 'Raw grey values'}, and for every channel the two that become "
        "black (`low`) and white (`high`). They belong to a plate: measure them on control cells of **your** plate. "
        "cellssl does it (`cellssl run RECIPE --to segment`), and writes them to scale.parquet.",
    ]
    yield "\n".join(lines)
    yield from _scale_words(expected)
    if plates := scales_of_plates(model, store):
        yield "Those of the plates that it was trained on, to compare yours with:"
        head = "| plate | channel | low | high |\n|---|---|---:|---:|"
        rows = [
            f"| {plain(one['plate'])} | {plain(one['channel'])} | {one['low']:.1f} | {one['high']:.1f} |"
            for one in plates[:LONGEST_LIST]
        ]
        yield "\n".join([head, *rows])
        if len(plates) > LONGEST_LIST:
            yield f"preprocessor_config.json has all {len(plates)}."


def _scale_words(expected: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the two grey values are measured, where the card says it."""
    scale = expected.get("scale") or {}
    if scale.get("of") == "cells" and isinstance(headroom := scale.get("headroom"), int | float):
        yield (
            "By hand, for stains that are bright on a dark ground: of each control cell and channel, note the level "
            "between the cells and the brightness of the cell; of each of the two, take the mean of the middle half of "
            f"all cells. `low` is the first, and `high = low + {headroom:g} × (second − first)`. Levels measured "
            "otherwise give other vectors."
        )
    elif scale.get("of") == "pixels" and {"low_percentile", "high_percentile"} <= scale.keys():
        yield (
            f"They are the percentiles {scale['low_percentile']} and {scale['high_percentile']} of the pixels of the "
            "control fields of the plate."
        )
    elif expected.get("reference") == "range":
        yield "`low` is 0, and `high` the largest value of the images' type."


def _data_section(model: Artifact, data: _Data) -> Iterator[str]:
    yield "## Data"
    lines = [f"- Data set: {plain(data.name)}."]
    if data.plates:
        lines.append(f"- Plates: {_listed(data.plates)}.")
    if data.split and data.split.treated:
        lines.append(f"- Treatments that count as treated: {_listed(data.split.treated.compounds)}.")
    if data.split and data.split.classes:
        lines.append(f"- Classes are those of the column {plain(data.split.classes)}.")
    lines.append(f"- Trained on {pretrain_metrics(model).cells:,} cells.")
    if data.counts:
        lines.append(f"- Cells by part: {', '.join(f'{plain(name)} {n:,}' for name, n in data.counts.items())}.")
    yield "\n".join(lines)
    if data.split is None:
        yield "The cards of its data were not in the store that it was exported from, so no more is known here."


def _listed(names: list[str]) -> str:
    more = len(names) - LONGEST_LIST
    return ", ".join(map(plain, names[:LONGEST_LIST])) + (f" and {more} more" if more > 0 else "")


def _training(model: Artifact) -> Iterator[str]:
    from cellssl.stages.report.methods_learning import branch_words, loss_words, network_words, optimisation_words
    from cellssl.stages.report.references import numbered
    from cellssl.stages.report.runs import Part

    part = Part("", model, model, None, model, None, is_learned=True)
    trained = pretrain_section(model).epochs > 0
    texts = [network_words(part)]
    if trained:
        texts += [*branch_words({"": part}), loss_words(part), optimisation_words(part)]
    paragraphs, references = numbered([text[0].upper() + text[1:].rstrip(".") + "." for text in texts])
    yield "## Training: views and objectives"
    yield from map(plain, paragraphs)
    seed, run = model.card.section.get("seed"), model.card.run
    facts = [f"- Seed {seed}; this is one training, and another seed gives other vectors."]
    if isinstance(seconds := run.get("seconds"), int | float):
        facts.append(f"- It took {seconds:,.0f} s on {plain(run.get('device', 'an unknown device'))}.")
    versions = {"cellssl": run.get("cellssl"), "python": run.get("python"), **dict(run.get("libraries") or {})}
    facts.append(f"- Made with {', '.join(f'{plain(name)} {plain(one)}' for name, one in versions.items() if one)}.")
    yield "\n".join(facts)
    if references:
        yield "\n".join(f"{number}. {plain(one)}" for number, one in enumerate(references, 1))
    yield "The settings in full:"
    yield fenced(as_recipe(without_folders(model.card.section)), "toml")


def as_recipe(section: Mapping[str, Any]) -> str:
    """Return the settings of a training as the section [pretrain] of a recipe."""
    plain_, branches = {**section}, dict(section.get("branches") or {})
    plain_.pop("branches", None)
    lines = ["[pretrain]", *_assignments(plain_)]
    for name, branch in branches.items():
        lines += ["", f"[pretrain.branches.{json.dumps(name)}]", *_assignments(branch)]
    return "\n".join(lines)


def _assignments(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(name)} = {_toml(value)}" for name, value in table.items() if value is not None and name != "seed")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    match value:
        case dict():
            inside = ", ".join(f"{_key(name)} = {_toml(one)}" for name, one in value.items() if one is not None)
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _scores(table: Table | None) -> Iterator[str]:
    yield "## Scores"
    if table is None:
        yield (
            "None: the store that it was exported from has no clusters and no evaluation of its vectors. Without a "
            "comparison with simple baselines it is not known what it is good for."
        )
        return
    names = [name for name in METRICS if any(name in row.scores for row in table.rows)]
    head = [f"| vectors | {' | '.join(METRICS[name] for name in names)} |", f"|---|{'---:|' * len(names)}"]
    rows = [
        f"| {f'**{row.name}**' if row.is_own else f'baseline {plain(row.name)}'} | "
        + " | ".join(row.scores[name].words() if name in row.scores else "–" for name in names)
        + " |"
        for row in table.rows
    ]
    yield "\n".join([*head, *rows])
    if len(table.rows) == 1:
        yield "**No baseline was scored on the same cells**, so these numbers cannot be judged."
    yield from table.about


def _limits(model: Artifact, data: _Data) -> Iterator[str]:
    channels = ", ".join(map(plain, pretrain_metrics(model).channels))
    yield "## Limits"
    lines = [
        f"- It knows the stains {channels} of the cells that it was trained on. Other stains, cell lines, "
        "magnifications or microscopes give vectors, too, and no warning: check them against the baselines on your own "
        "plates.",
        "- It ignores what its views change. What they do not change it may see, also what is no biology: plates, "
        "batches, the place in a well.",
        "- It was made for research, and for no decision on a patient.",
    ]
    if 0 < len(data.plates) < FEW_PLATES:
        lines.insert(0, f"- **It was trained on {counted(len(data.plates), 'plate')} only.**")
    yield "\n".join(lines)


def _licence(job: Export) -> Iterator[str]:
    first = pretrain_metrics(job.artifact).weights
    yield "## Licence"
    if job.licence:
        yield f"`{job.licence}`, chosen by who exported it."
    else:
        yield (
            "None was chosen yet, so no one else may use it. Before you publish this folder, choose one: write "
            "its identifier after `license:` at the top of this file, or export it again with `--license`."
        )
    if first is None:
        yield "The first weights were drawn from the seed, so they have no licence of others."
    else:
        source = plain(without_folders(first.source))
        known = f" ({plain(without_folders(first.licence_source))})" if first.licence_source else ""
        yield (
            f"The training began with the weights {source}, whose licence is: {plain(first.licence)}{known}. It binds "
            "this model, too."
        )
    yield "The licence of the images counts as well; see their data set."


def _made(model: Artifact) -> Iterator[str]:
    yield "## How it was made"
    yield (
        f"By `cellssl export`, from the artifact `pretrain/{model.fingerprint}`; the same settings, data and seed give "
        "the same fingerprint. `artifact.json` has every setting, and the sha256 of every file. To cite it, name "
        f"cellssl, its version, and this fingerprint: {model.fingerprint}."
    )


def _code(text: str) -> str:
    return text.replace("`", "'")


def fenced(text: str, language: str) -> str:
    """Return a block of code whose fence is longer than any row of backticks in it."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
