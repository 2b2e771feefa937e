"""How are many architectures drawn, changed and crossed at once? As rows of a matrix of genomes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nas.space.search_space import SearchSpace

Codes = NDArray[np.int16]
"""(n, genes): in each row a genome of one space; -1 where a gene's layer is absent."""

# Rows that are worked on at once.
CHUNK = 2048


def sample(space: SearchSpace, rng: np.random.Generator, count: int) -> Codes:
    """`count` genomes drawn as `SearchSpace.sample` draws: uniform per gene, depths first."""
    return _masked(space, _uniform(space, rng, count))


def mutate(space: SearchSpace, codes: Codes, rng: np.random.Generator, probability: float) -> Codes:
    """Each gene drawn anew with this probability, and those of layers that a depth adds."""
    found = _uniform(space, rng, len(codes))
    for rows in _chunks(len(codes)):
        held = codes[rows]
        kept = (rng.random(held.shape) >= probability) & (held >= 0)
        np.copyto(found[rows], held, where=kept)
    return _masked(space, found)


def cross(space: SearchSpace, one: Codes, other: Codes, rng: np.random.Generator) -> Codes:
    """Uniform crossover row by row: each gene from either parent, where both have it."""
    found = np.empty_like(one)
    for rows in _chunks(len(one)):
        first = (rng.random(one[rows].shape) < 0.5) & (one[rows] >= 0) | (other[rows] < 0)
        found[rows] = np.where(first, one[rows], other[rows])
    return _masked(space, found)


def keys(codes: Codes) -> NDArray[np.uint64]:
    """A number (n,) for each row: equal for equal rows and, but for chance, for no others."""
    # Odd multipliers spread each column over all 64 bits; they are always the same ones.
    weights = (
        2 * np.random.default_rng(0).integers(2**62, size=codes.shape[1:], dtype=np.uint64) + 1
    )
    found = np.empty(len(codes), dtype=np.uint64)
    for rows in _chunks(len(codes)):
        mixed = (codes[rows] + np.int16(2)).astype(np.uint64)
        mixed *= weights
        mixed ^= mixed >> 29
        mixed *= weights[::-1]
        mixed.sum(axis=1, out=found[rows])
    return found


def _uniform(space: SearchSpace, rng: np.random.Generator, count: int) -> Codes:
    lengths = np.array([len(gene.choices) for gene in space.genes])
    found = np.empty((count, len(lengths)), dtype=np.int16)
    for rows in _chunks(count):
        drawn = rng.random(found[rows].shape, dtype=np.float32) * lengths
        # A float32 just below 1 may round up to the length.
        np.minimum(drawn.astype(np.int16), (lengths - 1).astype(np.int16), out=found[rows])
    return found


def _masked(space: SearchSpace, codes: Codes) -> Codes:
    """The rows, changed in place, with -1 in every gene of a layer beyond their depths."""
    stacks, layers, depths = _places(space)
    for number, held in enumerate(depths):
        places = np.where(stacks == number, layers, -1).astype(np.int16)
        there = held.astype(np.int16)[codes[:, number]]
        for rows in _chunks(len(codes)):
            np.copyto(codes[rows], np.int16(-1), where=places >= there[rows, None])
    return codes


def _chunks(count: int) -> Iterator[slice]:
    """Slices of so many rows, so that what is made on the way stays in a core's cache."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _places(
    space: SearchSpace,
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """By gene the number of its stack and its layer (-1: neither), by stack the depths."""
    names = [stack.name for stack in space.owner.stacks]
    inside = [gene.stack if gene.layer is not None else None for gene in space.genes]
    stacks = np.array([names.index(each.name) if each else -1 for each in inside])
    layers = np.array([-1 if gene.layer is None else gene.layer for gene in space.genes])
    return stacks, layers, tuple(np.array(stack.depth) for stack in space.stacks)
