"""A dead holder is followed at once, a live one is left alone, and a loss is noticed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.errors import LeaseLost, StoreUnavailable
from nas.run import lease
from nas.run.lease import Heartbeat, holder, holder_alive
from nas.store.sql import SqlStore
from nas.store.store import Lease
from tests.run.cases import environment
from tests.store.conformance import SPEC, trial

WAITING = "import sys; from nas.run.lease import holder; print(holder(), flush=True); input()"


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{tmp_path / 'record.db'}")


@pytest.fixture
def search(store: SqlStore) -> str:
    return store.create_search(SPEC).id


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that waits until its standard input ends, and its holder name."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(os.environ),
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_who_is_alive(other: tuple[subprocess.Popen[str], str]) -> None:
    process, name = other
    assert holder_alive(holder())
    assert holder_alive(name)
    process.kill()
    # Not yet waited for, it is a zombie; both are dead.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not holder_alive(name)
    process.wait()
    assert not holder_alive(name)


def test_a_process_number_that_was_given_out_again_is_another_process() -> None:
    host, process, _ = holder().rsplit(":", 2)
    assert not holder_alive(f"{host}:{process}:1")


def test_another_machine_is_taken_to_live() -> None:
    assert holder_alive("elsewhere:1:1")
    assert holder_alive("of another form")


def test_a_live_holder_is_refused_and_a_dead_one_followed_at_once(
    store: SqlStore, search: str, other: tuple[subprocess.Popen[str], str]
) -> None:
    process, name = other
    store.acquire(search, name, 3600)
    with pytest.raises(LeaseLost, match=name), Heartbeat(store, search):
        pass
    process.kill()
    process.wait()
    with Heartbeat(store, search) as heartbeat:
        assert heartbeat.lease.attempt == 2
        assert store.get(search).holder == holder()
    assert store.get(search).holder is None


def take_over(store: SqlStore, search: str) -> Lease:
    return store.acquire(search, "elsewhere:1:1", 60, lambda _: False)


def test_a_loss_is_noticed_at_the_next_write(store: SqlStore, search: str) -> None:
    with Heartbeat(store, search) as heartbeat:
        store.add_trial(heartbeat.lease, trial(0))
        taken = take_over(store, search)
        with pytest.raises(LeaseLost, match="elsewhere:1:1"):
            store.add_trial(heartbeat.lease, trial(1))
    assert store.count(search) == 1
    # What was lost is not given back for its new holder.
    assert store.get(search).holder == taken.holder


def test_a_loss_is_noticed_by_the_heart(
    store: SqlStore, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)
    with Heartbeat(store, search) as heartbeat:
        take_over(store, search)
        heartbeat._thread.join(60)
        assert isinstance(heartbeat.lost, LeaseLost)
    assert store.get(search).holder == "elsewhere:1:1"


def test_a_busy_record_stops_no_heart(
    store: SqlStore, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.001)
    renew, tries, again = store.renew, 0, threading.Event()

    def busy_at_first(held: Lease, seconds: float) -> Lease:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise StoreUnavailable("locked")
        return renew(held, seconds)

    monkeypatch.setattr(store, "renew", busy_at_first)
    with Heartbeat(store, search) as heartbeat:
        first = heartbeat.lease.expires
        heartbeat.beats = again.set
        assert again.wait(60)
        assert heartbeat.lost is None
        assert heartbeat.lease.expires > first
    assert store.get(search).holder is None


def test_two_threads_of_a_process_are_two_holders(store: SqlStore, search: str) -> None:
    said: list[LeaseLost] = []

    def second() -> None:
        try:
            with Heartbeat(store, search):
                pass
        except LeaseLost as error:
            said.append(error)

    with Heartbeat(store, search) as heartbeat:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(60)
        assert holder() in str(said[0])
        store.add_trial(heartbeat.lease, trial(0))
    # Afterwards it is anybody's.
    thread = threading.Thread(target=second)
    thread.start()
    thread.join(60)
    assert len(said) == 1
    assert store.get(search).attempt == 2


def test_a_thread_that_ended_with_its_lease_is_followed_at_once(
    store: SqlStore, search: str
) -> None:
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(holder()))
    thread.start()
    thread.join(60)
    store.acquire(search, names[0], 3600)
    with Heartbeat(store, search) as heartbeat:
        assert heartbeat.lease.attempt == 2
