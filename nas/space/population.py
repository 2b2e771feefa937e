"""How are many architectures drawn, changed and crossed at once? As rows of a matrix of genomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.space.search_space import SearchSpace

Codes = NDArray[np.int16]
"""(n, genes): in each row a genome of one space; -1 where a gene's layer is absent."""


def sample(space: SearchSpace, rng: np.random.Generator, count: int) -> Codes:
    """`count` genomes drawn as `SearchSpace.sample` draws: uniform per gene, depths first."""
    return _masked(space, _uniform(space, rng, count))


def mutate(space: SearchSpace, codes: Codes, rng: np.random.Generator, probability: float) -> Codes:
    """Each gene drawn anew with this probability, and those of layers that a depth adds."""
    drawn = _uniform(space, rng, len(codes))
    changes = (rng.random(codes.shape) < probability) | (codes < 0)
    return _masked(space, np.where(changes, drawn, codes))


def cross(space: SearchSpace, one: Codes, other: Codes, rng: np.random.Generator) -> Codes:
    """Uniform crossover row by row: each gene from either parent, where both have it."""
    first = (rng.random(one.shape) < 0.5) & (one >= 0) | (other < 0)
    return _masked(space, np.where(first, one, other))


def keys(codes: Codes) -> NDArray[np.uint64]:
    """A number (n,) for each row: equal for equal rows and, but for chance, for no others."""
    # Odd multipliers spread each column over all 64 bits; they are always the same ones.
    weights = (
        2 * np.random.default_rng(0).integers(2**62, size=codes.shape[1:], dtype=np.uint64) + 1
    )
    mixed: NDArray[np.uint64] = np.multiply((codes.astype(np.int64) + 2).astype(np.uint64), weights)
    mixed = np.bitwise_xor(mixed, np.right_shift(mixed, 29))
    total: NDArray[np.uint64] = np.sum(np.multiply(mixed, weights[::-1]), axis=1)
    return total


def _uniform(space: SearchSpace, rng: np.random.Generator, count: int) -> Codes:
    lengths = np.array([len(gene.choices) for gene in space.genes])
    drawn: Codes = (rng.random((count, len(lengths)), dtype=np.float32) * lengths).astype(np.int16)
    # A float32 just below 1 may round up to the length.
    return np.minimum(drawn, (lengths - 1).astype(np.int16))


def _masked(space: SearchSpace, codes: Codes) -> Codes:
    """The rows with -1 in every gene of a layer beyond their depths."""
    stacks, layers, depths = _places(space)
    for number, held in enumerate(depths):
        columns = np.flatnonzero(stacks == number)
        absent = layers[columns] >= held[codes[:, number]][:, None]
        codes[:, columns] = np.where(absent, np.int16(-1), codes[:, columns])
    return codes


def _places(
    space: SearchSpace,
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """By gene the number of its stack and its layer (-1: neither), by stack the depths."""
    names = [stack.name for stack in space.owner.stacks]
    inside = [gene.stack if gene.layer is not None else None for gene in space.genes]
    stacks = np.array([names.index(each.name) if each else -1 for each in inside])
    layers = np.array([-1 if gene.layer is None else gene.layer for gene in space.genes])
    return stacks, layers, tuple(np.array(stack.depth) for stack in space.stacks)
