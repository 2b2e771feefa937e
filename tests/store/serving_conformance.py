"""What every serving store must do: a store's tests inherit this class and give it a store."""

import threading
from typing import Any

import pytest

from nas.errors import (
    DuplicateName,
    IdempotencyConflict,
    OperationNotFound,
    SearchNotFound,
    SearchStateError,
    SpecError,
    TokenNotFound,
)
from nas.search.trial import Measurement, Trial
from nas.store.serving import Attempt, Desired, Reply, ServingStore, TrialRow, Wish
from nas.store.store import SearchState, SearchStore, Spend
from tests.store.conformance import SPEC, Clock, trial

REPLY = Reply(201, {"Location": "/api/v1/searches/1"}, {"id": "1", "note": None})
DAY = 86_400.0
UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def made(serving: ServingStore, owner: str = "me", **changes: Any) -> str:
    """A new search of an owner."""
    with serving.once(owner, None, "") as once:
        return once.create_search({**SPEC, **changes}, owner=owner).id


def wished(serving: ServingStore, search: str, desired: Desired) -> Wish:
    with serving.once("me", None, "") as once:
        return once.set_desired(search, desired)


def brought(store: SearchStore, search: str, state: SearchState) -> None:
    lease = store.acquire(search, "host:1:1", 60)
    store.set_state(lease, state)
    store.release(lease)


def add(store: SearchStore, search: str, trials: list[Trial]) -> None:
    lease = store.acquire(search, "host:1:1", 60)
    for each in trials:
        store.add_trial(lease, each)
    store.release(lease)


class ServingStoreConformance:
    """Inherit it, with fixtures `serving` and `store`, both of one empty record, on `clock`."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    # -- one transaction, once --

    def test_a_replay_answers_as_it_was_answered_first(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        with serving.once("me", "key", "digest") as once:
            assert once.replay is None
            once.create_search(SPEC, owner="me")
            once.reply(REPLY)
        for _ in range(2):
            with serving.once("me", "key", "digest") as once:
                assert once.replay == REPLY
        assert len(store.searches()) == 1

    def test_a_key_is_its_owners(self, serving: ServingStore) -> None:
        with serving.once("me", "key", "digest") as once:
            once.reply(REPLY)
        with serving.once("you", "key", "another") as once:
            assert once.replay is None

    def test_without_a_key_nothing_is_kept(self, serving: ServingStore) -> None:
        for _ in range(2):
            with serving.once("me", None, "digest") as once:
                assert once.replay is None
                once.reply(REPLY)

    def test_an_answer_may_have_no_body(self, serving: ServingStore) -> None:
        with serving.once("me", "key", "digest") as once:
            once.reply(Reply(204))
        with serving.once("me", "key", "digest") as once:
            assert once.replay == Reply(204, {}, None)

    def test_a_key_stands_for_one_request(self, serving: ServingStore, store: SearchStore) -> None:
        with serving.once("me", "key", "digest") as once:
            once.reply(REPLY)
        with (
            pytest.raises(IdempotencyConflict, match=r"'key': at 2027-01-15T08.*another request"),
            serving.once("me", "key", "another") as once,
        ):
            once.create_search(SPEC, owner="me")
        assert store.searches() == []

    def test_a_key_is_forgotten_after_a_day(self, serving: ServingStore, clock: Clock) -> None:
        with serving.once("me", "key", "digest") as once:
            once.reply(REPLY)
        clock.now += DAY - 1
        with serving.once("me", "key", "digest") as once:
            assert once.replay == REPLY
        clock.now += 2
        with serving.once("me", "key", "another") as once:
            assert once.replay is None
            once.reply(Reply(200))
        with serving.once("me", "key", "another") as once:
            assert once.replay == Reply(200)

    def test_an_error_leaves_nothing(self, serving: ServingStore, store: SearchStore) -> None:
        class Broken(Exception):
            pass

        def break_off() -> None:
            with serving.once("me", "key", "digest") as once:
                once.create_search(SPEC, owner="me")
                once.create_operation("train", "abc", owner="me")
                once.reply(REPLY)
                raise Broken

        with pytest.raises(Broken):
            break_off()
        assert (store.searches(), serving.operations()) == ([], [])
        assert serving.last_sequence() == 0
        # The request may come again, and another one too.
        with serving.once("me", "key", "another") as once:
            assert once.replay is None

    def test_what_was_not_answered_may_come_again(self, serving: ServingStore) -> None:
        with serving.once("me", "key", "digest"):
            pass
        with serving.once("me", "key", "another") as once:
            assert once.replay is None

    def test_the_same_request_in_many_threads_is_done_once(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        replies: list[Reply | None] = []
        together = threading.Barrier(8)

        def ask() -> None:
            together.wait()
            with serving.once("me", "key", "digest") as once:
                replies.append(once.replay)
                if once.replay is None:
                    once.create_search(SPEC, owner="me")
                    once.reply(REPLY)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies.count(None) == 1
        assert replies.count(REPLY) == 7
        assert len(store.searches()) == 1

    # -- searches and wishes --

    def test_a_new_search_is_wanted_to_run(self, serving: ServingStore, store: SearchStore) -> None:
        earlier = made(serving)
        with serving.once("me", None, "") as once:
            record = once.create_search(
                SPEC, owner="me", warm_start=earlier[:10], facts={"commit": "abc"}
            )
        assert store.get(record.id) == record
        assert (record.state, record.facts, record.warm_start) == (
            "queued",
            {"commit": "abc"},
            earlier,
        )
        assert serving.wish(record.id) == Wish(record.id, "me", "run", record.created)
        assert [event.kind for event in store.outbox(record.id)] == ["search.created"]
        with (
            pytest.raises(SearchNotFound, match=UNKNOWN),
            serving.once("me", None, "") as once,
        ):
            once.create_search(SPEC, owner="me", warm_start=UNKNOWN)

    def test_a_wish_is_an_event_that_waits_for_nobody(
        self, serving: ServingStore, store: SearchStore, clock: Clock
    ) -> None:
        id = made(serving)
        clock.now += 5
        expected = Wish(id, "me", "pause", "2027-01-15T08:00:05.000000Z")
        assert wished(serving, id, "pause") == serving.wish(id) == expected
        clock.now += 5
        assert wished(serving, id, "pause") == expected
        told = [event for event in store.events(id) if event.kind == "search.desired"]
        assert [event.data for event in told] == [{"desired": "pause"}]
        assert "search.desired" not in {event.kind for event in store.outbox(id)}
        with serving.once("me", None, "") as once:
            assert once.wish(id) == (store.get(id), expected)

    def test_a_search_of_a_terminal_has_no_owner(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        id = store.create_search(SPEC).id
        assert serving.wish(id) == Wish(id)
        assert serving.unsettled() == []
        assert serving.begin_attempt(id, 0) is None
        assert [(record.id, wish) for record, wish in serving.search_page(size=9)] == [
            (id, Wish(id))
        ]
        assert serving.search_page(size=9, owner="") == []
        assert (wished(serving, id, "cancel").owner, serving.wish(id).desired) == ("", "cancel")
        assert [record.id for record, _, _ in serving.unsettled()] == [id]

    def test_what_is_to_be_cancelled_is_not_resumed(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        id = made(serving)
        lease = store.acquire(id, "host:1:1", 60)
        wished(serving, id, "pause")
        store.set_state(lease, "paused")
        assert store.reopen(lease).state == "paused"
        wished(serving, id, "cancel")
        with pytest.raises(SearchStateError, match="is cancelling and cannot be resumed"):
            store.reopen(lease)
        assert store.get(id).state == "paused"

    def test_pages_of_searches(
        self, serving: ServingStore, store: SearchStore, clock: Clock
    ) -> None:
        ids = []
        for number in range(7):
            clock.now += 1
            owner, name = ("me", "even") if number % 2 == 0 else ("you", "odd")
            ids.append(made(serving, owner, name=name))
        brought(store, ids[2], "failed")
        brought(store, ids[5], "succeeded")
        found: list[str] = []
        while page := serving.search_page(size=3, before=found[-1] if found else None):
            assert len(page) <= 3
            found += [record.id for record, _ in page]
        assert found == ids[::-1]

        def of(**filters: Any) -> list[str]:
            return [record.id for record, _ in serving.search_page(size=9, **filters)]

        assert of(owner="me") == of(name="even") == ids[::-2]
        assert of(states=["failed", "succeeded"]) == [ids[5], ids[2]]
        assert of(owner="me", states=["queued"], before=ids[6]) == [ids[4], ids[0]]
        assert of(name="eve") == []
        record, wish = serving.search_page(size=1)[0]
        assert (record, wish.owner, wish.desired) == (store.get(ids[6]), "me", "run")

    def test_unfinished_ones_are_counted(self, serving: ServingStore, store: SearchStore) -> None:
        ids = [made(serving, owner) for owner in ("me", "me", "you")]
        store.create_search(SPEC)
        brought(store, ids[0], "cancelled")
        with serving.once("me", None, "") as once:
            assert (once.unfinished("me"), once.unfinished("you"), once.unfinished()) == (1, 1, 3)
            once.create_search(SPEC, owner="me")
            assert once.unfinished("me") == 2

    # -- trials and events --

    def test_pages_of_trials_come_as_they_came(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        id, other = made(serving), made(serving)
        failed = Measurement.failed("broken", 0.5)
        trials = [trial(index) for index in (1, 0, *range(2, 250))]
        trials += [trial(index, "random", label="random") for index in range(50)]
        trials[7] = trial(trials[7].index, measurement=failed)
        trials += [trial(0, "homogeneous", measurement=failed)]
        # Two searches write at the same time.
        for begin in range(0, len(trials), 50):
            add(store, id, trials[begin : begin + 50])
            add(store, other, [trial(begin)])
        got: list[TrialRow] = []
        while page := serving.trial_page(id, size=40, after=got[-1].place if got else 0):
            assert len(page) <= 40
            got += page
        assert [row.place for row in got] == list(range(1, 302))
        assert [(row.role, row.index) for row in got] == [
            (each.role, each.index) for each in trials
        ]
        row, given = got[255], trials[255]
        assert (row.label, row.architecture_id) == ("random", given.architecture.id)
        assert (row.architecture, row.metrics) == (given.architecture.to_json(), given.metrics)
        assert (row.state, row.reason, row.seconds) == ("succeeded", "", 0.25)
        assert row.time == "2027-01-15T08:00:00.000000Z"
        controls = serving.trial_page(id, size=1000, role="random")
        assert [row.place for row in controls] == list(range(251, 301))
        assert serving.trial_page(id, size=5, after=260, role="random") == controls[10:15]
        broken = serving.trial_page(id, size=10, state="failed")
        assert [(row.place, row.reason) for row in broken] == [(8, "broken"), (301, "broken")]
        assert [
            row.place for row in serving.trial_page(id, size=9, role="search", state="failed")
        ] == [8]
        assert serving.trial_page(id, size=9, after=301) == []
        # What comes later comes behind what was there.
        add(store, id, [trial(250)])
        assert [(r.place, r.index) for r in serving.trial_page(id, size=9, after=300)][1:] == [
            (302, 250)
        ]

    def test_one_trial_and_all_scores(self, serving: ServingStore, store: SearchStore) -> None:
        id = made(serving)
        assert serving.scores(id) == []
        add(store, id, [trial(1), trial(0), trial(0, "random")])
        rows = serving.trial_page(id, size=9)
        assert serving.trial(id, "search", 0) == rows[1]
        assert serving.trial(id, "random", 0) == rows[2]
        assert serving.trial(id, "confirmed", 0) is None
        scores = serving.scores(id)
        assert [vars(score) for score in scores] == [
            {name: vars(row)[name] for name in vars(scores[0])} for row in rows
        ]
        assert serving.scores(id, after=2) == scores[2:]
        assert serving.scores(id, after=3) == []

    def test_trials_of_one_architecture(
        self, serving: ServingStore, store: SearchStore, clock: Clock
    ) -> None:
        ids = []
        for _ in range(3):
            clock.now += 1
            ids.append(made(serving))
            add(store, ids[-1], [trial(1), trial(0), trial(0, "random")])
        wanted = trial(0).architecture.id
        found = serving.trials_of_architecture(wanted, 5)
        assert [search for search, _ in found] == [ids[2], ids[2], ids[1], ids[1], ids[0]]
        for search, row in found:
            assert serving.trial(search, row.role, row.index) == row
        assert {(row.role, row.place) for _, row in found} == {("search", 2), ("random", 3)}
        assert serving.trials_of_architecture("unknown", 5) == []

    def test_progress(self, serving: ServingStore, store: SearchStore) -> None:
        first, second, third = (made(serving) for _ in range(3))
        add(store, first, [trial(0), trial(1), trial(0, "random")])
        add(store, third, [trial(0)])
        assert serving.progress([first, second]) == {first: {"search": 2, "random": 1}, second: {}}
        assert serving.progress([]) == {}

    def test_events_of_all_searches(self, serving: ServingStore, store: SearchStore) -> None:
        assert serving.last_sequence() == 0
        first, second = made(serving), made(serving)
        add(store, second, [trial(0)])
        wished(serving, first, "pause")
        events = serving.events_after(0, 100)
        assert [(event.search, event.kind) for event in events] == [
            (first, "search.created"),
            (second, "search.created"),
            (second, "trial"),
            (first, "search.desired"),
        ]
        assert events[-1].sequence == serving.last_sequence()
        assert serving.events_after(events[0].sequence, 2) == events[1:3]
        assert serving.events_of(first, ["search.desired", "trial"]) == [events[3]]
        assert serving.events_of(second, ["search.created", "trial"]) == events[1:3]

    @pytest.mark.parametrize(
        "read",
        [
            lambda serving: serving.wish(UNKNOWN),
            lambda serving: serving.trial_page(UNKNOWN, size=1),
            lambda serving: serving.trial(UNKNOWN, "search", 0),
            lambda serving: serving.scores(UNKNOWN),
            lambda serving: serving.events_of(UNKNOWN, ["trial"]),
            lambda serving: serving.attempts(UNKNOWN),
            lambda serving: wished(serving, UNKNOWN, "pause"),
        ],
    )
    def test_an_unknown_search(self, serving: ServingStore, read: Any) -> None:
        made(serving)
        with pytest.raises(SearchNotFound, match=rf"{UNKNOWN}.*\(first\)"):
            read(serving)

    # -- deletion --

    def test_what_is_deleted_is_gone_with_all(
        self, serving: ServingStore, store: SearchStore
    ) -> None:
        id, other = made(serving), made(serving)
        for each in (other, id):
            serving.begin_attempt(each, 0)
            lease = store.acquire(each, "host:1:1", 60)
            store.add_trial(lease, trial(0))
            store.set_artifact(lease, "a", "a.txt", "0")
            store.record_spend(lease, "search", 1.0)
            store.set_state(lease, "succeeded")
            store.release(lease)
            with serving.once("me", None, "") as once:
                operation = once.create_operation("train", "abc", owner="me", search=each)
            serving.change_operation(operation.id, "succeeded")
        last = serving.last_sequence()
        with serving.once("me", None, "") as once:
            once.delete_search(id)
        for read in (store.get, store.trials, serving.wish, serving.attempts):
            with pytest.raises(SearchNotFound):
                read(id)
        assert [record.id for record, _ in serving.search_page(size=9)] == [other]
        assert {event.search for event in serving.events_after(0, 100)} == {other}
        assert [each.search for each in serving.operations()] == [other]
        assert serving.progress([id, other]) == {id: {}, other: {"search": 1}}
        assert store.spent(other) == {"search": Spend(1.0, 0.0)}
        # A number is never given out again.
        made(serving)
        assert serving.last_sequence() > last

    @pytest.mark.parametrize("state", ["queued", "running", "paused"])
    def test_what_is_unfinished_stays(
        self, serving: ServingStore, store: SearchStore, state: SearchState
    ) -> None:
        id = made(serving)
        brought(store, id, state)
        with (
            pytest.raises(SearchStateError, match=f"is {state}; one that is"),
            serving.once("me", None, "") as once,
        ):
            once.delete_search(id)
        assert serving.wish(id).owner == "me"

    def test_what_is_still_needed_stays(
        self, serving: ServingStore, store: SearchStore, clock: Clock
    ) -> None:
        id = made(serving)
        brought(store, id, "succeeded")

        def delete() -> None:
            with serving.once("me", None, "") as once:
                once.delete_search(id)

        confirming = store.acquire(id, "host:2:2", 60)
        with pytest.raises(SearchStateError, match="is held by host:2:2"):
            delete()
        store.release(confirming)
        with serving.once("me", None, "") as once:
            warm = once.create_search(SPEC, owner="me", warm_start=id).id
        with pytest.raises(SearchStateError, match=f"search {warm}, which is not finished"):
            delete()
        brought(store, warm, "cancelled")
        with serving.once("me", None, "") as once:
            operation = once.create_operation("export", "abc", owner="me", search=id).id
        with pytest.raises(SearchStateError, match=f"operation {operation} on it"):
            delete()
        serving.change_operation(operation, "cancelled")
        # A holder that died without a word is waited for as long as its lease is.
        store.acquire(id, "host:2:2", 60)
        clock.now += 61
        delete()
        assert [record.id for record, _ in serving.search_page(size=9)] == [warm]

    # -- attempts --

    def test_attempts_one_after_the_other(self, serving: ServingStore, clock: Clock) -> None:
        id = made(serving)
        ((record, wish, none),) = serving.unsettled()
        assert (record.id, wish.desired, none) == (id, "run", None)
        first = serving.begin_attempt(id, 0)
        assert first == Attempt(id, 1, f"{id}-1", "2027-01-15T08:00:00.000000Z")
        assert serving.begin_attempt(id, 0) is None
        assert serving.begin_attempt(id, 2) is None
        assert serving.unsettled()[0][2] == first
        clock.now += 1
        serving.end_attempt(id, 1, "lost")
        clock.now += 1
        serving.end_attempt(id, 1, "later")
        second = serving.begin_attempt(id, 1)
        assert second is not None
        ended = Attempt(id, 1, f"{id}-1", first.started, "2027-01-15T08:00:01.000000Z", "lost")
        assert serving.attempts(id) == [ended, second]
        assert serving.unsettled()[0][2] == second
        serving.end_attempt(id, 7, "never begun")

    @pytest.mark.parametrize("desired", ["pause", "cancel"])
    def test_none_for_what_is_not_wanted(self, serving: ServingStore, desired: Desired) -> None:
        id = made(serving)
        wished(serving, id, desired)
        assert serving.begin_attempt(id, 0) is None
        assert serving.attempts(id) == []
        if desired == "pause":
            wished(serving, id, "run")
            assert serving.begin_attempt(id, 0) is not None

    @pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
    def test_none_for_what_is_over(
        self, serving: ServingStore, store: SearchStore, state: SearchState
    ) -> None:
        id = made(serving)
        brought(store, id, state)
        assert serving.begin_attempt(id, 0) is None
        assert serving.unsettled() == []

    def test_unsettled_ones_the_oldest_first(
        self, serving: ServingStore, store: SearchStore, clock: Clock
    ) -> None:
        ids = []
        for state in ("queued", "running", "paused", "succeeded"):
            clock.now += 1
            ids.append(made(serving))
            brought(store, ids[-1], state)
        for number in range(12):
            assert serving.begin_attempt(ids[1], number) is not None
        found = serving.unsettled()
        assert [record.id for record, _, _ in found] == ids[:3]
        assert [attempt and attempt.number for _, _, attempt in found] == [None, 12, None]
        assert [each.number for each in serving.attempts(ids[1])] == list(range(1, 13))

    def test_one_of_many_threads_begins_an_attempt(self, serving: ServingStore) -> None:
        id = made(serving)
        begun: list[Attempt | None] = []
        together = threading.Barrier(8)

        def begin() -> None:
            for number in range(4):
                together.wait()
                begun.append(serving.begin_attempt(id, number))

        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [attempt.number for attempt in begun if attempt is not None]
        assert sorted(won) == [1, 2, 3, 4]
        assert len(begun) == 32
        assert len(serving.attempts(id)) == 4

    # -- tokens --

    def test_a_token_is_found_by_its_secret(self, serving: ServingStore) -> None:
        token, secret = serving.add_token("ci", ["submit", "read"])
        assert (token.name, token.scopes) == ("ci", ("read", "submit"))
        assert secret.startswith("etnas_")
        assert len(secret) == 49
        assert serving.find_token(secret) == token
        assert serving.tokens() == [token]
        for other in (secret[:-1], f"{secret}x", secret.upper(), "", "etnas_", "\udc80é"):
            assert serving.find_token(other) is None

    def test_a_token_expires(self, serving: ServingStore, clock: Clock) -> None:
        token, secret = serving.add_token("ci", ["read"], expires="2027-01-15T10:00:00+01:00")
        assert token.expires == "2027-01-15T09:00:00.000000Z"
        clock.now += 3599
        assert serving.find_token(secret) == token
        clock.now += 1
        assert serving.find_token(secret) is None
        assert serving.tokens() == [token]

    def test_a_token_is_revoked_at_once(self, serving: ServingStore, clock: Clock) -> None:
        first, secret = serving.add_token("ci", ["read"])
        with pytest.raises(DuplicateName, match="token ci: there is one"):
            serving.add_token("ci", ["admin"])
        clock.now += 1
        revoked = serving.revoke_token("ci")
        assert (revoked.id, revoked.revoked) == (first.id, "2027-01-15T08:00:01.000000Z")
        assert serving.find_token(secret) is None
        clock.now += 1
        assert serving.revoke_token("ci") == serving.revoke_token(first.id) == revoked
        second, other = serving.add_token("ci", ["read"])
        assert serving.find_token(other) == second
        assert serving.tokens() == [revoked, second]
        # The name is that of the one which is valid.
        assert serving.revoke_token("ci").id == second.id
        with pytest.raises(TokenNotFound, match="no token 'nobody'; there are: none"):
            serving.revoke_token("nobody")

    @pytest.mark.parametrize(
        ("name", "scopes", "expires", "message"),
        [
            ("", ["read"], None, "a name has"),
            ("a b", ["read"], None, "a name has"),
            ("x" * 65, ["read"], None, "a name has"),
            ("-x", ["read"], None, "a name has"),
            ("ok", [], None, "allowed: read, submit, admin"),
            ("ok", ["root"], None, "allowed: read, submit, admin"),
            ("ok", ["read"], "tomorrow", "a time with its zone"),
            ("ok", ["read"], "2028-01-01T00:00:00", "a time with its zone"),
            ("ok", ["read"], "2026-01-01T00:00:00Z", "which is over"),
        ],
    )
    def test_a_token_that_cannot_be(
        self, serving: ServingStore, name: str, scopes: Any, expires: str | None, message: str
    ) -> None:
        with pytest.raises(SpecError, match=message):
            serving.add_token(name, scopes, expires=expires)
        assert serving.tokens() == []

    # -- operations --

    def test_an_operation_goes_on_to_its_end(self, serving: ServingStore, clock: Clock) -> None:
        search = made(serving)
        with serving.once("me", None, "") as once:
            first = once.create_operation(
                "train", "abc", owner="me", search=search, request={"steps": 10}
            )
            second = once.create_operation("export", "abc", owner="you")
        assert serving.operation(first.id) == first
        assert (first.state, first.search, first.request) == ("queued", search, {"steps": 10})
        assert serving.operations() == sorted([first, second], key=lambda each: each.id)
        clock.now += 1
        running = serving.change_operation(first.id, "running")
        assert (running.state, running.updated) == ("running", "2027-01-15T08:00:01.000000Z")
        assert serving.change_operation(first.id, "running") == running
        assert serving.operations("queued") == [second]
        done = serving.change_operation(first.id, "succeeded", result={"top1": 0.5})
        assert serving.change_operation(first.id, "succeeded", result={"top1": 0.5}) == done
        assert serving.operation(first.id).result == {"top1": 0.5}
        with pytest.raises(SearchStateError, match="is succeeded, which never changes"):
            serving.change_operation(first.id, "failed", error="too late")
        assert serving.operation(first.id) == done
        failed = serving.change_operation(second.id, "failed", error="no disk")
        assert (failed.error, failed.search) == ("no disk", None)
        with pytest.raises(OperationNotFound, match="nothing"):
            serving.operation("nothing")
        with pytest.raises(OperationNotFound):
            serving.change_operation("nothing", "running")
