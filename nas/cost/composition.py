"""What is a network made of, as far as it takes time: how often which part, and how much of it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from nas.cost.many import sums_of_many
from nas.cost.members import Columns
from nas.cost.predicted import Designs
from nas.search.workload import Workload
from nas.space.architecture import Architecture
from nas.space.blueprint import outer_parts
from nas.space.features import Features
from nas.space.layer import DecoderLayer, Layer
from nas.space.part import Part, StackShape, layer_parts
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, TextShape

# A part's figures and their units: how often it is there, its arithmetic, what it reads and moves.
FIGURES = (("count", 1), ("MMACs", 1_000_000), ("kparams", 1_000), ("kactivations", 1_000))
OUTER = "outside the layers"


def timed_shape(shape: TaskShape, workload: Workload) -> TaskShape:
    """The shapes that a workload times: of sentences, those of its lengths."""
    if not isinstance(shape, TextShape):
        return shape
    return replace(
        shape, source_length=workload.source_length, target_length=workload.target_length
    )


@dataclass(frozen=True)
class Composition:
    """Networks of a space as cost predictors see them.

    `sorts` are the parts told apart: where attention stands and its type, the FFN, and whatever is
    outside the layers. A layer's time is taken to be a sum over its parts, each as long as a call
    takes, its arithmetic, and the weights and activations that it moves: so attention types are
    told apart layer by layer, while places, which hardly matter to a clock, are not.
    """

    space: SearchSpace
    shape: TaskShape
    sorts: tuple[str, ...]

    @classmethod
    def of(cls, space: SearchSpace, shape: TaskShape, codes: Codes) -> Composition:
        """With the sorts that networks of these genomes (n, genes) have."""
        found: dict[str, None] = {OUTER: None}

        def noted(layer: Layer, common: StackShape) -> Sequence[int]:
            found.update(dict.fromkeys(name for name, _ in _sorted_parts(layer, common)))
            return (0,)

        sums_of_many(space, shape, codes, lambda _: (0,), noted, figures=1)
        return cls(space, shape, tuple(sorted(found)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what `parts` gives."""
        return tuple(f"{sort}: {figure}" for sort in self.sorts for figure, _ in FIGURES)

    def designs(self, codes: Codes) -> Designs:
        """What each member sees of genomes (n, genes)."""
        return {name: self.design(name, codes) for name in ("parts", "means")}

    def design(self, member: str, codes: Codes) -> Columns:
        """What one member sees."""
        if member == "parts":
            return self.parts(codes)
        features = self._features
        return Columns(features.averages_names, features.averages(codes).astype(np.float64))

    def parts(self, codes: Codes) -> Columns:
        """(n, sorts x figures): each part's figures, added up over the network."""
        total = sums_of_many(
            self.space,
            self.shape,
            codes,
            lambda bare: self._row([(OUTER, part) for part in outer_parts(bare, self.shape)]),
            lambda layer, common: self._row(_sorted_parts(layer, common)),
            figures=len(self.columns),
        )
        units = np.array([unit for _, unit in FIGURES] * len(self.sorts), dtype=np.float64)
        return Columns(self.columns, total.T / units)

    @cached_property
    def _features(self) -> Features:
        return Features.of_space(self.space)

    def _row(self, parts: Sequence[tuple[str, Part]]) -> Sequence[int]:
        """One row of sums; a sort that no timed network had is left out."""
        row = [0] * len(self.columns)
        place = {sort: len(FIGURES) * i for i, sort in enumerate(self.sorts)}
        for sort, part in parts:
            if (start := place.get(sort)) is not None:
                macs = sum(count for _, count in part.macs)
                for offset, figure in enumerate((1, macs, part.params, part.activations)):
                    row[start + offset] += figure
        return row


@lru_cache(maxsize=65_536)
def _sorted_parts(layer: Layer, common: StackShape) -> tuple[tuple[str, Part], ...]:
    """A layer's parts, each with its sort: `decoder cross cosformer`; norms are left out."""
    stack = "decoder" if isinstance(layer, DecoderLayer) else "encoder"
    return tuple(
        (f"{stack} {part.path if part.site is None else part.site} {part.variant}", part)
        for part in layer_parts(layer, common)
        if not part.path.endswith("norm")
    )


def genomes_of(space: SearchSpace, architectures: Sequence[Architecture]) -> Codes:
    """Genomes (n, genes) of architectures of a space."""
    return Features.of_space(space).codes(architectures)
