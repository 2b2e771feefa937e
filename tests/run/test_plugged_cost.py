"""Is a cost of another distribution searched for as our own are, from the request to the report?"""

import json
from pathlib import Path

import pytest

from nas import catalog
from nas.cost.analytic import PARAMS
from nas.cost.span import ENDS
from nas.errors import SpecError
from nas.registry import Registry
from nas.run import running, search
from nas.run.submission import problem_of, submit
from nas.run.workspace import Workspace
from nas.search.extent import EXTENT, FixedExtent
from nas.search.pareto import ParetoFront
from nas.search.spec import SearchSpec
from nas.search.trial import Trial
from nas.store.sql import SqlStore
from tests.run.cases import full_report, no_projector, outcome, place_in, request

PLUGGED = {
    "layer_count": "tests.run.plugged:LAYER_COUNT",
    "weight_bytes": "tests.run.plugged:WEIGHT_BYTES",
}
BATCH = 3
BOUND = 3 * 4 * 4_000
Found = tuple[SearchSpec, Workspace, str]


def plug(patch: pytest.MonkeyPatch, **more: str) -> None:
    """As if installed distributions had these entry points."""
    patch.setattr(catalog, "COSTS", Registry("cost", {**catalog.COSTS.entries, **more}))


def asked() -> SearchSpec:
    """A request about both, which no cost of ours could answer."""
    return request(
        objectives=["cross_entropy", "weight_bytes"],
        constraints=["layer_count <= 2", f"weight_bytes <= {BOUND}"],
        latency={"batch": BATCH},
        prediction={"timings": 0},
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        plug(patch, **PLUGGED)
        place, spec = place_in(tmp_path_factory.mktemp("plugged")), asked()
        record = submit(spec, place)
        search.run(record.id, place, reporter=full_report)
        return spec, place, record.id


def trials_of(found: Found) -> list[Trial]:
    _, place, id = found
    return SqlStore(place.record_url).trials(id)


def test_every_trial_has_both(found: Found) -> None:
    spec, _, _ = found
    trials = trials_of(found)
    assert {trial.role for trial in trials} == {"search", "random", "homogeneous", "remeasured"}
    for trial in trials:
        weights = 4 * PARAMS.of(trial.architecture, spec.task_shape)
        assert trial.succeeded, trial.measurement.reason
        assert trial.metrics["layer_count"] == trial.architecture.depth
        assert trial.metrics["weight_bytes"] == BATCH * weights
        assert 0 < trial.metrics["largest_weight_bytes"] < weights


def test_the_strategy_keeps_the_exact_one(found: Found) -> None:
    spec, _, _ = found
    with pytest.MonkeyPatch.context() as patch:
        plug(patch, **PLUGGED)
        problem = problem_of(spec)
    assert [each.metric for each in problem.analytic_constraints] == ["layer_count"]
    largest = spec.search_space.extreme("largest")
    assert problem.cost(largest)["layer_count"] == largest.depth == 3
    searched = [trial for trial in trials_of(found) if trial.role == "search"]
    # What breaks an exact constraint is recorded as infeasible: nothing of the kind was proposed.
    assert len(searched) == spec.budget.trials
    assert {trial.architecture.depth for trial in searched} == {1, 2}


def test_the_front_keeps_the_measured_one(found: Found) -> None:
    spec, place, id = found
    searched = [trial for trial in trials_of(found) if trial.role == "search"]
    assert any(trial.metrics["weight_bytes"] > BOUND for trial in searched)
    members = ParetoFront.of(
        [trial for trial in searched if trial.metrics["weight_bytes"] <= BOUND],
        spec.parsed_objectives,
    ).members
    assert members
    front = tuple((trial.role, trial.index) for trial in members)
    assert SqlStore(place.record_url).front(id) == front


def test_the_report_shows_them(found: Found) -> None:
    _, place, id = found
    files = SqlStore(place.record_url).artifacts(id)
    shown = json.loads(Path(files["pareto.json"].uri).read_text())
    assert [each["name"] for each in shown["objectives"]] == ["cross_entropy", "weight_bytes"]
    for member in shown["front"]:
        assert member["metrics"]["layer_count"] <= 2
        assert member["metrics"]["weight_bytes"] <= BOUND
    page = Path(files["pareto.html"].uri).read_text()
    assert "weight_bytes (bytes)" in page
    assert "layer_count &lt;= 2" in page


def test_every_machine_that_measured_is_a_fact_of_the_search(found: Found) -> None:
    _, place, id = found
    facts = SqlStore(place.record_url).get(id).facts
    machines = json.loads(facts["weight_bytes_provenance"])
    assert sorted(machines) == ["the machine for 1 layers", "the machine for 2 layers"]
    named = {name for name in facts if name.endswith("_provenance")}
    assert named == {"weight_bytes_provenance", "evaluation_provenance"}


def test_its_history_goes_from_the_smallest_network_to_the_limit(found: Found) -> None:
    spec, place, id = found
    axes = FixedExtent.from_text(SqlStore(place.record_url).get(id).facts[EXTENT]).axes
    smallest, largest = (
        BATCH * 4 * PARAMS.of(spec.search_space.extreme(end), spec.task_shape) for end in ENDS
    )
    assert axes[1].best == smallest < BOUND < largest
    assert axes[1].best_rule == "the lowest of the space's extreme networks, measured at the start"
    assert (axes[1].worst, axes[1].worst_rule) == (BOUND, f"the constraint weight_bytes <= {BOUND}")


@pytest.mark.usefixtures("without_mlflow")
def test_a_resumed_search_forgets_no_machine(
    found: Found, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, undisturbed, id = found
    plug(monkeypatch, **PLUGGED)
    record = submit(spec, place)
    store = SqlStore(place.record_url)
    lease = store.acquire(record.id, "elsewhere:1:1", 60)
    store.add_facts(lease, {"weight_bytes_provenance": '["one that is gone"]'})
    store.release(lease)
    search.run(record.id, place, reporter=full_report)
    machines = json.loads(store.get(record.id).facts["weight_bytes_provenance"])
    assert machines[0] == "one that is gone"
    assert len(machines) == 3
    assert outcome(place, record.id) == outcome(undisturbed, id)


def test_what_is_not_wanted_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert request().measured_costs == ()
    plug(monkeypatch, **PLUGGED)
    assert request().measured_costs == ()
    assert asked().measured_costs == ("weight_bytes",)
    assert request(constraints=["latency_ms <= 5"]).measured_costs == ("latency_ms",)


def test_without_bounds_a_constraint_is_judged_by_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plug(monkeypatch, **PLUGGED)
    assert request(constraints=["layer_count >= 100"]).constraints == ("layer_count >= 100",)
    with pytest.raises(SpecError, match="no architecture of digits_tiny meets 'params <= 1'"):
        request(constraints=["layer_count >= 100", "params <= 1"])


@pytest.mark.parametrize(
    ("name", "target", "metric"),
    [
        ("layers", "tests.run.plugged:LAYER_COUNT", "layer_count"),
        ("accuracy", "tests.run.plugged:ACCURACY", "accuracy"),
    ],
)
def test_a_cost_that_takes_another_name_is_refused(
    name: str, target: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, **{name: target})
    with pytest.raises(SpecError, match=f"cost '{name}' gives the metric '{metric}'"):
        request()
