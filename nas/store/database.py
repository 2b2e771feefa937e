"""How is the record's database opened, what are its tables, and what does each fault mean?"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy import exc

from nas.errors import SearchNotFound, StoreUnavailable
from nas.store.store import ID_LENGTH, LAST, SHORTEST_PREFIX

SCHEMA_VERSION = 1

_SCHEMA = sql.MetaData()


def _table(name: str, *parts: sql.Column[Any] | sql.Index, **options: Any) -> sql.Table:
    # Prefixed, because MLflow and Optuna may keep tables of their own in the same database.
    return sql.Table(f"nas_{name}", _SCHEMA, *parts, **options)


def _column(name: str, kind: Any = sql.Text, *parts: Any, **options: Any) -> sql.Column[Any]:
    return sql.Column(name, kind, *parts, **{"nullable": False, **options})


_KEY = partial(_column, primary_key=True)
_TIME = sql.String(27)
_ID = sql.String(ID_LENGTH)


def _of_search(column: Callable[..., sql.Column[Any]] = _KEY) -> sql.Column[Any]:
    return column("search", _ID, sql.ForeignKey("nas_searches.id"))


META = _table("meta", _KEY("key", sql.String(64)), _column("value"))
SEARCHES = _table(
    "searches",
    _KEY("id", _ID),
    _column("name"),
    _column("spec", sql.JSON),
    _column("state", sql.String(16)),
    _column("phase", sql.String(32)),
    _column("created", _TIME),
    _column("updated", _TIME),
    _column("error", nullable=True),
    _column("warm_start", _ID, nullable=True),
    _column("facts", sql.JSON),
)
LEASES = _table(
    "leases",
    _of_search(),
    _KEY("purpose", sql.String(16)),
    _column("holder", nullable=True),
    _column("attempt", sql.Integer),
    _column("expires", _TIME, nullable=True),
)
TRIALS = _table(
    "trials",
    _of_search(),
    _KEY("role", sql.String(16)),
    _KEY("index", sql.Integer, autoincrement=False),
    _column("architecture_id", sql.String(16), index=True),
    _column("architecture", sql.JSON),
    _column("metrics", sql.JSON),
    _column("state", sql.String(16)),
    _column("reason"),
    _column("seconds", sql.Double),
    _column("label"),
    _column("time", _TIME),
)
EVENTS = _table(
    "events",
    # SQLite counts up only a column of exactly its own type INTEGER.
    _KEY("sequence", sql.BigInteger().with_variant(sql.Integer, "sqlite")),
    _of_search(_column),
    _column("kind", sql.String(64)),
    _column("data", sql.JSON),
    _column("time", _TIME),
    _column("pending", sql.Boolean),
    sql.Index("nas_events_of_search", "search", "sequence"),
    sql.Index("nas_outbox", "pending", "search", "sequence"),
    # Without it SQLite would use the number of a deleted last event again.
    sqlite_autoincrement=True,
)
ARTIFACTS = _table(
    "artifacts",
    _of_search(),
    _KEY("name", sql.String(250)),
    _column("uri"),
    _column("digest", sql.String(64)),
)
SPEND = _table(
    "spend",
    _of_search(),
    _KEY("phase", sql.String(32)),
    _column("seconds", sql.Double),
    _column("device_seconds", sql.Double),
)

SEARCH_ROWS = sql.select(SEARCHES, LEASES.c.attempt, LEASES.c.holder, LEASES.c.expires).join_from(
    SEARCHES, LEASES, (LEASES.c.search == SEARCHES.c.id) & (LEASES.c.purpose == "search")
)


NEWEST = (SEARCHES.c.created.desc(), SEARCHES.c.id.desc())


def find_row(connection: sql.Connection, given: str, location: str) -> sql.Row[Any]:
    """The row of `SEARCH_ROWS` that an id, a beginning of one or `LAST` means in any case.

    Raises `SearchNotFound` naming recent ones, or all that an ambiguous beginning fits.
    """
    id = given.upper()
    chosen = SEARCH_ROWS.where(SEARCHES.c.id == id)
    if given.lower() == LAST:
        chosen = SEARCH_ROWS.order_by(*NEWEST).limit(1)
    elif len(id) < SHORTEST_PREFIX:
        raise SearchNotFound(
            f"search {given!r} in {location}: at least {SHORTEST_PREFIX} characters of an id are "
            f"needed ({LAST!r} is the newest search); {_latest(connection)}"
        )
    elif len(id) < ID_LENGTH:
        chosen = SEARCH_ROWS.where(sql.func.substr(SEARCHES.c.id, 1, len(id)) == id).limit(5)
    rows = connection.execute(chosen).all()
    if not rows:
        raise not_found(connection, given, location)
    if len(rows) > 1:
        ids = ", ".join(row.id for row in rows)
        raise SearchNotFound(f"search {given!r} in {location} may be any of: {ids}")
    return rows[0]


def not_found(connection: sql.Connection, id: str, location: str) -> SearchNotFound:
    """The error for an id that is not there, with those that are."""
    return SearchNotFound(f"no search {id!r} in {location}; {_latest(connection)}")


def _latest(connection: sql.Connection) -> str:
    rows = connection.execute(SEARCH_ROWS.order_by(*NEWEST).limit(5)).all()
    named = ", ".join(f"{row.id} ({row.name})" for row in rows)
    return f"the latest there: {named or 'none, it is empty'}"


def lease_row(search: str, purpose: str) -> sql.Select[Any]:
    """The lease of a search for a purpose, locked until the transaction ends."""
    # SQLite has no row locks: its writers are alone anyway.
    chosen = sql.select(LEASES).where(LEASES.c.search == search, LEASES.c.purpose == purpose)
    return chosen.with_for_update()


def lease_change(search: str, purpose: str) -> sql.Update:
    """The change of that lease, still without its values."""
    return sql.update(LEASES).where(LEASES.c.search == search, LEASES.c.purpose == purpose)


def events_of(id: str) -> sql.Select[Any]:
    """A search's events in order."""
    return sql.select(EVENTS).where(EVENTS.c.search == id).order_by(EVENTS.c.sequence)


def last_front(id: str) -> sql.Select[Any]:
    """The event that said last what the front is."""
    fronts = sql.select(EVENTS).where(EVENTS.c.search == id, EVENTS.c.kind == "pareto.updated")
    return fronts.order_by(EVENTS.c.sequence.desc()).limit(1)


def put(
    connection: sql.Connection,
    table: sql.Table,
    key: Mapping[str, str],
    change: Mapping[str, Any],
    first: Mapping[str, Any] | None = None,
) -> bool:
    """Changes the row of this key, or inserts it with the values `first` (those of the change).

    Returns whether it was inserted.
    """
    here = sql.and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(sql.select(table).where(here)).first() is None:
        values = {**key, **(change if first is None else first)}
        connection.execute(sql.insert(table).values(values))
        return True
    if change:
        connection.execute(sql.update(table).where(here).values(dict(change)))
    return False


_ADVICE = {
    "unable to open": "check that its folder exists and may be written to",
    "readonly": "check that the file and its folder may be written to",
    "not a database": "the file is something else: name another, or move it away",
    "malformed": "the file is damaged: move it away and restore with `nas store rebuild`",
    "locked": "another process keeps it busy: end that process, or try again",
    "full": "free space on its disk; what was committed before is untouched",
    "disk I/O": "check its disk for space and faults; what was committed before is untouched",
}


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite file, whatever signs its path has."""
    # No more than has to be, because MLflow makes the folder of a URL as it is written.
    return f"sqlite:///{str(file.absolute()).replace('%', '%25').replace('?', '%3F')}"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for one in memory and for any other URL."""
    try:
        parsed = sql.make_url(url)
    except (exc.ArgumentError, ValueError):
        return None
    name = parsed.database or ":memory:"
    in_memory = ":memory:" in name or parsed.query.get("mode") == "memory"
    if parsed.get_backend_name() != "sqlite" or in_memory:
        return None
    # SQLite's own URIs: https://www.sqlite.org/uri.html
    return Path(name.removeprefix("file:").partition("?")[0] if name[:5] == "file:" else name)


def _to_look_at(url: sql.URL, file: Path) -> sql.URL:
    """The URL, or where nothing can be made beside the file, one that opens it for reading alone.

    Reading, too, makes files in WAL mode. Where one is there already, it must be read and can be.
    """
    log = file.with_name(f"{file.name}-wal")
    if not file.exists() or log.exists() or os.access(file.parent, os.W_OK):
        return url
    return url.set(
        database=f"file:{quote(str(file.absolute()))}",
        query={**url.query, "immutable": "1", "uri": "true"},
    )


class Database:
    """A database by SQLAlchemy's URL, opened by the first transaction.

    SQLite runs in WAL mode with synchronous = FULL: a commit is on the disk when it returns, so
    neither SIGKILL nor a power cut loses it, for one fsync, far below the cost of an evaluation.
    Writers wait up to `busy_seconds` for one another.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        self._url = url
        self._busy_seconds = busy_seconds
        self._open: tuple[int, sql.Engine] | None = None

    @property
    def location(self) -> str:
        """The URL without its password."""
        try:
            return sql.make_url(self._url).render_as_string(hide_password=True)
        except (exc.ArgumentError, ValueError):
            return "(not a URL)"

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None where it is none."""
        return sqlite_file(self._url)

    def close(self) -> None:
        """Closes all connections; the next call opens them again."""
        if self._open is not None:
            process, engine = self._open
            # What a fork inherited is its parent's to close.
            engine.dispose(close=process == os.getpid())
            self._open = None

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[sql.Connection]:
        """A transaction, committed at the end; raises `StoreUnavailable` saying what to do."""
        try:
            engine = self._opened().execution_options(immediate=write)
            with engine.begin() as connection:
                yield connection
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise self._unavailable(str(getattr(error, "orig", error))) from error

    def _opened(self) -> sql.Engine:
        process = os.getpid()
        if self._open is None or self._open[0] != process:
            self.close()
            engine = self._connecting()
            self._prepare(engine)
            self._open = process, engine
        return self._open[1]

    def _connecting(self) -> sql.Engine:
        try:
            url = sql.make_url(self._url)
            options: dict[str, Any] = {"pool_pre_ping": True}
            if url.get_backend_name() == "sqlite":
                options = {"connect_args": {"timeout": self._busy_seconds}}
                file = self.file
                if file is None:
                    raise self._unavailable("a database in memory is gone with its process")
                file.parent.mkdir(parents=True, exist_ok=True)
                url = _to_look_at(url, file)
            serializer = partial(json.dumps, allow_nan=False)
            engine = sql.create_engine(url, json_serializer=serializer, **options)
        except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise self._unavailable(f"{error}; install the driver that the URL names") from error
        except (exc.ArgumentError, ValueError) as error:
            wanted = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
            raise self._unavailable(f"no usable database URL; {wanted} is expected") from error
        except OSError as error:
            raise self._unavailable(f"unable to open: {error}") from error
        if url.get_backend_name() == "sqlite":
            sql.event.listen(engine, "connect", partial(_configure, self._busy_seconds))
            sql.event.listen(engine, "begin", _begin)
        return engine

    def _prepare(self, engine: sql.Engine) -> None:
        try:
            if not sql.inspect(engine).has_table(META.name):
                with engine.execution_options(immediate=True).begin() as new:
                    _SCHEMA.create_all(new)
                    if new.execute(sql.select(META)).first() is None:
                        new.execute(META.insert().values(key="schema", value=f"{SCHEMA_VERSION}"))
        except exc.DBAPIError:
            # PostgreSQL lets two processes begin to make the tables; the later one comes here.
            if not sql.inspect(engine).has_table(META.name):
                raise
        with engine.connect() as connection:
            found = connection.scalar(sql.select(META.c.value).where(META.c.key == "schema"))
        if found != str(SCHEMA_VERSION):
            raise self._unavailable(
                f"its schema has version {found}, this etnas reads {SCHEMA_VERSION}: "
                "use the etnas that wrote it, or a newer one"
            )

    def _unavailable(self, what: str) -> StoreUnavailable:
        advice = next((f"; {text}" for mark, text in _ADVICE.items() if mark in what), "")
        return StoreUnavailable(f"record {self.location}: {what}{advice}")


def _configure(busy_seconds: float, connection: sqlite3.Connection, _: object) -> None:
    # The driver begins no transaction by itself: `_begin` says which kind it is to be.
    connection.isolation_level = None
    deadline = time.monotonic() + busy_seconds
    # SQLite does not wait for others when it changes the journal mode, so that we have to.
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: sql.Connection) -> None:
    # A write that begins as a read may meet another writer halfway, and then it cannot wait.
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
