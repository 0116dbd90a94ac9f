"""needs: a planned stage whose inputs are there in; the threads, memory and time that it will take, roughly, out.

They decide what is made side by side, and nothing in a result. `estimates` knows better, but measures for seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellssl.device import allowed_threads, device_for, has_gpu_driver
from cellssl.engine.plate_parts import parts_of
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.rates import (
    BASE_MB,
    CLUSTER_S,
    EMBEDDED_BYTES,
    EVALUATE_S,
    FEATURES_S,
    HITS_S,
    INTENSITIES_S,
    JOIN_S,
)
from cellssl.pipeline.workload import Workload, channels_of, trained_on, upstream_stages, workload

if TYPE_CHECKING:
    from cellssl.artifacts.store import Store
    from cellssl.learning.threads import NetworkSize

OF_VECTORS_S = {"cluster": CLUSTER_S, "evaluate": EVALUATE_S, "hits": HITS_S}
"""What the stages that compare vectors take per cell."""
ON_ALL_CORES = ("fetch", "segment", "report")
MULTIPLY_ADDS_PER_S = 25e9
"""Of a training on one thread, with its views."""
PASSES = 4
"""Multiply-adds of a step for a view, over those of one forward pass: forward, backward, and the momentum encoder."""
VIEWS = 2


@dataclass(frozen=True)
class Needs:
    """What making a stage takes."""

    threads: int | None
    """Number of threads that serve it; None where it takes all cores, or the GPU, for itself."""
    memory_mb: float = BASE_MB
    seconds: float = 0.0


ALONE = Needs(None)


def one_thread_serves(planned: Planned) -> bool:
    """Return whether a stage gains little or nothing by a second thread, as far as that is known without torch.

    For workflow engines, which ask before anything is made; `needs_of` knows it better.
    """
    if not _runs_network(planned):
        return not _is_made_alone(planned)
    from cellssl.learning.threads import threads_for

    stages = upstream_stages(planned)
    if "pretrain" not in stages or "segment" not in stages:
        return False
    settings = stages["pretrain"].settings
    side_px = settings.input_px or stages["segment"].settings.crop_px
    size = settings.encoder.network_size(channels_of(stages), side_px)
    return size is not None and threads_for(size.multiply_adds, 2) == 1


def _is_made_alone(planned: Planned) -> bool:
    """Return whether a stage shares out its own work over all cores, or comes when all else is done."""
    return planned.stage in ON_ALL_CORES or (planned.stage == "embed" and planned.settings.model == "cellprofiler")


def _runs_network(planned: Planned) -> bool:
    return planned.stage == "pretrain" or (planned.stage == "embed" and not planned.settings.measures())


def needs_of(planned: Planned, store: Store, device_name: str, asked_threads: int | None) -> Needs:
    """Return what a stage needs; `asked_threads` are those of --threads.

    Raises UsageError for a GPU that is not there.
    """
    if _is_made_alone(planned):
        return ALONE
    size = workload(planned, store, ())
    if _runs_network(planned):
        return _needs_of_network(planned, size, _network(planned, store, size), device_name, asked_threads)
    vectors_mb = 6 * EMBEDDED_BYTES * size.embedded_cells / 1e6
    match planned.stage:
        case "embed":
            rate_s = FEATURES_S if planned.settings.model == "features" else INTENSITIES_S
            blocks = len(planned.settings.blocks)
            rate_s = blocks * JOIN_S or rate_s
            return Needs(1, BASE_MB + blocks * vectors_mb, size.embedded_cells * rate_s * size.channels / 3)
        case "cluster" | "evaluate" | "hits":
            return Needs(1, BASE_MB + vectors_mb, size.embedded_cells * OF_VECTORS_S[planned.stage])
        case _:
            return Needs(1, BASE_MB + size.cells / 1000, size.cells * 2e-5)


def _needs_of_network(
    planned: Planned, size: Workload, network: NetworkSize, device_name: str, asked_threads: int | None
) -> Needs:
    from cellssl.learning.threads import threads_for

    settings = planned.settings
    allowed = allowed_threads()
    threads = asked_threads or threads_for(network.multiply_adds, allowed)
    if _takes_gpu(device_name) or (threads > 1 and threads >= allowed):
        return ALONE
    maps_mb = 4e-6 * network.outputs
    if planned.stage == "embed":
        draws = settings.draws if settings.view else 1
        seconds = size.embedded_cells * draws * network.multiply_adds / MULTIPLY_ADDS_PER_S
        return Needs(threads, BASE_MB + min(settings.batch, size.embedded_cells) * maps_mb, seconds)
    branches = settings.active() if settings.epochs > 0 else {}
    passes = len(branches) * VIEWS * PASSES * settings.epochs * size.trained_cells
    memory_mb = BASE_MB + VIEWS * min(settings.batch, size.trained_cells) * maps_mb
    return Needs(threads, memory_mb, passes * network.multiply_adds / MULTIPLY_ADDS_PER_S)


def _takes_gpu(device_name: str) -> bool:
    """Return whether networks run on a GPU; torch is loaded only where there is a driver."""
    if device_name == "auto" and not has_gpu_driver():
        return False
    return device_for(device_name).type != "cpu"


def _network(planned: Planned, store: Store, size: Workload) -> NetworkSize:
    """Return the size of the network that a stage runs, with its input."""
    from cellssl.learning.threads import network_size
    from cellssl.stages.pretrain.networks import uninitialised_encoder

    stages = upstream_stages(planned)
    if "pretrain" in stages:
        settings: Any = stages["pretrain"].settings
        channels, crop_px = _shape_of_crops(stages, store) or (size.channels, int(settings.input_px or 0))
        encoder, side_px = settings.encoder, settings.input_px or crop_px
    else:
        from cellssl.stages.pretrain.card_settings import pretrain_settings

        model = planned.earlier_model()
        channels, _, side_px = trained_on(model)
        encoder = pretrain_settings(model, "encoder").encoder
    encoder.check_side(side_px)
    known: NetworkSize | None = encoder.network_size(channels, side_px)
    if known is not None:
        return known
    network = uninitialised_encoder(encoder, channels).to("meta")  # sizes without numbers: nothing is computed
    return network_size(network, channels, side_px)


def _shape_of_crops(stages: Mapping[str, Planned], store: Store) -> tuple[int, int] | None:
    """Return the channels and the side in px of the crops; None where no segment artifact of the store has any."""
    import numpy as np

    segment = store.find("segment", stages["segment"].fingerprint) if "segment" in stages else None
    for _, part in parts_of(segment) if segment is not None else ():
        found = store.find("segment", part)
        if found is not None and not found.plain_fault("crops.npy"):
            shape = np.load(found.path / "crops.npy", mmap_mode="r").shape
            return int(shape[1]), int(shape[-1])
    return None
