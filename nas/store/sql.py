"""Where is a search kept? In a SQL database: SQLite beside the work, or PostgreSQL by URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from nas.errors import DuplicateTrial, LeaseLost, SearchStateError
from nas.search.trial import ROLES, Trial, TrialRole, TrialState
from nas.store import store
from nas.store.database import Database
from nas.store.rows import (
    add_event,
    check_exists,
    create_search,
    events_of,
    exists,
    get_record,
    insert_search,
    last_front,
    lease_change,
    lease_row,
    put,
    to_event,
    to_record,
)
from nas.store.schema import (
    ARTIFACTS,
    EVENTS,
    LEASES,
    NEWEST,
    SEARCH_ROWS,
    SEARCHES,
    SPEND,
    TRIALS,
    WISHES,
)
from nas.store.store import (
    Artifact,
    Event,
    Lease,
    Member,
    Purpose,
    SearchRecord,
    SearchState,
    Spend,
)


class SqlStore:
    """The record in a SQL database; see `SearchStore` for what each method guarantees.

    `url` is SQLAlchemy's: `sqlite:///PATH` (a folder that is missing is made) or
    `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`. Nothing is opened before the first call.
    Writers wait up to `busy_seconds` for one another; `clock` gives seconds since 1970.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.time, busy_seconds: float = 30.0
    ) -> None:
        self._database = Database(url, busy_seconds)
        self._clock = clock

    @property
    def location(self) -> str:
        """The URL without its password."""
        return self._database.location

    @property
    def file(self) -> Path | None:
        """The file of an SQLite record; None where it is none."""
        return self._database.file

    @property
    def missing(self) -> bool:
        """Whether it is an SQLite file that is not there yet: the first call would make it."""
        return self.file is not None and not self.file.exists()

    def close(self) -> None:
        """Closes all connections; the next call opens them again."""
        self._database.close()

    def _now(self, later: float = 0.0) -> str:
        return store.rfc3339(self._clock() + later)

    def create_search(
        self,
        spec: Mapping[str, Any],
        *,
        warm_start: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> SearchRecord:
        with self._database.transaction(write=True) as connection:
            return create_search(
                connection,
                spec,
                now=self._clock(),
                location=self.location,
                warm_start=warm_start,
                facts=facts,
            )

    def get(self, id: str) -> SearchRecord:
        with self._database.transaction() as connection:
            return get_record(connection, id, self.location)

    def searches(self) -> list[SearchRecord]:
        with self._database.transaction() as connection:
            rows = connection.execute(SEARCH_ROWS.order_by(*NEWEST))
            return [to_record(row) for row in rows]

    def set_state(
        self,
        lease: Lease,
        state: SearchState,
        *,
        phase: str | None = None,
        error: str | None = None,
    ) -> SearchRecord:
        assert state in store.STATES, state
        with self._writing(lease) as connection:
            now = get_record(connection, lease.search, self.location)
            if now.state in store.TERMINAL and state != now.state:
                raise SearchStateError(
                    f"search {now.id} is {now.state}, which never changes; {state!r} was asked for"
                )
            if error is None and state == now.state:
                error = now.error
            phase = now.phase if phase is None else phase
            return self._change(connection, now, {"state": state, "phase": phase, "error": error})

    def reopen(self, lease: Lease) -> SearchRecord:
        with self._writing(lease) as connection:
            now = get_record(connection, lease.search, self.location)
            wanted = sql.select(WISHES.c.desired).where(WISHES.c.search == now.id)
            state = now.state
            if state not in ("succeeded", "cancelled") and connection.scalar(wanted) == "cancel":
                state = "cancelling"
            if state in ("succeeded", "cancelled", "cancelling"):
                raise SearchStateError(
                    f"search {now.id} is {state} and cannot be resumed; "
                    "a new search can begin from its trials (warm start)"
                )
            changed = {"state": "queued", "error": None} if now.state == "failed" else {}
            return self._change(connection, now, changed)

    def _change(
        self, connection: sql.Connection, now: SearchRecord, values: Mapping[str, Any]
    ) -> SearchRecord:
        if all(getattr(now, name) == value for name, value in values.items()):
            return now
        change = sql.update(SEARCHES).where(SEARCHES.c.id == now.id)
        connection.execute(change.values(**values, updated=self._now()))
        self._event(connection, now.id, "search.state", dict(values))
        return get_record(connection, now.id, self.location)

    def add_facts(self, lease: Lease, facts: Mapping[str, str]) -> None:
        with self._writing(lease) as connection:
            now = get_record(connection, lease.search, self.location)
            change = sql.update(SEARCHES).where(SEARCHES.c.id == now.id)
            connection.execute(change.values(facts={**now.facts, **facts}))
            self._event(connection, now.id, "search.facts", dict(facts))

    def acquire(
        self,
        search: str,
        holder: str,
        seconds: float,
        holder_alive: Callable[[str], bool] | None = None,
        *,
        purpose: Purpose = "search",
    ) -> Lease:
        with self._database.transaction(write=True) as connection:
            self._check(connection, search)
            held = connection.execute(lease_row(search, purpose)).one()
            live = held.holder not in (None, holder) and held.expires > self._now()
            if live and (holder_alive is None or holder_alive(held.holder)):
                raise LeaseLost(
                    f"{purpose} {search} is held by {held.holder} until {held.expires} "
                    f"(attempt {held.attempt}); wait for it, or end that process"
                )
            lease = Lease(search, holder, held.attempt + 1, self._now(seconds), purpose)
            change = lease_change(search, purpose)
            values = {"holder": holder, "attempt": lease.attempt, "expires": lease.expires}
            connection.execute(change.values(values))
        return lease

    def renew(self, lease: Lease, seconds: float) -> Lease:
        with self._database.transaction(write=True) as connection:
            _fence(connection, lease)
            expires = self._now(seconds)
            change = lease_change(lease.search, lease.purpose)
            connection.execute(change.values(expires=expires))
        return Lease(lease.search, lease.holder, lease.attempt, expires, lease.purpose)

    def release(self, lease: Lease) -> None:
        still_held = (LEASES.c.holder == lease.holder, LEASES.c.attempt == lease.attempt)
        change = lease_change(lease.search, lease.purpose).where(*still_held)
        with self._database.transaction(write=True) as connection:
            connection.execute(change.values(holder=None, expires=None))

    @contextmanager
    def _writing(self, lease: Lease) -> Iterator[sql.Connection]:
        assert lease.purpose == "search", lease
        with self._database.transaction(write=True) as connection:
            _fence(connection, lease)
            yield connection

    def add_trial(self, lease: Lease, trial: Trial) -> None:
        with self._writing(lease) as connection:
            try:
                connection.execute(sql.insert(TRIALS).values(self._row(lease.search, trial)))
            except IntegrityError as error:
                raise DuplicateTrial(
                    f"search {lease.search} has a trial {trial.role}/{trial.index} already"
                ) from error
            self._event(connection, lease.search, "trial", _trial_data(trial))

    def _row(self, search: str, trial: Trial) -> dict[str, Any]:
        own = {"search": search, "architecture_id": trial.architecture.id, "time": self._now()}
        return {**store.trial_to_json(trial), **own}

    def trials(
        self, id: str, role: TrialRole | None = None, *, after: int = -1, limit: int | None = None
    ) -> list[Trial]:
        order = sql.case({each: n for n, each in enumerate(ROLES)}, value=TRIALS.c.role)
        query = sql.select(TRIALS).where(TRIALS.c.search == id, TRIALS.c.index > after)
        query = query.where(TRIALS.c.role == role) if role else query
        rows = self._rows(id, query.order_by(order, TRIALS.c.index).limit(limit))
        return [
            store.trial_from_json(row._asdict(), f"search {id}: trial {row.role}/{row.index}")
            for row in rows
        ]

    def count(self, id: str, role: TrialRole | None = None, state: TrialState | None = None) -> int:
        query = sql.select(sql.func.count()).select_from(TRIALS).where(TRIALS.c.search == id)
        query = query.where(TRIALS.c.role == role) if role else query
        rows = self._rows(id, query.where(TRIALS.c.state == state) if state else query)
        return int(rows[0][0])

    def set_front(self, lease: Lease, members: Iterable[Member]) -> None:
        data = {"members": [list(member) for member in members]}
        with self._writing(lease) as connection:
            self._event(connection, lease.search, "pareto.updated", data)

    def front(self, id: str) -> tuple[Member, ...]:
        rows = self._rows(id, last_front(id))
        return tuple((role, index) for row in rows for role, index in row.data["members"])

    def set_artifact(self, lease: Lease, name: str, uri: str, digest: str) -> None:
        values = {"uri": uri, "digest": digest}
        with self._writing(lease) as connection:
            put(connection, ARTIFACTS, {"search": lease.search, "name": name}, values)
            self._event(connection, lease.search, "artifact", {"name": name, **values})

    def artifacts(self, id: str) -> dict[str, Artifact]:
        query = sql.select(ARTIFACTS).where(ARTIFACTS.c.search == id).order_by(ARTIFACTS.c.name)
        return {row.name: Artifact(row.name, row.uri, row.digest) for row in self._rows(id, query)}

    def record_spend(
        self, lease: Lease, phase: str, seconds: float, device_seconds: float = 0.0
    ) -> None:
        more = {
            "seconds": SPEND.c.seconds + seconds,
            "device_seconds": SPEND.c.device_seconds + device_seconds,
        }
        first = {"seconds": seconds, "device_seconds": device_seconds}
        with self._writing(lease) as connection:
            put(connection, SPEND, {"search": lease.search, "phase": phase}, more, first)

    def spent(self, id: str) -> dict[str, Spend]:
        query = sql.select(SPEND).where(SPEND.c.search == id).order_by(SPEND.c.phase)
        return {row.phase: Spend(row.seconds, row.device_seconds) for row in self._rows(id, query)}

    def _rows(self, id: str, query: sql.Select[Any]) -> Sequence[sql.Row[Any]]:
        with self._database.transaction() as connection:
            self._check(connection, id)
            return connection.execute(query).all()

    def _check(self, connection: sql.Connection, id: str) -> None:
        check_exists(connection, id, self.location)

    def events(self, id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        query = events_of(id).where(EVENTS.c.sequence > after).limit(limit)
        return self._read_events(id, query)

    def _read_events(self, id: str, query: sql.Select[Any]) -> list[Event]:
        rows = self._rows(id, query)
        return [to_event(row) for row in rows]

    def unprojected(self) -> list[str]:
        query = sql.select(EVENTS.c.search).where(EVENTS.c.pending).group_by(EVENTS.c.search)
        with self._database.transaction() as connection:
            return list(connection.scalars(query.order_by(sql.func.min(EVENTS.c.sequence))))

    def outbox(self, id: str, limit: int | None = None) -> list[Event]:
        query = events_of(id).where(EVENTS.c.pending).limit(limit)
        return self._read_events(id, query)

    def mark_projected(self, sequences: Iterable[int]) -> None:
        done = [{"done": sequence} for sequence in sequences]
        these = sql.update(EVENTS).where(EVENTS.c.sequence == sql.bindparam("done"))
        with self._database.transaction(write=True) as connection:
            if done:
                connection.execute(these.values(pending=False), done)

    def requeue(self, id: str) -> None:
        with self._database.transaction(write=True) as connection:
            self._check(connection, id)
            these = sql.update(EVENTS).where(EVENTS.c.search == id)
            connection.execute(these.values(pending=True))

    def _event(
        self,
        connection: sql.Connection,
        search: str,
        kind: str,
        data: Mapping[str, Any],
        pending: bool = True,
    ) -> None:
        add_event(connection, search, kind, data, self._now(), pending)

    def import_search(
        self,
        record: SearchRecord,
        trials: Sequence[Trial],
        *,
        artifacts: Iterable[Artifact] = (),
        front: Iterable[Member] = (),
        spent: Mapping[str, Spend] | None = None,
    ) -> SearchRecord:
        known = {"search": record.id}
        events: list[tuple[str, dict[str, Any]]] = []
        with self._database.transaction(write=True) as connection:
            if not exists(connection, record.id):
                insert_search(connection, record)
                events.append(("search.created", {}))
            # Whoever runs it meanwhile waits, so that its trials keep one order.
            connection.execute(lease_row(record.id, "search")).one()
            have = sql.select(TRIALS.c.role, TRIALS.c.index).where(TRIALS.c.search == record.id)
            present = {tuple(row) for row in connection.execute(have)}
            for trial in trials:
                if (trial.role, trial.index) not in present:
                    connection.execute(sql.insert(TRIALS).values(self._row(record.id, trial)))
                    events.append(("trial", _trial_data(trial)))
            for each in artifacts:
                first = {"uri": each.uri, "digest": each.digest}
                if put(connection, ARTIFACTS, {**known, "name": each.name}, {}, first):
                    events.append(("artifact", asdict(each)))
            for phase, used in (spent or {}).items():
                put(connection, SPEND, {**known, "phase": phase}, {}, asdict(used))
            members = [list(member) for member in front]
            if members and connection.execute(last_front(record.id)).first() is None:
                events.append(("pareto.updated", {"members": members}))
            for kind, data in events:
                self._event(connection, record.id, kind, data, pending=False)
            return get_record(connection, record.id, self.location)


def _fence(connection: sql.Connection, lease: Lease) -> None:
    held = connection.execute(lease_row(lease.search, lease.purpose)).first()
    if held is None or (held.holder, held.attempt) != (lease.holder, lease.attempt):
        now = f"{held.holder or 'nobody'} (attempt {held.attempt})" if held else "nobody"
        raise LeaseLost(
            f"{lease.purpose} {lease.search}: the lease of {lease.holder} (attempt "
            f"{lease.attempt}) is lost, it belongs to {now}; nothing was written"
        )


def _trial_data(trial: Trial) -> dict[str, Any]:
    return {"role": trial.role, "index": trial.index, "state": trial.measurement.state}
