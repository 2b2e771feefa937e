"""In which order did a search's trials come? As their events tell it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sql

from nas.search.trial import TrialRole, TrialState
from nas.store.schema import EVENTS, TRIALS
from nas.store.serving import ScoreRow, TrialRow

MOST_SEARCHES = 64
# From so many trials on, to read all of a search is quicker than to name each.
_MANY = 1000
_Key = tuple[TrialRole, int]


@dataclass(frozen=True)
class Arrival:
    """A trial by its place, from 1, and what its event says of it."""

    place: int
    time: str
    role: TrialRole
    index: int
    state: TrialState

    @property
    def key(self) -> _Key:
        """Role and index."""
        return self.role, self.index


@dataclass
class Order:
    """The trials of one search as they came; `last` is the number of the last one's event."""

    arrivals: list[Arrival] = field(default_factory=list)
    places: dict[_Key, int] = field(default_factory=dict)
    last: int = 0

    def take(self, events: Iterable[Any]) -> None:
        """Goes on with those of the events that it has not got yet."""
        for event in events:
            if event.sequence > self.last:
                data = event.data
                arrival = Arrival(
                    len(self.arrivals) + 1, event.time, data["role"], data["index"], data["state"]
                )
                self.arrivals.append(arrival)
                self.places[arrival.key] = arrival.place
                self.last = event.sequence


class Arrivals:
    """The orders of the searches looked at last, kept because they only grow.

    To count 10,000 events costs 14 ms, to look for new ones behind the last a small part of one.
    """

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, connection: sql.Connection, search: str) -> Order:
        """The order as this transaction sees it, or further where another one saw more."""
        with self._lock:
            order = self._orders.setdefault(search, Order())
            self._orders.move_to_end(search)
            while len(self._orders) > MOST_SEARCHES:
                self._orders.popitem(last=False)
            last = order.last
        # One process at a time writes a search's trials, so that none comes in before another.
        new = sql.select(EVENTS.c.sequence, EVENTS.c.time, EVENTS.c.data).where(
            EVENTS.c.search == search, EVENTS.c.sequence > last, EVENTS.c.kind == "trial"
        )
        found = connection.execute(new.order_by(EVENTS.c.sequence)).all()
        with self._lock:
            order.take(found)
        return order


def trial_rows(
    connection: sql.Connection, search: str, arrivals: Sequence[Arrival]
) -> list[TrialRow]:
    """These trials of a search, up to the first that this transaction does not see yet."""
    return [TrialRow(place, *row) for place, row in _rows(connection, search, arrivals, TrialRow)]


def score_rows(
    connection: sql.Connection, search: str, arrivals: Sequence[Arrival]
) -> list[ScoreRow]:
    """The same without what says how the network is built and how its trial went."""
    return [ScoreRow(place, *row) for place, row in _rows(connection, search, arrivals, ScoreRow)]


def columns_of(kind: type[ScoreRow]) -> list[sql.Column[Any]]:
    """What a row of this kind has behind its place, in the order of its fields."""
    return [TRIALS.c[each.name] for each in fields(kind) if each.name != "place"]


def _rows(
    connection: sql.Connection, search: str, arrivals: Sequence[Arrival], kind: type[ScoreRow]
) -> Iterator[tuple[int, Sequence[Any]]]:
    columns = columns_of(kind)
    chosen = sql.select(*columns).where(TRIALS.c.search == search)
    queries = [chosen]
    if len(arrivals) < _MANY:
        indices: dict[TrialRole, list[int]] = {}
        for each in arrivals:
            indices.setdefault(each.role, []).append(each.index)
        queries = [
            chosen.where(TRIALS.c.role == role, TRIALS.c.index.in_(among))
            for role, among in indices.items()
        ]
    names = [column.name for column in columns]
    role_at, index_at = names.index("role"), names.index("index")
    rows: Iterable[Sequence[Any]] = (
        row for query in queries for row in connection.execute(query).all()
    )
    found = {(row[role_at], row[index_at]): row for row in rows}
    for each in arrivals:
        if each.key not in found:
            return
        yield each.place, found[each.key]
