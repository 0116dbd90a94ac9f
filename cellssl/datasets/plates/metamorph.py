"""metamorph: the .nd file of a MetaMorph acquisition in -> its planes: stages are sites, waves are channels."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import PurePosixPath

from cellssl.bounded import read_bytes
from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.headers import Headers
from cellssl.datasets.plates.layout import Found, Optics, Plane, wells_in

ND_BYTES = 2**24


def recognise_metamorph(listing: Listing, headers: Headers) -> list[Found]:
    """Return one result per .nd file that lists files which are there; their files leave the listing."""
    found = []
    for index in listing.named(".nd"):
        one = _read(listing, index, headers)
        if one is not None:
            found.append(one)
    return found


def _read(listing: Listing, index: str, headers: Headers) -> Found | None:
    text = read_bytes(listing.root / index, ND_BYTES).decode("latin-1")
    settings = {
        row[0].strip(): row[1].strip() for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) > 1
    }
    waves = [settings.get(f"WaveName{n}", f"w{n}") for n in range(1, _number(settings, "NWavelengths", 1) + 1)]
    stages = {n: settings.get(f"Stage{n}", "") for n in range(1, _number(settings, "NStagePositions", 1) + 1)}
    base = PurePosixPath(index).stem
    wave_texts = "|".join(re.escape(_in_file_name(wave)) for wave in waves)
    pattern = re.compile(
        rf"{re.escape(base)}(?:_w(?P<wave>\d+)(?:{wave_texts})?)?(?:_s(?P<stage>\d+))?(?:_t(?P<t>\d+))?\.(?:tiff?|stk)",
        re.I,
    )
    folder = PurePosixPath(index).parent
    beside = [file for file in listing.images() if PurePosixPath(file).parent == folder]
    matches = {file: match for file in beside if (match := pattern.fullmatch(PurePosixPath(file).name))}
    if not matches:
        return None
    sites = _wells_and_sites(stages, base)
    planes = []
    for file, match in matches.items():
        stage = int(match["stage"] or 1)
        well, site, _ = sites.get(stage, (base, stage, False))
        number = int(match["wave"] or 1)
        channel = waves[number - 1] if number <= len(waves) else f"w{number}"
        planes.append(Plane(file, base, well, site, channel, t=int(match["t"] or 1)))
    first = headers.of(planes[0].file)
    found = Found("MetaMorph", planes)
    if first:
        found.optics = Optics(first.pixel_um, first.objective, first.acquired)
        found.held = (first.z_planes, first.time_points)
    expected = len(stages) * len(waves) * _number(settings, "NTimePoints", 1)
    if len(planes) < expected:
        found.doubts.append(f"{index} lists {expected:,} files, and {expected - len(planes):,} of them are missing")
    nowhere = [stages[number] for number, (_, _, is_named) in sites.items() if not is_named]
    if len(nowhere) == len(stages):
        found.doubts.append(f"the stage positions in {index} are no wells, so every position is a field of one well")
    elif nowhere:
        found.doubts.append(
            f"{len(nowhere)} of {len(stages)} stage positions in {index} name no well, such as {nowhere[0]!r}; "
            f"they are fields of the well {base}"
        )
    for file in matches:
        listing.sizes.pop(file)
    return found


def _number(settings: dict[str, str], name: str, default: int) -> int:
    text = settings.get(name, "")
    return int(text) if text.isdigit() and 0 < int(text) < 10**6 else default


def _in_file_name(wave: str) -> str:
    """Return the name of a wave as MetaMorph writes it into file names: without what they may not hold."""
    return re.sub(r'[<>:"/\\|?*]', "-", wave)


def _wells_and_sites(stages: dict[int, str], base: str) -> dict[int, tuple[str, int, bool]]:
    """Return stage -> well, site, and whether its name says the well; sites are numbered within each well."""
    counts: Counter[str] = Counter()
    found = {}
    for number, named in zip(stages, wells_in(list(stages.values())), strict=True):
        well = named or base
        counts[well] += 1
        found[number] = (well, counts[well], named is not None)
    return found
