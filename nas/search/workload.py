"""On what is a cost measured: the device, dtype and batch, with how often and how warm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nas.errors import SpecError
from nas.search.section import Positive, Section, Whole
from nas.space.task_shape import TaskShape, TextShape


class Workload(Section):
    """The setting of measured costs; part of the request, and so of what is known of a figure."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")] = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Format of weights and activations."""
    batch: Annotated[Positive, Field(le=65_536)] = 1
    """Images or sentences a pass."""
    threads: Annotated[Positive, Field(le=1024)] = 1
    """CPU threads."""
    beam: Annotated[Positive, Field(le=1024)] = 4
    """Hypotheses a sentence; for tasks of sentences, as the lengths."""
    source_length: Annotated[Positive, Field(le=65_536)] = 30
    """Tokens of a source sentence."""
    target_length: Annotated[Positive, Field(le=65_536)] = 30
    """Tokens that are written, one step each."""
    warmup: Annotated[Whole, Field(le=100_000)] = 3
    """Passes before those that are timed."""
    repetitions: Annotated[Positive, Field(le=100_000)] = 20
    """Passes that are timed; their median counts."""

    def told(self, shape: TaskShape) -> str:
        """In words, for what a task of this shape takes of it."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}"
        said = f"{self.device}, {self.dtype}, batch {self.batch}"
        said += threads if self.device == "cpu" else ""
        if isinstance(shape, TextShape):
            lengths = f"{self.source_length} source and {self.target_length} target tokens"
            said += f", beam {self.beam}, {lengths}"
        return said

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return self.model_dump(mode="json")


def check_lengths(workload: Workload, shape: TaskShape) -> None:
    """Raises `SpecError` where the translation to be timed is longer than its source allows."""
    if isinstance(shape, TextShape):
        longest = int(shape.longest_target(workload.source_length))
        if workload.target_length > longest:
            raise SpecError(
                f"latency.target_length: {workload.target_length} given; a source of "
                f"{workload.source_length} tokens has at most {longest}"
            )
