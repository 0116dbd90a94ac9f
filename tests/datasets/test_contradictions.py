"""contradictions: what does not fit together in a field table is said, and ordinary tables give no sentence."""

from typing import Any

import pandas as pd
import pytest

from cellssl.stages.fetch.contradictions import contradictions


def fields(**columns: Any) -> pd.DataFrame:
    table = pd.DataFrame({"field_id": list("abcd"), "plate": "P", "well": ["A01", "A02", "A03", "A04"]})
    table["compound"] = pd.array(["DMSO", "drug", "drug", None], dtype="string")
    table["dose_micromolar"] = [0, 0.3, 1.0, None]
    table["sha256_dna"], table["sha256_actin"] = list("1234"), list("5678")
    return table.assign(control=False, **columns)


def test_an_ordinary_table_gives_no_sentence() -> None:
    assert list(contradictions(fields(), ["DMSO"])) == []


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"compound": ["DMSO", "dmso", "drug", "drug"]}, "'dmso' (wells: 1) is not the control 'DMSO'"),
        ({"compound": ["DMSO", "5 \u00b5m x", "5  \u03bcM x", "y"]}, "differ in spelling only, and are counted as 2"),
        ({"well": ["A1", "A01", "B02", "B12"]}, "the wells 'A01' and 'A1' of plate P look like one"),
        ({"plate": ["7", "7.0", "07", "8"]}, "the plates '7' and '7.0' look like one, and are counted as 2"),
        ({"dose_micromolar": [0, 0.3, 0.1 + 0.2, 1]}, "0.3 and 0.30000000000000004 uM"),
        ({"sha256_actin": list("1678")}, "dna and actin are the same image in 1 fields, the first of them a"),
        ({"sha256_dna": list("1231")}, "2 fields share an image of dna with another field, such as a, d"),
    ],
)
def test_what_does_not_fit_together_is_said(columns: dict[str, Any], sentence: str) -> None:
    assert sentence in " ".join(contradictions(fields(**columns), ["DMSO"]))
