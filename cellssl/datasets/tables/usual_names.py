"""usual_names: the name of a column, or the title of a grid, in -> what labs mean by it, such as the compound, out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "well": (
        *("well", "wellid", "wellname", "wellposition", "wellpos", "wellcoordinate", "welllabel", "wells"),
        *("destinationwell", "destwell", "assaywell", "assayplatewell", "position"),
    ),
    "row": ("row", "wellrow", "rowname", "platerow", "rowid", "rowindex"),
    "column": ("column", "col", "wellcolumn", "wellcol", "platecolumn", "platecol", "columnid", "columnindex"),
    "plate": (
        *("plate", "plateid", "platename", "platebarcode", "assayplatebarcode", "assayplate", "barcode"),
        *("destinationplatebarcode", "destinationplatename", "destinationplate", "destplate", "destplatebarcode"),
    ),
    "compound": (
        *("compound", "compoundname", "compoundid", "broadsample", "treatment", "drug", "drugname", "drugid"),
        *("pertiname", "perturbation", "pert", "pertname", "molecule", "substance", "chemical", "chemicalname", "cpd"),
        *("cpdname", "cpdid", "cmpd", "cmpdname", "agent", "reagent", "inhibitor", "samplename", "sampleid", "sample"),
        *("compounds", "treatments", "drugs", "treatmentname", "treatmentid", "substancename", "sirna", "gene"),
    ),
    "dose": (
        *("dose", "concentration", "conc", "finalconcentration", "finalconc", "finaldose", "doseconcentration"),
        *("compoundconcentration", "compoundconc", "compounddose", "drugconcentration", "drugconc", "drugdose"),
        *("treatmentconcentration", "treatmentconc", "treatmentdose", "pertdose", "assayconcentration", "assayconc"),
        *("wellconcentration", "doses", "concentrations", "concvalue", "concentrationvalue", "dosevalue", "dosage"),
        *("cconc", "concentrationwell", "concwell", "dosewell", "concentrationassay", "concassay", "doseassay"),
    ),
    "dose_unit": (
        *("doseunit", "doseunits", "concunit", "concunits", "concentrationunit", "concentrationunits", "pertdoseunit"),
        *("unit", "units", "finalconcentrationunit"),
    ),
    "moa": ("moa", "mechanism", "mechanismofaction", "moaclass", "mechanismclass"),
    "control_type": (
        *("controltype", "control", "welltype", "wellrole", "sampletype", "role", "perttype", "iscontrol"),
        *("contenttype", "wellcontent", "wellclass", "controls"),
    ),
    "solvent": ("solvent", "vehicle", "diluent", "solventname"),
}
"""Meaning -> names of columns without blanks, dashes and units; the first of them that a table has is taken."""
UNIT_WORDS = frozenset(
    {"pm", "nm", "um", "μm", "mm", "m", "nanomolar", "micromolar", "millimolar", "molar", "in", "final", "log"}
)
"""Words in the name of a column of doses that are not its name."""
FILLER = frozenset(
    {"type", "types", "name", "names", "of", "action", "the", "and", "all", "plates", "map", "layout", "id"}
)
"""Words in the title of a grid that name no plate."""
FINAL = frozenset({"final", "assay", "well"})
"""Words in the name of a column of doses that are those in the well, and not those of a stock."""
MOLES = re.compile(
    r"[pnumμ]?mol(?:ar|es?)?(?:[\W_]*(?:/|per|l-1|l\^-1)[\W_]*l?(?:it(?:er|re))?s?)?(?![a-z])", re.IGNORECASE
)
"""A molar unit that is written out: `mmol/L`, `µmol per litre`, `nMol`."""
TITLE_ORDER = ("dose", "control_type", "moa", "solvent", "compound")
"""Meanings that a grid can have; a title such as `compound concentration` means the first of them that it names."""


def usual_columns(header: Sequence[str]) -> dict[str, list[str]]:
    """Return meaning -> the columns that usually have it, the most usual one first."""
    forms: dict[str, list[str]] = {}
    for column in header:
        for form in dict.fromkeys(_forms(column)):
            forms.setdefault(form, []).append(column)
    found: dict[str, list[str]] = {}
    for meaning, names in COLUMN_NAMES.items():
        columns = list(dict.fromkeys(column for name in names for column in forms.get(name, ())))
        if meaning == "dose":
            columns.sort(key=_distance_from_the_well)
        if columns:
            found[meaning] = columns
    return found


def _distance_from_the_well(column: str) -> int:
    """Return 0 for a dose that is said to be the one in the well, 2 for a logarithm, and 1 for others."""
    words = set(_words(column))
    return 2 if words & {"log", "log10", "ln"} else 0 if words & FINAL else 1


def is_meaning_only(title: str) -> bool:
    """Return whether a title consists of words for a meaning, as `Doses (nM)` does, and so names no plate."""
    known = {name for names in COLUMN_NAMES.values() for name in names} | UNIT_WORDS | FILLER | {"action", "control"}
    return meaning_of_title(title) is not None and all(word in known for word in _words(title))


def is_filler(word: str) -> bool:
    """Return whether a word is one that titles have anyway, such as `plate`, `layout` or `dose`."""
    known = {name for names in COLUMN_NAMES.values() for name in names} | UNIT_WORDS | FILLER
    return word.casefold() in known | {"image", "images", "table", "fields", "data", "test", "list"}


def meaning_of_title(title: str) -> str | None:
    """Return the meaning that the title of a grid names, such as `dose` for `Concentrations (nM)`; None for others."""
    words = _words(title)
    near = {*words, *("".join(pair) for pair in pairwise(words)), *_forms(title)}
    return next((meaning for meaning in TITLE_ORDER if near & set(COLUMN_NAMES[meaning])), None)


def _forms(column: str) -> list[str]:
    """Return the forms of a name that are looked up: with all its words, and without its units."""
    words = _words(column)
    while words and words[0] in ("metadata", "image"):
        words = words[1:]
    plain = _words(MOLES.sub(" ", unicodedata.normalize("NFKC", column)))
    forms = ["".join(words), *("".join(word for word in one if word not in UNIT_WORDS) for one in (words, plain))]
    return [form.removeprefix("metadata") for form in dict.fromkeys(forms)]


def _words(text: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", text))
    return [word for word in re.split(r"[\W_]+", spaced.casefold()) if word]
