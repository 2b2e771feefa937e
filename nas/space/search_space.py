"""Which architectures are allowed: lists of choices per field, and what follows from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture, Layer
from nas.space.digest import digest
from nas.space.dimension import DEPTH, Dimension, Ratio, dimensions

End = Literal["smallest", "largest"]
Genome = tuple[int, ...]
"""One choice's index per gene; -1 for the genes of layers beyond the depth."""

# A space may give a layer field as a multiple of the model width: mlp_ratio stands for ffn_width.
RATIOS: Mapping[str, str] = {"mlp_ratio": "ffn_width"}
RATIO = Ratio()


@dataclasses.dataclass(frozen=True)
class Gene:
    """One list of choices: a field of the network (`layer` None) or of one layer."""

    field: str
    choices: tuple[Any, ...]
    dimension: Dimension
    layer: int | None = None

    @property
    def path(self) -> str:
        """`width`, `layers.3.heads`."""
        return self.field if self.layer is None else f"layers.{self.layer}.{self.field}"

    @property
    def target(self) -> str:
        """The architecture's field that the gene decides."""
        return RATIOS.get(self.field, self.field)

    @property
    def grows(self) -> bool:
        """Whether a larger choice makes the same tensors longer, and no others."""
        return self.dimension.ordered and not self.dimension.shrinks

    def value(self, index: int, width: int) -> Any:
        """The field's value for a choice, ratios resolved with the model width."""
        choice = self.choices[index]
        return round(choice * width) if self.field in RATIOS else choice

    def extreme(self, end: End) -> int:
        """Index of the choice that gives the smallest or largest network; 0 where none does."""
        if not self.dimension.ordered:
            return 0
        greatest = (end == "largest") != self.dimension.shrinks
        return self.choices.index(max(self.choices) if greatest else min(self.choices))


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """A closed set of architectures: every method gives contained ones, in bounded work.

    `network` holds the choices of the fields outside the layers, `depth` the numbers of layers and
    `layers[i]` the choices of layer i; a field that is not there stands at its default. Build one
    with `nas.space.loader.load_space`.
    """

    name: str
    network: Mapping[str, tuple[Any, ...]]
    depth: tuple[int, ...]
    layers: tuple[Mapping[str, tuple[Any, ...]], ...]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Depth first, then the network's fields, then layer by layer."""
        outer, inner = dimensions(Architecture), dimensions(Layer)
        genes = [Gene("depth", self.depth, DEPTH)]
        genes += [Gene(name, choices, outer[name]) for name, choices in self.network.items()]
        for index, layer in enumerate(self.layers):
            for name, choices in layer.items():
                genes.append(Gene(name, choices, inner.get(name, RATIO), index))
        return tuple(genes)

    @cached_property
    def _layout(self) -> tuple[int, tuple[slice, ...]]:
        """Number of genes outside the layers, and where each layer's genes lie."""
        start = first = 1 + len(self.network)
        slices = []
        for layer in self.layers:
            slices.append(slice(start, start + len(layer)))
            start += len(layer)
        return first, tuple(slices)

    @cached_property
    def _fixed(self) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, Any], ...]]:
        """Names and values of the fields that no gene decides: outside and inside of the layers."""
        inside = {RATIOS.get(name, name) for name in self.layers[0]}
        return _defaults(Architecture, set(self.network)), _defaults(Layer, inside)

    @cached_property
    def _built(self) -> dict[tuple[int, int, Genome], Layer]:
        return {}

    def build(self, genome: Genome) -> Architecture:
        """The architecture of a genome."""
        first, slices = self._layout
        fields = {
            gene.field: gene.choices[index]
            for gene, index in zip(self.genes[1:first], genome[1:first], strict=True)
        }
        width = fields["width"]
        layers = []
        for number in range(self.depth[genome[0]]):
            key = (number, width, genome[slices[number]])
            layer = self._built.get(key)
            if layer is None:
                genes = self.genes[slices[number]]
                chosen = zip(genes, key[2], strict=True)
                layer = Layer(**{g.target: g.value(index, width) for g, index in chosen})
                self._built[key] = layer
            layers.append(layer)
        return Architecture(layers=tuple(layers), **fields)

    def genome(self, architecture: Architecture) -> Genome:
        """The choices that give this architecture; raises `SpecError` where there are none."""
        first, slices = self._layout
        if architecture.depth not in self.depth:
            raise SpecError(f"depth {architecture.depth} is not among {list(self.depth)}")
        fixed, fixed_in_layers = self._fixed
        _check_fixed(architecture, fixed, "")
        found = [self.depth.index(architecture.depth)]
        found += [_index(g, getattr(architecture, g.field), 0) for g in self.genes[1:first]]
        for number, span in enumerate(slices):
            genes = self.genes[span]
            if number >= architecture.depth:
                found += [-1] * len(genes)
                continue
            layer = architecture.layers[number]
            _check_fixed(layer, fixed_in_layers, f"layers.{number}.")
            found += [_index(g, getattr(layer, g.target), architecture.width) for g in genes]
        return tuple(found)

    def active(self, depth_index: int) -> range:
        """Positions of the genes that count at this depth."""
        depth = self.depth[depth_index]
        return range(self._layout[1][depth - 1].stop)

    def contains(self, architecture: Architecture) -> bool:
        """Whether the architecture is one of the space's."""
        try:
            self.genome(architecture)
        except SpecError:
            return False
        return True

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture: the depth first, then every active gene uniformly.

        Uniform per dimension, not over architectures: shallow networks are drawn as often as deep
        ones although there are far fewer of them.
        """
        draw = rng.random
        depth = int(draw() * len(self.depth))
        end = self.active(depth).stop
        lengths = self._lengths
        genes = [depth, *(int(draw() * n) for n in lengths[1:end])]
        return self.build((*genes, *(-1 for _ in range(len(lengths) - end))))

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(len(gene.choices) for gene in self.genes)

    def mutate(
        self, architecture: Architecture, rng: random.Random, probability: float
    ) -> Architecture:
        """Each active gene is drawn anew with this probability; new layers are drawn afresh."""
        genome = list(self.genome(architecture))
        for position in range(len(genome)):
            if position not in self.active(genome[0]):
                genome[position] = -1
            elif genome[position] < 0 or rng.random() < probability:
                genome[position] = rng.randrange(self._lengths[position])
        return self.build(tuple(genome))

    def cross(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """Uniform crossover: each gene from either parent, where both have it."""
        left, right = self.genome(one), self.genome(other)
        child: list[int] = []
        for position, pair in enumerate(zip(left, right, strict=True)):
            if position and position not in self.active(child[0]):
                child.append(-1)
                continue
            held = [index for index in pair if index >= 0]
            child.append(held[rng.randrange(len(held))])
        return self.build(tuple(child))

    def extreme(self, end: End, *attentions: Choice) -> Architecture:
        """The smallest or largest architecture with these attention types, repeated over layers.

        A larger patch has fewer tokens, so the largest network has the smallest patch. Fields
        without an order (norm, stem, FFN type) take their first choice. Without `attentions`, the
        attention types are each layer's first choices too.
        """
        genome = [gene.extreme(end) for gene in self.genes]
        stop = self.active(genome[0]).stop
        built = self.build((*genome[:stop], *(-1 for _ in genome[stop:])))
        return built.replace_attention(*attentions) if attentions else built

    def covering(self) -> Iterator[Architecture]:
        """Architectures whose tensors, taken together, hold those of every architecture."""
        largest = self.genome(self.extreme("largest"))
        lengths = self._lengths
        # Outside the layers tensors depend on choices jointly: a table of positions is one grid's.
        joint = [i for i, gene in enumerate(self.genes) if gene.layer is None and not gene.grows]
        combinations = itertools.product(*(range(lengths[position]) for position in joint))
        changes = [dict(zip(joint, indices, strict=True)) for indices in combinations]
        changes += [{i: index} for i in range(1, len(lengths)) for index in range(lengths[i])]
        for change in changes:
            yield self.build(tuple(change.get(i, index) for i, index in enumerate(largest)))

    @cached_property
    def size(self) -> int:
        """The exact number of architectures."""
        outer = math.prod(len(choices) for choices in self.network.values())
        per_layer = [math.prod(len(c) for c in layer.values()) for layer in self.layers]
        return outer * sum(math.prod(per_layer[:depth]) for depth in self.depth)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once; for small spaces."""
        lengths = self._lengths
        for depth in range(len(self.depth)):
            stop = self.active(depth).stop
            padding = (-1,) * (len(lengths) - stop)
            for rest in itertools.product(*(range(n) for n in lengths[1:stop])):
                yield self.build((depth, *rest, *padding))

    def attentions(self, layer: int) -> tuple[Choice, ...]:
        """The attention types that layer `layer` may have."""
        return tuple(self.layers[layer]["attention"])

    @cached_property
    def all_attentions(self) -> tuple[Choice, ...]:
        """Every attention type of the space, in order of first appearance."""
        seen = dict.fromkeys(c for i in range(len(self.layers)) for c in self.attentions(i))
        return tuple(seen)

    def allows_everywhere(self, attention: Choice) -> bool:
        """Whether every layer may have this attention type."""
        return all(attention in self.attentions(i) for i in range(len(self.layers)))

    def homogeneous(self, attention: Choice) -> SearchSpace:
        """The subspace in which every layer has this attention type; raises `SpecError` if none."""
        if not self.allows_everywhere(attention):
            raise SpecError(f"{self.name}: not every layer may have attention {attention}")
        layers = tuple({**layer, "attention": (attention,)} for layer in self.layers)
        return dataclasses.replace(self, name=f"{self.name}[{attention}]", layers=layers)

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        return tuple(itertools.accumulate(self._lengths, initial=0))

    def encode(self, architecture: Architecture) -> NDArray[np.float32]:
        """One-hot per gene, (number of all choices,); the genes of absent layers are zero."""
        vector = np.zeros(self._offsets[-1], dtype=np.float32)
        genome = self.genome(architecture)
        vector[[o + i for o, i in zip(self._offsets, genome, strict=False) if i >= 0]] = 1.0
        return vector

    def decode(self, vector: NDArray[np.float32]) -> Architecture:
        """The architecture of an encoding; raises `SpecError` for a vector that is none."""
        if vector.shape == self._offsets[-1:]:
            genes = [vector[start:stop] for start, stop in itertools.pairwise(self._offsets)]
            built = self.build(tuple(int(each.argmax()) if each.any() else -1 for each in genes))
            if np.array_equal(self.encode(built), vector):
                return built
        raise SpecError(f"not an encoding of an architecture of {self.name}")

    def to_json(self) -> dict[str, Any]:
        """The canonical JSON form, which the loader reads back to an equal space."""
        outer, inner = dimensions(Architecture), dimensions(Layer)

        def dump(kinds: Mapping[str, Dimension], fields: Mapping[str, tuple[Any, ...]]) -> Any:
            shown = {}
            for name, choices in fields.items():
                kind = kinds.get(name)
                shown[name] = [kind.dump(choice) if kind else choice for choice in choices]
            return shown

        return {
            "name": self.name,
            "kind": Architecture.kind,
            **dump(outer, self.network),
            "depth": list(self.depth),
            "layers": dump(inner, self.layers[0]),
            **{
                f"layers.{i}": dump(inner, layer)
                for i, layer in enumerate(self.layers)
                if layer != self.layers[0]
            },
        }

    @cached_property
    def digest(self) -> str:
        """Digest of what is allowed, name left out: 16 hexadecimal digits."""
        return digest({key: value for key, value in self.to_json().items() if key != "name"})


def _defaults(owner: type, chosen: set[str]) -> tuple[tuple[str, Any], ...]:
    fields = (each for each in dataclasses.fields(owner) if each.name in dimensions(owner))
    return tuple((each.name, each.default) for each in fields if each.name not in chosen)


def _check_fixed(value: Any, fixed: tuple[tuple[str, Any], ...], where: str) -> None:
    for name, default in fixed:
        if getattr(value, name) != default:
            raise SpecError(f"{where}{name} is fixed at its default {default!r}")


def _index(gene: Gene, value: Any, width: int) -> int:
    values: Sequence[Any] = gene.choices
    if gene.field in RATIOS:
        values = [gene.value(index, width) for index in range(len(gene.choices))]
    try:
        return values.index(value)
    except ValueError:
        shown = ", ".join(str(choice) for choice in values)
        raise SpecError(f"{gene.path}: {value} is not a choice; allowed: {shown}") from None
