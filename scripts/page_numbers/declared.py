"""declared: every block of measured numbers that README and docs show."""

from __future__ import annotations

from functools import partial

from page_numbers import (
    demo,
    digits,
    directions,
    few_controls,
    hits_null,
    hits_real,
    hits_recall,
    jurkat,
    lite0,
    mechanisms,
    normalisations,
    nuclei,
    objectives,
    paper_question,
    positives,
    profile_blocks,
    real_cells,
    sweeps,
)
from page_numbers.algorithms import Algorithms, of_plugins, of_recipe, of_stages
from page_numbers.block import Block

SEGMENTERS, DATASETS, CLUSTERERS = "cellssl.imaging.segmenters", "cellssl.datasets", "cellssl.profiling.clusterers"
DEMO_PAGE, VIEWS_PAGE, EVALUATION_PAGE = "docs/results-of-the-demo.md", "docs/choosing-views.md", "docs/evaluation.md"
HITS_PAGE = "docs/hits.md"
REAL_PAGE = "docs/results-on-real-cells.md"
OBJECTIVES_PAGE, SEGMENTATION_PAGE = "docs/objectives.md", "docs/segmentation.md"
TO_CLUSTERS = ("fetch", "segment", "split", "pretrain", "embed", "cluster")
SCORED = (*TO_CLUSTERS, "evaluate")  # hits enter none of these scores, and take seconds of the minutes
CROP_FILES = ("crops/bbbc021_crops_2plates.npz", "crops/bbbc021_crops_2plates.csv")
THIRD_PLATE_FILES = (*CROP_FILES, "crops/bbbc021_crops_small.npz", "crops/bbbc021_crops_small.csv")
LITE0 = "weights/efficientnet-lite0-57934424.pth"
PROFILE_FILES = ("profiles/ljosa_jbiomolscreen_2013_per_well_mean.csv.gz", "meta")
PIXEL_SCALE = {"segment": 3, "cluster": 2, "evaluate": 3}  # not made again since: hours
OLD_NET, OLD_WATERSHED = {**PIXEL_SCALE, "nuclei_net": 1}, {**PIXEL_SCALE, "watershed": 2}
SAME_RANGE = PIXEL_SCALE  # photographs have no such scale, and their recipes name the chains of before
ZSCORED = {"evaluate": 3}  # the chain of before; not made again since: hours
UNSCALED = {"segment": 3}  # the numbers are those of fields, not of scaled crops
BOWL = "segmentation/dsb2018_stage1_fluo"


def _sweep(name: str) -> Algorithms:
    return of_recipe(name) | of_stages("report")


def _photographs() -> Algorithms:
    return (
        of_stages(*TO_CLUSTERS)
        | of_plugins(DATASETS, "crop_stack")
        | of_plugins("cellssl.learning.encoders", "timm")
        | of_plugins(CLUSTERERS, "kmeans")
    )


def _detectors(*names: str) -> Algorithms:
    return of_stages("segment") | of_plugins(SEGMENTERS, *names) | of_plugins(DATASETS, "simulated")


def _demo(*overrides: str, to: tuple[str, ...] = TO_CLUSTERS) -> partial[Algorithms]:
    return partial(of_recipe, "demo", overrides, to)


_DEMO_ALL = _demo(to=SCORED)
_SIMULATED, _DIGIT_SWEEP = partial(_sweep, sweeps.SIMULATED), partial(_sweep, sweeps.DIGITS)
_DIGITS = partial(of_recipe, "digits")
_REAL = partial(of_recipe, real_cells.RECIPE)
_DECLARED = (
    Block("demo-time", ("README.md", DEMO_PAGE), "20 minutes", _DEMO_ALL, demo.time_needed),
    Block("demo-clusters", ("README.md",), "20 minutes", _demo(), demo.clusters),
    Block("demo-table", (DEMO_PAGE,), "20 minutes", _DEMO_ALL, demo.scores),
    Block("demo-doses", (DEMO_PAGE,), "20 minutes", _demo(), demo.doses),
    Block("demo-other-plates", (DEMO_PAGE,), "2 hours", _demo(demo.WATERSHED), demo.other_plates, (), OLD_WATERSHED),
    Block("real-crops", (DEMO_PAGE,), "1 hour", _REAL, real_cells.two_plates, CROP_FILES, PIXEL_SCALE),
    Block("sweep-cost", (VIEWS_PAGE,), "1 hour", lambda: _SIMULATED() | _DIGIT_SWEEP(), sweeps.cost, earlier=OLD_NET),
    Block("sweep-simulated", (VIEWS_PAGE,), "30 minutes", _SIMULATED, sweeps.simulated_table, earlier=OLD_NET),
    Block("sweep-simulated-jitter", (VIEWS_PAGE,), "30 minutes", _SIMULATED, sweeps.simulated_jitter, earlier=OLD_NET),
    Block("sweep-simulated-crop", (VIEWS_PAGE,), "30 minutes", _SIMULATED, sweeps.simulated_crop, earlier=OLD_NET),
    Block("sweep-simulated-pairs", (VIEWS_PAGE,), "30 minutes", _SIMULATED, sweeps.simulated_pairs, earlier=OLD_NET),
    Block("sweep-digits", (VIEWS_PAGE,), "30 minutes", _DIGIT_SWEEP, sweeps.digits, earlier=SAME_RANGE),
    Block("digits", (VIEWS_PAGE,), "30 minutes", _DIGITS, digits.table, earlier=SAME_RANGE),
    Block("digits-falls", (VIEWS_PAGE,), "30 minutes", _DIGITS, digits.falls, earlier=SAME_RANGE),
    Block("digits-picture", (VIEWS_PAGE,), "30 minutes", _DIGITS, digits.picture, earlier=SAME_RANGE),
    Block("paper-question", (VIEWS_PAGE,), "1 hour", paper_question.algorithms, paper_question.tables),
    Block(
        "imagenet-weights", ("docs/encoders.md",), "10 minutes", _photographs, real_cells.photographs,
        (*CROP_FILES, LITE0), PIXEL_SCALE,
    ),
    Block(
        "left-out-plates", (EVALUATION_PAGE,), "30 minutes", _REAL, real_cells.leave_one_plate_out,
        THIRD_PLATE_FILES,
    ),
    Block(
        "third-plate", (EVALUATION_PAGE,), "30 minutes", _REAL, real_cells.third_plate,
        THIRD_PLATE_FILES,
    ),
    Block("few-controls", (EVALUATION_PAGE,), "10 minutes", _REAL, few_controls.table, CROP_FILES),
    Block("normalisations", (EVALUATION_PAGE,), "30 minutes", _REAL, normalisations.table, THIRD_PLATE_FILES),
    Block(
        "nsc", (EVALUATION_PAGE,), "1 minute", partial(of_stages, "evaluate"), real_cells.profiles,
        PROFILE_FILES,
    ),
    Block(
        "mechanisms", (REAL_PAGE,), "30 minutes", mechanisms.algorithms, mechanisms.table,
        ("crops/bbbc021_crops_small.npz", "crops/bbbc021_crops_small.csv", LITE0),
    ),
    Block("directions", (REAL_PAGE,), "30 minutes", _REAL, directions.table, THIRD_PLATE_FILES),
    Block(
        "jurkat", (REAL_PAGE,), "25 minutes", jurkat.algorithms, jurkat.table,
        ("crops/jurkat_cellcycle.npz", "crops/jurkat_cellcycle.csv", LITE0),
    ),
    Block(
        "profile-blocks", (REAL_PAGE,), "2 minutes", partial(of_stages, "evaluate"), profile_blocks.table,
        PROFILE_FILES,
    ),
    Block(
        "profile-blocks-halves", (REAL_PAGE,), "2 minutes", partial(of_stages, "evaluate"), profile_blocks.halves,
        PROFILE_FILES,
    ),
    Block("lite0-frozen", ("docs/encoders.md",), "15 minutes", lite0.algorithms, lite0.frozen, lite0.DATA),
    Block("lite0-further", ("docs/encoders.md",), "25 minutes", lite0.algorithms, lite0.further, lite0.DATA),
    Block("objectives", (OBJECTIVES_PAGE,), "3 hours", objectives.algorithms, objectives.table, (), ZSCORED),
    Block(
        "positives", (OBJECTIVES_PAGE,), "1 hour", positives.algorithms, positives.table,
        ("crops/bbbc021_crops_small.npz", "crops/bbbc021_crops_small.csv"),
    ),
    Block("factors", (OBJECTIVES_PAGE,), "1 hour", objectives.factor_algorithms, objectives.factors),
    Block(
        "detectors-f1", (SEGMENTATION_PAGE,), "5 minutes", partial(_detectors, *nuclei.METHODS), nuclei.f1,
        (BOWL,), UNSCALED,
    ),
    Block(
        "detectors-speed", (SEGMENTATION_PAGE,), "5 minutes", partial(_detectors, *nuclei.METHODS, "cellpose"),
        nuclei.speed, ("weights/cellpose3_cyto_from_scellseg.pth",), UNSCALED,
    ),
    Block(
        "illumination", (SEGMENTATION_PAGE,), "seconds", partial(of_stages, "segment"), nuclei.illumination,
        (), UNSCALED,
    ),
    Block("hits-null", (HITS_PAGE,), "20 minutes", partial(of_stages, "hits"), hits_null.table),
    Block("hits-recall", (HITS_PAGE,), "10 minutes", hits_recall.algorithms, hits_recall.table),
    Block(
        "hits-real", (HITS_PAGE,), "2 minutes", partial(of_stages, "evaluate", "hits"), hits_real.table,
        PROFILE_FILES,
    ),
)  # fmt: skip
BLOCKS = {block.name: block for block in _DECLARED}
