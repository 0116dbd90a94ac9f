"""arithmetic: an unfinished artifact and a network's number of threads in, the number that its first process chose out.

The number of threads, the precision and the instructions of the processor decide the last bits of a training. They are
written beside the checkpoints at the start, so that a resumed training can keep the one that can be kept, and say which
of the others has changed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from cellssl.errors import IntegrityError
from cellssl.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

FILE = "arithmetic.json"


@dataclass(frozen=True)
class Arithmetic:
    """What decides the last bits of a training, besides the recipe and its inputs."""

    threads: int
    """Threads of torch. Its inter-op threads do nothing here: they serve TorchScript alone."""
    device: str
    """The kind of the device: "cpu" or "cuda"."""
    precision: str
    """The precision of convolutions, such as "float32"."""
    instruction_set: str
    """The instructions of the processor that torch's own loops use, such as "AVX2"."""
    compiled: bool = False
    """Whether the encoder is compiled. Earlier versions, whose files lack it, did not."""

    @classmethod
    def here(cls, threads: int, device: torch.device, dtype: torch.dtype, *, compiled: bool = False) -> Arithmetic:
        """Return the arithmetic of this machine."""
        import torch

        kind, instructions = str(dtype).removeprefix("torch."), torch.backends.cpu.get_cpu_capability()
        return cls(threads, device.type, kind, instructions, compiled)

    def kept(self, scratch: Path, *, resumed: bool, keep_threads: bool = True) -> tuple[Arithmetic, str]:
        """Return this arithmetic with the threads of the first process, and what else differs from it in words, or "".

        The first process writes its own into `scratch`; `resumed` is whether there is a checkpoint, too. With
        `keep_threads` false the threads are those of this arithmetic, because a user asked for them. Raises
        IntegrityError where that file cannot be read.
        """
        file = scratch / FILE
        first = _read(file) if file.is_file() else None
        now = replace(self, threads=first.threads) if first and keep_threads else self
        if first is not None:  # not to compile is always possible, to compile is not
            now = replace(now, compiled=now.compiled and first.compiled)
        if first is None or not resumed:
            write_text(file, json.dumps(asdict(now), indent=1, sort_keys=True) + "\n")
            return now, "it is not known how many threads this training began with" if resumed else ""
        then, here = asdict(first), asdict(now)
        changes = [f"{name} {then[name]}, not {here[name]}" for name in then if then[name] != here[name]]
        return now, f"this training began with {'; '.join(changes)}" if changes else ""

    def details(self) -> Mapping[str, Any]:
        """Return the entries of a card's `run` besides device and precision, which it has already."""
        return {
            "threads": self.threads,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "instruction_set": self.instruction_set,
            "compiled": self.compiled,
        }


def _read(file: Path) -> Arithmetic:
    try:
        found = Arithmetic(**json.loads(file.read_text(encoding="utf-8")))
        if type(found.threads) is not int or not 1 <= found.threads <= 4096:
            raise ValueError(f"it names {found.threads!r} threads")
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"{file} cannot be read: {error}", hint=f"remove the folder {file.parent} to start the training again"
        ) from error
    return found
