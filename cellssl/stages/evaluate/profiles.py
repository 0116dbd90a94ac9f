"""profiles: cells and vectors in, profiles of wells and treatments, and what these tell of mechanisms, out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from cellssl.artifacts.store import Draft
from cellssl.artifacts.tables import write_table
from cellssl.errors import UsageError
from cellssl.stages.evaluate.classification import lacking
from cellssl.stages.evaluate.external_table import controls_key, cure_column
from cellssl.stages.shared.cell_tables import metadata

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.nsc import NearestTreatment
    from cellssl.profiling.retrieval import AveragePrecision
    from cellssl.stages.evaluate.settings import Settings
from cellssl.stages.evaluate.settings import OnControls

Rule = Literal["nsc", "nscb"]


Task = Literal["replicates", "mechanism"]


class Profiled:
    """The cells of one evaluation as profiles of wells and treatments, made when they are first asked for.

    Every question raises UsageError where the cells do not say what it needs.
    """

    def __init__(
        self, settings: Settings, cells: pd.DataFrame, vectors: np.ndarray, names: list[str], draft: Draft
    ) -> None:
        self._settings, self._cells, self._vectors, self._draft = settings, cells, vectors, draft
        self._names = names
        self._normalise: OnControls = settings.profiles.normalise
        self._wells: dict[str, tuple[pd.DataFrame, np.ndarray]] = {}
        self._said: dict[str, list[pd.DataFrame]] = {}

    def write(self) -> dict[str, Any]:
        """profiles.parquet, a row a well, and treatments.parquet, where there are treatments."""
        from cellssl.profiling.profiles import TREATMENT

        wells, x = self._of_wells()
        self._write_profiles("profiles.parquet", wells, x)
        found = {"wells": len(wells), "control_wells": int(wells["control"].sum()), "dim": x.shape[1]}
        with suppress(UsageError):
            treatments, of_treatments = self._of_treatments(self._normalise, TREATMENT)
            self._write_profiles("treatments.parquet", treatments, of_treatments)
            found["treatments"] = len(treatments)
        return found

    def mechanisms(self, rule: Rule) -> dict[str, Any]:
        """NSC or NSCB, after every normalisation that these plates allow; the rows of nsc.csv and neighbours.csv."""
        from cellssl.profiling.nsc import accuracy_by_moa, not_same_compound, not_same_compound_or_batch
        from cellssl.profiling.profiles import TREATMENT, TREATMENT_IN_BATCH

        judge = {"nsc": not_same_compound, "nscb": not_same_compound_or_batch}[rule]
        keys = {"nsc": TREATMENT, "nscb": TREATMENT_IN_BATCH}[rule]
        chosen = self._normalise
        accuracies = {}
        for how in (chosen, *(each for each in get_args(OnControls) if each != chosen)):
            if how != chosen and not self._can(how):
                continue
            treatments, x = self._with_mechanisms(how, keys)
            nearest = judge(treatments, x)
            table = accuracy_by_moa(treatments["moa"], nearest)
            self._add("nsc.csv", table, rule=rule, normalise=how)
            self._add("neighbours.csv", _neighbours(treatments, nearest), rule=rule, normalise=how)
            accuracies[how] = table.iloc[-1]
        told = accuracies[chosen]
        return {
            "normalise": chosen,
            "treatments": int(told["treatments"]),
            "right": int(told["right"]),
            "accuracy": float(told["accuracy"]),
            "accuracy_after": {how: float(row["accuracy"]) for how, row in accuracies.items()},
        }

    def retrieval(self, task: Task) -> dict[str, Any]:
        """Mean average precision of replicates or mechanisms; the rows of map.csv and average_precision.csv."""
        from cellssl.profiling import retrieval

        knobs = self._settings.retrieval
        profiles, groups, ranked = self._replicates() if task == "replicates" else self._mechanism()
        if np.isnan(ranked.average_precision).all():
            what = "a replicate and a control" if task == "replicates" else "another compound of its mechanism"
            raise UsageError(f"no profile has {what}", hint="there is nothing to be found")
        means = retrieval.mean_average_precision(groups, ranked, null_size=knobs.null_size, alpha=knobs.alpha)
        self._add("map.csv", means, task=task)
        self._add("average_precision.csv", _precisions(profiles, ranked), task=task)
        return {
            "groups": len(means),
            "mean_average_precision": float(means["mean_average_precision"].mean()),
            "found": int(means["found"].sum()),
            "share_found": float(means["found"].mean()),
        }

    def _replicates(self) -> tuple[pd.DataFrame, pd.DataFrame, AveragePrecision]:
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import replicate_average_precision

        wells, x = self._of_wells()
        control = wells["control"].to_numpy(bool)
        if not control.any():
            raise UsageError("no well is a control", hint=f"name the controls in {controls_key(self._settings.table)}")
        if "compound" not in wells or wells["compound"].isna().all():
            raise UsageError("no compound is known", hint=cure_column(self._settings.table, "compound"))
        keys = [name for name in TREATMENT if name in wells]
        treatments = [
            None if missing else " ".join(map(str, row))
            for row, missing in zip(wells[keys].itertuples(index=False), wells["compound"].isna(), strict=True)
        ]
        same_plate = self._settings.retrieval.controls == "plate"
        ranked = replicate_average_precision(x, treatments, control, wells["plate"], same_plate=same_plate)
        return wells, wells[keys], ranked

    def _mechanism(self) -> tuple[pd.DataFrame, pd.DataFrame, AveragePrecision]:
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import mechanism_average_precision

        treatments, x = self._with_mechanisms(self._normalise, TREATMENT)
        ranked = mechanism_average_precision(x, treatments["moa"], treatments["compound"])
        return treatments, treatments[["moa"]], ranked

    def _of_wells(self, how: OnControls | None = None) -> tuple[pd.DataFrame, np.ndarray]:
        from cellssl.profiling.profiles import normalise_by_controls, well_profiles

        how = how or self._normalise
        if how not in self._wells:
            name, where = lacking(self._cells, ("plate", "well"))
            if name:
                raise UsageError(f"not every cell has a {name}: {where}", hint=cure_column(self._settings.table, name))
            cells = self._cells if "control" in self._cells else self._cells.assign(control=False)
            key = controls_key(self._settings.table)
            normal = normalise_by_controls(how, self._vectors, cells["plate"], cells["control"].to_numpy(bool), key)
            self._wells[how] = well_profiles(cells, normal, self._settings.profiles.aggregate)
        return self._wells[how]

    def _of_treatments(self, how: OnControls, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        from cellssl.profiling.profiles import treatment_profiles

        wells, x = self._of_wells(how)
        if "compound" not in wells or not (wells["compound"].notna() & ~wells["control"]).any():
            raise UsageError("no well has a treatment", hint=cure_column(self._settings.table, "compound"))
        return treatment_profiles(wells, x, self._settings.profiles.aggregate, keys)

    def _with_mechanisms(self, how: OnControls, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        treatments, x = self._of_treatments(how, keys)
        if "moa" not in treatments or treatments["moa"].isna().all():
            raise UsageError("no treatment has a mechanism", hint=cure_column(self._settings.table, "moa"))
        return treatments, x

    def _write_profiles(self, name: str, rows: pd.DataFrame, x: np.ndarray) -> None:
        """Metadata_* columns, then features under their own names; sphering makes others of them, named emb_0000 ..."""
        import pandas as pd

        names = self._names if len(self._names) == x.shape[1] else [f"emb_{one:04d}" for one in range(x.shape[1])]
        numbers = pd.DataFrame(x, columns=names)  # float64, so that whoever compares them finds the same neighbours
        write_table(pd.concat([metadata(rows), numbers], axis=1), self._draft.file(name))

    def _can(self, how: OnControls) -> bool:
        with suppress(UsageError):
            self._of_wells(how)
            return True
        return False

    def _add(self, name: str, table: pd.DataFrame, **what: str) -> None:
        """Rows of a CSV that several parts write, with columns in front that say which part."""
        import pandas as pd

        self._said.setdefault(name, []).append(table.assign(**what)[[*what, *table.columns]])
        rows = pd.concat(self._said[name], ignore_index=True)
        rows.to_csv(self._draft.file(name), index=False, lineterminator="\n")


def _neighbours(treatments: pd.DataFrame, nearest: NearestTreatment) -> pd.DataFrame:
    """Each treatment that was asked about, beside the nearest one."""
    names = [name for name in ("compound", "dose_micromolar", "batch", "moa") if name in treatments]
    asked = treatments[names].iloc[nearest.query].reset_index(drop=True)
    beside = treatments[names].iloc[nearest.neighbour].reset_index(drop=True).add_prefix("nearest_")
    return asked.join(beside).assign(cosine=nearest.cosine)


def _precisions(profiles: pd.DataFrame, ranked: AveragePrecision) -> pd.DataFrame:
    """Each profile that has an average precision."""
    names = [name for name in ("plate", "well", "compound", "dose_micromolar", "moa") if name in profiles]
    table = profiles[names].assign(
        positives=ranked.positives, pairs=ranked.pairs, average_precision=ranked.average_precision
    )
    return table[table["average_precision"].notna()]
