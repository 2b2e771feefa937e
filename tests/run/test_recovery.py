"""SIGKILL to the whole process group at any stage: what is resumed ends as if nothing had been."""

from collections.abc import Callable

import pytest

from nas.run.confirm import confirm
from nas.run.search import recheck
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.search.trial import TrialRole
from nas.store.sql import SqlStore
from tests.run.cases import (
    RECIPE,
    copy_of,
    finish,
    no_projector,
    outcome,
    place_in,
    request,
    short_report,
)
from tests.run.processes import Command, command, newest, write_request

# Long enough at each stage for a process that looks on to act.
LONG = {
    "supernet": {**RECIPE, "steps": 400},
    "budget": {"trials": 60},
    "controls": {"random": 60, "homogeneous": 20},
    "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.1},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    place = place_in(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.run.running.Projector", no_projector)
        return place, finish(request(**LONG), place).id


def stages(spec: SearchSpec, place: Workspace) -> dict[str, Callable[[], bool]]:
    """Each kill's moment as the record or the disk shows it."""
    store = SqlStore(place.record_url)

    def scored(role: str, count: int) -> Callable[[], bool]:
        def seen() -> bool:
            record = newest(place)
            return record is not None and store.count(record.id, role) >= count  # type: ignore[arg-type]

        return seen

    def phase(name: str) -> Callable[[], bool]:
        return lambda: (record := newest(place)) is not None and record.phase == name

    folder = place.supernet(spec)
    return {
        "committed": lambda: newest(place) is not None,
        "supernet": lambda: any(folder.glob("*/supernet.safetensors")),
        "search": scored("search", 7),
        "later": scored("search", 31),
        "random": scored("random", 2),
        "homogeneous": scored("homogeneous", 1),
        "report": phase("report"),
    }


def killed_at(command: Command, seen: Callable[[], bool]) -> None:
    command.until(seen)
    command.kill()


def is_over(place: Workspace) -> bool:
    record = newest(place)
    assert record is not None
    return record.state == "succeeded"


def recover(place: Workspace, spec: SearchSpec, at: list[str]) -> str:
    """Starts a search, kills it at each stage in turn, resumes it, and gives its id."""
    moments = stages(spec, place)
    first, *rest = at
    with command(place, "search", write_request(spec, place.root)) as started:
        killed_at(started, moments[first])
    record = newest(place)
    assert record is not None
    assert record.state != "succeeded"
    for stage in rest:
        with command(place, "search", "--resume", record.id) as resumed:
            killed_at(resumed, moments[stage])
    # The last stage is short: where the kill came after its end there is nothing to resume.
    if not is_over(place):
        with command(place, "search", "--resume", record.id, "--json") as resumed:
            assert resumed.end() == 0, resumed.said
    assert is_over(place)
    assert SqlStore(place.record_url).get(record.id).attempt >= len(at)
    assert len(SqlStore(place.record_url).searches()) == 1
    return record.id


def test_killed_again_and_again(undisturbed: tuple[Workspace, str], place: Workspace) -> None:
    id = recover(place, request(**LONG), ["supernet", "search"])
    assert outcome(place, id) == outcome(*undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "at",
    [["committed", "later", "report"], ["supernet", "random", "homogeneous"]],
    ids=lambda at: "-".join(at),
)
def test_killed_at_the_other_stages(
    undisturbed: tuple[Workspace, str], place: Workspace, at: list[str]
) -> None:
    id = recover(place, request(**LONG), at)
    assert outcome(place, id) == outcome(*undisturbed)


@pytest.mark.slow
# Ray is started three times, on cores that another process of the tests takes too.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "at", [["supernet", "search"], ["random", "report"]], ids=lambda at: "-".join(at)
)
def test_killed_on_ray(undisturbed: tuple[Workspace, str], place: Workspace, at: list[str]) -> None:
    executor = {"name": "ray", "workers": 2, "training_cores": 1}
    id = recover(place, request(**LONG, executor=executor), at)
    assert outcome(place, id) == outcome(*undisturbed)


@pytest.mark.slow
def test_a_confirmation_that_is_killed(place: Workspace) -> None:
    spec = request(
        standalone={**RECIPE, "steps": 300},
        budget={"trials": 60},
        supernet={**RECIPE, "steps": 300, "learning_rate": 0.005},
        controls={"random": 0, "homogeneous": 2},
        confirmation={"members": 1, "seeds": 2, "flops_tolerance": 0.3, "shortlist": 5},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.run.running.Projector", no_projector)
        id = finish(spec, place).id
        other = copy_of(place, place.root.parent / "undisturbed")
        confirm(id, other, reporter=short_report)
    store = SqlStore(place.record_url)
    killed: list[tuple[TrialRole, int]] = [("rung", 7), ("confirmed", 1)]
    for role, count in killed:
        with command(place, "confirm", id) as confirming:
            killed_at(confirming, lambda of=role, least=count: store.count(id, of) >= least)  # type: ignore[misc]
        assert store.get(id).state == "succeeded"
        assert store.count(id, role) < {"rung": 10, "confirmed": 4}[role]
    with command(place, "confirm", id) as confirming:
        assert confirming.end() == 0, confirming.said
    assert outcome(place, id) == outcome(other, id)


@pytest.mark.slow
def test_a_check_of_the_ranking_that_is_killed(place: Workspace) -> None:
    spec = request(fidelity={"networks": 8, "steps": 150})
    other = place_in(place.root / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.run.running.Projector", no_projector)
        expected = finish(spec, other).id
        recheck(expected, other, reporter=short_report)
        id = finish(spec, place).id
    store = SqlStore(place.record_url)
    with command(place, "fidelity", id) as checking:
        killed_at(checking, lambda: store.count(id, "fidelity") >= 2)
    assert store.get(id).state == "succeeded"
    assert store.count(id, "fidelity") < 8
    with command(place, "fidelity", id) as checking:
        assert checking.end() == 0, checking.said
    assert outcome(place, id) == outcome(other, expected)
