"""What every search store must do: a store's tests inherit this class and give it a store."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from nas.errors import DuplicateTrial, LeaseLost, SearchNotFound, SearchStateError
from nas.search.trial import Measurement, Trial, TrialRole
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.store.store import Artifact, Lease, SearchState, SearchStore, Spend

SPEC: dict[str, Any] = {
    "name": "first",
    "task": {"name": "digits", "options": {"side": 8}},
    "space": load_space("digits_tiny").to_json(),
    "objectives": ["cross_entropy", "flops"],
    "budget": {"trials": 20, "wall_hours": None},
    "supernet": {"learning_rate": 1e-05},
    "seed": 3,
}


@dataclass
class Clock:
    """Time that passes when a test says so."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def architecture(width: int = 16, depth: int = 2) -> Architecture:
    layer = {"attention": "softmax", "heads": 2, "head_width": 8, "ffn_width": 32}
    other = {**layer, "attention": {"type": "linear", "feature_map": "relu"}}
    layers = [layer, other, *[layer] * (depth - 2)][:depth]
    return Architecture.from_json({"patch_size": 2, "width": width, "layers": layers})


def trial(index: int, role: TrialRole = "search", **changes: Any) -> Trial:
    metrics = {"cross_entropy": 0.1 + index / 7, "flops": 1e6 * (index + 1)}
    made = Trial(role, index, architecture(16 + index), Measurement.of(metrics, 0.25))
    return replace(made, **changes)


Write = Callable[[SearchStore, Lease], object]
WRITES: dict[str, Write] = {
    "set_state": lambda store, lease: store.set_state(lease, "running"),
    "reopen": lambda store, lease: store.reopen(lease),
    "add_facts": lambda store, lease: store.add_facts(lease, {"commit": "abc"}),
    "add_trial": lambda store, lease: store.add_trial(lease, trial(0)),
    "set_front": lambda store, lease: store.set_front(lease, [("search", 0)]),
    "set_artifact": lambda store, lease: store.set_artifact(lease, "a", "a.txt", "0"),
    "record_spend": lambda store, lease: store.record_spend(lease, "search", 1.0),
    "renew": lambda store, lease: store.renew(lease, 60),
}
KINDS = {"search.created", "search.state", "search.facts", "trial", "pareto.updated", "artifact"}
READS: dict[str, Callable[[SearchStore, str], object]] = {
    "get": lambda store, id: store.get(id),
    "trials": lambda store, id: store.trials(id),
    "count": lambda store, id: store.count(id),
    "front": lambda store, id: store.front(id),
    "artifacts": lambda store, id: store.artifacts(id),
    "events": lambda store, id: store.events(id),
    "spent": lambda store, id: store.spent(id),
    "outbox": lambda store, id: store.outbox(id),
    "requeue": lambda store, id: store.requeue(id),
    "acquire": lambda store, id: store.acquire(id, "host:1:1", 60),
    "warm start": lambda store, id: store.create_search(SPEC, warm_start=id),
}


class SearchStoreConformance:
    """Inherit it, with fixtures `store` (empty, on `clock`) and `another` (likewise, elsewhere)."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def lease(self, store: SearchStore) -> Lease:
        return store.acquire(store.create_search(SPEC).id, "host:1:1", 60)

    # -- searches --

    def test_a_new_search_is_queued_and_held_by_nobody(self, store: SearchStore) -> None:
        made = store.create_search(SPEC, facts={"commit": "abc"})
        assert store.get(made.id) == made
        assert (made.name, made.spec, made.state, made.phase) == ("first", SPEC, "queued", "")
        assert (made.attempt, made.error, made.holder, made.expires) == (0, None, None, None)
        assert made.facts == {"commit": "abc"}
        assert made.created == made.updated == "2027-01-15T08:00:00.000000Z"

    def test_searches_come_newest_first(self, store: SearchStore, clock: Clock) -> None:
        ids = []
        for second in range(3):
            clock.now += second
            ids.append(store.create_search(SPEC).id)
        assert [each.id for each in store.searches()] == ids[::-1]
        assert sorted(ids) == ids

    def test_a_warm_start_is_kept(self, store: SearchStore, clock: Clock) -> None:
        first = store.create_search(SPEC)
        clock.now += 1e6
        second = store.create_search(SPEC, warm_start=first.id[:8])
        assert store.get(second.id).warm_start == first.id

    def test_a_prefix_finds_one_search(self, store: SearchStore) -> None:
        first = store.create_search(SPEC)
        assert store.get(first.id[:6].lower()) == first
        second = store.create_search(SPEC)
        with pytest.raises(SearchNotFound, match="any of") as caught:
            store.get(first.id[:6])
        assert first.id in str(caught.value)
        assert second.id in str(caught.value)
        with pytest.raises(SearchNotFound, match=f"at least 6 characters .*{first.id}"):
            store.get(first.id[:5])

    def test_last_is_the_newest(self, store: SearchStore, clock: Clock) -> None:
        with pytest.raises(SearchNotFound, match=r"no search 'last' .* it is empty"):
            store.get("last")
        first = store.create_search(SPEC)
        assert store.get("last") == store.get("LAST") == first
        clock.now += 1
        second = store.create_search(SPEC, warm_start="last")
        assert store.get("last") == second
        assert second.warm_start == first.id

    @pytest.mark.parametrize("name", READS)
    def test_an_unknown_search_is_not_found(self, store: SearchStore, name: str) -> None:
        with pytest.raises(SearchNotFound, match="it is empty"):
            READS[name](store, "01HZZZZZZZZZZZZZZZZZZZZZZZ")
        there = store.create_search(SPEC)
        with pytest.raises(SearchNotFound, match=rf"{there.id} \(first\)"):
            READS[name](store, "01HZZZZZZZZZZZZZZZZZZZZZZZ")

    def test_what_is_returned_is_a_copy(self, store: SearchStore) -> None:
        made = store.create_search(SPEC)
        made.spec["name"] = "changed"
        made.facts["commit"] = "changed"
        assert store.get(made.id).spec == SPEC
        assert store.get(made.id).facts == {}

    # -- leases --

    def test_a_lease_keeps_others_out_until_it_ends(self, store: SearchStore, clock: Clock) -> None:
        id = store.create_search(SPEC).id
        first = store.acquire(id, "host:1:1", 60)
        assert (first.search, first.attempt) == (id, 1)
        assert store.get(id).holder == "host:1:1"
        with pytest.raises(LeaseLost, match=rf"host:1:1 until {first.expires}"):
            store.acquire(id, "host:2:2", 60)
        clock.now += 59
        renewed = store.renew(first, 60)
        clock.now += 59
        with pytest.raises(LeaseLost):
            store.acquire(id, "host:2:2", 60)
        store.add_trial(renewed, trial(0))
        clock.now += 2
        assert store.acquire(id, "host:2:2", 60).attempt == 2

    def test_a_released_lease_is_free(self, store: SearchStore, lease: Lease) -> None:
        store.release(lease)
        assert store.get(lease.search).holder is None
        other = store.acquire(lease.search, "host:2:2", 60)
        store.release(lease)
        assert store.get(lease.search).holder == other.holder

    def test_a_dead_holder_is_followed_at_once(self, store: SearchStore, lease: Lease) -> None:
        asked = []

        def dead(holder: str) -> bool:
            asked.append(holder)
            return False

        with pytest.raises(LeaseLost):
            store.acquire(lease.search, "host:2:2", 60, lambda _: True)
        assert store.acquire(lease.search, "host:2:2", 60, dead).attempt == 2
        assert asked == ["host:1:1"]

    def test_a_holder_may_take_its_own_search_again(self, store: SearchStore, lease: Lease) -> None:
        assert store.acquire(lease.search, lease.holder, 60).attempt == 2
        with pytest.raises(LeaseLost):
            store.add_trial(lease, trial(0))

    @pytest.mark.parametrize("name", WRITES)
    @pytest.mark.parametrize("how", ["released", "taken over"])
    def test_a_lost_lease_writes_nothing(
        self, store: SearchStore, lease: Lease, clock: Clock, name: str, how: str
    ) -> None:
        if how == "released":
            store.release(lease)
        else:
            clock.now += 61
            store.acquire(lease.search, "host:2:2", 60)
        before = store.get(lease.search), store.events(lease.search), store.spent(lease.search)
        with pytest.raises(LeaseLost, match="nothing was written"):
            WRITES[name](store, lease)
        after = store.get(lease.search), store.events(lease.search), store.spent(lease.search)
        assert after == before
        assert store.count(lease.search) == 0
        assert store.artifacts(lease.search) == {}

    @pytest.mark.parametrize("name", WRITES)
    def test_a_lease_that_only_ran_out_still_writes(
        self, store: SearchStore, lease: Lease, clock: Clock, name: str
    ) -> None:
        clock.now += 1000
        WRITES[name](store, lease)

    def test_projection_has_a_lease_of_its_own(self, store: SearchStore, lease: Lease) -> None:
        other = store.acquire(lease.search, "host:2:2", 60, purpose="projection")
        assert other.attempt == 1
        store.add_trial(lease, trial(0))
        store.renew(other, 60)
        store.release(other)
        assert store.get(lease.search).holder == lease.holder

    # -- states --

    def test_state_phase_and_error(self, store: SearchStore, lease: Lease, clock: Clock) -> None:
        clock.now += 5
        running = store.set_state(lease, "running", phase="search")
        assert (running.state, running.phase) == ("running", "search")
        assert running.updated == "2027-01-15T08:00:05.000000Z"
        failed = store.set_state(lease, "failed", error="the disk is full")
        assert (failed.state, failed.phase, failed.error) == (
            "failed",
            "search",
            "the disk is full",
        )
        states = [e.data["state"] for e in store.events(lease.search) if e.kind == "search.state"]
        assert states == ["running", "failed"]

    def test_the_same_state_again_is_no_change(self, store: SearchStore, lease: Lease) -> None:
        store.set_state(lease, "failed", error="broken")
        events = store.events(lease.search)
        assert store.set_state(lease, "failed").error == "broken"
        assert store.events(lease.search) == events

    @pytest.mark.parametrize("end", ["succeeded", "cancelled", "failed"])
    def test_a_terminal_state_never_changes(
        self, store: SearchStore, lease: Lease, end: SearchState
    ) -> None:
        store.set_state(lease, end, phase="search")
        with pytest.raises(SearchStateError, match=f"is {end}"):
            store.set_state(lease, "running")
        # The trials of a confirmation come after the end, in a phase of their own.
        store.add_trial(lease, trial(0, "confirmed"))
        assert store.set_state(lease, end, phase="confirm").phase == "confirm"

    def test_what_can_be_resumed(self, store: SearchStore, lease: Lease) -> None:
        assert store.reopen(lease).state == "queued"
        store.set_state(lease, "running")
        assert store.reopen(lease).state == "running"
        store.set_state(lease, "failed", error="broken")
        again = store.reopen(lease)
        assert (again.state, again.error) == ("queued", None)
        assert store.events(lease.search)[-1].kind == "search.state"
        store.set_state(lease, "succeeded")
        with pytest.raises(SearchStateError, match="is succeeded and cannot be resumed"):
            store.reopen(lease)

    def test_facts_are_added(self, store: SearchStore, lease: Lease) -> None:
        store.add_facts(lease, {"commit": "abc", "data": "1"})
        store.add_facts(lease, {"data": "2"})
        assert store.get(lease.search).facts == {"commit": "abc", "data": "2"}

    # -- trials --

    def test_trials_come_back_equal_and_in_order(self, store: SearchStore, lease: Lease) -> None:
        failed = trial(1, measurement=Measurement.failed("line one\nline two: ü", 2.5))
        infeasible = Measurement.of({"cross_entropy": float("nan"), "flops": 5.0}, 0.5)
        control = trial(0, "homogeneous", label="softmax", measurement=infeasible)
        added = [trial(2), control, trial(0, "random"), failed, trial(0), trial(0, "confirmed")]
        for each in added:
            store.add_trial(lease, each)
        ordered = [added[4], failed, added[0], added[2], control, added[5]]
        assert store.trials(lease.search) == ordered
        assert store.trials(lease.search, "search") == ordered[:3]
        assert store.trials(lease.search, "search", after=0, limit=1) == [failed]
        assert store.count(lease.search) == 6
        assert store.count(lease.search, "search") == 3
        assert store.count(lease.search, "search", "succeeded") == 2
        assert store.count(lease.search, state="infeasible") == 1

    def test_a_trial_is_there_once(self, store: SearchStore, lease: Lease) -> None:
        store.add_trial(lease, trial(0))
        before = store.events(lease.search)
        with pytest.raises(DuplicateTrial, match="search/0"):
            store.add_trial(lease, trial(0, architecture=architecture(64)))
        assert store.trials(lease.search) == [trial(0)]
        assert store.events(lease.search) == before
        store.add_trial(lease, trial(0, "random"))

    def test_searches_keep_apart(self, store: SearchStore, lease: Lease) -> None:
        other = store.acquire(store.create_search(SPEC).id, "host:1:1", 60)
        for each in (lease, other):
            for write in WRITES.values():
                write(store, each)
        for each in (lease, other):
            assert store.count(each.search) == 1
            assert store.spent(each.search) == {"search": Spend(1.0, 0.0)}
            assert {event.search for event in store.events(each.search)} == {each.search}

    # -- front, artifacts, spending --

    def test_the_last_front_counts(self, store: SearchStore, lease: Lease) -> None:
        assert store.front(lease.search) == ()
        store.set_front(lease, [("search", 0), ("search", 2)])
        store.set_front(lease, [("search", 2), ("random", 1)])
        assert store.front(lease.search) == (("search", 2), ("random", 1))
        assert store.events(lease.search)[-1].kind == "pareto.updated"

    def test_artifacts_are_replaced_by_name(self, store: SearchStore, lease: Lease) -> None:
        store.set_artifact(lease, "pareto.json", "out/pareto.json", "1" * 64)
        store.set_artifact(lease, "spec.yaml", "s3://bucket/spec.yaml", "2" * 64)
        store.set_artifact(lease, "pareto.json", "out/pareto.json", "3" * 64)
        assert store.artifacts(lease.search) == {
            "pareto.json": Artifact("pareto.json", "out/pareto.json", "3" * 64),
            "spec.yaml": Artifact("spec.yaml", "s3://bucket/spec.yaml", "2" * 64),
        }

    def test_spending_adds_up_over_attempts(self, store: SearchStore, lease: Lease) -> None:
        store.record_spend(lease, "supernet", 10.0, 20.0)
        store.record_spend(lease, "search", 1.5)
        store.release(lease)
        again = store.acquire(lease.search, "host:2:2", 60)
        store.record_spend(again, "search", 2.0, 0.5)
        assert store.spent(lease.search) == {
            "search": Spend(3.5, 0.5),
            "supernet": Spend(10.0, 20.0),
        }

    # -- events and outbox --

    def test_events_are_in_order_and_can_be_continued(
        self, store: SearchStore, lease: Lease, clock: Clock
    ) -> None:
        store.add_trial(lease, trial(0))
        clock.now += 1
        store.set_artifact(lease, "a", "a.txt", "0")
        events = store.events(lease.search)
        assert [event.kind for event in events] == ["search.created", "trial", "artifact"]
        assert [event.sequence for event in events] == sorted({e.sequence for e in events})
        assert events[1].data == {"role": "search", "index": 0, "state": "succeeded"}
        assert events[2].time == "2027-01-15T08:00:01.000000Z"
        assert store.events(lease.search, after=events[0].sequence) == events[1:]
        assert store.events(lease.search, after=events[0].sequence, limit=1) == events[1:2]

    def test_the_outbox_holds_what_is_not_told(self, store: SearchStore, lease: Lease) -> None:
        later = store.create_search(SPEC).id
        for write in WRITES.values():
            write(store, lease)
        waiting = store.events(lease.search)
        assert {event.kind for event in waiting} == KINDS
        assert store.outbox(lease.search) == waiting
        assert store.outbox(lease.search, limit=2) == waiting[:2]
        assert store.unprojected() == [lease.search, later]
        # One in the middle first: what was written before it must not be taken for told.
        store.mark_projected([waiting[1].sequence])
        assert store.outbox(lease.search) == [waiting[0], *waiting[2:]]
        store.mark_projected([event.sequence for event in waiting])
        store.mark_projected([])
        assert store.outbox(lease.search) == []
        assert store.unprojected() == [later]
        store.requeue(lease.search)
        assert store.outbox(lease.search) == waiting

    # -- restoring --

    def test_an_imported_search_is_the_same(
        self, store: SearchStore, another: SearchStore, lease: Lease
    ) -> None:
        store.set_state(lease, "running", phase="search")
        for each in (trial(0), trial(1), trial(0, "random")):
            store.add_trial(lease, each)
        store.add_facts(lease, {"commit": "abc"})
        store.set_front(lease, [("search", 1)])
        store.set_artifact(lease, "pareto.json", "out/pareto.json", "1" * 64)
        store.record_spend(lease, "search", 1.5, 2.0)
        store.release(lease)
        record, trials = store.get(lease.search), store.trials(lease.search)

        def restore() -> None:
            another.import_search(
                record,
                trials,
                artifacts=store.artifacts(lease.search).values(),
                front=store.front(lease.search),
                spent=store.spent(lease.search),
            )

        restore()
        events = another.events(lease.search)
        restore()
        for read in ("get", "trials", "front", "artifacts", "spent"):
            assert READS[read](another, lease.search) == READS[read](store, lease.search)
        assert another.events(lease.search) == events
        assert another.unprojected() == []
        # What is told anew later is everything that a reader needs.
        another.requeue(lease.search)
        kinds = {event.kind for event in another.outbox(lease.search)}
        assert kinds == {"search.created", "trial", "artifact", "pareto.updated"}
        # The next attempt cannot be taken for one before the loss.
        assert another.acquire(lease.search, "host:3:3", 60).attempt == 2

    def test_an_import_adds_and_changes_nothing(self, store: SearchStore, lease: Lease) -> None:
        store.add_trial(lease, trial(0))
        store.set_front(lease, [("search", 0)])
        older = replace(store.get(lease.search), name="older", state="queued", attempt=0)
        store.set_state(lease, "running")
        other = trial(0, architecture=architecture(64))
        store.import_search(older, [other, trial(1)], front=[("search", 1)])
        assert store.trials(lease.search) == [trial(0), trial(1)]
        assert store.front(lease.search) == (("search", 0),)
        assert (store.get(lease.search).name, store.get(lease.search).state) == ("first", "running")
        store.add_trial(lease, trial(2))
