"""Costs: the processor's time of workers counts, memory peaks stage by stage, bytes by read and write calls."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain import Chain

from cellssl.engine.resources import UsageMeter, sum_usage

PEAKS = """
from cellssl.engine.resources import UsageMeter
before = Meter().read()["peak_memory_mb"]
second = Meter()
block = bytearray(200_000_000)
del block
high = second.read()["peak_memory_mb"]
print([before, high, Meter().read()["peak_memory_mb"]])
"""
"""In a process of its own, that has no freed memory at hand to take the block from."""
LINUX = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells")


def test_a_workers_processor_time_counts_once_it_has_ended() -> None:
    meter = UsageMeter()
    busy = "import time\nwhile time.process_time() < 0.35: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    costs = meter.read()
    assert costs["cpu_s"] >= 0.3, "two clocks, and each rounds"
    assert costs["peak_worker_mb"] > 1


def test_waiting_takes_time_and_no_processor() -> None:
    meter = UsageMeter()
    time.sleep(0.3)
    costs = meter.read()
    assert costs["seconds"] >= 0.3 > costs["cpu_s"]
    assert "gpu_s" not in costs


@LINUX
def test_bytes_are_those_that_were_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    meter = UsageMeter()
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())
    costs = meter.read()
    assert 3_000_000 <= costs["bytes_read"] < 3_200_000
    assert 3_000_000 <= costs["bytes_written"] < 3_200_000


@LINUX
def test_the_peak_of_memory_begins_anew_with_every_stage() -> None:
    told = subprocess.run([sys.executable, "-c", PEAKS], check=True, stdout=subprocess.PIPE)
    before, high, after = json.loads(told.stdout)
    assert high > before + 150
    assert after < high - 100


def test_times_and_bytes_add_up_and_of_memory_the_largest_counts() -> None:
    runs = [{"seconds": 1.5, "peak_memory_mb": 10, "host": "a"}, {"seconds": 2, "peak_memory_mb": 7, "bytes_read": 3}]
    assert sum_usage(runs) == {"seconds": 3.5, "peak_memory_mb": 10, "bytes_read": 3}
    assert sum_usage([]) == {}


def test_status_adds_up_every_artifact_once(chain: Chain) -> None:
    told = json.loads(chain.say("status", "--json").out)
    cards = [chain.store.get(row["stage"], row["fingerprint"]).card for row in told["stages"]]
    assert told["spent"]["seconds"] == pytest.approx(sum(card.run["seconds"] for card in cards))
    assert told["spent"]["peak_memory_mb"] == max(card.run["peak_memory_mb"] for card in cards)
    assert "what is done took" in chain.say("status").out.splitlines()[-1]


def test_a_plate_made_before_the_whole_is_added_and_one_made_within_is_not(chain: Chain, tmp_path: Path) -> None:
    knobs = ["--set", "fetch.dataset.doses=1", "--set", "fetch.dataset.control_wells=1"]
    mine = Chain(chain.recipe, tmp_path)
    part = Path(mine.say("fetch", "--plate", "Sim1_00001", *knobs).line)
    whole = Path(mine.say("fetch", *knobs).line)
    runs = [json.loads((folder / "artifact.json").read_text())["run"] for folder in (part, whole)]
    assert "made_within" not in runs[1]
    spent = json.loads(mine.say("status", "--json", *knobs).out)["spent"]
    assert spent["seconds"] == pytest.approx(sum(run["seconds"] for run in runs))
    assert chain.made("fetch").card.run["made_within"]
