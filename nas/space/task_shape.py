"""What a task feeds a network and asks of it, in numbers: all that sizes and costs need."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import SpecError


@dataclass(frozen=True)
class TaskShape:
    """Square images of `side` pixels and `channels`, sorted into `classes`."""

    side: int
    channels: int
    classes: int

    def grid_side(self, patch_size: int) -> int:
        """Patches along one side; raises `SpecError` where the patch does not divide the side."""
        if self.side % patch_size:
            allowed = [size for size in range(1, self.side + 1) if self.side % size == 0]
            raise SpecError(
                f"patch_size {patch_size} does not divide the image side of {self.side} pixels; "
                f"allowed: {', '.join(map(str, allowed))}"
            )
        return self.side // patch_size
