"""Small plates as microscopes write them, by the published descriptions of their formats; every plane has its number.

They are written with tifffile, ElementTree and ome-zarr, and read by other libraries.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from tiny import tiny_field

WELLS = ("B02", "C05")
SITES = (1, 2)
SHAPE = (24, 32)
GUID = "0A1B2C3D-1111-2222-3333-444455556666"


@dataclass(frozen=True)
class Content:
    """What a plate holds: names of channels, and how many z planes and time points."""

    channels: tuple[str, ...] = ("DAPI", "Actin")
    z_planes: int = 1
    time_points: int = 1
    with_cells: bool = False
    """Whether the planes show nuclei, in place of their numbers."""

    def planes(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Well, site from 1, channel from 0, z plane from 0 and time point from 0 of every plane."""
        return itertools.product(WELLS, SITES, range(len(self.channels)), range(self.z_planes), range(self.time_points))

    def pixels(self, well: str, site: int, channel: int, z: int = 0, t: int = 0) -> np.ndarray:
        """Return the pixels of one plane: its number, everywhere."""
        if self.with_cells:
            return tiny_field(f"{well}-{site}", self.channels[channel])
        return np.full(SHAPE, number(well, site, channel, z, t), np.uint16)


def number(well: str, site: int, channel: int, z: int = 0, t: int = 0) -> int:
    """Return the number of a plane."""
    return 10_000 * WELLS.index(well) + 3000 * site + 400 * channel + 20 * z + t + 1


def row_and_column(well: str) -> tuple[int, int]:
    """Return row and column of a well, from 1."""
    return ord(well[0]) - 64, int(well[1:])


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    """Write one grey plane."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels)


def write_flat(folder: Path, name: str, content: Content) -> None:
    """Write files called `name`, a format string of well, site, channel, z and t."""
    for well, site, channel, z, t in content.planes():
        called = name.format(
            well=well, site=site, channel=content.channels[channel], wave=channel + 1, z=z + 1, t=t + 1
        )
        write_tiff(folder / called, content.pixels(well, site, channel, z, t))


def write_harmony(folder: Path, content: Content, version: int = 5, plate: str = "BR1", measurement: int = 1) -> Path:
    """Write a measurement of Operetta or Opera Phenix, with Index.idx.xml (5) or Index.xml (7); return its folder."""
    namespace = {5: "http://www.perkinelmer.com/PEHH/HarmonyV5", 7: "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"}
    place = folder / f"{plate}__2020-03-0{measurement}T05_06_07-Measurement {measurement}" / "Images"
    root = ElementTree.Element("EvaluationInputData", {"xmlns": namespace[version], "Version": "1"})
    _texts(root, {"User": "me", "InstrumentType": "Phenix"})
    of_plate = ElementTree.SubElement(ElementTree.SubElement(root, "Plates"), "Plate")
    _texts(of_plate, {"PlateID": plate, "MeasurementID": "m", "Name": plate, "PlateRows": "16", "PlateColumns": "24"})
    wells = ElementTree.SubElement(root, "Wells")
    for well in WELLS:
        row, column = row_and_column(well)
        one = ElementTree.SubElement(wells, "Well")
        _texts(one, {"id": f"{row:02d}{column:02d}", "Row": str(row), "Col": str(column)})
    of_channel = [_harmony_channel(name) for name in content.channels]
    if version == 7:
        entries = ElementTree.SubElement(ElementTree.SubElement(root, "Maps"), "Map")
        for channel, facts in enumerate(of_channel, start=1):
            _texts(ElementTree.SubElement(entries, "Entry", {"ChannelID": str(channel)}), facts)
    images = ElementTree.SubElement(root, "Images")
    for well, site, channel, z, t in content.planes():
        row, column = row_and_column(well)
        name = f"r{row:02d}c{column:02d}f{site:02d}p{z + 1:02d}-ch{channel + 1}sk{t + 1}fk1fl1.tiff"
        write_tiff(place / name, content.pixels(well, site, channel, z, t))
        facts = {
            "id": f"{row:02d}{column:02d}K{t + 1}F{site}P{z + 1}R{channel + 1}",
            "State": "Ok",
            "URL": name,
            "Row": str(row),
            "Col": str(column),
            "FieldID": str(site),
            "PlaneID": str(z + 1),
            "TimepointID": str(t if version == 5 else t + 1),
            "ChannelID": str(channel + 1),
            "FlimID": "1",
            **(of_channel[channel] if version == 5 else {}),
            "AbsTime": f"2020-03-0{measurement}T05:06:07.89+01:00",
        }
        _texts(ElementTree.SubElement(images, "Image", {"Version": "1"}), facts)
    index = place / ("Index.idx.xml" if version == 5 else "Index.xml")
    ElementTree.ElementTree(root).write(index, encoding="utf-8", xml_declaration=True)
    return place.parent


def _harmony_channel(name: str) -> dict[str, str]:
    return {
        "ChannelName": name,
        "ImageResolutionX": "5.98E-07",
        "ImageResolutionY": "5.98E-07",
        "ImageSizeX": str(SHAPE[1]),
        "ImageSizeY": str(SHAPE[0]),
        "ObjectiveMagnification": "20",
    }


def _texts(parent: ElementTree.Element, texts: dict[str, str]) -> None:
    for tag, text in texts.items():
        unit = {"Unit": "m"} if tag.startswith("ImageResolution") else {}
        ElementTree.SubElement(parent, tag, unit).text = text


def write_imagexpress(folder: Path, content: Content, plate: str = "plate1", *, with_htd: bool = True) -> None:
    """Write a plate of ImageXpress: TimePoint and ZStep folders, names with a GUID, a thumbnail beside every image."""
    for well, site, channel, z, t in content.planes():
        place = folder / f"TimePoint_{t + 1}"
        place = place / f"ZStep_{z + 1}" if content.z_planes > 1 else place
        stem = f"{plate}_{well}_s{site}_w{channel + 1}"
        write_tiff(place / f"{stem}{GUID}.tif", content.pixels(well, site, channel, z, t))
        write_tiff(place / f"{stem}_thumb{GUID}.tif", np.full((6, 8), 7, np.uint8))
    if not with_htd:
        return
    selected = [row_and_column(well) for well in WELLS]
    lines = ['"HTSInfoFile", Version 1.0', '"Description", ""', f'"TimePoints", {content.time_points}']
    lines += [
        f'"ZSeries", {str(content.z_planes > 1).upper()}',
        f'"ZSteps", {content.z_planes}',
        '"ZProjection", FALSE',
    ]
    lines += ['"XWells", 12', '"YWells", 8']
    for row in range(1, 9):
        lines.append(f'"WellsSelection{row}", ' + ", ".join(str((row, c) in selected).upper() for c in range(1, 13)))
    lines += ['"Sites", TRUE', f'"XSites", {len(SITES)}', '"YSites", 1', '"SiteSelection1", TRUE, TRUE']
    lines += ['"Waves", TRUE', f'"NWavelengths", {len(content.channels)}']
    lines += [f'"WaveName{n}", "{name}"' for n, name in enumerate(content.channels, start=1)]
    lines += [f'"WaveCollect{n}", 1' for n in range(1, len(content.channels) + 1)]
    (folder / f"{plate}.HTD").write_text("\n".join([*lines, '"EndFile"', ""]))


BTS = "http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"


def write_cellvoyager(folder: Path, content: Content, plate: str = "Plate7") -> None:
    """Write a measurement of CellVoyager: .mlf, .mrf and .mes, image files, and a correction image."""
    ElementTree.register_namespace("bts", BTS)
    listed = _bts(None, "MeasurementData", {"Version": "1.0"})
    for well, site, channel, z, t in content.planes():
        row, column = row_and_column(well)
        name = f"AssayPlate_#655090_{well}_T{t + 1:04d}F{site:03d}L01A0{channel + 1}Z{z + 1:02d}C{channel + 1:02d}.tif"
        write_tiff(folder / name, content.pixels(well, site, channel, z, t))
        place = {
            "Column": column,
            "Row": row,
            "TimePoint": t + 1,
            "FieldIndex": site,
            "ZIndex": z + 1,
            "Z": z,
            "X": 0,
            "Y": 0,
        }
        action = {"TimelineIndex": 1, "ActionIndex": channel + 1, "Action": "3D", "Type": "IMG", "Ch": channel + 1}
        record = _bts(listed, "MeasurementRecord", {"Time": "2020-01-02T03:04:05.678+09:00", **place, **action})
        record.text = name
    counts = {"RowCount": 8, "ColumnCount": 12, "TimePointCount": content.time_points, "ZCount": content.z_planes}
    facts = {
        "Title": "T",
        "BeginTime": "2020-01-02T03:04:05.678+09:00",
        "TargetSystem": "CV8000",
        "FieldCount": len(SITES),
    }
    settings = {"Version": "1.0", "MeasurementSettingFileName": "settings.mes"}
    detail = _bts(None, "MeasurementDetail", {**settings, **facts, **counts})
    _bts(detail, "MeasurementSamplePlate", {"Name": plate})
    setting = _bts(None, "MeasurementSetting", {"Version": "1.0", "ProductID": "CV8000"})
    channels = _bts(setting, "ChannelList", {})
    for channel, name in enumerate(content.channels, start=1):
        pixel = {"HorizontalPixelDimension": 0.1625, "VerticalPixelDimension": 0.1625, "InputBitDepth": 16}
        size = {"HorizontalPixels": SHAPE[1], "VerticalPixels": SHAPE[0]}
        corrected = {"ShadingCorrectionSource": "DC_sCMOS #1_CAM1.tif"}
        _bts(detail, "MeasurementChannel", {"Ch": channel, **pixel, **size, **corrected})
        _bts(channels, "Channel", {"Ch": channel, "Target": name, "Objective": "40x water", "Magnification": 40})
    for root, name in ((listed, "MeasurementData.mlf"), (detail, "MeasurementDetail.mrf"), (setting, "settings.mes")):
        ElementTree.ElementTree(root).write(folder / name, encoding="utf-8", xml_declaration=True)
    write_tiff(folder / "DC_sCMOS #1_CAM1.tif", np.zeros(SHAPE, np.uint16))


def _bts(parent: ElementTree.Element | None, tag: str, values: Mapping[str, object]) -> ElementTree.Element:
    named = {f"{{{BTS}}}{name}": str(value) for name, value in values.items()}
    full = f"{{{BTS}}}{tag}"
    return ElementTree.Element(full, named) if parent is None else ElementTree.SubElement(parent, full, named)


def write_ome_zarr(folder: Path, content: Content, version: str) -> None:
    """Write an OME-Zarr plate of version 0.4 or 0.5 with ome-zarr, with names of channels and the size of a pixel."""
    import zarr
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    form = FormatV04() if version == "0.4" else FormatV05()
    root = zarr.open_group(str(folder), mode="w", zarr_format=2 if version == "0.4" else 3)
    places = [f"{well[0]}/{well[1:]}" for well in WELLS]
    rows, columns = sorted({well[0] for well in WELLS}), sorted({well[1:] for well in WELLS})
    write_plate_metadata(root, rows=rows, columns=columns, wells=places, name="zarred", field_count=2, fmt=form)
    for well, place in zip(WELLS, places, strict=True):
        group = root.require_group(place)
        write_well_metadata(group, [str(site - 1) for site in SITES], fmt=form)
        for site in SITES:
            image = group.require_group(str(site - 1))
            write_image(_stack(content, well, site), image, axes="tczyx", fmt=form)
            _describe_ome_zarr(image, content, version)


def _describe_ome_zarr(image: "object", content: Content, version: str) -> None:
    """Add names of channels, and 0.325 um as the side of a pixel."""
    attributes = dict(image.attrs)  # type: ignore[attr-defined]
    described = attributes["ome"] if version == "0.5" else attributes
    described["omero"] = {
        "channels": [
            {"label": name, "color": "FFFFFF", "window": {"start": 0, "end": 1, "min": 0, "max": 1}}
            for name in content.channels
        ]
    }
    scales = described["multiscales"][0]
    for axis in scales["axes"]:
        if axis["name"] in "zyx":
            axis["unit"] = "micrometer"
    for level in scales["datasets"]:
        for transformation in level["coordinateTransformations"]:
            if transformation["type"] == "scale":
                *others, y, x = transformation["scale"]
                transformation["scale"] = [*others, y * 0.325, x * 0.325]
    image.attrs.put(attributes)  # type: ignore[attr-defined]


def _stack(content: Content, well: str, site: int) -> np.ndarray:
    """Return all planes of a field as (t, c, z, y, x)."""
    return np.array(
        [
            [
                [content.pixels(well, site, channel, z, t) for z in range(content.z_planes)]
                for channel in range(len(content.channels))
            ]
            for t in range(content.time_points)
        ]
    )


def write_ome_tiffs(folder: Path, content: Content) -> None:
    """Write one OME-TIFF per field, with all its channels, z planes and time points."""
    folder.mkdir(parents=True, exist_ok=True)
    for well, site in itertools.product(WELLS, SITES):
        metadata = {"axes": "TCZYX", "Channel": {"Name": list(content.channels)}}
        sizes = {"PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.65, "PhysicalSizeYUnit": "µm"}
        tifffile.imwrite(
            folder / f"scan_{well}_s{site}.ome.tif",
            _stack(content, well, site),
            ome=True,
            metadata={**metadata, **sizes},
        )


def write_imagej(folder: Path, content: Content) -> None:
    """Write one ImageJ hyperstack per field."""
    folder.mkdir(parents=True, exist_ok=True)
    for well, site in itertools.product(WELLS, SITES):
        planes = _stack(content, well, site).transpose(0, 2, 1, 3, 4)
        tifffile.imwrite(folder / f"{well}_{site:02d}.tif", planes, imagej=True, metadata={"axes": "TZCYX"})


def write_metamorph(folder: Path, content: Content) -> None:
    """Write a MetaMorph acquisition: an .nd file whose stage positions are sites of wells, and one TIFF per wave."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = list(itertools.product(WELLS, SITES))
    lines = ['"NDInfoFile", Version 1.0', '"Description", File recreated from images.', '"DoTimelapse", FALSE']
    lines += ['"DoStage", TRUE', f'"NStagePositions", {len(stages)}']
    lines += [f'"Stage{n}", "{well} site {site}"' for n, (well, site) in enumerate(stages, start=1)]
    lines += ['"DoWave", TRUE', f'"NWavelengths", {len(content.channels)}']
    lines += [f'"WaveName{n}", "{name}"' for n, name in enumerate(content.channels, start=1)]
    lines += ['"DoZSeries", FALSE', '"WaveInFileName", TRUE', '"EndFile"', ""]
    (folder / "run.nd").write_text("\n".join(lines))
    for number_of_stage, (well, site) in enumerate(stages, start=1):
        for channel, name in enumerate(content.channels):
            pixels = content.pixels(well, site, channel)
            write_tiff(folder / f"run_w{channel + 1}{name}_s{number_of_stage}.TIF", pixels)


def write_loaddata(folder: Path, content: Content) -> None:
    """Write CellProfiler's LoadData table with paths of another machine, and images whose names say nothing."""
    lines = ["Metadata_Plate,Metadata_Well,Metadata_Site"]
    for name in content.channels:
        lines[0] += f",PathName_{name},FileName_{name}"
    for number_of_row, (well, site) in enumerate(itertools.product(WELLS, SITES)):
        cells = ["LD1", well, str(site)]
        for channel in range(len(content.channels)):
            name = f"x{number_of_row}-{channel}.tif"
            write_tiff(folder / "raw" / name, content.pixels(well, site, channel))
            cells += ["Z:\\screens\\raw", name]
        lines.append(",".join(cells))
    (folder / "load_data.csv").write_text("\n".join(lines) + "\n")


SINGLE, STACKS, MOVIES = Content(), Content(z_planes=3), Content(z_planes=2, time_points=2)
Writer = Callable[[Path, Content], object]
LAYOUTS: dict[str, tuple[Writer, Content, float | None]] = {
    "Harmony 5": (write_harmony, STACKS, 0.598),
    "Harmony 7": (lambda folder, content: write_harmony(folder, content, 7), MOVIES, 0.598),
    "ImageXpress": (write_imagexpress, MOVIES, None),
    "ImageXpress without HTD": (
        lambda folder, content: write_imagexpress(folder, content, with_htd=False),
        Content(channels=("w1", "w2"), z_planes=2),
        None,
    ),
    "CellVoyager": (write_cellvoyager, STACKS, 0.1625),
    "OME-Zarr 0.4": (lambda folder, content: write_ome_zarr(folder / "p.zarr", content, "0.4"), MOVIES, 0.325),
    "OME-Zarr 0.5": (lambda folder, content: write_ome_zarr(folder / "p.zarr", content, "0.5"), MOVIES, 0.325),
    "OME-TIFF": (write_ome_tiffs, STACKS, 0.65),
    "ImageJ": (write_imagej, Content(channels=("ch1", "ch2"), z_planes=2, time_points=2), None),
    "MetaMorph": (write_metamorph, SINGLE, None),
    "LoadData": (write_loaddata, SINGLE, None),
    "flat": (lambda folder, content: write_flat(folder, "{well}_s{site}_{channel}.tif", content), SINGLE, None),
    "folders": (
        lambda folder, content: write_flat(folder, "T{t:03d}/{well}/f{site}_z{z}_{channel}.tif", content),
        MOVIES,
        None,
    ),
    "IN Cell": (
        lambda folder, content: write_flat(
            folder, "{well[0]} - {well[1]}{well[2]}(fld {site} wv {channel}).tif", content
        ),
        Content(channels=("DAPI - DAPI", "FITC - FITC")),
        None,
    ),
    "Cytation": (
        lambda folder, content: write_flat(folder, "{well}_-1_1_{site}_{channel}_001.tif", content),
        Content(channels=("DAPI 377,447", "GFP 469,525")),
        None,
    ),
}
"""Layout -> how it is written, what it holds, and the size of a pixel in micrometres that its files say."""
