"""resources: CPU time of workers counts, memory peaks per stage, bytes of read and write calls."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain import Chain

from cellssl.engine.resources import UsageMeter, free_in_groups_mb, sum_usage

PEAKS = """
from cellssl.engine.resources import UsageMeter
before = UsageMeter().read()["peak_memory_mb"]
second = UsageMeter()
block = bytearray(200_000_000)
del block
high = second.read()["peak_memory_mb"]
print([before, high, UsageMeter().read()["peak_memory_mb"]])
"""
"""Run in a new process, which has no freed memory to take the block from."""
LINUX = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts them")


def test_the_cpu_time_of_a_worker_counts_after_it_has_ended() -> None:
    meter = UsageMeter()
    busy = "import time\nwhile time.process_time() < 0.35: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    costs = meter.read()
    assert costs["cpu_s"] >= 0.3, "two clocks, both rounded"
    assert costs["peak_worker_mb"] > 1


def test_waiting_takes_wall_time_and_no_cpu_time() -> None:
    meter = UsageMeter()
    time.sleep(0.3)
    costs = meter.read()
    assert costs["seconds"] >= 0.3 > costs["cpu_s"]
    assert "gpu_s" not in costs


@LINUX
def test_bytes_read_and_written_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    meter = UsageMeter()
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())
    costs = meter.read()
    assert 3_000_000 <= costs["bytes_read"] < 3_200_000
    assert 3_000_000 <= costs["bytes_written"] < 3_200_000


@LINUX
def test_the_memory_peak_is_reset_for_every_stage() -> None:
    printed = subprocess.run([sys.executable, "-c", PEAKS], check=True, stdout=subprocess.PIPE)
    before, high, after = json.loads(printed.stdout)
    assert high > before + 150
    assert after < high - 100


def test_times_and_bytes_are_summed_and_memory_is_the_maximum() -> None:
    runs = [{"seconds": 1.5, "peak_memory_mb": 10, "host": "a"}, {"seconds": 2, "peak_memory_mb": 7, "bytes_read": 3}]
    assert sum_usage(runs) == {"seconds": 3.5, "peak_memory_mb": 10, "bytes_read": 3}
    assert sum_usage([]) == {}


def test_status_counts_every_artifact_once(chain: Chain) -> None:
    status = json.loads(chain.say("status", "--json").out)
    cards = [chain.store.get(row["stage"], row["fingerprint"]).card for row in status["stages"]]
    assert status["spent"]["seconds"] == pytest.approx(sum(card.run["seconds"] for card in cards))
    assert status["spent"]["peak_memory_mb"] == max(card.run["peak_memory_mb"] for card in cards)
    assert "the finished stages took" in chain.say("status").out.splitlines()[-1]


def test_a_plate_made_before_the_whole_is_counted_and_one_made_within_is_not(chain: Chain, tmp_path: Path) -> None:
    values = ["--set", "fetch.dataset.doses=1", "--set", "fetch.dataset.control_wells=1"]
    mine = Chain(chain.recipe, tmp_path)
    part = Path(mine.say("fetch", "--plate", "Sim1_00001", *values).line)
    whole = Path(mine.say("fetch", *values).line)
    runs = [json.loads((folder / "artifact.json").read_text())["run"] for folder in (part, whole)]
    assert "made_within" not in runs[1]
    spent = json.loads(mine.say("status", "--json", *values).out)["spent"]
    assert spent["seconds"] == pytest.approx(sum(run["seconds"] for run in runs))
    assert chain.made("fetch").card.run["made_within"]


def test_the_least_memory_of_a_group_and_those_around_it_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    for folder, limit in (("", "max"), ("slurm", "5000000000"), ("slurm/job_17", "2000000000"), ("other", "1000000")):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in (("max", limit), ("current", "1500000000"), ("stat", "anon 9\ninactive_file 700000000\n")):
            (tmp_path / folder / f"memory.{name}").write_text(text)
    assert free_in_groups_mb("1:cpu:/x\n0::/slurm/job_17\n", tmp_path) == [4200.0, 1200.0]
    assert free_in_groups_mb("0::/../..\n", tmp_path) == [] == free_in_groups_mb("", tmp_path / "none")
