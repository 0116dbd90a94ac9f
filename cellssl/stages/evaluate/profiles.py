"""profiles: cells and vectors in; profiles of wells and treatments, and scores of mechanisms and replicates, out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellssl.artifacts.store import Draft
from cellssl.artifacts.tables import write_csv, write_table
from cellssl.errors import DataError, UsageError
from cellssl.profiling.blocks import Blocks
from cellssl.profiling.normaliser import NormaliserSettings, chain, chain_names
from cellssl.stages.evaluate.classification import Vectors, missing_column
from cellssl.stages.evaluate.evaluated_cells import FITS_ONLY
from cellssl.stages.evaluate.metrics import NscMetrics, ProfileCounts, RetrievalMetrics
from cellssl.stages.shared.cell_tables import metadata
from cellssl.stages.shared.external_table import column_hint, controls_key
from cellssl.stages.shared.fitted_link import FittedLink
from cellssl.stages.shared.plate_layout import PlateLayout

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.frames import Frames
    from cellssl.profiling.nsc import NearestTreatment
    from cellssl.profiling.retrieval import AveragePrecision
    from cellssl.stages.evaluate.settings import Settings

Rule = Literal["nsc", "nscb"]
Task = Literal["replicates", "mechanism"]
Links = tuple[NormaliserSettings, ...]
Profiles = tuple["pd.DataFrame", np.ndarray]
"""Metadata and profiles of wells or treatments, row for row."""
EXAMPLES = 10
"""Features without variation among controls that are named; there may be thousands."""
SPHERED = ("center_plate", "scale_pooled", "sphering")
COMPARED = ((), ("robust_z",), ("percentile",), ("center_plate", "scale_pooled"), SPHERED)
"""Chains whose NSC and NSCB stand beside those of the chosen one."""


@dataclass(frozen=True)
class Ranking:
    """Profiles, the group of each, and its average precision."""

    profiles: pd.DataFrame
    groups: pd.DataFrame
    found: AveragePrecision
    fitted_by: tuple[FittedLink, ...]

    def of_treated(self) -> Ranking:
        """Return the ranking of the profiles that are no controls."""
        rows = np.flatnonzero(~self.profiles["control"].to_numpy(bool))
        profiles, groups = (table.iloc[rows].reset_index(drop=True) for table in (self.profiles, self.groups))
        return replace(self, profiles=profiles, groups=groups, found=self.found.of_rows(rows))


@dataclass(frozen=True)
class _Fitted:
    """Vectors after a chain, and who fitted it."""

    x: np.ndarray
    fitted_by: tuple[FittedLink, ...]
    blocks: Blocks
    """The blocks after the chain."""
    empty_blocks: tuple[str, ...]


class ProfileEvaluation:
    """The cells of one evaluation as profiles of wells and treatments, computed when they are first needed.

    Every public method raises UsageError where the cells lack what it needs.
    """

    def __init__(
        self,
        settings: Settings,
        cells: pd.DataFrame,
        vectors: Vectors,
        names: list[str],
        draft: Draft,
        by_cell: set[str],
    ) -> None:
        """Take the evaluated cells; plates with one control well, whose cells are divided, are added to `by_cell`."""
        self._settings, self._vectors, self._draft = settings, vectors.x, draft
        self._cells = cells if "control" in cells else cells.assign(control=False)
        self._feature_names, self._key = names, controls_key(settings.table, "evaluate")
        self._layout, self._is_scored = PlateLayout.of(self._cells), ~self._cells[FITS_ONLY].to_numpy(bool)
        self._blocks, self._chosen = vectors.blocks, settings.profiles.normalise
        self._wells: dict[str, Profiles] = {}
        self._fits: dict[str, _Fitted] = {}
        self._csv_tables: dict[str, list[pd.DataFrame]] = {}
        self._by_cell = by_cell

    def write(self) -> ProfileCounts:
        """Write profiles.parquet, one row per well, and treatments.parquet, where there are treatments."""
        from cellssl.profiling.chain import needs_controls
        from cellssl.profiling.copies import distinct
        from cellssl.profiling.profiles import TREATMENT, ConstantFeatures, constant_features

        wells, x = self._of_wells()
        self._write_profiles("profiles.parquet", wells, x)
        n_treatments = None
        with suppress(UsageError):
            treatments, of_treatments = self._of_treatments(self._chosen, TREATMENT)
            self._write_profiles("treatments.parquet", treatments, of_treatments)
            n_treatments = len(treatments)
        constant = ConstantFeatures({}, ())
        if needs_controls(self._chosen):
            constant = constant_features(self._vectors, self._layout.plates, self._layout.is_control)
        scaled = [feature for feature in constant.plates if feature not in set(constant.without_scale)]
        return ProfileCounts(
            wells=len(wells),
            control_wells=int(wells["control"].sum()),
            dim=x.shape[1],
            treatments=n_treatments,
            features=self._vectors.shape[1],
            constant_in_controls=len(constant.plates),
            constant_examples={self._feature_names[each]: constant.plates[each] for each in scaled[:EXAMPLES]},
            copied_vectors=int(self._is_scored.sum()) - distinct(self._vectors[self._is_scored]),
            without_scale=len(constant.without_scale),
            fitted_by=self._chosen_fit.fitted_by,
            empty_blocks=self._chosen_fit.empty_blocks,
        )

    def mechanisms(self, rule: Rule) -> NscMetrics:
        """Compute NSC or NSCB after every chain that these plates allow; write nsc.csv and neighbours.csv."""
        from cellssl.profiling.nsc import accuracy_by_moa, not_same_compound, not_same_compound_or_batch
        from cellssl.profiling.profiles import TREATMENT, TREATMENT_IN_BATCH

        find_nearest = {"nsc": not_same_compound, "nscb": not_same_compound_or_batch}[rule]
        keys = {"nsc": TREATMENT, "nscb": TREATMENT_IN_BATCH}[rule]
        accuracies = {}
        for name, links in self._compared().items():
            if links is not self._chosen and not self._allows(links):
                continue
            treatments, x = self._with_mechanisms(links, keys)
            nearest = find_nearest(treatments, x)
            table = accuracy_by_moa(treatments["moa"], nearest)
            self._add("nsc.csv", table, rule=rule, normalise=name)
            self._add("neighbours.csv", _neighbours(treatments, nearest), rule=rule, normalise=name)
            accuracies[name] = table.iloc[-1]
        chosen = chain_text(self._chosen)
        total = accuracies[chosen]
        return NscMetrics(
            normalise=chosen,
            treatments=int(total["treatments"]),
            right=int(total["right"]),
            accuracy=float(total["accuracy"]),
            accuracy_after={how: float(row["accuracy"]) for how, row in accuracies.items()},
        )

    def _compared(self) -> dict[str, Links]:
        """Return the chosen chain and those that stand beside it, by name; the chosen one comes first."""
        chains = {chain_text(self._chosen): self._chosen}
        for links in (chain(*names) for names in COMPARED):
            chains.setdefault(chain_text(links), links)
        return chains

    def retrieval(self, task: Task) -> RetrievalMetrics:
        """Compute the mean average precision of replicates or mechanisms; write map.csv and average_precision.csv."""
        from cellssl.profiling import retrieval

        settings = self._settings.retrieval
        ranking = self._replicates() if task == "replicates" else self._mechanism()
        if np.isnan(ranking.found.average_precision).all():
            what = "a replicate and a control" if task == "replicates" else "another compound of its mechanism"
            raise UsageError(f"no profile has {what}", hint="add such wells, or leave this score out")
        means = retrieval.mean_average_precision(
            ranking.groups, ranking.found, null_size=settings.null_size, alpha=settings.alpha
        )
        self._add("map.csv", means, task=task)
        self._add("average_precision.csv", _precisions(ranking), task=task)
        return RetrievalMetrics(
            groups=len(means),
            mean_average_precision=float(means["mean_average_precision"].mean()),
            found=int(means["found"].sum()),
            share_found=float(means["found"].mean()),
            fitted_by=ranking.fitted_by,
        )

    def _replicates(self) -> Ranking:
        """Return the average precision of each well's replicates among controls.

        Where the chain is fitted on anything, half of the controls fits it and the other half is ranked, then the other
        way round: a control that has fitted lies too near to the centre, and differs from replicates by that alone.
        """
        self._check_places()
        if not self._layout.is_control.any():
            raise UsageError(
                "no well is a control", hint=f"name the controls in {controls_key(self._settings.table, 'evaluate')}"
            )
        if "compound" not in self._cells or self._cells["compound"].isna().all():
            raise UsageError("no compound is known", hint=column_hint(self._settings.table, "compound", "evaluate"))
        if not self._blocks and not any(link.of_plate or link.fitted_on != "nothing" for link in self._chosen):
            return self._ranked(*self._of_wells(), self._chosen_fit.fitted_by)
        return self._ranked_by_halves()

    def _ranked_by_halves(self) -> Ranking:
        from cellssl.profiling.frames import halves
        from cellssl.profiling.profiles import well_profiles
        from cellssl.profiling.retrieval import mean_of_halves

        layout, of_halves = self._layout, []
        for frames, may_be_scored in halves(layout.plates, layout.wells, layout.is_control, key=self._key):
            fitted = self._fitted(self._chosen, frames, layout.is_control & ~may_be_scored)
            self._by_cell.update(frames.by_cell)
            scored = may_be_scored & self._is_scored
            wells = self._cells[scored].reset_index(drop=True)
            profiles = well_profiles(wells, fitted.x[scored], self._settings.profiles.aggregate)
            of_halves.append(self._ranked(*profiles, fitted.fitted_by).of_treated())
        one, other = of_halves
        return replace(one, found=mean_of_halves(one.found, other.found))

    def _ranked(self, wells: pd.DataFrame, x: np.ndarray, fitted_by: tuple[FittedLink, ...]) -> Ranking:
        """Return the average precision of each treated well's replicates among the controls."""
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import replicate_average_precision

        keys = [name for name in TREATMENT if name in wells]
        treatments = [
            None if missing else " ".join(map(str, row))
            for row, missing in zip(wells[keys].itertuples(index=False), wells["compound"].isna(), strict=True)
        ]
        same_plate = self._settings.retrieval.controls == "plate"
        control = wells["control"].to_numpy(bool)
        found = replicate_average_precision(x, treatments, control, wells["plate"], same_plate=same_plate)
        return Ranking(wells, wells[keys], found, fitted_by)

    def _mechanism(self) -> Ranking:
        """Return the average precision of each treatment's mechanism among the other treatments."""
        from cellssl.profiling.profiles import TREATMENT
        from cellssl.profiling.retrieval import mechanism_average_precision

        treatments, x = self._with_mechanisms(self._chosen, TREATMENT)
        found = mechanism_average_precision(x, treatments["moa"], treatments["compound"])
        return Ranking(treatments, treatments[["moa"]], found, self._chosen_fit.fitted_by)

    @property
    def _chosen_fit(self) -> _Fitted:
        """The chosen chain, once profiles are made with it."""
        return self._fits[chain_text(self._chosen)]

    def _check_places(self) -> None:
        """Raise UsageError where a cell has no plate or no well."""
        name, where = missing_column(self._cells, ("plate", "well"))
        if name:
            raise UsageError(
                f"not every cell has a {name}: {where}", hint=column_hint(self._settings.table, name, "evaluate")
            )

    def _of_wells(self, links: Links | None = None) -> Profiles:
        """Return metadata and profiles of wells after a chain, by default the chosen one.

        All controls of a plate fit it, so these profiles are for numbers that score no control.
        """
        from cellssl.profiling.chain import is_per_plate
        from cellssl.profiling.frames import whole_plates
        from cellssl.profiling.profiles import well_profiles

        links = self._chosen if links is None else links
        name = chain_text(links)
        if name not in self._wells:
            self._check_places()
            layout = self._layout
            frames = whole_plates(layout.plates, layout.is_control, self._key) if is_per_plate(links) else None
            fitted = self._fitted(links, frames, layout.is_control)
            scored = self._cells[self._is_scored].reset_index(drop=True)
            x = fitted.x[self._is_scored]
            self._wells[name] = well_profiles(scored, x, self._settings.profiles.aggregate)
            self._fits[name] = replace(fitted, x=x[:0])  # the vectors of cells are not needed again
        return self._wells[name]

    def _fitted(self, links: Links, frames: Frames | None, fitting: np.ndarray) -> _Fitted:
        """Return the vectors after a chain that only these controls fit.

        Links that are fitted on cells, and the shares of blocks, are fitted on the same controls, so that no profile
        that is scored fits anything; on all cells where there is no control.
        """
        from cellssl.profiling.chain import fit_chain, fitted_by

        layout = self._layout
        is_fitted_on_cells = any(link.fitted_on == "cells" for link in links)
        reference = fitting if is_fitted_on_cells and fitting.any() else fitting | ~layout.is_control
        by = (reference, layout.plates, layout.is_control, frames, fitting)
        energy_rows = fitting if fitting.any() else reference
        try:
            fitted, x = fit_chain(
                links, self._vectors, *by, key=self._key, blocks=self._blocks, energy_rows=energy_rows
            )
        except DataError as error:  # a collapse leaves out this part, and no other
            raise UsageError(error.message, hint=error.hint) from error
        who = FittedLink.each(fitted_by(links, *by, blocks=self._blocks, energy_rows=energy_rows))
        return _Fitted(x, who, fitted.blocks_out, fitted.empty_blocks)

    def _of_treatments(self, links: Links, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return metadata and profiles of treatments; wells with the same `keys` are one treatment."""
        from cellssl.profiling.profiles import treatment_profiles

        wells, x = self._of_wells(links)
        if "compound" not in wells or not (wells["compound"].notna() & ~wells["control"]).any():
            raise UsageError("no well has a treatment", hint=column_hint(self._settings.table, "compound", "evaluate"))
        return treatment_profiles(wells, x, self._settings.profiles.aggregate, keys)

    def _with_mechanisms(self, links: Links, keys: tuple[str, ...]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return treatment profiles; raise UsageError where no mechanism of action is known."""
        treatments, x = self._of_treatments(links, keys)
        if "moa" not in treatments or treatments["moa"].isna().all():
            raise UsageError("no treatment has a mechanism", hint=column_hint(self._settings.table, "moa", "evaluate"))
        return treatments, x

    def _write_profiles(self, name: str, rows: pd.DataFrame, x: np.ndarray) -> None:
        """Write Metadata_* columns, then the features; where sphering changes their number, as emb_0000 and so on, or
        BLOCK:0000 and so on."""
        import pandas as pd

        names = self._feature_names
        if len(names) != x.shape[1]:
            widths = {f"{block.name}:": block.dim for block in self._chosen_fit.blocks} or {"emb_": x.shape[1]}
            names = [f"{start}{number:04d}" for start, width in widths.items() for number in range(width)]
        numbers = pd.DataFrame(x, columns=names)  # float64, so that other tools find the same neighbours
        write_table(pd.concat([metadata(rows), numbers], axis=1), self._draft.file(name))

    def _allows(self, links: Links) -> bool:
        """Return whether these cells allow a chain."""
        with suppress(UsageError):
            self._of_wells(links)
            return True
        return False

    def _add(self, name: str, table: pd.DataFrame, **part: str) -> None:
        """Append rows to a CSV that several parts write; the first columns name the part."""
        import pandas as pd

        self._csv_tables.setdefault(name, []).append(table.assign(**part)[[*part, *table.columns]])
        rows = pd.concat(self._csv_tables[name], ignore_index=True)
        write_csv(rows, self._draft.file(name))


def chain_text(links: Links) -> str:
    """Return the name of a chain in tables: its links, or `none`."""
    return ", ".join(chain_names(links)) or "none"


def _neighbours(treatments: pd.DataFrame, nearest: NearestTreatment) -> pd.DataFrame:
    """Return one row per treatment whose mechanism is predicted, with its nearest treatment and their cosine."""
    names = [name for name in ("compound", "dose_micromolar", "batch", "moa") if name in treatments]
    queries = treatments[names].iloc[nearest.query].reset_index(drop=True)
    neighbours = treatments[names].iloc[nearest.neighbour].reset_index(drop=True).add_prefix("nearest_")
    return queries.join(neighbours).assign(cosine=nearest.cosine)


def _precisions(ranking: Ranking) -> pd.DataFrame:
    """Return one row per profile that has an average precision."""
    profiles, ranked = ranking.profiles, ranking.found
    names = [name for name in ("plate", "well", "compound", "dose_micromolar", "moa") if name in profiles]
    table = profiles[names].assign(
        positives=ranked.positives, pairs=ranked.pairs, average_precision=ranked.average_precision
    )
    return table[table["average_precision"].notna()]
