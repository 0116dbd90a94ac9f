"""Memory that a step frees is kept for the next step."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from cellssl.learning.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64, 64, 64, 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc gives large blocks back at once")
def test_kept_memory_causes_far_fewer_page_faults() -> None:
    kept, given_back = page_faults("kept"), page_faults("given back")
    if given_back < 10_000:
        pytest.skip("this C library keeps what is freed by itself")
    assert kept < given_back / 20
