"""Which architectures are allowed: lists of choices per field, and what follows from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import KINDS, Architecture, network_fields
from nas.space.digest import digest
from nas.space.dimension import DEPTH, Dimension, defaults, dimensions
from nas.space.gene import Choices, End, Gene, Genome, StackChoices, layer_fields
from nas.space.layer import ALIASES, Layer, aliases, attention_fields


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """A closed set of architectures: every method gives contained ones, in bounded work.

    `kind` names the kind of network, `network` holds the choices of the fields outside its layers
    and `stacks` those of its stacks, in their order; a field that is not there stands at its
    default. Build one with `nas.space.loader.load_space`.
    """

    name: str
    kind: str
    network: Choices
    stacks: tuple[StackChoices, ...]

    @cached_property
    def owner(self) -> type[Architecture]:
        """The kind of network."""
        return KINDS[self.kind]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The depths first, then the network's fields, then each stack layer by layer."""
        kinds, paths = dimensions(self.owner), network_fields(self.owner)
        stacks = tuple(zip(self.owner.stacks, self.stacks, strict=True))
        genes = [Gene("depth", s.path("depth"), c.depth, DEPTH, s) for s, c in stacks]
        genes += [Gene(n, paths[n], choices, kinds[n]) for n, choices in self.network.items()]
        for stack, choices in stacks:
            inner = dimensions(stack.layer)
            inner |= {name: alias.kind for name, alias in aliases(stack.layer).items()}
            for index, layer in enumerate(choices.layers):
                for name, each in layer.items():
                    path = stack.path(f"layers.{index}.{name}")
                    genes.append(Gene(name, path, each, inner[name], stack, index))
        return tuple(genes)

    @cached_property
    def _layout(self) -> tuple[int, tuple[tuple[slice, ...], ...]]:
        """Number of genes outside the layers, and where each stack's layers' genes lie."""
        start = first = len(self.stacks) + len(self.network)
        found = []
        for stack in self.stacks:
            slices = []
            for layer in stack.layers:
                slices.append(slice(start, start + len(layer)))
                start += len(layer)
            found.append(tuple(slices))
        return first, tuple(found)

    @cached_property
    def _fixed(self) -> tuple[tuple[tuple[str, Any], ...], ...]:
        """Names and values of the fields that no gene decides: the network's, then each stack's."""
        inside = (
            _defaults(stack.layer, {_target(name) for name in choices.layers[0]})
            for stack, choices in zip(self.owner.stacks, self.stacks, strict=True)
        )
        return (_defaults(self.owner, set(self.network)), *inside)

    @cached_property
    def _built(self) -> dict[tuple[int, int, int, Genome], Layer]:
        return {}

    def build(self, genome: Genome) -> Architecture:
        """The architecture of a genome."""
        first, slices = self._layout
        genes, count = self.genes, len(self.stacks)
        values: dict[str, Any] = {
            genes[i].field: genes[i].choices[genome[i]] for i in range(count, first)
        }
        for number, (stack, choices) in enumerate(zip(self.owner.stacks, self.stacks, strict=True)):
            width = values[stack.field("width")]
            layers = []
            for index in range(choices.depth[genome[number]]):
                span = slices[number][index]
                key = (number, index, width, genome[span])
                layer = self._built.get(key)
                if layer is None:
                    chosen = zip(genes[span], key[3], strict=True)
                    picked = {gene.field: gene.choices[i] for gene, i in chosen}
                    layer = stack.layer(**layer_fields(picked, width))
                    self._built[key] = layer
                layers.append(layer)
            values[stack.field("layers")] = tuple(layers)
        return self.owner(**values)

    def closest(self, genome: Genome) -> Architecture:
        """The architecture of a genome; where some of a grid are listed alone, the nearest."""
        return self.build(genome)

    def genome(self, architecture: Architecture) -> Genome:
        """The choices that give this architecture; raises `SpecError` where there are none."""
        if architecture.kind != self.kind:
            raise SpecError(f"kind {architecture.kind} given; allowed: {self.kind}")
        first, slices = self._layout
        fixed, *fixed_in_layers = self._fixed
        stacks = tuple(zip(self.owner.stacks, self.stacks, strict=True))
        depths = [len(architecture.layers_of(stack)) for stack in self.owner.stacks]
        for depth, (stack, choices) in zip(depths, stacks, strict=True):
            if depth not in choices.depth:
                path = stack.path("depth")
                raise SpecError(f"{path} {depth} is not among {list(choices.depth)}")
        _check_fixed(architecture, fixed, "")
        found = [c.depth.index(depth) for depth, (_, c) in zip(depths, stacks, strict=True)]
        outer = self.genes[len(found) : first]
        found += [gene.index(architecture) for gene in outer]
        for number, stack in enumerate(self.owner.stacks):
            width = getattr(architecture, stack.field("width"))
            layers = architecture.layers_of(stack)
            for index, span in enumerate(slices[number]):
                genes = self.genes[span]
                if index >= depths[number]:
                    found += [-1] * len(genes)
                    continue
                where = stack.path(f"layers.{index}.")
                _check_fixed(layers[index], fixed_in_layers[number], where)
                found += [gene.index(layers[index], width) for gene in genes]
        return tuple(found)

    @cached_property
    def _active(self) -> dict[Genome, tuple[int, ...]]:
        return {}

    def active(self, genome: Sequence[int]) -> tuple[int, ...]:
        """Positions of the genes that count at this genome's depths, ascending."""
        depths = tuple(genome[: len(self.stacks)])
        found = self._active.get(depths)
        if found is None:
            first, slices = self._layout
            positions = [*range(first)]
            for index, choices, spans in zip(depths, self.stacks, slices, strict=True):
                positions += range(spans[0].start, spans[choices.depth[index] - 1].stop)
            found = self._active[depths] = tuple(positions)
        return found

    def active_genes(self, architecture: Architecture) -> int:
        """How many genes of this architecture count."""
        return len(self.active(self.genome(architecture)))

    def contains(self, architecture: Architecture) -> bool:
        """Whether the architecture is one of the space's."""
        try:
            self.genome(architecture)
        except SpecError:
            return False
        return True

    def sample(self, rng: random.Random) -> Architecture:
        """A random architecture: the depths first, then every active gene uniformly.

        Uniform per dimension, not over architectures: shallow networks are drawn as often as deep
        ones although there are far fewer of them.
        """
        draw, lengths = rng.random, self._lengths
        genome = [-1] * len(lengths)
        count = len(self.stacks)
        for position in range(count):
            genome[position] = int(draw() * lengths[position])
        for position in self.active(genome)[count:]:
            genome[position] = int(draw() * lengths[position])
        return self.build(tuple(genome))

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(len(gene.choices) for gene in self.genes)

    def mutate(
        self, architecture: Architecture, rng: random.Random, probability: float
    ) -> Architecture:
        """Each active gene is drawn anew with this probability; new layers are drawn afresh."""
        genome = list(self.genome(architecture))
        depths = range(len(self.stacks))
        for position in depths:
            if rng.random() < probability:
                genome[position] = rng.randrange(self._lengths[position])
        mutated = [*genome[: len(depths)], *(-1 for _ in genome[len(depths) :])]
        for position in self.active(genome)[len(depths) :]:
            mutated[position] = genome[position]
            if genome[position] < 0 or rng.random() < probability:
                mutated[position] = rng.randrange(self._lengths[position])
        return self.build(tuple(mutated))

    def cross(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """Uniform crossover: each gene from either parent, where both have it."""
        pairs = tuple(zip(self.genome(one), self.genome(other), strict=True))
        child = [-1] * len(pairs)

        def inherit(position: int) -> None:
            held = [index for index in pairs[position] if index >= 0]
            child[position] = held[rng.randrange(len(held))]

        count = len(self.stacks)
        for position in range(count):
            inherit(position)
        for position in self.active(child)[count:]:
            inherit(position)
        return self.build(tuple(child))

    def extreme(self, end: End, *attentions: Choice) -> Architecture:
        """The smallest or largest architecture with these attention types, in turn over the sites.

        A larger patch has fewer tokens, so the largest network has the smallest patch. Fields
        without an order (norm, stem, FFN type) take their first choice. Without `attentions`, the
        attention types are each site's first choices too.
        """
        genome = [gene.extreme(end) for gene in self.genes]
        active = set(self.active(genome))
        built = self.build(tuple(g if i in active else -1 for i, g in enumerate(genome)))
        return built.replace_attention(*attentions) if attentions else built

    def covering(self) -> Iterator[Architecture]:
        """Architectures whose tensors, taken together, hold those of every architecture."""
        largest = self.genome(self.extreme("largest"))
        lengths = self._lengths
        # Outside the layers tensors depend on choices jointly: a table of positions is one grid's.
        joint = [i for i, g in enumerate(self.genes) if g.stack is None and not g.grows]
        combinations = itertools.product(*(range(lengths[position]) for position in joint))
        changes = [dict(zip(joint, indices, strict=True)) for indices in combinations]
        first = len(self.stacks)
        changes += [{i: j} for i in range(first, len(lengths)) for j in range(lengths[i])]
        for genome in dict.fromkeys((largest, self._with_wide_parts(largest))):
            for change in changes:
                yield self.build(tuple(change.get(i, index) for i, index in enumerate(genome)))

    def _with_wide_parts(self, genome: Genome) -> Genome:
        """The genome with the fewest of what shares one width: the widest heads are few."""
        shared = {(g.stack, g.layer, ALIASES[g.field].of) for g in self.genes if g.field in ALIASES}
        return tuple(
            gene.extreme("smallest") if (gene.stack, gene.layer, gene.field) in shared else index
            for gene, index in zip(self.genes, genome, strict=True)
        )

    def frames(self) -> Iterator[Architecture]:
        """One architecture, its layers the largest, for each setting of what is outside of them."""
        largest = self.genome(self.extreme("largest"))
        outer = range(self._layout[0])
        for setting in itertools.product(*(range(self._lengths[place]) for place in outer)):
            genome = [*setting, *largest[len(outer) :]]
            active = set(self.active(genome))
            yield self.build(tuple(g if i in active else -1 for i, g in enumerate(genome)))

    @cached_property
    def size(self) -> int:
        """The exact number of architectures."""
        outer = math.prod(len(choices) for choices in self.network.values())
        return outer * math.prod(stack.size for stack in self.stacks)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once; for small spaces."""
        lengths = self._lengths
        count = len(self.stacks)
        for depths in itertools.product(*(range(n) for n in lengths[:count])):
            places = self.active(depths)[count:]
            for rest in itertools.product(*(range(lengths[place]) for place in places)):
                chosen = dict(zip(places, rest, strict=True))
                found = (chosen.get(place, -1) for place in range(count, len(lengths)))
                yield self.build((*depths, *found))

    @cached_property
    def genomes(self) -> NDArray[np.int16]:
        """(size, genes): the genome of every architecture, in the order of `enumerate`."""
        rows = [self.genome(each) for each in self.enumerate()]
        return np.array(rows, dtype=np.int16)

    @cached_property
    def sites(self) -> tuple[tuple[tuple[Choice, ...], ...], ...]:
        """By stack, the attention types that each site may have, layer by layer."""
        found = []
        for stack, choices in zip(self.owner.stacks, self.stacks, strict=True):
            names = attention_fields(stack.layer)
            found.append(tuple(layer[name] for layer in choices.layers for name in names))
        return tuple(found)

    def sites_of(self, architecture: Architecture) -> tuple[tuple[Choice, ...], ...]:
        """The choices behind each of the architecture's `attentions`, in their order."""
        found: list[tuple[Choice, ...]] = []
        for stack, choices in zip(self.owner.stacks, self.sites, strict=True):
            number = len(architecture.layers_of(stack)) * len(attention_fields(stack.layer))
            found += choices[:number]
        return tuple(found)

    @cached_property
    def all_attentions(self) -> tuple[Choice, ...]:
        """Every attention type of the space, in order of first appearance."""
        return tuple(dict.fromkeys(c for stack in self.sites for site in stack for c in site))

    def allows_everywhere(self, attention: Choice) -> bool:
        """Whether every site may have this attention type."""
        return all(attention in site for stack in self.sites for site in stack)

    def homogeneous(self, attention: Choice) -> SearchSpace:
        """The subspace in which every site has this attention type; raises `SpecError` if none."""
        if not self.allows_everywhere(attention):
            raise SpecError(f"{self.name}: not every site may have attention {attention}")
        alone = (attention,)
        stacks = []
        for stack, choices in zip(self.owner.stacks, self.stacks, strict=True):
            fixed = dict.fromkeys(attention_fields(stack.layer), alone)
            layers = tuple({**layer, **fixed} for layer in choices.layers)
            stacks.append(StackChoices(choices.depth, layers))
        name = f"{self.name}[{attention}]"
        return dataclasses.replace(self, name=name, stacks=tuple(stacks))

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
            genome = tuple(int(each.argmax()) if each.any() else -1 for each in genes)
            if min(genome[: self._layout[0]]) >= 0:
                built = self.build(genome)
                if np.array_equal(self.encode(built), vector):
                    return built
        raise SpecError(f"not an encoding of an architecture of {self.name}")

    def to_json(self) -> dict[str, Any]:
        """The canonical JSON form, which the loader reads back to an equal space."""
        kinds = dimensions(self.owner)
        shown: dict[str, Any] = {"name": self.name, "kind": self.kind}
        shown |= {name: _dumped(kinds, name, each) for name, each in self.network.items()}
        for stack, choices in zip(self.owner.stacks, self.stacks, strict=True):
            inner = dimensions(stack.layer)
            layers = [
                {name: _dumped(inner, name, each) for name, each in layer.items()}
                for layer in choices.layers
            ]
            held: dict[str, Any] = {"depth": list(choices.depth), "layers": layers[0]}
            held |= {f"layers.{i}": each for i, each in enumerate(layers) if each != layers[0]}
            if stack.name:
                held = {stack.name: {"width": shown.pop(stack.field("width")), **held}}
            shown |= held
        return shown

    @cached_property
    def digest(self) -> str:
        """Digest of what is allowed, name left out: 16 hexadecimal digits."""
        return digest({key: value for key, value in self.to_json().items() if key != "name"})


def _dumped(kinds: Mapping[str, Dimension], name: str, choices: tuple[Any, ...]) -> list[Any]:
    kind = kinds.get(name)
    return [kind.dump(choice) if kind else choice for choice in choices]


def _target(name: str) -> str:
    alias = ALIASES.get(name)
    return alias.target if alias else name


def _defaults(owner: type, chosen: set[str]) -> tuple[tuple[str, Any], ...]:
    held = defaults(owner)
    return tuple((name, held.get(name)) for name in dimensions(owner) if name not in chosen)


def _check_fixed(value: Any, fixed: tuple[tuple[str, Any], ...], where: str) -> None:
    for name, default in fixed:
        if getattr(value, name) != default:
            raise SpecError(f"{where}{name} is fixed at its default {default!r}")
