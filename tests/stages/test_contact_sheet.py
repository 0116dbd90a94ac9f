"""contact sheet: which fields are shown, outlines in the colour of the reason, counts in the legend, lost images."""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Chain

from cellssl.artifacts.contents import input_of
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields, read_table
from cellssl.engine.plate_parts import parts_of
from cellssl.events import Event, Note
from cellssl.images.reading import read_labels
from cellssl.reporting.figures import field_sheet as drawing
from cellssl.stages.segment.contact_sheet import COLOURS, KINDS, PlateSource, rgb, write_field_sheet
from cellssl.stages.segment.field_choice import Choice, chosen_fields
from cellssl.stages.segment.settings import Settings
from cellssl.stages.segment.tasks import labels_name


def made_fields(plates: int = 2, wells: int = 6) -> pd.DataFrame:
    """Return two fields per well, with 100 nuclei more or less; the first half of the wells are controls."""
    rows = [
        {
            "field_id": f"P{plate}_{well}_{site}",
            "plate": f"P{plate}",
            "well": f"A{well:02d}",
            "control": 2 * well < wells,
        }
        for plate in range(1, plates + 1)
        for well in range(wells)
        for site in (1, 2)
    ]
    found = [100 + place % 3 for place in range(len(rows))]
    return pd.DataFrame(rows).assign(found=found, dropped_inside=0)


def places(fields: pd.DataFrame, chosen: list[Choice], *columns: str) -> list[tuple[object, ...]]:
    """Return some columns of the chosen fields, in their order."""
    rows = fields.set_index("field_id").loc[[one.field_id for one in chosen], list(columns)]
    return list(rows.itertuples(index=False, name=None))


def test_fields_of_controls_and_treated_wells_of_several_plates_are_chosen() -> None:
    fields = made_fields(plates=20)
    chosen = chosen_fields(fields, 8)
    assert [one.why for one in chosen[:2]] == ["typical control field", "typical treated field"]
    assert sum(control for (control,) in places(fields, chosen, "control")) == 4
    assert len(set(places(fields, chosen, "plate"))) == 8
    assert {"P1", "P20"} <= {plate for (plate,) in places(fields, chosen, "plate")}


@pytest.mark.parametrize("lone", [True, False])
@pytest.mark.parametrize("plate", ["P1", "P5", "P11"])
def test_a_kind_of_field_that_is_on_one_of_many_plates_is_shown(plate: str, lone: bool) -> None:
    fields = made_fields(plates=11)
    fields = fields[(fields["control"] != lone) | (fields["plate"] == plate)]
    chosen = chosen_fields(fields, 8)
    assert {one.why for one in chosen[:2]} == {"typical control field", "typical treated field"}
    assert sum(control for (control,) in places(fields, chosen, "control")) == 4
    assert len(chosen_fields(fields, 1000)) == len(fields)


def test_of_one_plate_other_wells_come_before_other_fields_of_a_well() -> None:
    fields = made_fields(plates=1, wells=6)
    assert len(set(places(fields, chosen_fields(fields, 6), "well"))) == 6
    assert len(chosen_fields(fields, 100)) == len(fields)


def test_the_fields_that_lost_most_and_that_have_fewest_nuclei_are_shown() -> None:
    fields = made_fields().set_index("field_id")
    fields.loc["P2_4_1", "dropped_inside"] = 60
    fields.loc["P1_2_2", "found"] = 0
    chosen = chosen_fields(fields.reset_index(), 8)
    assert chosen[2:4] == [Choice("P2_4_1", "most dropped"), Choice("P1_2_2", "fewest nuclei")]
    shuffled = fields.reset_index().sample(frac=1, random_state=1)
    assert chosen_fields(shuffled, 8) == chosen


@pytest.mark.parametrize("wells", [0, 1])
def test_one_field_or_none_is_enough(wells: int) -> None:
    fields = made_fields(plates=1, wells=2).head(wells)
    assert len(chosen_fields(fields, 8)) == wells


def test_every_kind_has_its_own_colour_with_every_colour_blindness() -> None:
    from skimage.color import deltaE_ciede2000, rgb2lab

    assert set(COLOURS) == set(KINDS)
    colours = np.array([rgb(kind) for kind in KINDS]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for confusion in COLOUR_BLINDNESS:
        seen = np.clip(linear @ np.array(confusion).T, 0, 1)
        lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
        assert min(deltaE_ciede2000(one, other) for one, other in combinations(lab, 2)) > 10


COLOUR_BLINDNESS = (
    np.eye(3).tolist(),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
)
"""How linear red, green and blue are seen: by most, with protanopia, deuteranopia and tritanopia (Machado et al. 2009,
doi:10.1109/TVCG.2009.113)."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return a list that gets the arguments of every sheet that is drawn: title, legend, fields and crops."""
    calls: list[tuple[Any, ...]] = []
    draw = drawing.field_sheet
    monkeypatch.setattr(drawing, "field_sheet", lambda *words: calls.append(words) or draw(*words))
    return calls


def draw_again(segment: Artifact, store: Store, folder: Path) -> list[Event]:
    """Write the contact sheet of a segment artifact into a folder."""
    fetched = dict(parts_of(store.get("fetch", input_of(segment, "fetch"))))
    parts = {plate: store.get("segment", part) for plate, part in parts_of(segment)}
    sources = {
        part.fingerprint: PlateSource(
            store.get("fetch", fetched[plate]), store.get("segment", input_of(part, "nuclei/segment")), part
        )
        for plate, part in parts.items()
    }
    names = ("fields.parquet", "cells.parquet", "dropped.parquet", "scale.parquet")
    tables = {name: read_table(segment.file(name)) for name in names}
    draft, context = SimpleNamespace(file=folder.joinpath), SimpleNamespace(store=store)
    job: Any = SimpleNamespace(settings=Settings(), draft=draft, context=context)
    return list(write_field_sheet(job, sources, tables, segment.card.metrics))


def shown_labels(segment: Artifact, store: Store, title: str, shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """Return the field that a title names, and its label image at the size of its picture."""
    well, site, *_ = title.split(" · ")
    fields = read_fields(segment)
    field = fields[(fields["well"] == well) & (fields["site"].astype(str) == site.removeprefix("site "))].iloc[0]
    detected = store.get("segment", input_of(store.get("segment", field["part"]), "nuclei/segment"))
    labels = read_labels(detected.file(labels_name(field["field_id"])))
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(shape, labels.shape, strict=False))
    return field["field_id"], labels[rows.astype(int)[:, None], columns.astype(int)]


def test_each_outline_has_the_colour_of_its_reason_and_the_legend_counts_all_nuclei(
    chain: Chain, tmp_path: Path, drawn: list[tuple[Any, ...]]
) -> None:
    segment = chain.made("segment")
    draw_again(segment, chain.store, tmp_path)
    assert (tmp_path / "contact-sheet.png").read_bytes() == segment.file("contact-sheet.png").read_bytes()
    ((_, legend, shown, crops),) = drawn
    metrics = segment.card.metrics
    counts = {entry.colour: int(entry.text.split()[0]) for entry in legend}
    assert counts == {rgb(kind): metrics[kind] for kind in KINDS if metrics.get(kind)}
    assert len(crops.tiles) == min(60, metrics["kept"])
    nuclei = pd.concat([read_cells(segment).assign(reason="kept"), read_table(segment.file("dropped.parquet"))])
    assert len(shown) > 3
    for one in shown:
        pixels = one.panels[0].pixels
        field_id, labels = shown_labels(segment, chain.store, one.title, pixels.shape)
        for kind in KINDS:
            of_kind = nuclei[(nuclei["field_id"] == field_id) & (nuclei["reason"] == kind)]
            assert set(labels[(pixels == rgb(kind)).all(axis=2)]) == set(of_kind["nucleus_label"])


def test_a_field_whose_image_has_changed_is_left_out_and_said(
    chain: Chain, tmp_path: Path, drawn: list[tuple[Any, ...]]
) -> None:
    chain.copy_cells(tmp_path / "store")
    images = sorted((tmp_path / "store" / "fetch").rglob("*E11*.tif"))
    for image in images:
        image.write_bytes(image.read_bytes()[:-100])
    events = draw_again(chain.made("segment"), Store(tmp_path / "store"), tmp_path)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) >= 1 <= len(images)
    assert all("the contact sheet lacks the field Sim1_00001_E11" in note for note in notes)
    assert all("E11" not in one.title for one in drawn[0][2])
    assert len(drawn[0][2]) > 3
