"""On what is a cost measured: the device, dtype and batch, with how often and how warm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]


class Workload(BaseModel):
    """The setting of measured costs; part of the request, and so of what is known of a figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")] = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch: Annotated[Positive, Field(le=65_536)] = 1
    threads: Annotated[Positive, Field(le=1024)] = 1
    warmup: Annotated[Whole, Field(le=100_000)] = 3
    repetitions: Annotated[Positive, Field(le=100_000)] = 20

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return self.model_dump(mode="json")
