"""How does an architecture come to keep the analytic constraints, in bounded work."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from nas.errors import NothingFeasible
from nas.search.problem import Problem
from nas.space.architecture import Architecture
from nas.space.gene import End, Genome
from nas.space.listed import ListedSpace
from nas.space.search_space import SearchSpace

# Spaces up to this size are searched to the end before anything is called impossible.
ENUMERABLE = 20_000
# Rounds through all single changes; costs are nearly separable, so two or three are used.
PASSES = 16
# Two-sided constraints have dead ends where every single change makes things worse.
KICKS = 24
KICKED_GENES = 3

ENDS: tuple[End, ...] = ("smallest", "largest")


def repair(architecture: Architecture, problem: Problem, rng: random.Random) -> Architecture:
    """The architecture, or one near it that keeps the problem's analytic constraints.

    Random genes change to values that lower the sum of violations, attention types only where the
    rest does not suffice. A dead end is left by changing a few genes at random, then by starting
    from the smallest and the largest architecture with the same attention types, then, in spaces of
    at most `ENUMERABLE`, by looking at all. Under one bound on a cost that each gene moves one way,
    the first descent succeeds whenever any architecture of the space does. In a space of listed
    architectures it is the nearest of them.

    Raises `NothingFeasible` with the lowest violation found where no attempt succeeds.
    """
    lowest = problem.analytic_violation(architecture)
    if lowest == 0:
        return architecture
    space = problem.space
    if isinstance(space, ListedSpace):
        # Single changes would leave the list.
        fitting = [each for each in space.enumerate() if problem.analytic_violation(each) == 0]
        if fitting:
            kept = replace(space, listed=tuple(map(space.genome, fitting)))
            return kept.nearest(space.genome(architecture), rng)
        lowest = min(map(problem.analytic_violation, space.enumerate()))
        raise _nothing(problem, lowest)
    starts = [architecture]
    for end in ENDS:
        extreme = space.extreme(end).replace_attention_like(architecture)
        starts.append(extreme if space.contains(extreme) else space.extreme(end))
    for start in starts:
        found, violation = _search(space.genome(start), problem, rng)
        if violation == 0:
            return space.build(found)
        lowest = min(lowest, violation)
    if space.size <= ENUMERABLE:
        fitting = [each for each in space.enumerate() if problem.analytic_violation(each) == 0]
        if fitting:
            return rng.choice(fitting)
    raise _nothing(problem, lowest)


def _nothing(problem: Problem, lowest: float) -> NothingFeasible:
    wanted = " and ".join(f"'{each}'" for each in problem.analytic_constraints)
    return NothingFeasible(
        f"no architecture of {problem.space.name} that meets {wanted} was found; the best found "
        f"misses them by {lowest:.2%} of the bounds"
    )


def moves(
    space: SearchSpace, positions: Sequence[int], rng: random.Random
) -> list[tuple[int, int]]:
    """Every (position, choice) of these genes, in random order."""
    found = [
        (position, index)
        for position in positions
        for index in range(len(space.genes[position].choices))
    ]
    rng.shuffle(found)
    return found


def with_gene(
    space: SearchSpace, genome: Genome, position: int, index: int, rng: random.Random
) -> Genome:
    """The genome with one gene changed; layers that a greater depth adds are drawn uniformly."""
    changed = [*genome[:position], index, *genome[position + 1 :]]
    if space.genes[position].field == "depth":
        active = set(space.active(changed))
        for place, held in enumerate(changed):
            if place not in active:
                changed[place] = -1
            elif held < 0:
                changed[place] = rng.randrange(len(space.genes[place].choices))
    return tuple(changed)


def _search(start: Genome, problem: Problem, rng: random.Random) -> tuple[Genome, float]:
    """Iterated descent: the genome with the lowest violation found, and that violation."""
    space = problem.space
    best, lowest = _descend(start, problem, rng)
    for _ in range(KICKS):
        if lowest == 0:
            break
        kicked = best
        for _ in range(KICKED_GENES):
            position = rng.choice([place for place, index in enumerate(kicked) if index >= 0])
            index = rng.randrange(len(space.genes[position].choices))
            kicked = with_gene(space, kicked, position, index, rng)
        found, violation = _descend(kicked, problem, rng)
        if violation < lowest:
            best, lowest = found, violation
    return best, lowest


def _descend(start: Genome, problem: Problem, rng: random.Random) -> tuple[Genome, float]:
    """Single changes that lower the violation until none does: sizes first, then all genes."""
    space = problem.space
    sizes = [place for place, gene in enumerate(space.genes) if not gene.is_attention]
    genome, violation = start, problem.analytic_violation(space.build(start))
    for positions in (sizes, range(len(space.genes))):
        for _ in range(PASSES):
            before = violation
            for position, index in moves(space, positions, rng):
                if violation == 0:
                    return genome, violation
                if genome[position] in (-1, index):
                    continue
                changed = with_gene(space, genome, position, index, rng)
                reached = problem.analytic_violation(space.build(changed))
                if reached < violation:
                    genome, violation = changed, reached
            if violation == before:
                break
    return genome, violation
