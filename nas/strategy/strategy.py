"""What is a strategy: a pure function from the trials so far to the architectures to try next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from nas.search.problem import Problem
from nas.search.trial import Trial
from nas.space.architecture import Architecture


class Strategy(Protocol):
    """Proposes architectures batch by batch; made anew from its options whenever one is needed.

    `propose` is pure: the same problem, seed, trials and count give the same proposals, on every
    machine and in every process. A strategy keeps nothing between calls, so a search that was
    stopped goes on as if it had not been.
    """

    options_model: ClassVar[type[BaseModel]]

    def propose(
        self, problem: Problem, seed: int, trials: Sequence[Trial], count: int
    ) -> list[Architecture]:
        """Up to `count` architectures of the problem's space that keep its analytic constraints.

        `trials` are all earlier trials of role `search`, failed and infeasible ones included; their
        order does not matter, their `index` does. Nothing that is among them is proposed again and
        nothing twice. Work is bounded: fewer come back, in the end none, when the strategy finds no
        more new architectures; in spaces of at most `nas.strategy.repair.ENUMERABLE` only when
        none is left. Raises `NothingFeasible` where nothing can be proposed for the first batch.
        """
        ...


@runtime_checkable
class Accountable(Protocol):
    """A strategy that has something to tell of how it went."""

    def account(self, problem: Problem, seed: int, trials: Sequence[Trial]) -> str:
        """How it proposed in a search with these trials, in a clause for the report."""
        ...


ACCOUNT = "strategy_account"
"""The fact of a search that holds it."""


def generator(name: str, seed: int, trials: Sequence[Trial]) -> random.Random:
    """The randomness of one batch: of the strategy, the seed and how many trials came before."""
    return random.Random(f"{name}:{seed}:{len(trials)}")


def by_index(trials: Sequence[Trial]) -> list[Trial]:
    """The trials in the order of their proposals, whatever order they were completed in."""
    return sorted(trials, key=lambda trial: trial.index)
