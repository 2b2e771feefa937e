"""Which strategy finds the front with the fewest evaluations? Searches of tables, over many seeds.

Two tables: every architecture of a space that a supernet of scikit-learn's digits has scored
(12,348 of them; made at the first call, in some minutes, and kept with --keep), and, with --bert
FILE, the trained encoders of NAS-Bench-BERT. For each strategy and number of evaluations: the share
of the table's hypervolume, and what the k best found lack of the table's k best. `nsga2` is
Optuna's NSGA-II in a live study, as its users write it. Bars: `ranked` reaches the final
hypervolume of Optuna's NSGA-II (population 50, 500 evaluations) with <= 1 / 2.2 of its evaluations,
median over 20 seeds; it covers more than random search at equal evaluations in >= 18 of 20 seeds.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.bert_table import bert_table
from benchmarks.measuring.digits_table import digits_table
from benchmarks.measuring.options import whole
from benchmarks.measuring.optuna_reference import run as live_nsga2
from benchmarks.measuring.report import machine, parser, print_table, write
from nas import catalog
from nas.run.tabular import Table
from nas.search.history import evaluations_to_reach, hypervolume_curve
from nas.search.pareto import losses_of
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas.space.listed import ListedSpace

Search = Callable[[Table, int, int], Sequence[Trial]]
"""A table, a seed and a number of evaluations to the trials."""
BAR_FEWER, BAR_WINS = 2.2, 0.9
POPULATION = 50
POINTS = (50, 100, 200, 300, 500)
TOP = (1, 5)


def by_catalog(name: str, **options: Any) -> Search:
    """A search by a strategy of the catalog, in batches of 10."""

    def search(table: Table, seed: int, count: int) -> Sequence[Trial]:
        declared = catalog.STRATEGIES.load(name)
        made = declared(declared.options_model.model_validate(options))
        return table.search(made, seed, count)

    return search


def nsga2(table: Table, seed: int, count: int) -> Sequence[Trial]:
    """Optuna's NSGA-II, a live study that knows nothing of our protocol.

    Where a table holds a part of a grid, it is given what the nearest listed architecture scored.
    """
    space = table.problem.space

    def lookup(architecture: Architecture) -> Mapping[str, float]:
        if isinstance(space, ListedSpace) and architecture not in table.measurements:
            architecture = space.nearest(space.in_grid(architecture), random.Random(seed))
        return table.measurements[architecture].metrics

    return live_nsga2(table.problem, lookup, seed, count, POPULATION)


SEARCHES: Mapping[str, Search] = {
    "random": by_catalog("random"),
    "nsga2": nsga2,
    "evolution": by_catalog("evolution"),
    "optuna": by_catalog("optuna", sampler="nsgaii", population=POPULATION),
    "ranked": by_catalog("ranked"),
}


@dataclass(frozen=True)
class Course:
    """How one search of a table went."""

    table: Table
    trials: Sequence[Trial]

    @cached_property
    def covered(self) -> list[float]:
        """The share of the table's hypervolume after 1, 2, ... evaluations."""
        table = self.table
        losses = losses_of(self.trials, table.problem.objectives)
        shares = hypervolume_curve(losses, table.reference) / table.hypervolume(table.trials)
        return [float(each) for each in shares]

    def reached(self, level: float) -> int | None:
        """Evaluations until this share was covered; None where it never was."""
        return evaluations_to_reach(self.covered, level)

    def regret(self, n: int, k: int) -> float:
        """What the k best of the first n evaluations lack, in the mean, of the table's k best.

        In the unit of the first objective; a network that was evaluated twice counts once.
        """
        objective = self.table.problem.objectives[0]
        met = {trial.architecture: objective.loss(trial.metrics) for trial in self.trials[:n]}
        found = sorted(met.values())[:k]
        best = np.sort(self.table.losses[:, 0])[:k]
        return statistics.fmean(found) - float(best.mean())


def courses(
    table: Table, searches: Sequence[str], seeds: int, count: int
) -> dict[str, list[Course]]:
    """Every search over all seeds, the times printed as they go."""
    found: dict[str, list[Course]] = {}
    for name in searches:
        start = time.perf_counter()
        found[name] = [Course(table, SEARCHES[name](table, seed, count)) for seed in range(seeds)]
        spent = (time.perf_counter() - start) / seeds
        print(f"{name}: {seeds} searches, {spent:.1f} s each", flush=True)
    return found


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    # A rounding below 0 is none.
    mean = round(statistics.fmean(values), digits) + 0.0
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def show(title: str, found: Mapping[str, Sequence[Course]], points: Sequence[int]) -> None:
    """The tables of one benchmark table."""
    heads = ("strategy", *(f"n = {n}" for n in points))
    rows = [
        (name, *(spread([each.covered[n - 1] for each in held]) for n in points))
        for name, held in found.items()
    ]
    print_table(f"{title}: share of the true hypervolume, mean and sd over seeds", heads, rows)
    for k in TOP:
        rows = [
            (name, *(spread([each.regret(n, k) for each in held]) for n in points))
            for name, held in found.items()
        ]
        unit = next(iter(found.values()))[0].table.problem.objectives[0].metric
        print_table(f"{title}: regret of the top {k}, {unit.name} in {unit.unit}", heads, rows)


def against(found: Mapping[str, Sequence[Course]], points: Sequence[int]) -> dict[str, Any]:
    """`ranked` held against Optuna's NSGA-II and against random search."""
    ranked, count = found["ranked"], max(points)
    ratios, sooner = [], []
    for ours, theirs in zip(ranked, found["nsga2"], strict=True):
        needed = ours.reached(theirs.covered[-1])
        ratios.append(len(theirs.trials) / needed if needed is not None else 0.0)
        own = theirs.reached(theirs.covered[-1]) or len(theirs.trials)
        sooner.append(own / needed if needed is not None else 0.0)
    wins = {
        n: sum(
            ours.covered[n - 1] > theirs.covered[n - 1]
            for ours, theirs in zip(ranked, found["random"], strict=True)
        )
        for n in points
    }
    fewer, seeds = statistics.median(ratios), len(ranked)
    fewest = min(wins.values())
    print_table(
        "ranked against the others",
        ("what", "figure", "bar", ""),
        [
            (
                "NSGA-II's evaluations over ranked's to its final hypervolume, median",
                quartiles(ratios),
                f">= {BAR_FEWER}",
                "met" if fewer >= BAR_FEWER else "MISSED",
            ),
            (
                "the same, of NSGA-II's only those until it got there itself",
                quartiles(sooner),
                "",
                "",
            ),
            (
                f"seeds of {seeds} in which it covers more than random search, fewest at any n",
                f"{fewest} ({', '.join(f'{won} at {n}' for n, won in wins.items())})",
                f">= {BAR_WINS * seeds:g}",
                "met" if fewest >= BAR_WINS * seeds else "MISSED",
            ),
        ],
    )
    figures = {"evaluations": count, "ratios": ratios, "ratios_until_there": sooner}
    return figures | {"wins_against_random": wins}


def quartiles(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=whole(1), default=20)
    arguments.add_argument("--evaluations", type=whole(POINTS[0]), default=500)
    arguments.add_argument("--keep", type=Path, help="file for the table of digits, read if there")
    arguments.add_argument("--bert", type=Path, help="nas_bench_bert.json")
    arguments.add_argument("--strategies", nargs="+", default=list(SEARCHES), choices=SEARCHES)
    arguments.add_argument("--bert-alone", action="store_true", help="no table of digits")
    given = arguments.parse_args()
    if given.bert_alone and given.bert is None:
        arguments.error("--bert-alone: --bert FILE is needed")
    figures: dict[str, Any] = {"machine": machine(), "seeds": given.seeds}
    tables = {}
    if not given.bert_alone:
        if given.keep is None or not given.keep.exists():
            print(
                "making the table of digits: some minutes, a supernet and 12,348 scores", flush=True
            )
        tables["digits"] = digits_table(given.keep)
    if given.bert is not None:
        tables["NAS-Bench-BERT"] = bert_table(given.bert)
    for name, table in tables.items():
        # A table is never searched to more than half: what is left must be able to tell.
        count = min(given.evaluations, len(table.trials) // 2)
        points = [n for n in POINTS if n <= count]
        print(f"\n{name}: {len(table.trials)} architectures; reference point {table.reference}")
        found = courses(table, given.strategies, given.seeds, count)
        show(name, found, points)
        figures[name] = {
            "reference": table.reference,
            "covered": {key: [each.covered for each in held] for key, held in found.items()},
        }
        if {"ranked", "nsga2", "random"} <= set(found):
            figures[name]["against"] = against(found, points)
    write(given.out, figures)


if __name__ == "__main__":
    main()
