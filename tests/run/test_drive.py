"""A service's attempt stops where it is asked to and goes on as if it had not; a stale one does
nothing."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from nas.errors import (
    MachineUnavailable,
    SearchNotFound,
    SearchStateError,
    StoreUnavailable,
    TrainingDiverged,
)
from nas.run import drive as driving
from nas.run import search
from nas.run.drive import drive
from nas.run.lease import LEASE_SECONDS, holder
from nas.run.running import Listener, Update
from nas.run.settling import settle
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.store.serving import Desired
from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from tests.run.cases import RECIPE, environment, finish, outcome, place_in, request, short_report
from tests.run.conftest import Finished
from tests.run.processes import command, driver

# Long enough for a process that looks every second.
LONG = {"budget": {"trials": 120}, "supernet": RECIPE}


class Served:
    """A workspace whose searches a service runs."""

    def __init__(self, place: Workspace) -> None:
        self.place = place
        self.store, self.serving = SqlStore(place.record_url), ServingSqlStore(place.record_url)

    def submitted(self, spec: SearchSpec) -> str:
        """A search that is wanted to run, its first attempt begun."""
        with self.serving.once("me", None, "") as once:
            id = once.create_search(spec.to_json(), owner="me").id
        assert self.serving.begin_attempt(id, 0) is not None
        return id

    def wish(self, id: str, desired: Desired) -> None:
        with self.serving.once("me", None, "") as once:
            once.set_desired(id, desired)

    def again(self, id: str) -> int:
        """Wants it to run, as the next attempt."""
        self.wish(id, "run")
        last = self.serving.attempts(id)[-1].number
        attempt = self.serving.begin_attempt(id, last)
        assert attempt is not None
        return attempt.number

    def drive(self, id: str, number: int = 1, **more: object) -> list[str]:
        """The driver in this process; what it says."""
        said: list[str] = []
        drive(id, number, self.place, reporter=short_report, say=said.append, **more)  # type: ignore[arg-type]
        return said

    def wishing(self, id: str, desired: Desired, phase: str, done: int = 3) -> Listener:
        """A listener that wishes when a phase has come so far, and waits to be interrupted."""

        def wish(update: Update) -> None:
            if (update.phase, update.done) == (phase, done):
                self.wish(id, desired)
                assert threading.Event().wait(60)

        return wish

    def record(self, id: str) -> SearchRecord:
        return self.store.get(id)


@pytest.fixture
def served(place: Workspace) -> Served:
    return Served(place)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "LOOK_SECONDS", 0.02)


# -- the process itself --


def paused_in_a_process(served: Served, id: str) -> None:
    with driver(served.place, id, 1) as first:
        first.until(lambda: served.store.count(id) >= 2)
        served.wish(id, "pause")
        assert first.end() == 0, first.said
        assert first.said.endswith(f"pause was asked for\nsearch {id} is paused\n")
    paused = served.record(id)
    assert (paused.state, paused.phase, paused.holder) == ("paused", "search", None)


def test_a_process_is_paused(served: Served) -> None:
    id = served.submitted(request(**LONG))
    paused_in_a_process(served, id)
    kept = served.store.trials(id)
    assert [each.index for each in kept] == list(range(len(kept)))
    assert 2 <= len(kept) < 120


@pytest.mark.slow
@pytest.mark.usefixtures("without_mlflow")
def test_another_process_goes_on(served: Served) -> None:
    id = served.submitted(request(**LONG))
    paused_in_a_process(served, id)
    kept = served.store.trials(id)
    number = served.again(id)
    with driver(served.place, id, number) as second:
        second.until(lambda: served.store.count(id) > len(kept))
        second.kill()
    with driver(served.place, id, number) as third:
        assert third.end() == 0, third.said
        assert "report: 1 of 1" in third.said
    assert served.record(id).state == "succeeded"
    assert served.store.trials(id)[: len(kept)] == kept
    assert {"pareto.html", "trials.parquet"} <= served.store.artifacts(id).keys()
    undisturbed = place_in(served.place.root.parent / "undisturbed")
    other = finish(request(**LONG), undisturbed).id
    assert outcome(served.place, id) == outcome(undisturbed, other)


@pytest.mark.slow
def test_a_process_is_cancelled_with_all_its_trials(served: Served) -> None:
    id = served.submitted(request(**LONG))
    with driver(served.place, id, 1) as first:
        first.until(lambda: served.store.count(id) >= 6)
        served.wish(id, "cancel")
        assert first.end() == 0, first.said
    record, count = served.record(id), served.store.count(id)
    assert (record.state, record.holder) == ("cancelled", None)
    assert 6 <= count < 120
    # Neither by hand nor by another attempt.
    with command(served.place, "search", "--resume", id) as by_hand:
        assert by_hand.end() == 2
    assert "is cancelled and cannot be resumed" in by_hand.said
    assert served.serving.begin_attempt(id, 1) is None
    assert (served.record(id).state, served.store.count(id)) == ("cancelled", count)


@pytest.mark.slow
def test_a_process_that_is_told_to_end_leaves_the_search_to_the_next(served: Served) -> None:
    id = served.submitted(request(**LONG))
    with driver(served.place, id, 1) as first:
        first.until(lambda: served.store.count(id) >= 2)
        first.process.send_signal(signal.SIGTERM)
        assert first.end() == 130, first.said
    assert (served.record(id).state, served.record(id).holder) == ("running", None)


def test_what_is_not_to_run_loads_no_torch(served: Served) -> None:
    id = served.submitted(request())
    served.again(id)
    script = (
        f"import sys; sys.argv[1:] = ['{id}', '1']\n"
        "from nas.cli.drive import main\n"
        "assert main() == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'plotly'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    here = {"NAS_HOME": str(served.place.root), "NAS_DATABASE_URL": served.place.record_url}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(os.environ, **here),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"attempt 1 of search {id} has nothing to do: the newest attempt is 2\n"


# -- its parts --


@pytest.mark.usefixtures("without_mlflow")
class TestDrive:
    def test_to_the_end(self, served: Served, finished: Finished) -> None:
        id = served.submitted(finished.spec)
        assert served.drive(id) == []
        assert served.record(id).state == "succeeded"
        assert outcome(served.place, id) == outcome(finished.place, finished.id)

    @pytest.mark.parametrize(
        ("at", "done"),
        [
            ("supernet", 10),
            ("search", 3),
            pytest.param("random", 3, marks=pytest.mark.slow),
            pytest.param("report", 0, marks=pytest.mark.slow),
        ],
    )
    def test_paused_and_resumed_as_if_it_had_not_been(
        self, served: Served, finished: Finished, at: str, done: int
    ) -> None:
        id = served.submitted(finished.spec)
        said = served.drive(id, listener=served.wishing(id, "pause", at, done))
        assert said[-1] == f"search {id} is paused"
        paused, kept = served.record(id), served.store.trials(id)
        assert (paused.state, paused.holder) == ("paused", None)
        assert paused.phase == {"random": "controls"}.get(at, at)
        served.drive(id, served.again(id))
        assert [each for each in served.store.trials(id) if each in kept] == kept
        assert served.record(id).state == "succeeded"
        assert outcome(served.place, id) == outcome(finished.place, finished.id)

    def test_cancelled_with_all_its_trials(self, served: Served) -> None:
        id = served.submitted(request())
        served.drive(id, listener=served.wishing(id, "cancel", "search"))
        assert (served.record(id).state, served.store.count(id)) == ("cancelled", 3)
        with pytest.raises(SearchStateError, match="is cancelled and cannot be resumed"):
            search.run(id, served.place, reporter=short_report)
        assert served.serving.begin_attempt(id, 1) is None
        assert (served.record(id).state, served.store.count(id)) == ("cancelled", 3)

    def test_a_stale_attempt_touches_nothing(self, served: Served) -> None:
        id = served.submitted(request())
        served.again(id)
        before = served.record(id), served.store.events(id)
        for number in (0, 1, 3):
            (said,) = served.drive(id, number)
            assert said.endswith("the newest attempt is 2")
        assert (served.record(id), served.store.events(id)) == before

    @pytest.mark.parametrize(("desired", "state"), [("pause", "paused"), ("cancel", "cancelled")])
    def test_one_that_is_not_wanted_does_not_begin(
        self, served: Served, desired: Desired, state: str
    ) -> None:
        id = served.submitted(request())
        served.wish(id, desired)
        assert served.drive(id)[-1] == f"search {id} is {state}"
        assert (served.record(id).state, served.store.count(id)) == (state, 0)

    def test_a_newer_attempt_ends_an_older_one(self, served: Served) -> None:
        id = served.submitted(request())

        def overtake(update: Update) -> None:
            if (update.phase, update.done) == ("search", 3):
                served.again(id)
                assert threading.Event().wait(60)

        said = served.drive(id, listener=overtake)
        assert said == [f"attempt 1 of search {id} has stopped: the newest attempt is 2"]
        assert (served.record(id).state, served.record(id).holder) == ("running", None)

    def test_wanted_again_before_it_rests(self, served: Served) -> None:
        id = served.submitted(request())
        pause = served.wishing(id, "pause", "search")

        def change_of_mind(update: Update) -> None:
            try:
                pause(update)
            except KeyboardInterrupt:
                served.wish(id, "run")
                raise

        said = served.drive(id, listener=change_of_mind)
        assert said == [f"attempt 1 of search {id} has stopped: pause was asked for"]
        # Nobody rests it: the next attempt goes on.
        assert served.record(id).state == "running"
        served.drive(id, served.again(id))
        assert served.record(id).state == "succeeded"

    def test_ctrl_c_of_somebody_else_is_passed_on(self, served: Served) -> None:
        id = served.submitted(request())

        def interrupt(update: Update) -> None:
            if (update.phase, update.done) == ("search", 3):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            served.drive(id, listener=interrupt)
        assert served.record(id).state == "running"

    def test_a_lost_machine_fails_no_search(self, served: Served) -> None:
        id = served.submitted(request())

        def lose(update: Update) -> None:
            if (update.phase, update.done) == ("search", 3):
                raise MachineUnavailable("Ray's head is gone")

        with pytest.raises(MachineUnavailable):
            served.drive(id, listener=lose)
        assert (served.record(id).state, served.record(id).error) == ("running", None)
        served.drive(id, served.again(id))
        assert served.record(id).state == "succeeded"

    def test_what_nobody_can_mend_fails_it(self, served: Served) -> None:
        id = served.submitted(request())

        def diverge(update: Update) -> None:
            if update.phase == "supernet":
                raise TrainingDiverged("the loss is not finite")

        with pytest.raises(TrainingDiverged):
            served.drive(id, listener=diverge)
        assert served.record(id).state == "failed"

    def test_a_record_that_is_away_is_waited_for(
        self, served: Served, finished: Finished, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id = served.submitted(finished.spec)
        asked = iter([StoreUnavailable("still away"), StoreUnavailable("still away"), None])

        def last_sequence(_: ServingSqlStore) -> int:
            if (error := next(asked)) is not None:
                raise error
            return 0

        monkeypatch.setattr(ServingSqlStore, "last_sequence", last_sequence)
        lost = iter([True])

        def lose(update: Update) -> None:
            if (update.phase, update.done) == ("search", 7) and next(lost, False):
                raise StoreUnavailable("the server has gone away")

        said = served.drive(id, listener=lose)
        assert said == ["waiting for the record: the server has gone away"]
        assert next(asked, "all asked") == "all asked"
        assert served.record(id).state == "succeeded"
        assert outcome(served.place, id) == outcome(finished.place, finished.id)

    def test_a_record_that_takes_no_trial_ends_the_attempt(self, served: Served) -> None:
        id = served.submitted(request())

        def full(update: Update) -> None:
            if update.phase == "search":
                raise StoreUnavailable("the disk is full")

        with pytest.raises(StoreUnavailable, match="disk is full"):
            served.drive(id, listener=full)
        assert served.record(id).state == "running"

    def test_by_hand_a_paused_one_goes_on(self, served: Served, finished: Finished) -> None:
        id = served.submitted(finished.spec)
        served.wish(id, "pause")
        assert settle(served.store, served.serving, id)
        record = search.run(id, served.place, reporter=short_report)
        assert record.state == "succeeded"
        assert outcome(served.place, id) == outcome(finished.place, finished.id)

    def test_by_hand_nothing_that_is_to_be_cancelled(self, served: Served) -> None:
        id = served.submitted(request())
        served.wish(id, "cancel")
        with pytest.raises(SearchStateError, match="is cancelling and cannot be resumed"):
            search.run(id, served.place, reporter=short_report)
        assert settle(served.store, served.serving, id)
        assert served.record(id).state == "cancelled"


class TestSettle:
    @pytest.mark.parametrize(("desired", "state"), [("pause", "paused"), ("cancel", "cancelled")])
    def test_it_rests_once(self, served: Served, desired: Desired, state: str) -> None:
        id = served.submitted(request())
        lease = served.store.acquire(id, "gone:1:1", 0)
        served.store.set_state(lease, "running", phase="search")
        served.wish(id, desired)
        assert settle(served.store, served.serving, id)
        record = served.record(id)
        assert (record.state, record.phase, record.holder) == (state, "search", None)
        events = served.store.events(id)
        assert settle(served.store, served.serving, id)
        assert served.store.events(id) == events
        assert served.record(id) == record

    def test_what_is_to_run_is_left_alone(self, served: Served) -> None:
        id = served.submitted(request())
        before = served.record(id)
        assert not settle(served.store, served.serving, id)
        assert served.record(id) == before

    def test_a_live_holder_is_left_alone(self, served: Served) -> None:
        id = served.submitted(request())
        served.wish(id, "cancel")
        lease = served.store.acquire(id, "elsewhere:1:1", LEASE_SECONDS)
        assert not settle(served.store, served.serving, id)
        assert served.record(id).state == "queued"
        served.store.release(lease)
        assert settle(served.store, served.serving, id)

    @pytest.mark.parametrize("end", ["succeeded", "failed"])
    def test_an_end_stays(self, served: Served, end: str) -> None:
        id = served.submitted(request())
        lease = served.store.acquire(id, holder(), LEASE_SECONDS)
        served.store.set_state(lease, end)  # type: ignore[arg-type]
        served.store.release(lease)
        served.wish(id, "cancel")
        assert not settle(served.store, served.serving, id)
        assert served.record(id).state == end

    def test_a_search_of_a_terminal_is_to_run(self, served: Served) -> None:
        id = submit(request(), served.place).id
        assert not settle(served.store, served.serving, id)
        with pytest.raises(SearchNotFound):
            settle(served.store, served.serving, "0" * 26)
