"""What did finished trainings score? Tasks whose networks stand in a table: nothing is learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from nas.errors import DataError, SpecError
from nas.search.objective import Metric
from nas.space.architecture import Architecture, BertEncoder
from nas.space.listed import ListedSpace, listed_in
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TabledShape
from nas.task.task import data_root

if TYPE_CHECKING:
    from nas.search.recipe import Unit

GLUE = Metric("glue", "maximize", "points", best=100.0)


@dataclass(frozen=True, eq=False)
class Rows:
    """What a table holds: the metrics of each network; `digest` tells it from any other table."""

    file: Path
    metrics: Mapping[Architecture, Mapping[str, float]]
    digest: str
    skipped: Mapping[str, int] = field(default_factory=dict)

    def held_in(self, space: SearchSpace) -> ListedSpace:
        """The architectures of the space that have a row; raises `SpecError` where none has."""
        held = [space.genome(each) for each in self.metrics if space.contains(each)]
        if not held:
            raise SpecError(
                f"space: none of the {len(self.metrics)} networks of {self.file} is of {space.name}"
            )
        return listed_in(space, held)

    def check(self, space: SearchSpace) -> None:
        """Raises `SpecError` where an architecture of the space has no row."""
        strange = [each for each in space.enumerate() if each not in self.metrics]
        if strange:
            raise SpecError(
                f"space: {len(strange)} of the {space.size} architectures of {space.name} have no "
                f"row in {self.file}, as {strange[0].id}"
            )


class NasBenchBertOptions(BaseModel):
    """A table in the form of NAS-Bench-BERT's, which is a file of JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")] = "nas_bench_bert.json"
    """The table; absolute, or under `NAS_DATA_DIR`."""


class NasBenchBert:
    """NAS-Bench-BERT: encoders with an operation a layer, each trained to the end, and their GLUE.

    Serianni and Kalita, Training-free neural architecture search for RNNs and transformers (ACL
    2023). Of a network's costs its parameters are known, embeddings left out.
    """

    name = "nas_bench_bert"
    options_model = NasBenchBertOptions
    unit: Unit = "rows"
    metrics = (GLUE,)
    generated: tuple[Metric, ...] = ()
    primary = GLUE.name

    def uninformed(self, _shape: Any, /) -> dict[str, float]:
        """Not known."""
        return {}

    def flips_safe(self, _options: Any, /) -> bool:
        """There are no images."""
        return False

    def resolved(self, options: Any, /) -> Any:
        """The options as they are."""
        return options

    def shape(self, _options: Any, /) -> TabledShape:
        """Encoders of which parameters alone are known."""
        return TabledShape(BertEncoder.kind)

    def load(self, options: NasBenchBertOptions, root: Path, /) -> Rows:
        """Reads the table; networks that are there twice count once, with their mean score.

        Raises `DataError` where the file is missing or is no such table.
        """
        file = root / options.path
        try:
            text = file.read_bytes()
            found: dict[Architecture, list[float]] = {}
            for row in json.loads(text):
                found.setdefault(_encoder(row), []).append(_score(row))
            if not found:
                raise ValueError("it has no rows")
        except FileNotFoundError:
            raise DataError(f"task.path: there is no table {file}; {WANTED}") from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise DataError(
                f"task.path: {file} is no table of NAS-Bench-BERT ({problem}); {WANTED}"
            ) from error
        metrics = {each: {GLUE.name: sum(held) / len(held)} for each, held in found.items()}
        return Rows(file, metrics, hashlib.sha256(text).hexdigest())

    def held_in(self, space: SearchSpace, options: NasBenchBertOptions, /) -> ListedSpace:
        """The part of a space that the table under `data_root()` has; raises as `load` does."""
        return self.load(options, data_root()).held_in(space)

    def held_out(self, options: NasBenchBertOptions, root: Path, /) -> int:
        """The number of networks, all scored on what they never learnt from."""
        return len(self.load(options, root).metrics)

    def prepare(self, options: NasBenchBertOptions, root: Path, /) -> str:
        """Says what there is, or what is expected: nothing is downloaded."""
        rows = self.load(options, root)
        return f"nas_bench_bert: nothing to download; {len(rows.metrics)} networks in {rows.file}"


NAS_BENCH_BERT = NasBenchBert()
WANTED = (
    "wanted is a JSON list of networks: hidden_size, layers (operation_type, operation_parameter, "
    "num_operation_heads, feed_forward_dimension, num_feed_forward) and glue, of "
    "data/BERT_benchmark.json at github.com/aaronserianni/training-free-nas"
)


def _encoder(row: Mapping[str, Any]) -> Architecture:
    layers = [
        {
            "operation": f"{each['operation_type']}/{each['operation_parameter']}",
            "heads": each["num_operation_heads"],
            "ffn_width": each["feed_forward_dimension"],
            "ffn_count": each["num_feed_forward"],
        }
        for each in row["layers"]
    ]
    return BertEncoder.from_json(
        {"kind": BertEncoder.kind, "width": row["hidden_size"], "layers": layers}, "row"
    )


def _score(row: Mapping[str, Any]) -> float:
    score = float(row["glue"])
    if not 0 <= score <= 100:
        raise ValueError(f"glue: {score} given; points from 0 to 100 are allowed")
    return score
