"""device: names give devices and precisions; a device that this machine does not have is an error."""

import subprocess
import sys

import pytest
import torch

from cellssl.device import autocast, device_for, dtype_for, has_bfloat16
from cellssl.errors import UsageError
from cellssl.rank import Rank

CPU = torch.device("cpu")


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert device_for("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_for("cpu", Rank(1, 2, 1)) == CPU


@pytest.mark.parametrize("name", ["cuda:99", "mps", "nonsense", ""])
def test_a_device_that_this_machine_does_not_have_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        device_for(name)


def test_auto_precision_is_bfloat16_where_the_device_has_instructions_for_it() -> None:
    assert dtype_for("auto", CPU) == (torch.bfloat16 if has_bfloat16(CPU) else torch.float32)
    assert [dtype_for(name, CPU) for name in ("float32", "bfloat16")] == [torch.float32, torch.bfloat16]


def test_products_within_autocast_are_bfloat16() -> None:
    square = torch.ones(2, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert (square @ square).dtype == dtype


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, cellssl.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
