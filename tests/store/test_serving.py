"""The service's tables in SQLite: conformance, other processes, and records older than they are."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nas.errors import StoreUnavailable
from nas.store.arrivals import MOST_SEARCHES
from nas.store.serving import Reply, Wish
from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore
from tests.store.conformance import SPEC, Clock, trial
from tests.store.serving_conformance import ServingStoreConformance, add, made
from tests.store.test_sql import start, url

NEW = ("wishes", "attempts", "tokens", "replies", "operations")


class TestSqliteConformance(ServingStoreConformance):
    @pytest.fixture
    def serving(self, tmp_path: Path, clock: Clock) -> ServingSqlStore:
        return ServingSqlStore(url(tmp_path), clock=clock)

    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> SqlStore:
        return SqlStore(url(tmp_path), clock=clock)


def test_no_secret_is_kept(tmp_path: Path) -> None:
    serving = ServingSqlStore(url(tmp_path))
    _, secret = serving.add_token("ci", ["admin"])
    serving.close()
    file = tmp_path / "record" / "etnas.db"
    data = b"".join(each.read_bytes() for each in file.parent.iterdir())
    assert secret.encode() not in data
    assert secret.removeprefix("etnas_").encode() not in data
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in data


def test_orders_that_were_forgotten_are_found_again(tmp_path: Path) -> None:
    serving, store = ServingSqlStore(url(tmp_path)), SqlStore(url(tmp_path))
    ids = [made(serving) for _ in range(MOST_SEARCHES + 2)]
    for _ in range(2):
        for index, id in enumerate(ids):
            if not store.count(id):
                add(store, id, [trial(index)])
            (row,) = serving.trial_page(id, size=9)
            assert (row.place, row.index) == (1, index)


# -- several processes --

BEGIN = """
from nas.store.serving_sql import ServingSqlStore
serving = ServingSqlStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(sum(serving.begin_attempt(id, number) is not None for number in range(40)))
"""


def test_one_of_two_processes_begins_an_attempt(tmp_path: Path) -> None:
    serving = ServingSqlStore(url(tmp_path))
    id = made(serving)
    racers = [start(BEGIN, url(tmp_path), id) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(racer.communicate()[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    # One may have come to a number before the other had made the one below it.
    numbers = [attempt.number for attempt in serving.attempts(id)]
    assert numbers == list(range(1, sum(won) + 1))
    assert numbers


SUBMIT = """
from nas.store.serving import Reply
from nas.store.serving_sql import ServingSqlStore
serving = ServingSqlStore(sys.argv[1])
with serving.once("me", "key", "digest") as once:
    once.create_search(SPEC, owner="me")
    once.reply(Reply(201))
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_a_request_that_is_killed_was_never_there(tmp_path: Path) -> None:
    serving = ServingSqlStore(url(tmp_path))
    assert serving.last_sequence() == 0
    with start(SUBMIT, url(tmp_path), "") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    with serving.once("me", "key", "digest") as once:
        assert once.replay is None
        once.reply(Reply(200))
    assert serving.search_page(size=9) == []


# -- records that are older --


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A record as it was before there was a service, with one search and its trial."""
    store = SqlStore(url(tmp_path))
    add(store, store.create_search(SPEC).id, [trial(0)])
    store.close()
    file = tmp_path / "record" / "etnas.db"
    with closing(sqlite3.connect(file)) as connection:
        for name in NEW:
            connection.execute(f"DROP TABLE nas_{name}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def test_an_older_record_gets_its_tables(older: Path) -> None:
    assert not {f"nas_{name}" for name in NEW} & tables(older)
    serving = ServingSqlStore(f"sqlite:///{older}")
    ((record, wish),) = serving.search_page(size=9)
    assert wish == Wish(record.id)
    assert [row.place for row in serving.trial_page(record.id, size=9)] == [1]
    assert {f"nas_{name}" for name in NEW} <= tables(older)
    assert made(serving) == serving.unsettled()[0][0].id
    with closing(sqlite3.connect(older)) as connection:
        assert list(connection.execute("SELECT value FROM nas_meta")) == [("1",)]


def test_an_older_record_is_written_as_before(older: Path) -> None:
    store = SqlStore(f"sqlite:///{older}")
    id = store.get("last").id
    lease = store.acquire(id, "host:1:1", 60)
    store.reopen(lease)
    store.add_trial(lease, trial(1))
    assert store.count(id) == 2


def test_an_older_record_that_cannot_be_written_is_looked_at(older: Path) -> None:
    store = SqlStore(f"sqlite:///file:{older}?mode=ro&uri=true")
    assert store.count(store.get("last").id) == 1
    assert len(store.searches()) == 1
    with pytest.raises(StoreUnavailable, match="readonly database; check that"):
        store.create_search(SPEC)
    serving = ServingSqlStore(f"sqlite:///file:{older}?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match="readonly database; check that"):
        serving.search_page(size=9)
    assert not {f"nas_{name}" for name in NEW} & tables(older)


def test_an_older_record_that_is_busy_is_looked_at(older: Path) -> None:
    with closing(sqlite3.connect(older, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = SqlStore(f"sqlite:///{older}", busy_seconds=0.01)
        assert store.count(store.get("last").id) == 1
        serving = ServingSqlStore(f"sqlite:///{older}", busy_seconds=0.01)
        with pytest.raises(StoreUnavailable, match="locked"):
            serving.unsettled()
        other.execute("ROLLBACK")
    # What it could not make then it makes when it can.
    assert serving.unsettled() == []


def test_a_record_of_a_newer_etnas_gets_no_tables(older: Path) -> None:
    with closing(sqlite3.connect(older)) as connection, connection:
        connection.execute("UPDATE nas_meta SET value = '9' WHERE key = 'schema'")
    with pytest.raises(StoreUnavailable, match="version 9, this etnas reads 1"):
        ServingSqlStore(f"sqlite:///{older}").unsettled()
    assert not {f"nas_{name}" for name in NEW} & tables(older)


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    serving = ServingSqlStore(url(tmp_path))
    assert serving.location.endswith("etnas.db")
    serving.close()
    assert list(tmp_path.iterdir()) == []
