"""Does a strategy find real fronts sooner than chance? Against a supernet scored to the end."""

import statistics

import pytest

from nas.run.tabular import Table
from nas.search.pareto import ParetoFront
from tests.method.table import searched

SEEDS = range(20)
BAR = 0.5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_evolution_closes_half_of_what_random_search_leaves(table: Table) -> None:
    rows = len(table.trials)
    assert rows == table.problem.space.size >= 1500
    assert all(trial.succeeded for trial in table.trials)
    count, true = rows // 4, table.hypervolume(table.trials)
    found = {
        name: statistics.median(table.hypervolume(searched(table, name, s, count)) for s in SEEDS)
        for name in ("random", "evolution")
    }
    # Else there is nothing to close, and the quotient says nothing.
    assert found["random"] < 0.995 * true
    closed = (found["evolution"] - found["random"]) / (true - found["random"])
    assert closed >= BAR, (
        f"{closed:.3f} of the gap at {count} of {rows} architectures; hypervolumes to the "
        f"reference point {table.reference}: {found}, true {true}"
    )


def test_evolution_under_constraints_stays_feasible(table: Table) -> None:
    flops = sorted(trial.metrics["flops"] for trial in table.trials)
    params = sorted(trial.metrics["params"] for trial in table.trials)
    # A corner of the space: cheap in arithmetic, not in weights.
    corner = table.constrained(
        f"flops <= {flops[len(flops) // 4]:g}", f"params >= {params[len(params) // 8]:g}"
    )
    problem = corner.problem
    fitting = {t.architecture for t in table.trials if problem.violation(t.metrics) == 0}
    assert 50 < len(fitting) < len(table.trials) / 4
    best = ParetoFront.of(table.trials, problem.objectives, problem.constraints)
    for seed in SEEDS:
        trials = searched(corner, "evolution", seed, 50)
        proposed = {trial.architecture for trial in trials}
        assert len(proposed) == len(trials) == 50
        assert proposed <= fitting
        assert table.hypervolume(trials) <= table.hypervolume(best.members)


def test_random_search_tries_each_architecture_once_and_ends_at_the_true_front(
    table: Table,
) -> None:
    rows = len(table.trials)
    trials = searched(table, "random", 0, rows)
    assert {trial.architecture for trial in trials} == set(table.measurements)
    assert len(trials) == rows
    covered = [table.hypervolume(trials[:n]) for n in (rows // 16, rows // 4, rows // 2, rows)]
    assert covered == sorted(covered)
    assert covered[0] < covered[1] < covered[-1]
    assert covered[-1] == table.hypervolume(table.trials)


def test_random_search_draws_depths_alike_and_not_architectures(table: Table) -> None:
    # Known of the control: shallow networks are 72 of 2,664 and half of all draws.
    shallow = [
        sum(trial.architecture.depth == 1 for trial in searched(table, "random", seed, 20))
        for seed in SEEDS
    ]
    assert 0.4 < sum(shallow) / (20 * len(SEEDS)) < 0.6
