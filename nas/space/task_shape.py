"""What a task feeds a network and asks of it, in numbers: all that sizes and costs need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.errors import SpecError


@dataclass(frozen=True)
class ImageShape:
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


@dataclass(frozen=True)
class TextShape:
    """Sentence pairs as token ids below the sides' vocabularies.

    Costs are counted for one sentence of `source_length` tokens whose translation has
    `target_length`, end marks included. A translation has at most M = ceil(length_ratio x source
    tokens + length_margin) tokens, known before its first: training keeps to it, beam search ends
    there, and attention types that normalise positions at decoder sites do so by it.
    `one_vocabulary` says whether an id is the same piece on both sides.
    """

    source_vocabulary: int
    target_vocabulary: int
    source_length: int = 30
    target_length: int = 30
    length_ratio: float = 1.5
    length_margin: int = 10
    one_vocabulary: bool = True

    def longest_target(self, source_tokens: Any) -> Any:
        """M for a number of source tokens, or for an array or tensor of float64 ones."""
        return longest_target(source_tokens, self.length_ratio, self.length_margin)


def longest_target(source_tokens: Any, ratio: float, margin: int) -> Any:
    """M = ceil(ratio x source tokens + margin), a whole float64 of the kind that is given."""
    # As a floor from below, which numbers, arrays and tensors alike have.
    return -(-(ratio * source_tokens + margin) // 1)


@dataclass(frozen=True)
class TabledShape:
    """Of what networks of this `kind` are fed nothing is known: a table has their scores.

    Of their costs only those named in `costs` can be told.
    """

    kind: str
    costs: tuple[str, ...] = ("params",)


TaskShape = ImageShape | TextShape | TabledShape


def can_tell(shape: TaskShape, cost: str) -> bool:
    """Whether the cost of this name can be told of networks on the shape."""
    return not isinstance(shape, TabledShape) or cost in shape.costs
