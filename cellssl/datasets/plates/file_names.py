"""file_names: the names of image files in -> what each says: plate, well, site, channel, z plane, time point.

Names of microscopes are known by patterns; for all others, the parts of the names are compared with each other.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath

from cellssl.datasets.plates.layout import LETTERS_OF_OTHERS, MARKS_A_NUCLEUS, WELL, canonical_well, well_at
from cellssl.errors import UsageError
from cellssl.letters import number_of

ROLES = ("plate", "well", "row", "column", "site", "channel", "z", "t", "any")
"""Parts that a pattern can name."""
Parts = dict[str, str]
"""Role -> text, of one file."""
GUID = r"(?:_?[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}|_UUID-UNKNOWN)?"
WELL_TEXT = r"(?:[A-P]|A[A-F])(?:0?[1-9]|[1-3]\d|4[0-8])"
KNOWN = (
    (
        "Harmony",
        "r{row}c{column}f{site}p{z}-ch{channel}sk{t}fk1fl1",
        r"r(?P<row>\d{1,2})c(?P<column>\d{1,2})f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)(?:sk(?P<t>\d+))?(?:fk\d+)?(?:fl\d+)?",
    ),
    (
        "CellVoyager",
        "{plate}_{well}_T{t}F{site}L01A01Z{z}C{channel}",
        rf"(?:(?P<plate>.+)_)?(?P<well>{WELL_TEXT})_T(?P<t>\d+)F(?P<site>\d+)L\d+A\d+Z(?P<z>\d+)C(?P<channel>\d+)",
    ),
    (
        "CellVoyager",
        "W{well}F{site}T{t}Z{z}C{channel}",
        r"W(?P<number>\d{1,4})F(?P<site>\d{1,4})T(?P<t>\d{1,4})Z(?P<z>\d{1,3})C(?P<channel>\d{1,2})",
    ),
    (
        "IN Cell Analyzer",
        "{row} - {column}(fld {site} wv {channel})",
        r"(?P<row>[A-P]) - (?P<column>\d{1,2})\((?:fld (?P<site>\d+))?(?: ?wv (?P<channel>.+?))?(?: z (?P<z>\d+))?"
        r"(?: time (?P<t>\d+)(?: - [\d.]+ ?(?:ms|s)?)?)?\)",
    ),
    (
        "scan^R",
        "{well}--W00001--P{site}--Z{z}--T{t}--{channel}",
        r"(?P<well>.+?)--W\d+--P(?P<site>\d+)--Z(?P<z>\d+)--T(?P<t>\d+)--(?P<channel>.+)",
    ),
    (
        "Columbus",
        "{row}{column}-{t}-{site}{z}{channel}",
        r"(?P<row>\d{3})(?P<column>\d{3})-(?P<t>\d+)-(?P<site>\d{3})(?P<z>\d{3})(?P<channel>\d{3})",
    ),
    (
        "Leica matrix",
        "image--L00--S00--U{column}--V{row}--X{site}--Z{z}--C{channel}",
        r"image--L\d+(?:--S\d+)?--U(?P<column0>\d+)--V(?P<row0>\d+)(?:--J\d+)?(?:--E\d+)?(?:--O\d+)?--X(?P<x>\d+)--Y(?P<y>\d+)"
        r"(?:--T(?P<t>\d+))?(?:--Z(?P<z>\d+))?(?:--C(?P<channel>\d+))?(?:\.ome)?",
    ),
    (
        "Cytation (Gen5)",
        "{well}_-1_1_{site}_{channel}_{t}",
        rf"(?P<well>{WELL_TEXT})_-?\d+_\d+_(?P<site>\d+)(?:Z(?P<z>\d+))?_(?P<channel>[^_]+)_(?P<t>\d+)",
    ),
    (
        "Incucyte",
        "{plate}_{well}_{site}_{t}",
        rf"(?P<plate>.+?)_(?P<well>{WELL_TEXT})_(?P<site>\d+)_(?P<t>(?:\d{{4}}y\d\dm)?\d\dd[_-]?\d\dh\d\dm)",
    ),
    (
        "Cellomics",
        "{plate}_{well}f{site}d{channel}",
        rf"(?P<plate>.+)_(?P<well>{WELL_TEXT})f(?P<site>\d+)(?:t(?P<t>\d+))?(?:z(?P<z>\d+))?[do](?P<channel>\d+)",
    ),
    (
        "Opera",
        "{row}{column}{site}_{channel}",
        r"(?!000|\d{3}000)(?P<row>0[0-2]\d|03[0-2])(?P<column>0[0-4]\d)(?P<site>\d{3})"
        r"[-_ ](?P<channel>[A-Za-z][A-Za-z0-9-]*)",
    ),
    (
        "Micro-Manager",
        "{plate}_MMStack_{well}-Site_{site}",
        rf"(?:(?P<plate>.+?)_)?MMStack_(?:(?P<well>{WELL_TEXT})-)?(?:\d+-)?(?:Site|Pos)[_ -]?"
        r"(?P<site>\d{3}_\d{3}|\d+)",
    ),
    (
        "Micro-Manager",
        "img_channel{channel}_position{site}_time{t}_z{z}",
        r"img_channel(?P<channel>\d+)_position(?P<site>\d+)_time(?P<t>\d+)_z(?P<z>\d+)",
    ),
    (
        "Micro-Manager",
        "img_{t}_{channel}_{z}",
        r"img_(?P<t>\d{9})_(?P<channel>.+)_(?P<z>\d{3})",
    ),
    (
        "NIS-Elements",
        "Well{well}_Point{site}_Channel{channel}_Seq0000",
        rf"(?:(?P<plate>.*?)_)?Well(?P<well>{WELL_TEXT})(?:_Point{WELL_TEXT}_(?P<site>\d+))?(?:_Channel(?P<listed>.+?))?_Seq\d+",
    ),
    (
        "ImageXpress or MetaMorph",
        "{plate}_{well}_s{site}_w{channel}",
        rf"(?:(?P<plate>.+?)_)?(?P<well>{WELL_TEXT})(?:_s(?P<site>\d+))?_w(?P<channel>\d)(?:_z(?P<z>\d+))?(?:_t(?P<t>\d+))?{GUID}",
    ),
)
"""Microscope, its names in words, and the pattern of the whole name without its ending."""
ORDER = re.compile(r"(\d+)")
STRUCTURE = (
    ("t", re.compile(r"(?:TimePoint|Time|T)[_ -]?(\d+)", re.I)),
    ("z", re.compile(r"(?:ZStep|Z)[_ -]?(\d+)", re.I)),
    (
        "well",
        re.compile(
            rf"(?!P\d$)(?:Well[_ -]?)?({WELL_TEXT})(?:[-_ ](?:Site|Pos|Position|Field|XY)[_ -]?\d[\d_]*)?", re.I
        ),
    ),
    (
        "site",
        re.compile(
            rf"(?:{WELL_TEXT}[-_ ])?(?:\d+-)?(?:Site|Pos|Position|Field|FOV|XY)[_ -]?(\d{{3}}_\d{{3}}|\d+)", re.I
        ),
    ),
)
"""Folders that stand for a time point, a z plane, a well or a site, where the name of the file does not say it.

P1 to P9 are plates: unpadded wells of row P are rare.
"""
SITE_OF_WELL = re.compile(rf"{WELL_TEXT}[-_ ]Site[_ -]?\d[\d_]*|(?:\d+-)?Pos[_-]?\d{{3}}_\d{{3}}", re.I)
"""A folder of Micro-Manager that names a well and a site in it, or a place in a grid."""
MATRIX = re.compile(r"(chamber|field)--.+", re.I)
"""Folders of Leica's matrix screener around one well or one field."""


@dataclass
class NamedFiles:
    """Files whose names follow one pattern, and what each of them says."""

    pattern: str
    """The pattern, with named parts in braces."""
    source: str
    """What writes such names; "" where the names were only compared with each other."""
    parts: dict[str, Parts] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    explained: set[int] = field(default_factory=set)
    """Depths of folders, from 0, that say something else than the plate."""


def read_names(files: Sequence[str], pattern: str | None = None) -> tuple[list[NamedFiles], list[str]]:
    """Return the files by the pattern of their names, the most frequent one first, and the files that follow none."""
    if pattern is not None:
        one, others = _by_given(files, pattern)
        return [one], others
    groups: dict[int, NamedFiles] = {}
    others = []
    for file in files:
        number, parts = _known(file)
        if parts is None:
            others.append(file)
            continue
        source, words, _ = KNOWN[number]
        groups.setdefault(number, NamedFiles(words, source)).parts[file] = parts
    others += _wells_that_are_fields(groups)
    found = [one for one in groups.values() if one.parts]
    rest: list[str] = []
    for same in _alike(others):
        compared = _compared(same)
        if compared is None:
            rest += same
        else:
            found.append(compared)
    return sorted(found, key=lambda one: -len(one.parts)), rest


def stem(file: str) -> str:
    """Return the name of a file without its ending, also without the `.ome` of OME-TIFF."""
    name = file.rpartition("/")[2].rpartition(".")[0]
    return name[:-4] if name.lower().endswith(".ome") else name


def _known(file: str) -> tuple[int, Parts | None]:
    name = stem(file)
    for number, (_, _, pattern) in enumerate(_COMPILED):
        if match := pattern.fullmatch(name):
            parts = {role: text for role, text in match.groupdict().items() if text is not None}
            return number, _tidied(parts, file)
    return -1, None


def _wells_that_are_fields(groups: Mapping[int, NamedFiles]) -> list[str]:
    """Take those files out of their groups whose plate ends with a well: in A01_F01_W1, F01 is the field of A01."""
    fields = []
    for one in groups.values():
        if not one.source.startswith("ImageXpress"):
            continue
        doubtful = [
            file
            for file, parts in one.parts.items()
            if (last := re.split(r"[_\- ]", parts.get("plate", ""))[-1]) and _is_well_before_a_field(last)
        ]
        if len({one.parts[file]["well"][:-2] for file in doubtful} | {"F", "P", "C"}) == 3:
            fields += doubtful
            for file in doubtful:
                del one.parts[file]
    return fields


def _is_well_before_a_field(text: str) -> bool:
    return bool(re.fullmatch(r"r\d{1,2}c\d{1,2}", text, re.I)) or (
        WELL.fullmatch(text) is not None and not re.fullmatch(r"P\d", text, re.I)
    )


_COMPILED = tuple((source, words, re.compile(pattern, re.I)) for source, words, pattern in KNOWN)


def _tidied(parts: Parts, file: str, *, is_given: bool = False) -> Parts:
    """Turn rows and columns into a well, positions into a site, and take z and t from folders where names lack them.

    With `is_given`, what a name says stands against all that folders say.
    """
    if opera := parts.pop("opera", ""):
        parts["row"], parts["column"], parts["site"] = opera[:3], opera[3:6], opera[6:]
    if "row" in parts and "column" in parts:
        row = int(parts["row"]) if parts["row"].isdigit() else number_of(parts["row"])
        parts["well"] = well_at(row, int(parts["column"]))
    if "row0" in parts:
        parts["well"] = well_at(int(parts["row0"]) + 1, int(parts["column0"]) + 1)
        parts["site"] = str(int(parts["y"]) * 1000 + int(parts["x"]) + 1)
    if "well" in parts:
        parts["well"] = canonical_well(parts["well"])
    if "listed" in parts and "," not in parts["listed"]:  # a file with several channels lists them
        parts["channel"] = parts["listed"]
    for role, pattern in STRUCTURE:
        for folder in file.split("/")[:-1]:
            is_surer = (
                role == "site" and not is_given and SITE_OF_WELL.fullmatch(folder)
            )  # file names may count positions of all wells
            if (role not in parts or is_surer) and (match := pattern.fullmatch(folder)):
                parts[role] = canonical_well(match[1]) if role == "well" else match[1]
    if re.fullmatch(r"\d+_\d+", parts.get("site", "")):  # a column and a row of a grid
        across, down = parts["site"].split("_")
        parts["site"] = str(int(down) * 1000 + int(across) + 1)
    return parts


def is_structure(folder: str) -> bool:
    """Return whether the name of a folder is that of a time point, a z plane or a site."""
    return MATRIX.fullmatch(folder) is not None or any(
        role != "well" and pattern.fullmatch(folder) for role, pattern in STRUCTURE
    )


def _by_given(files: Sequence[str], pattern: str) -> tuple[NamedFiles, list[str]]:
    compiled = compile_pattern(pattern)
    found, others = NamedFiles(pattern, "--pattern"), []
    levels = pattern.count("/") + 1
    for file in files:
        parts = PurePosixPath(file).parts
        match = compiled.fullmatch("/".join(parts[-levels:]))
        if match is None:
            others.append(file)
        else:
            found.parts[file] = _tidied(
                {k: v for k, v in match.groupdict().items() if not k.startswith("any")}, file, is_given=True
            )
    if not found.parts:
        example = f", such as {files[0]}" if files else ""
        raise UsageError(
            f"no image is called like --pattern {pattern!r}{example}",
            hint="a pattern is the name of a file with its ending, such as '{plate}_{well}_s{site}_w{channel}.tif'; "
            "{any} stands for what does not matter",
        )
    return found, others


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern with named parts in braces; UsageError where a part is unknown."""
    texts = {
        "well": r"(?:[A-P]|A[A-F])[-_ ]?\d{1,2}",
        "row": r"(?:[A-P]|A[A-F]|\d{1,2})",
        "column": r"\d{1,2}",
        **dict.fromkeys(("site", "z", "t"), r"\d+"),
        **dict.fromkeys(("plate", "channel"), r"[^/]+?"),
        "any": r"[^/]*?",
    }
    written, seen = "", Counter[str]()
    for part in re.split(r"(\{[^{}]*\})", pattern):
        role = part[1:-1]
        if not (part.startswith("{") and part.endswith("}")):
            written += re.escape(part)
            continue
        if role not in texts:
            raise UsageError(
                f"--pattern {pattern!r}: {part} is not a part of a name", hint=f"use {{{'}, {'.join(ROLES)}}}"
            )
        if role != "any" and seen[role]:
            written += f"(?P={role})"
            continue
        seen[role] += 1
        written += f"(?P<{role}{seen[role] if role == 'any' else ''}>{texts[role]})"
    return re.compile(written, re.I)


# --- names of no known microscope: their parts are compared ---------------------------------------------------------

SEPARATORS = re.compile(r"[_\-. ()\[\],=+#/]+")
PREFIXES = {
    "site": ("site", "field", "feld", "fld", "fov", "position", "pos", "xy", "view", "s", "f", "p"),
    "channel": ("channel", "kanal", "chan", "ch", "wavelength", "wave", "wv", "w", "c"),
    "z": ("zstep", "zplane", "slice", "plane", "z"),
    "t": ("timepoint", "time", "frame", "tp", "t"),
    "plate": ("plate", "plt"),
    "well": ("well",),
    "row": ("row", "r"),
    "column": ("column", "col"),
}
"""Words and letters that stand before the number of a part, the longest first."""
STAINS = (
    *MARKS_A_NUCLEUS,
    *("gfp", "yfp", "cfp", "rfp", "mcherry", "tritc", "fitc", "cy3", "cy5", "cy7", "texasred", "bf", "brightfield"),
    *("phase", "dic", "actin", "tubulin", "phalloidin", "mito", "er", "rna", "agp", "golgi", "membrane", "ph", "red"),
    *("green", "blue", "farred", "alexa", "af488", "af568", "af647", "tl"),
)


DYES = re.compile(
    r"(?<![A-Za-z])((alexa([-_ ]?fluor)?|af|atto|bodipy|dylight)[-_ ]\d{3}|(hoechst|h)[-_ ]\d{5}|"
    r"(cy|draq)[-_ ]\d(\.5)?)(?![A-Za-z0-9])",
    re.I,
)
"""Names of dyes that end with a number, which is part of the name."""
KEPT = str.maketrans("-_ ", "\x01\x02\x03")
"""Stand for separators that part nothing."""
RESTORED = str.maketrans("\x01\x02\x03", "-_ ")


def _alike(files: Sequence[str]) -> list[list[str]]:
    """Group files whose paths have the same number of folders and of parts."""
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for file in files:
        groups[file.count("/"), len(_tokens(file))].append(file)
    return sorted(groups.values(), key=len, reverse=True)


def _tokens(file: str) -> list[str]:
    """Return the parts of a path: folders whole, the name cut at separators and where numbers end."""
    *folders, _ = file.split("/")
    tokens: list[str] = []
    pieces = re.sub(r"(?<![A-Za-z])r(\d{1,2})[-_ ]?c(\d{1,2})(?!\d)", _well_of_numbers, stem(file), flags=re.I)
    pieces = DYES.sub(lambda match: match[0].translate(KEPT), pieces)
    for piece in filter(None, SEPARATORS.split(pieces)):
        if tokens and piece.isdigit() and _is_prefix(tokens[-1]):
            tokens[-1] += piece  # "field 3" is one part
            continue
        runs = re.findall(r"[A-Za-z]+\d+", piece)
        chained = len(runs) > 1 and "".join(runs) == piece
        tokens += runs if chained and all(_prefixed(run) or WELL.fullmatch(run) for run in runs) else [piece]
    return [*(f"{folder}/" for folder in folders), *(token.translate(RESTORED) for token in tokens)]


def _well_of_numbers(match: re.Match[str]) -> str:
    """Return the well of a row and a column, such as B05 for r02c05, set apart from what follows."""
    return f"{well_at(int(match[1]), int(match[2]))}_"


def _is_prefix(token: str) -> bool:
    return any(token.lower() in words for words in PREFIXES.values()) and len(token) > 1


def _prefixed(token: str) -> tuple[str, str] | None:
    """Return the role that the letters before the number of a token name, and the number."""
    match = re.fullmatch(r"([A-Za-z]+)[_ -]?(\d+)", token)
    if not match:
        return None
    for role, words in PREFIXES.items():
        if match[1].lower() in words:
            return role, match[2]
    return None


@dataclass
class _Column:
    """The values of one place in the names of files that are alike."""

    values: list[str]
    is_folder: bool

    @property
    def distinct(self) -> set[str]:
        return set(self.values)

    def all_wells(self) -> bool:
        """Whether every value is a well, also after the word `well`."""
        return all(WELL.fullmatch(_bare_well(value)) for value in self.distinct)

    def letters(self) -> set[str]:
        """Return the letters of all values, as they are written."""
        return {re.sub(r"[^A-Za-z]", "", _bare_well(value)) for value in self.distinct}

    def capitals(self) -> set[str]:
        """Return the letters of all values in upper case."""
        return {letters.upper() for letters in self.letters()}

    def role(self, is_word: bool) -> str | None:
        """Return the role that a word, or a letter, before its numbers names, the same in all values."""
        if not is_word and self.is_folder:
            return None
        roles = {(one or ("", ""))[0] for one in map(_prefixed, self.distinct)}
        letters = {len(re.sub(r"[^A-Za-z]", "", value)) > 1 for value in self.distinct}
        return roles.pop() or None if len(roles) == 1 and letters == {is_word} else None

    def numbers(self) -> bool:
        """Whether its values are numbers, after letters that are the same in all of them."""
        matches = [re.fullmatch(r"(\D*)\d+", value) for value in self.distinct]
        return all(matches) and len({match[1] for match in matches if match}) == 1

    def counts(self) -> bool:
        """Whether its values are numbers, bare or after a word for an image."""
        return self.numbers() and all(
            re.fullmatch(r"(img|image|pic|region|area|tile|roi|no|nr|n|i|)\d+", value, re.I) for value in self.distinct
        )

    def wavelengths(self) -> bool:
        """Whether its values are several wavelengths of light in nm."""
        numbers = [int(value) for value in self.distinct if re.fullmatch(r"[3-8]\d\d", value)]
        return 1 < len(numbers) == len(self.distinct) <= 8 and all(340 <= number <= 850 for number in numbers)


def _bare_well(value: str) -> str:
    return re.sub(r"^well[_ -]?", "", value, flags=re.I)


def _compared(files: list[str]) -> NamedFiles | None:
    """Give each place in the names its role by comparing all names; None where nothing tells wells apart."""
    rows = [_tokens(file) for file in files]
    columns = [
        _Column([row[place].rstrip("/") for row in rows], rows[0][place].endswith("/")) for place in range(len(rows[0]))
    ]
    roles: dict[int, str] = {}
    _turn_wells(columns)
    well = _well_place(columns)
    pair = _row_and_column(columns) if well is None or not _is_sure(columns[well]) else None
    if pair is not None and (well is None or columns[well].capitals() <= LETTERS_OF_OTHERS):
        roles, well = {pair: "row", pair + 1: "column"}, pair + 1
    elif well is not None:
        roles[well] = "well"
    elif (place := _opera_place(columns)) is not None:
        roles[place] = "opera"
    for are_words in (True, False):  # "site" is surer than "s"
        for role, places in _claims(columns, roles, are_words, well).items():
            if role not in roles.values():
                roles[places[0]] = role
    if {"row", "column"} <= set(roles.values()):
        well = max(place for place, role in roles.items() if role in ("row", "column")) if well is None else well
    else:
        roles = {place: role for place, role in roles.items() if role not in ("row", "column")}
    doubts, plates = _guess(columns, roles, well)
    doubts += _unsure(columns, roles)
    if well is None and not {"site", "opera"} & set(roles.values()):
        return None
    shown = {**roles, **dict.fromkeys(plates, "plate")}
    found = NamedFiles(_words(files[0], columns, shown), "", doubts=doubts)
    found.explained = {place for place, role in roles.items() if columns[place].is_folder and role != "plate"}
    for number, file in enumerate(files):
        parts = {role: _text(columns[place].values[number], role) for place, role in roles.items()}
        if plates:
            parts["plate"] = "_".join(columns[place].values[number] for place in plates)
        found.parts[file] = _tidied(parts, file)
    return found


def _opera_place(columns: Sequence[_Column]) -> int | None:
    """Return the place of folders such as 001012003, which name row, column and field."""
    for place, column in enumerate(columns):
        pattern = r"(?!000|\d{3}000)0([0-2]\d|3[0-2])0[0-4]\d{4}"
        if column.is_folder and all(re.fullmatch(pattern, value) for value in column.distinct):
            return place
    return None


def _unsure(columns: Sequence[_Column], roles: Mapping[int, str]) -> list[str]:
    """Say which wells and time points rest on a letter alone."""
    doubts = []
    for place, role in roles.items():
        column = columns[place]
        if role == "well" and not _is_sure(column):
            doubts.append(f"{_some(column.distinct)} in the file names are taken as the wells")
        if role == "t" and len(column.distinct) > 1 and not column.role(is_word=True):
            doubts.append(f"{_some(column.distinct)} in the file names are taken as time points")
    return doubts


def _turn_wells(columns: Sequence[_Column]) -> None:
    """Write wells such as 01A and 12H as A01 and H12, where no part of the names is a well as it stands."""
    for column in columns:
        matches = [re.fullmatch(r"(0[1-9]|[1-3]\d|4[0-8])([A-P])", value) for value in column.values]
        if all(matches) and not any(one.all_wells() for one in columns):
            column.values = [match[2] + match[1] for match in matches if match]


def _row_and_column(columns: Sequence[_Column]) -> int | None:
    """Return the place of the letters of rows that stand before the numbers of columns, as in A_01 and A/01."""
    for place, (row, column) in enumerate(pairwise(columns)):
        letters = all(re.fullmatch(r"[A-P]|A[A-F]", value) for value in row.distinct)
        if letters and all(re.fullmatch(r"0?[1-9]|[1-3]\d|4[0-8]", value) for value in column.distinct):
            return place
    return None


def _claims(
    columns: Sequence[_Column], roles: Mapping[int, str], are_words: bool, well: int | None
) -> dict[str, list[int]]:
    """Return role -> the places whose words or letters name it, those first that vary.

    The letter p before a well stands for its plate, elsewhere for a position in the well.
    """
    claims: dict[str, list[int]] = defaultdict(list)
    for place, column in enumerate(columns):
        role = column.role(are_words) if place not in roles else None
        if role == "site" and well is not None and place < well and column.letters() <= {"p", "P"}:
            role = "plate"
        if role and role != "well":
            claims[role].append(place)
    return {
        role: sorted(places, key=lambda place: len(columns[place].distinct) == 1) for role, places in claims.items()
    }


def _well_place(columns: list[_Column]) -> int | None:
    """Return the place of the well: all its values are wells; several rows of wells are surer than one.

    F01, P1 and C1 are a field, a position and a channel where there is another one.
    """
    places = [place for place, column in enumerate(columns) if column.all_wells()]
    sure = [place for place in places if _is_sure(columns[place])]
    if sure:
        return sure[-1]
    other = [place for place in places if not columns[place].capitals() <= LETTERS_OF_OTHERS]
    if not other:
        other = [place for place in places if not columns[place].letters() <= {"c", "f", "p"}]
        other = [place for place in other if not all(re.fullmatch(r"P\d", value) for value in columns[place].distinct)]
    padded = [place for place in other if all(len(value) > 2 for value in columns[place].distinct)]
    return (padded or other)[-1] if other else None


def _is_sure(column: _Column) -> bool:
    """Return whether wells of several rows, or the word `well`, show that these are wells."""
    return len(column.letters()) > 1 or "well" in column.values[0].lower()


def _guess(columns: list[_Column], roles: dict[int, str], well: int | None) -> tuple[list[str], list[int]]:
    """Give roles to the places that vary and have none; return sentences on what was guessed, and the plate's places.

    What stands before the well belongs to the plate where it tells files apart; a number behind it is the site. No bare
    number is a time point: what stays unexplained is said.
    """
    doubts: list[str] = []
    _guess_channel(columns, roles, doubts)
    folders = [place for place, column in enumerate(columns) if column.is_folder]
    varying = [
        place
        for place, column in enumerate(columns)
        if place not in roles and len(column.distinct) > 1 and not _is_running(columns, place)
    ]
    varying = [p for p in varying if not (columns[p].is_folder and is_structure(columns[p].values[0]))]
    before = [place for place in varying if well is not None and place < well]
    plates = [place for place, role in roles.items() if role == "plate"]
    known = [*roles, *folders]
    for place in before:
        values = columns[place].values
        same = bool(plates) and _depends(values, _joined(columns, plates))
        is_named = any(re.search(r"\d|plate|plt|batch|rep|run|exp", value, re.I) for value in values)
        fewer = is_named and len(set(values)) < len(set(_joined(columns, _well_places(roles))))
        if not columns[place].is_folder and (same or fewer or _tells_apart(columns, known, place)):
            plates.append(place)
            known.append(place)
            doubts.append(f"{_some(columns[place].distinct)} in the file names are taken as the plates")
    for place in (one for one in varying if one not in before):
        if role := _role_of_rest(columns, roles, [one for one in known if one != place], place, well):
            roles[place] = role
            known.append(place)
            doubts.append(f"{_some(columns[place].distinct)} in the file names are taken as the {WORDS[role]}")
    doubts += _unused(columns, [place for place in varying if place not in known], known, well)
    return doubts, sorted(plates)


def _well_places(roles: Mapping[int, str]) -> list[int]:
    return [place for place, role in roles.items() if role in ("well", "row", "column")]


def _guess_channel(columns: Sequence[_Column], roles: dict[int, str], doubts: list[str]) -> None:
    """Take the last place that names stains as the channel, where nothing else names it."""
    for place, column in reversed(list(enumerate(columns))):
        if "channel" in roles.values():
            return
        names = all(map(is_channel_folder, column.distinct)) if column.is_folder else any(map(_stains, column.distinct))
        if place not in roles and names and len(column.distinct) <= MOST_CHANNELS:
            roles[place] = "channel"
    for place, column in enumerate(columns):
        if place not in roles and "channel" not in roles.values() and column.wavelengths():
            roles[place] = "channel"
            doubts.append(f"{_some(column.distinct)} in the file names are taken as the channels")


def _role_of_rest(
    columns: Sequence[_Column], roles: Mapping[int, str], known: Sequence[int], place: int, well: int | None
) -> str | None:
    """Return the role of a place behind the well: the site if it is a number, else the channel; None if neither."""
    column = columns[place]
    of_well = well is not None and _depends(column.values, columns[well].values)
    tells_apart = _tells_apart(columns, known, place)
    if column.is_folder and well is None:
        return None
    if column.counts() and "site" not in roles.values():
        return "site" if of_well or tells_apart else None
    is_channel = tells_apart and not of_well and not column.is_folder and len(column.distinct) <= MOST_CHANNELS
    if well is None or (column.numbers() and not column.counts()):  # control and treated, day1 and day2 are no channels
        return None
    return "channel" if is_channel and "channel" not in roles.values() else None


def _unused(columns: Sequence[_Column], places: Sequence[int], known: Sequence[int], well: int | None) -> list[str]:
    """Say which places vary and are not used, unless another place says the same."""
    doubts = []
    for place in places:
        said = [one for one in known if _depends(columns[place].values, columns[one].values)]
        if not said:
            doubts.append(
                f"{_some(columns[place].distinct)} in the file names are not understood and not used; "
                "--pattern says how names are built"
            )
        elif said == [well] and place < said[0]:
            doubts.append(
                f"{_some(columns[place].distinct)} before the wells in the file names are not used; if they are "
                "plates, --pattern says so"
            )
    return doubts


MOST_CHANNELS = 12
"""Values of a part of the names that can be channels."""
WORDS = {"site": "sites", "channel": "channels"}


def _stains(text: str) -> bool:
    text = text.lower()
    return not text.isdigit() and (text in STAINS or any(mark in text for mark in STAINS if len(mark) > 2))


def is_channel_folder(folder: str) -> bool:
    """Return whether the name of a folder is that of a channel and nothing else, such as DAPI, Phase or Channel_1."""
    if re.fullmatch(r"(ch|chan|channel|wave|wavelength)[-_ ]?\d+", folder, re.I):
        return True
    words = [re.sub(r"\d+$", "", word) for word in re.split(r"[\W_]+", folder.lower())]
    said = [word for word in words if word and word not in ("channel", "ch", "images", "image")]
    return bool(said) and all(word in {re.sub(r"\d+$", "", stain) for stain in STAINS} for word in said)


def _is_running(columns: Sequence[_Column], place: int) -> bool:
    """Return whether a number counts the files, which the rest of their names tells apart already."""
    values = columns[place].values
    if len(values) < 4 or columns[place].is_folder or len(set(values)) < len(values) or not columns[place].numbers():
        return False
    rest = [one for one in range(len(columns)) if one != place]
    return len(set(_keys(columns, rest))) == len(values)


def _keys(columns: Sequence[_Column], places: Sequence[int]) -> list[tuple[str, ...]]:
    return (
        list(zip(*(columns[place].values for place in places), strict=True))
        if places
        else [()] * len(columns[0].values)
    )


def _joined(columns: Sequence[_Column], places: Sequence[int]) -> list[str]:
    return ["_".join(key) for key in _keys(columns, places)]


def _tells_apart(columns: Sequence[_Column], known: Sequence[int], place: int) -> bool:
    """Return whether a place tells files apart that the known places do not."""
    return len(set(_keys(columns, [*known, place]))) > len(set(_keys(columns, known)))


def _depends(values: list[str], wells: list[str]) -> bool:
    """Return whether every well has one value."""
    first: dict[str, str] = {}
    return all(first.setdefault(well, value) == value for well, value in zip(wells, values, strict=True))


def _some(values: set[str]) -> str:
    listed = sorted(values, key=lambda text: [int(x) if x.isdigit() else 0 for x in ORDER.split(text)] or [0])
    return ", ".join(listed[:4]) + (f" ... ({len(listed)} in all)" if len(listed) > 4 else "")


def _text(value: str, role: str) -> str:
    if role == "well":
        return _bare_well(value)
    if role in ("channel", "plate"):
        return value
    return re.sub(r"\D*(\d+)", r"\1", value) if re.fullmatch(r"\D*\d+", value) else value


def _words(file: str, columns: list[_Column], roles: dict[int, str]) -> str:
    """Return the pattern in words, made of the first file's name."""
    name = PurePosixPath(file).name
    written, position = "", 0
    for place, column in enumerate(columns):
        if column.is_folder or place not in roles:
            continue
        value = column.values[0]
        shown = value if roles[place] == "channel" or not _prefixed(value) else _prefixed(value)[1]  # type: ignore[index]
        around = name.find(value, position)
        at = name.find(shown, position) if around < 0 else around + value.rfind(shown)
        if at < 0 or (around < 0 and shown != value and roles[place] not in ("well", "channel")):
            continue
        written += name[position:at] + "{" + roles[place] + "}"
        position = at + len(shown)
    return re.sub(r"\{plate\}(?:[_\-. ]\{plate\})+", "{plate}", written + name[position:])
