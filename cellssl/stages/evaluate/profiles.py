"""profiles: cells and vectors in; profiles of wells and treatments, and scores of mechanisms and replicates, out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from cellssl.artifacts.store import Draft
from cellssl.artifacts.tables import write_csv, write_table
from cellssl.errors import UsageError
from cellssl.stages.evaluate.classification import missing_column
from cellssl.stages.evaluate.external_table import column_hint, controls_key
from cellssl.stages.evaluate.metrics import NscMetrics, ProfileCounts, RetrievalMetrics
from cellssl.stages.evaluate.settings import ControlNormalisation
from cellssl.stages.shared.cell_tables import metadata

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.nsc import NearestTreatment
    from cellssl.profiling.profiles import ConstantFeatures
    from cellssl.profiling.retrieval import AveragePrecision
    from cellssl.stages.evaluate.settings import Settings

Rule = Literal["nsc", "nscb"]
Task = Literal["replicates", "mechanism"]
EXAMPLES = 10
"""Features without variation among controls that are named; there may be thousands."""


class ProfileEvaluation:
    """The cells of one evaluation as profiles of wells and treatments, computed when they are first needed.

    Every public method raises UsageError where the cells lack what it needs.
    """

    def __init__(
        self, settings: Settings, cells: pd.DataFrame, vectors: np.ndarray, names: list[str], draft: Draft
    ) -> None:
        self._settings, self._cells, self._vectors, self._draft = settings, cells, vectors, draft
        self._feature_names = names
        self._normalise: ControlNormalisation = settings.profiles.normalise
        self._wells: dict[str, tuple[pd.DataFrame, np.ndarray]] = {}
        self._constant: dict[str, ConstantFeatures] = {}
        self._csv_tables: dict[str, list[pd.DataFrame]] = {}

    def write(self) -> ProfileCounts:
        """Write profiles.parquet, one row per well, and treatments.parquet, where there are treatments."""
        from cellssl.profiling.copies import distinct
        from cellssl.profiling.profiles import TREATMENT

        wells, x = self._of_wells()
        self._write_profiles("profiles.parquet", wells, x)
        n_treatments = None
        with suppress(UsageError):
            treatments, of_treatments = self._of_treatments(self._normalise, TREATMENT)
            self._write_profiles("treatments.parquet", treatments, of_treatments)
            n_treatments = len(treatments)
        constant = self._constant[self._normalise]
        scaled = [feature for feature in constant.plates if feature not in set(constant.without_scale)]
        return ProfileCounts(
            wells=len(wells),
            control_wells=int(wells["control"].sum()),
            dim=x.shape[1],
            treatments=n_treatments,
            features=self._vectors.shape[1],
            constant_in_controls=len(constant.plates),
            constant_examples={self._feature_names[each]: constant.plates[each] for each in scaled[:EXAMPLES]},
            copied_vectors=len(self._vectors) - distinct(self._vectors),
            without_scale=len(constant.without_scale),
        )

    def mechanisms(self, rule: Rule) -> NscMetrics:
        """Compute NSC or NSCB after every normalisation that these plates allow; write nsc.csv and neighbours.csv."""
        from cellssl.profiling.nsc import accuracy_by_moa, not_same_compound, not_same_compound_or_batch
        from cellssl.profiling.profiles import TREATMENT, TREATMENT_IN_BATCH

        find_nearest = {"nsc": not_same_compound, "nscb": not_same_compound_or_batch}[rule]
        keys = {"nsc": TREATMENT, "nscb": TREATMENT_IN_BATCH}[rule]
        chosen = self._normalise
        accuracies = {}
        for how in (chosen, *(each for each in get_args(ControlNormalisation) if each != chosen)):
            if how != chosen and not self._allows(how):
                continue
            treatments, x = self._with_mechanisms(how, keys)
            nearest = find_nearest(treatments, x)
            table = accuracy_by_moa(treatments["moa"], nearest)
            self._add("nsc.csv", table, rule=rule, normalise=how)
            self._add("neighbours.csv", _neighbours(treatments, nearest), rule=rule, normalise=how)
            accuracies[how] = table.iloc[-1]
        total = accuracies[chosen]
        return NscMetrics(
            normalise=chosen,
            treatments=int(total["treatments"]),
            right=int(total["right"]),
            accuracy=float(total["accuracy"]),
            accuracy_after={how: float(row["accuracy"]) for how, row in accuracies.items()},
        )

    def retrieval(self, task: Task) -> RetrievalMetrics:
        """Compute the mean average precision of replicates or mechanisms; write map.csv and average_precision.csv."""
        from cellssl.profiling import retrieval

        settings = self._settings.retrieval
        profiles, groups, ranked = self._replicates() if task == "replicates" else self._mechanism()
        if np.isnan(ranked.average_precision).all():
            what = "a replicate and a control" if task == "replicates" else "another compound of its mechanism"
            raise UsageError(f"no profile has {what}", hint="add such wells, or leave this score out")
        means = retrieval.mean_average_precision(groups, ranked, null_size=settings.null_size, alpha=settings.alpha)
        self._add("map.csv", means, task=task)
        self._add("average_precision.csv", _precisions(profiles, ranked), task=task)
        return RetrievalMetrics(
            groups=len(means),
            mean_average_precision=float(means["mean_average_precision"].mean()),
            found=int(means["found"].sum()),
            share_found=float(means["found"].mean()),
        )

    def _replicates(self) -> tuple[pd.DataFrame, pd.DataFrame, AveragePrecision]:
        """Return well profiles, their treatments, and the average precision of each well's replicates."""
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import replicate_average_precision

        wells, x = self._of_wells()
        control = wells["control"].to_numpy(bool)
        if not control.any():
            raise UsageError("no well is a control", hint=f"name the controls in {controls_key(self._settings.table)}")
        if "compound" not in wells or wells["compound"].isna().all():
            raise UsageError("no compound is known", hint=column_hint(self._settings.table, "compound"))
        keys = [name for name in TREATMENT if name in wells]
        treatments = [
            None if missing else " ".join(map(str, row))
            for row, missing in zip(wells[keys].itertuples(index=False), wells["compound"].isna(), strict=True)
        ]
        same_plate = self._settings.retrieval.controls == "plate"
        ranked = replicate_average_precision(x, treatments, control, wells["plate"], same_plate=same_plate)
        return wells, wells[keys], ranked

    def _mechanism(self) -> tuple[pd.DataFrame, pd.DataFrame, AveragePrecision]:
        """Return treatment profiles, their mechanisms, and the average precision of each treatment's mechanism."""
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import mechanism_average_precision

        treatments, x = self._with_mechanisms(self._normalise, TREATMENT)
        ranked = mechanism_average_precision(x, treatments["moa"], treatments["compound"])
        return treatments, treatments[["moa"]], ranked

    def _of_wells(self, how: ControlNormalisation | None = None) -> tuple[pd.DataFrame, np.ndarray]:
        """Return metadata and profiles of wells after a normalisation, by default the chosen one."""
        from cellssl.profiling.profiles import normalise_by_controls, well_profiles

        how = how or self._normalise
        if how not in self._wells:
            name, where = missing_column(self._cells, ("plate", "well"))
            if name:
                raise UsageError(f"not every cell has a {name}: {where}", hint=column_hint(self._settings.table, name))
            cells = self._cells if "control" in self._cells else self._cells.assign(control=False)
            key = controls_key(self._settings.table)
            is_control = cells["control"].to_numpy(bool)
            normal, constant = normalise_by_controls(how, self._vectors, cells["plate"], is_control, key)
            self._constant[how] = constant
            self._wells[how] = well_profiles(cells, normal, self._settings.profiles.aggregate)
        return self._wells[how]

    def _of_treatments(self, how: ControlNormalisation, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return metadata and profiles of treatments; wells with the same `keys` are one treatment."""
        from cellssl.profiling.profiles import treatment_profiles

        wells, x = self._of_wells(how)
        if "compound" not in wells or not (wells["compound"].notna() & ~wells["control"]).any():
            raise UsageError("no well has a treatment", hint=column_hint(self._settings.table, "compound"))
        return treatment_profiles(wells, x, self._settings.profiles.aggregate, keys)

    def _with_mechanisms(self, how: ControlNormalisation, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return treatment profiles; raise UsageError where no mechanism of action is known."""
        treatments, x = self._of_treatments(how, keys)
        if "moa" not in treatments or treatments["moa"].isna().all():
            raise UsageError("no treatment has a mechanism", hint=column_hint(self._settings.table, "moa"))
        return treatments, x

    def _write_profiles(self, name: str, rows: pd.DataFrame, x: np.ndarray) -> None:
        """Write Metadata_* columns, then the features; where sphering changes their number, as emb_0000 and so on."""
        import pandas as pd

        names = self._feature_names
        if len(names) != x.shape[1]:
            names = [f"emb_{number:04d}" for number in range(x.shape[1])]
        numbers = pd.DataFrame(x, columns=names)  # float64, so that other tools find the same neighbours
        write_table(pd.concat([metadata(rows), numbers], axis=1), self._draft.file(name))

    def _allows(self, how: ControlNormalisation) -> bool:
        """Return whether these cells allow a normalisation."""
        with suppress(UsageError):
            self._of_wells(how)
            return True
        return False

    def _add(self, name: str, table: pd.DataFrame, **part: str) -> None:
        """Append rows to a CSV that several parts write; the first columns name the part."""
        import pandas as pd

        self._csv_tables.setdefault(name, []).append(table.assign(**part)[[*part, *table.columns]])
        rows = pd.concat(self._csv_tables[name], ignore_index=True)
        write_csv(rows, self._draft.file(name))


def _neighbours(treatments: pd.DataFrame, nearest: NearestTreatment) -> pd.DataFrame:
    """Return one row per treatment whose mechanism is predicted, with its nearest treatment and their cosine."""
    names = [name for name in ("compound", "dose_micromolar", "batch", "moa") if name in treatments]
    queries = treatments[names].iloc[nearest.query].reset_index(drop=True)
    neighbours = treatments[names].iloc[nearest.neighbour].reset_index(drop=True).add_prefix("nearest_")
    return queries.join(neighbours).assign(cosine=nearest.cosine)


def _precisions(profiles: pd.DataFrame, ranked: AveragePrecision) -> pd.DataFrame:
    """Return one row per profile that has an average precision."""
    names = [name for name in ("plate", "well", "compound", "dose_micromolar", "moa") if name in profiles]
    table = profiles[names].assign(
        positives=ranked.positives, pairs=ranked.pairs, average_precision=ranked.average_precision
    )
    return table[table["average_precision"].notna()]
