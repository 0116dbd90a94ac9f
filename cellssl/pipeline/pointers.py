"""pointers: an artifact that was found or made in, the small file out that tells people of it and keeps it from gc."""

from __future__ import annotations

from dataclasses import dataclass

from cellssl.artifacts.store import Artifact, Store


@dataclass(frozen=True)
class Pointer:
    """The place by recipe, arm, seed and stage where people find an artifact."""

    recipe: str
    """The name of the folder of pointers."""
    overrides: tuple[str, ...]
    """The overrides that this name stands for."""
    arm: str
    seed: int | None
    stage: str
    fingerprint: str

    def leave(self, store: Store, artifact: Artifact) -> None:
        """Write the pointer to its artifact; FailedError where `cellssl gc` was faster."""
        store.write_pointer(self.recipe, self.arm, self.seed, self.stage, artifact, self.overrides)
        artifact.check_still_there()

    def leave_to_made(self, store: Store, artifact: Artifact) -> None:
        """Write the pointer where `artifact` is the one that it points to, and not one of its parts."""
        if artifact.fingerprint == self.fingerprint:
            self.leave(store, artifact)
