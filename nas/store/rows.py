"""How are a search's rows found, made and changed, whoever keeps them?"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import sqlalchemy as sql

from nas.errors import SearchNotFound
from nas.store.schema import EVENTS, LEASES, NEWEST, SEARCH_ROWS, SEARCHES
from nas.store.store import (
    ID_LENGTH,
    LAST,
    SHORTEST_PREFIX,
    Event,
    Purpose,
    SearchRecord,
    new_id,
    rfc3339,
)

_FIELDS = tuple(each.name for each in fields(SearchRecord))


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


def exists(connection: sql.Connection, id: str) -> bool:
    """Whether there is a search of exactly this id."""
    return connection.scalar(sql.select(SEARCHES.c.id).where(SEARCHES.c.id == id)) is not None


def check_exists(connection: sql.Connection, id: str, location: str) -> None:
    """Raises `SearchNotFound` where there is no search of exactly this id."""
    if not exists(connection, id):
        raise not_found(connection, id, location)


def get_record(connection: sql.Connection, id: str, location: str) -> SearchRecord:
    """The search that `find_row` finds."""
    return to_record(find_row(connection, id, location))


def to_record(row: sql.Row[Any]) -> SearchRecord:
    """The search of a row of `SEARCH_ROWS`, or of one that goes on behind it."""
    return SearchRecord(**{name: row._mapping[name] for name in _FIELDS})


def create_search(
    connection: sql.Connection,
    spec: Mapping[str, Any],
    *,
    now: float,
    location: str,
    warm_start: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> SearchRecord:
    """A new search, queued, with its event; raises `SearchNotFound` for the warm start."""
    time = rfc3339(now)
    record = SearchRecord(
        id=new_id(now, secrets.token_bytes(10)),
        name=spec["name"],
        spec=dict(spec),
        state="queued",
        created=time,
        updated=time,
        warm_start=find_row(connection, warm_start, location).id if warm_start else None,
        facts=dict(facts or {}),
    )
    insert_search(connection, record)
    add_event(connection, record.id, "search.created", {}, time)
    return get_record(connection, record.id, location)


def insert_search(connection: sql.Connection, record: SearchRecord) -> None:
    """A search with its leases, held by nobody."""
    values = {column.name: getattr(record, column.name) for column in SEARCHES.c}
    connection.execute(sql.insert(SEARCHES).values(values))
    for purpose in get_args(Purpose):
        attempt = record.attempt if purpose == "search" else 0
        row = {"search": record.id, "purpose": purpose, "attempt": attempt}
        connection.execute(sql.insert(LEASES).values(row))


def add_event(
    connection: sql.Connection,
    search: str,
    kind: str,
    data: Mapping[str, Any],
    time: str,
    pending: bool = True,
) -> None:
    """One more line of the log; one that is not `pending` waits in no outbox."""
    row = {"search": search, "kind": kind, "data": dict(data), "time": time}
    connection.execute(sql.insert(EVENTS).values(**row, pending=pending))


def to_event(row: sql.Row[Any]) -> Event:
    """The event of a row."""
    return Event(row.sequence, row.search, row.kind, row.data, row.time)


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
