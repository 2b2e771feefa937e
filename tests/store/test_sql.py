"""The record in SQLite: conformance, and what kills, races and broken disks do to it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import LeaseLost, StoreUnavailable
from nas.search.trial import Measurement
from nas.store.database import sqlite_file, sqlite_url
from nas.store.sql import SqlStore
from nas.store.store import CROCKFORD, new_id, rfc3339, trial_from_json, trial_to_json
from tests.store.conformance import SPEC, Clock, SearchStoreConformance, trial


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'record' / 'etnas.db'}"


class TestSqliteConformance(SearchStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> SqlStore:
        return SqlStore(url(tmp_path), clock=clock)

    @pytest.fixture
    def another(self, tmp_path: Path, clock: Clock) -> SqlStore:
        return SqlStore(url(tmp_path / "elsewhere"), clock=clock)


# -- values --

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    metrics=st.dictionaries(st.text(min_size=1), finite),
    reason=st.text(),
    seconds=st.floats(0, 1e9),
    label=st.text(),
    state=st.sampled_from(["succeeded", "infeasible", "failed"]),
)
def test_a_trial_survives_json(metrics, reason, seconds, label, state) -> None:  # type: ignore[no-untyped-def]
    made = trial(3, "random", label=label, measurement=Measurement(metrics, state, reason, seconds))
    assert trial_from_json(json.loads(json.dumps(trial_to_json(made))), "here") == made


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.binary(min_size=10, max_size=10))
def test_ids_and_times_sort_by_time(first: float, second: float, randomness: bytes) -> None:
    early, late = sorted((first, second))
    ids = [new_id(early, randomness), new_id(late, randomness)]
    assert all(len(id) == 26 and set(id) <= set(CROCKFORD) for id in ids)
    assert ids == sorted(ids)
    assert rfc3339(early) <= rfc3339(late)


def test_an_id_is_a_ulid() -> None:
    # The example of the ULID specification: its time, with all random bits set.
    assert new_id(1469918176.385, b"\xff" * 10) == "01ARYZ6S41" + "Z" * 16


# -- several processes --

PRELUDE = """
import os, sys
from nas.store.sql import SqlStore
from tests.store.conformance import SPEC, trial
store = SqlStore(sys.argv[1])
id = sys.argv[2]
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


ADD_FOREVER = """
lease = store.acquire(id, f"host:{os.getpid()}:1", 3600, lambda holder: False)
index = store.count(id)
while True:
    store.add_trial(lease, trial(index))
    print(index, flush=True)
    index += 1
"""


def test_sigkill_loses_no_acknowledged_trial_and_doubles_none(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    id = store.create_search(SPEC).id
    acknowledged = []
    for _ in range(2):
        with start(ADD_FOREVER, url(tmp_path), id) as process:
            assert process.stdout is not None
            acknowledged += [int(process.stdout.readline()) for _ in range(15)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        indices = [each.index for each in store.trials(id)]
        assert indices == list(range(len(indices)))
        # The last one may have been committed and not yet acknowledged.
        assert len(indices) - 1 <= acknowledged[-1] + 1 <= len(indices)
        told = [e.data["index"] for e in store.outbox(id) if e.kind == "trial"]
        assert told == indices
    assert store.get(id).attempt == 2


RACE = """
import contextlib
print("ready", flush=True)
sys.stdin.readline()
from nas.errors import LeaseLost
try:
    print(store.acquire(id, f"host:{os.getpid()}:1", 3600).attempt)
except LeaseLost:
    print("lost")
"""


def test_one_of_several_processes_gets_the_lease(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    id = store.create_search(SPEC).id
    racers = [start(RACE, url(tmp_path), id) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    outcomes = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        outcomes.append(racer.communicate()[0].strip())
        assert racer.returncode == 0
    assert sorted(outcomes) == ["1", "lost", "lost"]


CREATE = """
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    store.create_search(SPEC)
"""


def test_several_processes_may_make_the_record(tmp_path: Path) -> None:
    makers = [start(CREATE, url(tmp_path), "") for _ in range(3)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate()
        assert maker.returncode == 0
    assert len(SqlStore(url(tmp_path)).searches()) == 15


FORK = """
import nas.store.database as database
configure = database._configure
opened_by = []
def noted(*arguments):
    opened_by.append(os.getpid())
    configure(*arguments)
database._configure = noted
id = store.create_search(SPEC).id
lease = store.acquire(id, "host:1:1", 3600)
child = os.fork()
for index in range(0 if child else 1, 40, 2):
    store.add_trial(lease, trial(index))
if not child:
    os._exit(os.getpid() not in opened_by)
assert os.waitpid(child, 0)[1] == 0
assert [each.index for each in store.trials(id)] == list(range(40))
"""


def test_a_fork_opens_its_own_connection(tmp_path: Path) -> None:
    process = start(FORK, url(tmp_path), "")
    process.communicate()
    assert process.returncode == 0


# -- what cannot be used --


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    SqlStore(url(tmp_path))
    SqlStore("nonsense")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "record").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match=r"etnas\.db.*folder exists and may be written"):
        SqlStore(url(tmp_path)).searches()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "record" / "etnas.db").mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match="unable to open"):
        SqlStore(url(tmp_path)).searches()


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    with pytest.raises(StoreUnavailable, match=r"not a database; .* name another"):
        SqlStore(f"sqlite:///{path}").create_search(SPEC)
    assert path.read_text() == "These are my notes. " * 100


def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    id = store.create_search(SPEC).id
    store.close()
    reader = SqlStore(f"sqlite:///file:{tmp_path}/record/etnas.db?mode=ro&uri=true")
    assert reader.get(id).name == "first"
    with pytest.raises(StoreUnavailable, match="readonly database; check that"):
        reader.create_search(SPEC)


@pytest.mark.parametrize(
    "name", ["a b", "a?b", "a%20b", "a%", "a#b&c=d", "é", "a?mode=memory", "~"]
)
def test_a_path_has_one_url(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "record.db"
    made = SqlStore(sqlite_url(file))
    assert made.file == sqlite_file(sqlite_url(file)) == file
    id = made.create_search(SPEC).id
    made.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert file.exists()
    # What is shown of it can be given as one.
    assert SqlStore(made.location).get(id).id == id


def test_a_record_that_is_locked_too_long(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path), busy_seconds=0.01)
    id = store.create_search(SPEC).id
    other = sqlite3.connect(tmp_path / "record" / "etnas.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked; another process"):
        store.create_search(SPEC)
    # Readers are not kept out.
    assert [each.id for each in store.searches()] == [id]
    other.execute("ROLLBACK")
    store.create_search(SPEC)
    other.close()


def test_a_record_of_a_newer_etnas(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    store.create_search(SPEC)
    store.close()
    with sqlite3.connect(tmp_path / "record" / "etnas.db") as other:
        other.execute("UPDATE nas_meta SET value = '9' WHERE key = 'schema'")
    other.close()
    with pytest.raises(StoreUnavailable, match="version 9, this etnas reads 1"):
        store.searches()


FILL = """
import resource, signal
from nas.errors import StoreUnavailable
lease = store.acquire(id, "host:1:1", 3600)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
index = 0
try:
    while True:
        store.add_trial(lease, trial(index))
        index += 1
except StoreUnavailable as error:
    print(index, error)
"""


def test_a_disk_that_fills_keeps_what_was_committed(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    id = store.create_search(SPEC).id
    output, _ = start(FILL, url(tmp_path), id).communicate()
    count, _, message = output.strip().partition(" ")
    assert "what was committed before is untouched" in message
    assert int(count) > 0
    assert [each.index for each in store.trials(id)] == list(range(int(count)))
    lease = store.acquire(id, "host:2:2", 60, lambda _: False)
    store.add_trial(lease, trial(int(count)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("etnas.db", "sqlite:///PATH or"),
        ("nosuch://host/database", "install the driver"),
        ("postgresql+nosuch://me:secret@host/database", "install the driver"),
        ("postgresql+psycopg://me:secret@host:port/database", "sqlite:///PATH or"),
        ("sqlite:////tmp/never.db?timeout=x", "sqlite:///PATH or"),
        ("sqlite://", "in memory is gone"),
        ("sqlite:///:memory:", "in memory is gone"),
    ],
)
def test_a_url_that_says_nothing_usable(given: str, message: str) -> None:
    with pytest.raises(StoreUnavailable, match=message) as caught:
        SqlStore(given).searches()
    assert "secret" not in str(caught.value)


def test_a_failed_write_leaves_the_lease_as_it_was(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path), busy_seconds=0.01)
    lease = store.acquire(store.create_search(SPEC).id, "host:1:1", 60)
    other = sqlite3.connect(tmp_path / "record" / "etnas.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        store.add_trial(lease, trial(0))
    other.execute("ROLLBACK")
    other.close()
    store.add_trial(lease, trial(0))
    with pytest.raises(LeaseLost):
        store.acquire(lease.search, "host:2:2", 60)
