"""What may a request that changes something do in one transaction, and is it done already?"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from nas.errors import IdempotencyConflict, SearchStateError
from nas.store.rows import (
    add_event,
    check_exists,
    create_search,
    find_row,
    lease_row,
    put,
    to_record,
)
from nas.store.schema import (
    ARTIFACTS,
    ATTEMPTS,
    EVENTS,
    LEASES,
    OPERATIONS,
    REPLIES,
    SEARCHES,
    SPEND,
    TRIALS,
    WISHES,
)
from nas.store.serving import Desired, Operation, Reply, Wish
from nas.store.store import TERMINAL, SearchRecord, new_id, rfc3339

KEPT_SECONDS = 86_400.0
"""How long a reply is kept."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States that an operation never leaves."""
# With a row of no real status a request says that it is at work.
_AT_WORK = 0
_OF_SEARCH = (WISHES, ATTEMPTS, OPERATIONS, TRIALS, EVENTS, ARTIFACTS, SPEND, LEASES)


class SqlOnce:
    """A request's transaction on a connection; see `nas.store.serving.Once`."""

    def __init__(
        self, connection: sql.Connection, location: str, now: float, owner: str, key: str | None
    ) -> None:
        self.replay: Reply | None = None
        self._connection, self._location, self._now = connection, location, now
        self._mine = (REPLIES.c.owner == owner) & (REPLIES.c.key == key)
        self._owner, self._key = owner, key

    @property
    def _time(self) -> str:
        return rfc3339(self._now)

    def begin(self, digest: str) -> None:
        """Looks for an earlier request of the key, and waits for one that is at work."""
        if self._key is None:
            return
        old = REPLIES.c.time < rfc3339(self._now - KEPT_SECONDS)
        self._connection.execute(sql.delete(REPLIES).where(old))
        row = {"owner": self._owner, "key": self._key, "digest": digest, "time": self._time}
        try:
            # SQLite lets one write at a time; elsewhere this waits until the other's end is known.
            with self._connection.begin_nested():
                values = {**row, "status": _AT_WORK, "headers": {}}
                self._connection.execute(sql.insert(REPLIES).values(values))
            return
        except IntegrityError:
            pass
        found = self._connection.execute(sql.select(REPLIES).where(self._mine)).one()
        if found.digest != digest:
            raise IdempotencyConflict(
                f"Idempotency-Key {self._key!r}: at {found.time} it came with another request; "
                "a new request needs a new key"
            )
        self.replay = Reply(found.status, found.headers, found.body)

    def end(self) -> None:
        """Forgets the key where nothing was answered."""
        if self._key is not None and self.replay is None:
            unused = sql.delete(REPLIES).where(self._mine, REPLIES.c.status == _AT_WORK)
            self._connection.execute(unused)

    def _write(self, change: sql.Executable) -> None:
        assert self.replay is None, "what was answered already is not done again"
        self._connection.execute(change)

    def create_search(
        self,
        spec: Mapping[str, Any],
        *,
        owner: str,
        warm_start: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> SearchRecord:
        assert self.replay is None, "what was answered already is not done again"
        record = create_search(
            self._connection,
            spec,
            now=self._now,
            location=self._location,
            warm_start=warm_start,
            facts=facts,
        )
        wish = {"search": record.id, "owner": owner, "desired": "run", "changed": record.created}
        self._write(sql.insert(WISHES).values(wish))
        return record

    def unfinished(self, owner: str | None = None) -> int:
        query = sql.select(sql.func.count()).select_from(SEARCHES)
        query = query.where(SEARCHES.c.state.not_in(TERMINAL))
        if owner is not None:
            query = query.join(WISHES, WISHES.c.search == SEARCHES.c.id)
            query = query.where(WISHES.c.owner == owner)
        return self._connection.scalar(query) or 0

    def wish(self, search: str) -> tuple[SearchRecord, Wish]:
        id = find_row(self._connection, search, self._location).id
        # Whoever changes the state, or begins an attempt, waits for one of these two.
        self._connection.execute(lease_row(id, "search")).one()
        wish = wish_of(self._connection, id, lock=True)
        return to_record(find_row(self._connection, id, self._location)), wish

    def set_desired(self, search: str, desired: Desired) -> Wish:
        check_exists(self._connection, search, self._location)
        now = wish_of(self._connection, search, lock=True)
        if now.desired == desired:
            return now
        assert self.replay is None, "what was answered already is not done again"
        change = {"desired": desired, "changed": self._time}
        put(self._connection, WISHES, {"search": search}, change, {"owner": now.owner, **change})
        # MLflow shows what is, not what is wanted.
        add_event(
            self._connection,
            search,
            "search.desired",
            {"desired": desired},
            self._time,
            pending=False,
        )
        return Wish(search, now.owner, desired, self._time)

    def delete_search(self, search: str) -> None:
        record, _ = self.wish(search)
        id = record.id
        if record.state not in TERMINAL:
            raise SearchStateError(
                f"search {id} is {record.state}; one that is {_either(TERMINAL)} can be deleted"
            )
        if record.expires is not None and record.expires > self._time:
            raise SearchStateError(
                f"search {id} is held by {record.holder} until {record.expires}, which trains its "
                "networks; end that first"
            )
        self._check_unused(id)
        for table in _OF_SEARCH:
            self._write(sql.delete(table).where(table.c.search == id))
        self._write(sql.delete(SEARCHES).where(SEARCHES.c.id == id))

    def _check_unused(self, id: str) -> None:
        """Raises `SearchStateError` where something unfinished still needs a search."""
        begun = sql.select(SEARCHES.c.id).where(
            SEARCHES.c.warm_start == id, SEARCHES.c.state.not_in(TERMINAL)
        )
        if (other := self._connection.scalar(begun.limit(1))) is not None:
            raise SearchStateError(
                f"search {id}: search {other}, which is not finished, begins from its trials"
            )
        working = sql.select(OPERATIONS.c.id).where(
            OPERATIONS.c.search == id, OPERATIONS.c.state.not_in(ENDED)
        )
        if (other := self._connection.scalar(working.limit(1))) is not None:
            raise SearchStateError(f"search {id}: operation {other} on it is not finished")

    def create_operation(
        self,
        kind: str,
        target: str,
        *,
        owner: str,
        search: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Operation:
        made = Operation(
            id=new_id(self._now, secrets.token_bytes(10)),
            kind=kind,
            target=target,
            owner=owner,
            search=search and find_row(self._connection, search, self._location).id,
            state="queued",
            created=self._time,
            updated=self._time,
            request=dict(request or {}),
        )
        self._write(sql.insert(OPERATIONS).values(vars(made)))
        return made

    def reply(self, reply: Reply) -> None:
        if self._key is not None:
            body = None if reply.body is None else dict(reply.body)
            values = {"status": reply.status, "headers": dict(reply.headers), "body": body}
            self._write(sql.update(REPLIES).where(self._mine).values(values))


def wish_of(connection: sql.Connection, search: str, *, lock: bool = False) -> Wish:
    """What is wanted of a search that is there."""
    query = sql.select(WISHES).where(WISHES.c.search == search)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Wish(search) if row is None else Wish(**row._mapping)


def _either(states: frozenset[Any]) -> str:
    first, *rest = sorted(states)
    return f"{', '.join(rest)} or {first}"
