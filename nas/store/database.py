"""How is the record's database opened, and what does each fault mean?"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy import exc

from nas.errors import StoreUnavailable
from nas.store.schema import META, SCHEMA, SCHEMA_VERSION

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
        self._lacking = False

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
    def transaction(self, write: bool = False, *, whole: bool = False) -> Iterator[sql.Connection]:
        """A transaction, committed at the end; raises `StoreUnavailable` saying what to do.

        A record that was made before a table was thought of is looked at without it, unless it is
        asked for as a `whole` or to be written: then the table is made.
        """
        try:
            engine = self._opened().execution_options(immediate=write)
            if self._lacking and (write or whole):
                self._complete(engine)
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
        """Makes the tables where there are none; raises for those of another schema."""
        if not sql.inspect(engine).has_table(META.name):
            self._complete(engine)
        with engine.connect() as connection:
            found = connection.scalar(sql.select(META.c.value).where(META.c.key == "schema"))
        if found != str(SCHEMA_VERSION):
            raise self._unavailable(
                f"its schema has version {found}, this etnas reads {SCHEMA_VERSION}: "
                "use the etnas that wrote it, or a newer one"
            )
        self._lacking = bool(_missing(engine))

    def _complete(self, engine: sql.Engine) -> None:
        """Makes the tables that are missing."""
        try:
            with engine.execution_options(immediate=True).begin() as new:
                SCHEMA.create_all(new)
                if new.execute(sql.select(META)).first() is None:
                    new.execute(META.insert().values(key="schema", value=f"{SCHEMA_VERSION}"))
        except exc.DBAPIError:
            # PostgreSQL lets two processes begin to make the tables; the later one comes here.
            if _missing(engine):
                raise
        self._lacking = False

    def _unavailable(self, what: str) -> StoreUnavailable:
        advice = next((f"; {text}" for mark, text in _ADVICE.items() if mark in what), "")
        return StoreUnavailable(f"record {self.location}: {what}{advice}")


def _missing(engine: sql.Engine) -> list[str]:
    inspector = sql.inspect(engine)
    return [name for name in SCHEMA.tables if not inspector.has_table(name)]


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
