"""compounds: the simulated compounds: their doses, the share of cells that react, how, and how their wells answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Skeleton:
    """Effects of the drug on the cytoskeleton of every reacting cell, whatever its phenotype; shares of severity."""

    tubulin_lost: float = 0.0
    tubulin_bundled: float = 0.0
    actin_clumped: float = 0.0
    contracted: float = 0.0
    enlarged: float = 0.0
    """The nucleus and the cell around it grow."""


@dataclass(frozen=True)
class Surroundings:
    """How a well answers a compound at full effect, beyond what happens inside its cells."""

    count: float = 1.0
    """Number of cells, relative to DMSO."""
    clumped: float = 0.0
    """Share of nuclei that lie close beside another one, where they were free to lie anywhere."""
    spacing: float = 1.0
    """Smallest distances between nuclei, relative to DMSO."""
    swelling: float = 0.0
    """Growth of the area of a nucleus that reacts with severity 1, as a share of it."""


@dataclass(frozen=True)
class Measured:
    """Means of real wells relative to DMSO of the same plate, which a simulated well must show in its label images."""

    nearest: float
    """Distance to the nearest nucleus."""
    second_nearest: float
    """Distance to the second nearest nucleus."""
    touching: float
    """Share of the border of a nucleus that has another one within 10 px."""
    area: float
    """Area of nuclei."""
    count: float
    """Number of nuclei per field."""


@dataclass(frozen=True)
class Compound:
    """A simulated compound: which share of cells reacts at which dose, and how."""

    name: str
    moa: str | None
    doses_micromolar: tuple[float, ...]
    half_effect_micromolar: float
    steepness: float
    reactions: Mapping[str, float] = field(default_factory=dict)
    """Phenotype -> share of the reacting cells; empty where no cell reacts."""
    skeleton: Skeleton = Skeleton()
    surroundings: Surroundings = Surroundings()
    """How its wells answer at full effect, with `density_answer = 1`."""
    survivors: float = 1.0
    """Number of cells at full effect relative to DMSO, whatever `density_answer` is."""

    def effect(self, dose_micromolar: float) -> float:
        """Return the effect at a dose, from 0 to 1: the Hill equation."""
        powered = dose_micromolar**self.steepness
        return float(powered / (powered + self.half_effect_micromolar**self.steepness))

    def chance(self, dose_micromolar: float, effect_max: float) -> float:
        """Return the probability that a cell reacts: the Hill equation, with the maximum `effect_max`."""
        if not self.reactions:
            return 0.0
        powered = dose_micromolar**self.steepness
        return float(effect_max * powered / (powered + self.half_effect_micromolar**self.steepness))


_TO_3 = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_TO_30 = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

# Measured in BBBC021 (Caie et al. 2010, doi:10.1158/1535-7163.MCT-09-1148): CellProfiler's means per well of Ljosa et
# al. 2013 (doi:10.1177/1087057113503553), the file ljosa_jbiomolscreen_2013_per_well_mean.csv.gz, which public copies
# of the paper's data hold. Every well is divided by the mean of the DMSO wells of its plate, then wells are averaged
# over all doses that are annotated with a mechanism. nearest and second_nearest are
# Nuclei_Neighbors_FirstClosestDistance_10 and SecondClosestDistance_10, touching Nuclei_Neighbors_PercentTouching_10,
# area is Nuclei_AreaShape_Area, and count is Nuclei_Number_Object_Number, whose mean is half the nuclei of a field.
MEASURED: Mapping[str, Measured] = {
    "sim-nocodazole": Measured(nearest=1.19, second_nearest=1.39, touching=1.78, area=1.22, count=0.31),  # 6 wells
    "sim-vincristine": Measured(nearest=1.11, second_nearest=1.33, touching=1.71, area=1.26, count=0.32),  # 21 wells
    "sim-taxol": Measured(nearest=1.05, second_nearest=1.27, touching=1.97, area=1.07, count=0.31),  # 9 wells
    "sim-epothilone": Measured(
        nearest=1.13, second_nearest=1.35, touching=1.57, area=1.04, count=0.31
    ),  # epothilone B, 9 wells
    "sim-cytochalasin": Measured(
        nearest=0.85, second_nearest=1.08, touching=2.07, area=0.82, count=0.51
    ),  # cytochalasin B, 6 wells
    "sim-latrunculin": Measured(
        nearest=0.81, second_nearest=0.96, touching=1.99, area=0.91, count=0.69
    ),  # latrunculin B, 6 wells
    "sim-etoposide": Measured(nearest=1.30, second_nearest=1.33, touching=0.59, area=1.27, count=0.63),  # 9 wells
    "sim-mitomycin": Measured(
        nearest=1.21, second_nearest=1.24, touching=0.66, area=1.18, count=0.67
    ),  # mitomycin C, 12 wells
}

# Doses are those of the compounds in BBBC021. Half-effect doses are of the order that cell lines show after 24 h
# (taxol and nocodazole tens of nanomolar, cytochalasin B about one micromolar). Reactions follow the drugs' biology:
# without microtubules cells arrest in mitosis, slip out of it with several nuclei, or contract; stabilised
# microtubules bundle, and the chromosomes that they scatter end in micronuclei; without actin filaments cells keep
# clumps of actin, and contract. The drug reaches the cytoskeleton of every cell that reacts: without microtubules a
# cell contracts (they hold Rho's activator back), and without actin filaments it pulls back from its neighbours.
# Cells with damaged DNA stop before mitosis and grow on: nucleus and cell become large and flat.
# The numbers of `surroundings` were fitted so that label images show what MEASURED says.
_ALL = (
    Compound(
        "sim-nocodazole",
        "Microtubule destabilizers",
        _TO_3,
        half_effect_micromolar=0.05,
        steepness=1.5,
        reactions={"depolymerised_tubulin": 0.35, "mitotic_arrest": 0.30, "multinucleate": 0.20, "shrunken": 0.15},
        skeleton=Skeleton(tubulin_lost=1.0, contracted=0.5),
        surroundings=Surroundings(count=0.29, clumped=0.48, swelling=1.25),
    ),
    Compound(
        "sim-vincristine",
        "Microtubule destabilizers",
        _TO_3,
        half_effect_micromolar=0.01,
        steepness=1.3,
        reactions={"depolymerised_tubulin": 0.25, "mitotic_arrest": 0.35, "multinucleate": 0.30, "shrunken": 0.10},
        skeleton=Skeleton(tubulin_lost=0.85, contracted=0.4),
        surroundings=Surroundings(count=0.31, clumped=0.46, swelling=1.2),
    ),
    Compound(
        "sim-taxol",
        "Microtubule stabilizers",
        _TO_3,
        half_effect_micromolar=0.02,
        steepness=1.2,
        reactions={"bundled_tubulin": 0.35, "micronucleate": 0.30, "mitotic_arrest": 0.20, "multinucleate": 0.15},
        skeleton=Skeleton(tubulin_bundled=1.0),
        surroundings=Surroundings(count=0.31, clumped=0.54, spacing=0.97, swelling=0.4),
    ),
    Compound(
        "sim-epothilone",
        "Microtubule stabilizers",
        _TO_3,
        half_effect_micromolar=0.03,
        steepness=1.5,
        reactions={"bundled_tubulin": 0.45, "micronucleate": 0.25, "mitotic_arrest": 0.15, "multinucleate": 0.15},
        skeleton=Skeleton(tubulin_bundled=0.85),
        surroundings=Surroundings(count=0.31, clumped=0.47, swelling=0.22),
    ),
    Compound(
        "sim-cytochalasin",
        "Actin disruptors",
        _TO_30,
        half_effect_micromolar=1.0,
        steepness=1.5,
        reactions={"actin_clumps": 0.65, "shrunken": 0.35},
        skeleton=Skeleton(actin_clumped=1.0, contracted=0.5),
        surroundings=Surroundings(count=0.51, clumped=0.46, spacing=0.8, swelling=-0.06),
    ),
    Compound(
        "sim-latrunculin",
        "Actin disruptors",
        _TO_30,
        half_effect_micromolar=0.5,
        steepness=1.5,
        reactions={"actin_clumps": 0.80, "shrunken": 0.20},
        skeleton=Skeleton(actin_clumped=0.85, contracted=0.4),
        surroundings=Surroundings(count=0.71, clumped=0.32, spacing=0.83, swelling=0.05),
    ),
    Compound(
        "sim-etoposide",
        "DNA damage",
        _TO_30,
        half_effect_micromolar=0.3,
        steepness=1.2,
        reactions={"enlarged": 0.92, "micronucleate": 0.05, "dead": 0.03},
        skeleton=Skeleton(enlarged=1.0),
        surroundings=Surroundings(count=0.6, spacing=1.14, swelling=0.13),
    ),
    Compound(
        "sim-mitomycin",
        "DNA damage",
        _TO_3,
        half_effect_micromolar=0.05,
        steepness=1.0,
        reactions={"enlarged": 0.88, "micronucleate": 0.06, "multinucleate": 0.06},
        skeleton=Skeleton(enlarged=0.8),
        surroundings=Surroundings(count=0.66, spacing=1.12, swelling=-0.06),
    ),
    Compound("sim-cytostatic", None, _TO_30, half_effect_micromolar=1.0, steepness=1.5, survivors=0.4),
)
INACTIVE = "sim-inactive-"
COMPOUNDS: Mapping[str, Compound] = {compound.name: compound for compound in _ALL}


def compound_of(name: str) -> Compound:
    """Return a compound by its name; inactive ones have a number, and do nothing at any dose."""
    if name.startswith(INACTIVE):
        return Compound(name, None, _TO_30, half_effect_micromolar=1.0, steepness=1.0)
    return COMPOUNDS[name]
