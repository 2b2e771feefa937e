"""Is a search of a table a search like any other, but that each trial is the table's row?"""

from collections.abc import Iterator
from typing import Any

import pytest

from nas import catalog
from nas.errors import DataChanged, SearchStateError, SpecError
from nas.report.history import history_of
from nas.report.summary import summarize
from nas.report.words import brief, words
from nas.run import confirm, running, search
from nas.run.evaluate import Setup
from nas.run.executor import LocalExecutor
from nas.run.lookup import Lookup
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.tabular import enumerated
from nas.run.workspace import Workspace
from nas.search.extent import EXTENT
from nas.search.spec import SearchSpec, load_spec
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from nas.strategy.strategy import ACCOUNT
from nas.task.tabled import NAS_BENCH_BERT, NasBenchBertOptions
from tests.run.cases import full_report, no_projector, outcome, place_in, short_report
from tests.task.small_bert_table import rows, write

REQUEST: dict[str, Any] = {
    "name": "table",
    "task": "nas_bench_bert",
    "space": "nas_bench_bert",
    "objectives": ["glue", "params"],
    "strategy": {"name": "evolution", "population": 6},
    "batch": 5,
    "budget": {"trials": 15},
    "controls": {"random": 10},
    "executor": "local",
}


@pytest.fixture(scope="module")
def whole_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace whose data are a small table, where they are looked up."""
    made = place_in(tmp_path_factory.mktemp("lookup"))
    made.data_root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        patch.setenv("NAS_DATA_DIR", str(made.data_root))
        write(made.data_root / "nas_bench_bert.json")
        yield made


@pytest.fixture
def place(whole_place: Workspace) -> Workspace:
    """The same with the table as it was."""
    write(whole_place.data_root / "nas_bench_bert.json")
    return whole_place


@pytest.fixture(scope="module")
def finished(whole_place: Workspace) -> tuple[SearchRecord, list[Update]]:
    """A search that ran undisturbed, and what was heard of it."""
    heard: list[Update] = []
    record = submit(load_spec(REQUEST), whole_place)
    found = search.run(record.id, whole_place, reporter=full_report, listener=heard.append)
    return found, heard


def setup_of(spec: SearchSpec, place: Workspace) -> Setup:
    return Setup.of(spec, place.root / "supernet", place.root / "alone", place.data_root)


def test_its_trials_are_the_rows(
    place: Workspace, finished: tuple[SearchRecord, list[Update]]
) -> None:
    record, heard = finished
    assert record.state == "succeeded"
    trials = SqlStore(place.record_url).trials(record.id)
    assert [trial.role for trial in trials] == ["search"] * 15 + ["random"] * 10
    table = NAS_BENCH_BERT.load(NasBenchBertOptions(), place.data_root)
    for trial in trials:
        assert trial.succeeded
        assert trial.metrics["glue"] == table.metrics[trial.architecture]["glue"]
        assert {*trial.metrics} == {"glue", "params"}
    assert len({trial.architecture for trial in trials[:15]}) == 15
    [opening] = [each for each in heard if each.phase == "supernet"]
    assert opening.text == "nothing to train: 60 networks of a table"
    assert not (place.root / "supernets").exists()
    facts = SqlStore(place.record_url).get(record.id).facts
    assert facts["data_digest"] == table.digest
    assert "supernet_steps" not in facts


def test_its_report_claims_no_supernet(
    place: Workspace, finished: tuple[SearchRecord, list[Update]]
) -> None:
    record, _ = finished
    store = SqlStore(place.record_url)
    spec, trials = load_spec(record.spec), store.trials(record.id)
    summary = summarize(spec, trials)
    assert (summary.gate.verdict, summary.looked_up) == ("not needed", True)
    assert [each.control for each in summary.comparisons] == ["random"]
    assert all(member.flops is None for member in summary.front)
    for said in (words(summary), brief(summary)):
        assert not any("upernet" in each or "nas confirm" in each for each in said)
    page = (place.report(record.id) / "pareto.html").read_text()
    assert "The ranking needs no check" in page
    # Between the worst and the best of the table, whatever the search found.
    held = [row["glue"] for row in rows()]
    history = history_of(spec, trials, store.get(record.id).facts[EXTENT])
    assert history is not None
    assert history.random is not None
    glue, params = history.extent.axes
    assert (glue.worst, glue.best) == (min(held), max(held))
    assert (glue.best_rule, params.best_rule) == ("the highest in the table", "the exact smallest")
    whole = enumerated(Lookup(setup_of(spec, place)))
    assert params.best == min(each.metrics["params"] for each in whole.trials)


class TestStopping:
    class Killed(BaseException):
        pass

    def test_it_goes_on_as_if_it_had_not_been(
        self, place: Workspace, finished: tuple[SearchRecord, list[Update]]
    ) -> None:
        record = submit(load_spec(REQUEST), place)
        for stop in (("supernet", 60), ("search", 7), ("random", 2)):

            def listener(update: Update, stop: tuple[str, int] = stop) -> None:
                if (update.phase, update.done) == stop:
                    raise self.Killed

            with pytest.raises(self.Killed):
                search.run(record.id, place, reporter=short_report, listener=listener)
        search.run(record.id, place, reporter=short_report)
        assert outcome(place, record.id) == outcome(place, finished[0].id)

    def test_a_table_that_has_changed_is_refused(self, place: Workspace) -> None:
        record = submit(load_spec(REQUEST), place)

        def stop(update: Update) -> None:
            if update.phase == "search" and update.done == 5:
                raise self.Killed

        with pytest.raises(self.Killed):
            search.run(record.id, place, reporter=short_report, listener=stop)
        file = place.data_root / "nas_bench_bert.json"
        write(file, [{**row, "glue": 60} for row in rows()])
        with pytest.raises(DataChanged, match="task nas_bench_bert: its data have changed"):
            search.run(record.id, place, reporter=short_report)
        write(file)
        assert search.run(record.id, place, reporter=short_report).state == "succeeded"


def test_nothing_is_trained_alone(
    place: Workspace, finished: tuple[SearchRecord, list[Update]]
) -> None:
    record, _ = finished
    for work in (search.recheck, confirm.confirm):
        with pytest.raises(SearchStateError, match="nothing can be trained alone for task nas_be"):
            work(record.id, place, reporter=short_report)


def test_a_list_with_an_architecture_of_no_row_is_refused(place: Workspace) -> None:
    spec = load_spec(REQUEST)
    write(place.data_root / "nas_bench_bert.json", rows()[1:])
    lost = next(spec.search_space.enumerate())
    wanted = rf"space: 1 of the 60 architectures of nas_bench_bert have no row in .*{lost.id}"
    with pytest.raises(SpecError, match=wanted):
        [*LocalExecutor(spec.executor).train(setup_of(spec, place))]


STRATEGIES: list[Any] = [
    "random",
    {"name": "evolution", "population": 8},
    {"name": "ranked", "initial": 12, "candidates": 100, "member": "linear_losses"},
    {"name": "optuna", "population": 8},
]


@pytest.mark.parametrize("constraints", [[], ["params >= 1e6", "params <= 3e6"]], ids=len)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_strategies_propose_every_row_and_nothing_else(
    place: Workspace, strategy: Any, constraints: list[str]
) -> None:
    write(place.data_root / "nas_bench_bert.json", rows(24))
    table = enumerated(Lookup(setup_of(load_spec(REQUEST), place))).constrained(*constraints)
    spec = load_spec({**REQUEST, "strategy": strategy})
    options = spec.strategy.configured(catalog.STRATEGIES, "strategy")
    made = catalog.STRATEGIES.load(spec.strategy.name)(options)
    # What the table does not have would be a KeyError.
    found = table.search(made, 3, 30)
    fitting = [
        each.architecture
        for each in table.trials
        if not constraints or 1e6 <= each.metrics["params"] <= 3e6
    ]
    assert 0 < len(fitting) == len(found) <= 24
    assert {trial.architecture for trial in found} == {*fitting}


def test_a_table_of_equal_scores_tells_nothing_apart(place: Workspace) -> None:
    write(place.data_root / "nas_bench_bert.json", [{**row, "glue": 70.0} for row in rows()])
    record = submit(load_spec({**REQUEST, "strategy": "ranked"}), place)
    search.run(record.id, place, reporter=short_report)
    store = SqlStore(place.record_url)
    found = summarize(load_spec(REQUEST), store.trials(record.id), facts=store.get(record.id).facts)
    assert found.resolution.resolved is False
    told = " ".join(words(found))
    assert "Not resolved: no two of 10 random networks have different scores." in told
    assert "can be told apart" not in told
    assert (
        "all 15 are of the sample that comes before a ranker" in store.get(record.id).facts[ACCOUNT]
    )
