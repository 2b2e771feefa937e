"""Where does a service keep what it has beside the searches? In the record's own SQL database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sql

from nas.errors import OperationNotFound, SearchStateError
from nas.search.trial import TrialRole, TrialState
from nas.store import tokens
from nas.store.arrivals import Arrival, Arrivals, columns_of, score_rows, trial_rows
from nas.store.database import Database
from nas.store.rows import check_exists, find_row, to_event, to_record
from nas.store.schema import (
    ATTEMPTS,
    EVENTS,
    OPERATIONS,
    SEARCH_ROWS,
    SEARCHES,
    TRIALS,
    WISHES,
)
from nas.store.serving import (
    Attempt,
    Once,
    Operation,
    OperationState,
    Scope,
    ScoreRow,
    Token,
    TrialRow,
    Wish,
)
from nas.store.serving_once import ENDED, SqlOnce, wish_of
from nas.store.store import TERMINAL, Event, SearchRecord, SearchState, rfc3339


class ServingSqlStore:
    """The record's database as a service sees it; see `ServingStore` for what each method does.

    `url` is the one of `SqlStore`, and so are `clock` and `busy_seconds`. Threads may share it.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.time, busy_seconds: float = 10.0
    ) -> None:
        self._database = Database(url, busy_seconds)
        self._clock = clock
        self._arrivals = Arrivals()

    @property
    def location(self) -> str:
        """The URL without its password."""
        return self._database.location

    def close(self) -> None:
        """Closes all connections; the next call opens them again."""
        self._database.close()

    def _reading(self) -> AbstractContextManager[sql.Connection]:
        return self._database.transaction(whole=True)

    def _writing(self) -> AbstractContextManager[sql.Connection]:
        return self._database.transaction(write=True)

    @property
    def _now(self) -> str:
        return rfc3339(self._clock())

    @contextmanager
    def once(self, owner: str, key: str | None, digest: str) -> Iterator[Once]:
        with self._writing() as connection:
            once = SqlOnce(connection, self.location, self._clock(), owner, key)
            once.begin(digest)
            yield once
            once.end()

    # -- searches --------------------------------------------------------------------------------

    def wish(self, search: str) -> Wish:
        with self._reading() as connection:
            return wish_of(connection, find_row(connection, search, self.location).id)

    def search_page(
        self,
        *,
        size: int,
        before: str | None = None,
        owner: str | None = None,
        states: Iterable[SearchState] = (),
        name: str | None = None,
    ) -> list[tuple[SearchRecord, Wish]]:
        query = _with_wishes(outer=True).order_by(SEARCHES.c.id.desc()).limit(size)
        if before is not None:
            query = query.where(SEARCHES.c.id < before)
        if owner is not None:
            query = query.where(WISHES.c.owner == owner)
        if among := tuple(states):
            query = query.where(SEARCHES.c.state.in_(among))
        if name is not None:
            query = query.where(SEARCHES.c.name == name)
        with self._reading() as connection:
            return [(to_record(row), _wish(row)) for row in connection.execute(query)]

    def trial_page(
        self,
        search: str,
        *,
        size: int,
        after: int = 0,
        role: TrialRole | None = None,
        state: TrialState | None = None,
    ) -> list[TrialRow]:
        with self._reading() as connection:
            check_exists(connection, search, self.location)
            found: list[Arrival] = []
            for each in self._arrivals.of(connection, search).arrivals[max(0, after) :]:
                if len(found) == size:
                    break
                if role in (None, each.role) and state in (None, each.state):
                    found.append(each)
            return trial_rows(connection, search, found)

    def trial(self, search: str, role: TrialRole, index: int) -> TrialRow | None:
        with self._reading() as connection:
            check_exists(connection, search, self.location)
            order = self._arrivals.of(connection, search)
            place = order.places.get((role, index))
            if place is None:
                return None
            return next(iter(trial_rows(connection, search, [order.arrivals[place - 1]])), None)

    def scores(self, search: str, after: int = 0) -> list[ScoreRow]:
        with self._reading() as connection:
            check_exists(connection, search, self.location)
            order = self._arrivals.of(connection, search)
            return score_rows(connection, search, order.arrivals[max(0, after) :])

    def progress(self, searches: Sequence[str]) -> dict[str, dict[TrialRole, int]]:
        counts = sql.select(TRIALS.c.search, TRIALS.c.role, sql.func.count())
        counts = counts.where(TRIALS.c.search.in_(searches))
        found: dict[str, dict[TrialRole, int]] = {search: {} for search in searches}
        with self._reading() as connection:
            for search, role, count in connection.execute(
                counts.group_by(TRIALS.c.search, TRIALS.c.role)
            ):
                found[search][role] = count
        return found

    def trials_of_architecture(
        self, architecture_id: str, limit: int
    ) -> list[tuple[str, TrialRow]]:
        query = sql.select(TRIALS.c.search, *columns_of(TrialRow))
        query = query.where(TRIALS.c.architecture_id == architecture_id)
        query = query.order_by(TRIALS.c.search.desc(), TRIALS.c.time, TRIALS.c.role, TRIALS.c.index)
        with self._reading() as connection:
            found = []
            for search, *values in connection.execute(query.limit(limit)).all():
                row = TrialRow(0, *values)
                place = self._arrivals.of(connection, search).places[row.role, row.index]
                found.append((search, replace(row, place=place)))
            return found

    def events_after(self, sequence: int, limit: int) -> list[Event]:
        query = sql.select(EVENTS).where(EVENTS.c.sequence > sequence)
        return self._events(query.limit(limit))

    def events_of(self, search: str, kinds: Iterable[str]) -> list[Event]:
        query = sql.select(EVENTS).where(EVENTS.c.search == search)
        return self._events(query.where(EVENTS.c.kind.in_(tuple(kinds))), search)

    def _events(self, query: sql.Select[Any], search: str | None = None) -> list[Event]:
        with self._reading() as connection:
            if search is not None:
                check_exists(connection, search, self.location)
            return [to_event(row) for row in connection.execute(query.order_by(EVENTS.c.sequence))]

    def last_sequence(self) -> int:
        with self._reading() as connection:
            return connection.scalar(sql.select(sql.func.max(EVENTS.c.sequence))) or 0

    # -- attempts: what a reconciler does ------------------------------------------------------

    def unsettled(self) -> list[tuple[SearchRecord, Wish, Attempt | None]]:
        newest = sql.select(sql.func.max(ATTEMPTS.c.number)).where(
            ATTEMPTS.c.search == SEARCHES.c.id
        )
        last = (ATTEMPTS.c.search == SEARCHES.c.id) & (
            ATTEMPTS.c.number == newest.correlate(SEARCHES).scalar_subquery()
        )
        query = _with_wishes(outer=False).outerjoin(ATTEMPTS, last)
        query = query.add_columns(*_ATTEMPT).where(SEARCHES.c.state.not_in(TERMINAL))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(SEARCHES.c.created, SEARCHES.c.id))
            return [(to_record(row), _wish(row), _attempt(row)) for row in rows]

    def begin_attempt(self, search: str, after: int) -> Attempt | None:
        number = after + 1
        made = Attempt(search, number, f"{search}-{number}", self._now)
        with self._writing() as connection:
            if not _to_run(connection, search) or _last_number(connection, search) != after:
                return None
            connection.execute(sql.insert(ATTEMPTS).values(vars(made)))
        return made

    def end_attempt(self, search: str, number: int, outcome: str) -> None:
        these = (ATTEMPTS.c.search == search) & (ATTEMPTS.c.number == number)
        change = sql.update(ATTEMPTS).where(these, ATTEMPTS.c.ended.is_(None))
        with self._writing() as connection:
            connection.execute(change.values(ended=self._now, outcome=outcome))

    def attempts(self, search: str) -> list[Attempt]:
        query = sql.select(ATTEMPTS).where(ATTEMPTS.c.search == search)
        with self._reading() as connection:
            check_exists(connection, search, self.location)
            rows = connection.execute(query.order_by(ATTEMPTS.c.number))
            return [Attempt(**row._mapping) for row in rows]

    # -- tokens ----------------------------------------------------------------------------------

    def add_token(
        self, name: str, scopes: Sequence[Scope], *, expires: str | None = None
    ) -> tuple[Token, str]:
        with self._writing() as connection:
            return tokens.add_token(connection, name, scopes, expires, self._clock())

    def tokens(self) -> list[Token]:
        with self._reading() as connection:
            return tokens.all_tokens(connection)

    def revoke_token(self, name_or_id: str) -> Token:
        with self._writing() as connection:
            return tokens.revoke_token(connection, name_or_id, self._clock())

    def find_token(self, secret: str) -> Token | None:
        with self._reading() as connection:
            return tokens.find_token(connection, secret, self._clock())

    # -- operations ------------------------------------------------------------------------------

    def operation(self, id: str) -> Operation:
        with self._reading() as connection:
            return _operation(connection, id)

    def operations(self, state: OperationState | None = None) -> list[Operation]:
        query = sql.select(OPERATIONS).order_by(OPERATIONS.c.created, OPERATIONS.c.id)
        query = query.where(OPERATIONS.c.state == state) if state else query
        with self._reading() as connection:
            return [Operation(**row._mapping) for row in connection.execute(query)]

    def change_operation(
        self,
        id: str,
        state: OperationState,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Operation:
        values: dict[str, Any] = {"state": state, "error": error}
        if result is not None:
            values["result"] = dict(result)
        with self._writing() as connection:
            now = _operation(connection, id, lock=True)
            if all(getattr(now, name) == value for name, value in values.items()):
                return now
            if now.state in ENDED:
                raise SearchStateError(
                    f"operation {id} is {now.state}, which never changes; {state!r} was asked for"
                )
            change = sql.update(OPERATIONS).where(OPERATIONS.c.id == id)
            connection.execute(change.values(**values, updated=self._now))
            return _operation(connection, id)


# `search` is the search's own id, whether there is an attempt or not.
_ATTEMPT = [column for column in ATTEMPTS.c if column.name != "search"]


def _with_wishes(*, outer: bool) -> sql.Select[Any]:
    """Searches with what is wanted of them; an outer join has those too that have no wish."""
    query = SEARCH_ROWS.join(WISHES, WISHES.c.search == SEARCHES.c.id, isouter=outer)
    return query.add_columns(WISHES.c.owner, WISHES.c.desired, WISHES.c.changed)


def _wish(row: sql.Row[Any]) -> Wish:
    if row.owner is None:
        return Wish(row.id)
    return Wish(row.id, row.owner, row.desired, row.changed)


def _attempt(row: sql.Row[Any]) -> Attempt | None:
    if row.number is None:
        return None
    return Attempt(row.id, row.number, row.job, row.started, row.ended, row.outcome)


def _to_run(connection: sql.Connection, search: str) -> bool:
    """Whether a search is still to run; its wish is locked until the transaction ends."""
    wanted = sql.select(WISHES.c.desired).where(WISHES.c.search == search)
    if connection.scalar(wanted.with_for_update()) != "run":
        return False
    state = connection.scalar(sql.select(SEARCHES.c.state).where(SEARCHES.c.id == search))
    return state not in TERMINAL


def _last_number(connection: sql.Connection, search: str) -> int:
    numbers = sql.select(sql.func.max(ATTEMPTS.c.number)).where(ATTEMPTS.c.search == search)
    return connection.scalar(numbers) or 0


def _operation(connection: sql.Connection, id: str, *, lock: bool = False) -> Operation:
    query = sql.select(OPERATIONS).where(OPERATIONS.c.id == id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise OperationNotFound(f"no operation {id!r} in the record")
    return Operation(**row._mapping)
