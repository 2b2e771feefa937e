"""NAS-Bench-BERT's trained encoders as a table that strategies can search.

Serianni and Kalita, Training-free neural architecture search for RNNs and transformers (ACL 2023).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.errors import SpecError
from nas.run.tabular import Table
from nas.search.objective import Metric, Objective
from nas.search.problem import Problem
from nas.search.trial import Measurement
from nas.space.architecture import Architecture, Stack
from nas.space.dimension import Count, Word, dimension
from nas.space.gene import StackChoices
from nas.space.layer import Layer
from nas.space.listed import ListedSpace

OPERATIONS = ("SA/SDP", "SA/WMA", "LT/DFT", "LT/DCT", "DSC/5", "DSC/9")
GLUE = Metric("glue", "maximize", "points")
PARAMS = Metric("params", "minimize", "parameters", analytic=True)


@dataclasses.dataclass(frozen=True)
class BertLayer(Layer):
    """One layer: an operator of its own, and `ffn_count` FFNs one after the other."""

    operation: str = dimension(Word(OPERATIONS))
    heads: int = dimension(Count())
    ffn_width: int = dimension(Count())
    ffn_count: int = dimension(Count())

    __hash__ = Layer.__hash__


@dataclasses.dataclass(frozen=True)
class BertEncoder(Architecture):
    """An encoder of the table."""

    width: int = dimension(Count())
    layers: tuple[BertLayer, ...] = ()

    kind = "nas_bench_bert"
    stacks = (Stack("", BertLayer),)


@dataclasses.dataclass(frozen=True)
class BertSpace(ListedSpace):
    """The encoders that the table has."""

    @cached_property
    def owner(self) -> type[Architecture]:
        return BertEncoder


def parameters(encoder: BertEncoder) -> float:
    """Learnt numbers of an encoder's layers, embeddings left out.

    Self-attention has four maps of its width, a linear transform none, a separable convolution one
    map and a kernel a channel; each FFN two maps.
    """
    width, total = encoder.width, 0
    for layer in encoder.layers:
        kind, _, option = layer.operation.partition("/")
        maps = {"SA": 4, "LT": 0, "DSC": 1}[kind]
        total += maps * (width + 1) * width + (int(option) * width if kind == "DSC" else 0)
        total += layer.ffn_count * (2 * width * layer.ffn_width + width + layer.ffn_width)
    return float(total)


def bert_table(file: Path) -> Table:
    """The table of a file of the form of `nas_bench_bert.json`: GLUE against parameters.

    Networks that are there twice count once, with their mean score. Raises `SpecError` for a file
    that is no such table.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        found: dict[BertEncoder, list[float]] = {}
        for row in rows:
            found.setdefault(_encoder(row), []).append(float(row["glue"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SpecError(f"{file}: not a table of NAS-Bench-BERT: {error}") from error
    space = _space([*found])
    measurements: dict[Architecture, Measurement] = {
        each: Measurement.of({"glue": sum(scores) / len(scores), "params": parameters(each)})
        for each, scores in found.items()
    }
    objectives = (Objective(GLUE), Objective(PARAMS))
    return Table(Problem(space, objectives, (), _cost), measurements)


def _cost(architecture: Architecture) -> Mapping[str, float]:
    assert isinstance(architecture, BertEncoder), "the space holds no others"
    return {"params": parameters(architecture)}


def _encoder(row: Mapping[str, Any]) -> BertEncoder:
    layers = tuple(
        BertLayer(
            f"{each['operation_type']}/{each['operation_parameter']}",
            each["num_operation_heads"],
            each["feed_forward_dimension"],
            each["num_feed_forward"],
        )
        for each in row["layers"]
    )
    return BertEncoder(row["hidden_size"], layers)


def _space(networks: list[BertEncoder]) -> BertSpace:
    """The grid of all values that the networks take, and which of it are there."""
    layers = [layer for each in networks for layer in each.layers]
    names = ("operation", "heads", "ffn_width", "ffn_count")
    choices = {name: tuple(sorted({getattr(each, name) for each in layers})) for name in names}
    depths = tuple(sorted({each.depth for each in networks}))
    widths = tuple(sorted({each.width for each in networks}))
    stack = StackChoices(depths, (choices,) * max(depths))
    grid = BertSpace("nas_bench_bert", BertEncoder.kind, {"width": widths}, (stack,))
    listed = tuple(grid.in_grid(each) for each in networks)
    return dataclasses.replace(grid, listed=listed)
