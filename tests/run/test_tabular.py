"""Is a search of a table the search that it stands for, and does its file give it back?"""

from pathlib import Path

import pytest

from nas.errors import SpecError
from nas.run.tabular import Table
from nas.search.pareto import ParetoFront
from nas.strategy.evolution import Evolution
from nas.strategy.random import RandomSearch
from tests.strategy.landscape import evaluated, problem_of, run, space_of


@pytest.fixture(scope="module")
def table() -> Table:
    problem = problem_of(space_of(depth=1))
    every = enumerate(problem.space.enumerate())
    return Table(problem, {each: evaluated(i, each).measurement for i, each in every})


def test_a_search_of_it_is_the_search(table: Table) -> None:
    for strategy in (RandomSearch(), Evolution()):
        found = table.search(strategy, 5, 40)
        assert [*found] == run(strategy, table.problem, 5, 40)


def test_it_ends_where_nothing_is_left(table: Table) -> None:
    found = table.search(RandomSearch(), 0, 10_000)
    assert {trial.architecture for trial in found} == set(table.measurements)
    assert table.hypervolume(found) == table.hypervolume(table.trials) > 0


def test_constraints_are_another_question_about_the_same_rows(table: Table) -> None:
    middle = sorted(trial.metrics["flops"] for trial in table.trials)[len(table.trials) // 2]
    bound = table.constrained(f"flops <= {middle:g}")
    found = bound.search(Evolution(), 0, 30)
    assert all(trial.metrics["flops"] <= middle for trial in found)
    assert bound.measurements is table.measurements
    best = ParetoFront.of(table.trials, table.problem.objectives)
    assert table.hypervolume(best.members) == table.hypervolume(table.trials)


def test_its_file_gives_it_back(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path / "table.json")
    again = Table.read(tmp_path / "table.json", table.problem)
    assert {each: dict(held.metrics) for each, held in again.measurements.items()} == {
        each: dict(held.metrics) for each, held in table.measurements.items()
    }
    assert again.search(Evolution(), 3, 30) == table.search(Evolution(), 3, 30)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not a table"),
        ("[]", "not a table"),
        ('{"format": 2, "rows": []}', "format 2; 1 is read"),
        ('{"format": 1, "rows": [{"metrics": {}}]}', "not a table"),
        ('{"format": 1, "rows": [{"architecture": {}, "metrics": {}}]}', "layers"),
    ],
)
def test_another_file_is_one_error(table: Table, tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SpecError, match=r"other\.json.*" + part):
        Table.read(tmp_path / "other.json", table.problem)


def test_a_table_of_another_space_is_refused(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path / "table.json")
    smaller = problem_of(space_of(depth=1, width=16))
    with pytest.raises(SpecError, match=r"of \d+ architectures are not of space enumerated"):
        Table.read(tmp_path / "table.json", smaller)
