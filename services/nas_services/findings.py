"""What came out of a search so far? Held in memory, and brought up to date by what is new."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import monotonic
from typing import Any

from nas.errors import SearchNotFound
from nas.report.result import check_installed
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture
from nas.store.serving import ScoreRow, ServingStore
from nas.store.sql import SqlStore
from nas.store.store import TERMINAL, SearchRecord

# How long an answer is given again without a question to the record.
FRESH_SECONDS = 0.05
# After so long even what seems unchanged is read: another process may have deleted the search.
SURE_SECONDS = 2.0
# Searches and trials that are held at most; a trial takes about a kilobyte.
MOST_SEARCHES, MOST_TRIALS = 16, 40_000
MOST_ANSWERS = 64
# What takes long is made anew for a running search after so many times its own time.
PATIENCE = 10.0


class Unread(Architecture):
    """An architecture by its id alone: all that fronts and curves ask of it.

    Reading thousands of them from JSON takes seconds.
    """

    kind = "unread"
    stacks = ()

    def __init__(self, id: str) -> None:
        self.__dict__["id"] = id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unread) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True)
class Found:
    """A search as the record had it at one moment: its trials in the order in which they came.

    Their architectures are `Unread`; `architectures` keeps the JSON form of those that were asked
    for, by id. The record's lease is left out.
    """

    record: SearchRecord
    trials: tuple[Trial, ...] = ()
    times: tuple[str, ...] = ()
    place: int = 0
    architectures: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def spec(self) -> SearchSpec:
        """The request; raises `PartNotInstalled` where it names what is not installed here."""
        check_installed(self.record)
        return load_spec(self.record.spec)

    def later(self, record: SearchRecord, rows: Sequence[ScoreRow]) -> Found:
        """The same search with another record and further trials."""
        found = replace(
            self,
            record=record,
            trials=(*self.trials, *map(_trial, rows)),
            times=(*self.times, *(row.time for row in rows)),
            place=rows[-1].place if rows else self.place,
        )
        # A request never changes.
        found.__dict__.update({"spec": self.spec} if "spec" in self.__dict__ else {})
        return found


def _trial(row: ScoreRow) -> Trial:
    # The record's JSON has the names of metrics anew in every trial.
    metrics = {sys.intern(name): value for name, value in row.metrics.items()}
    measurement = Measurement(metrics, row.state)
    return Trial(row.role, row.index, Unread(row.architecture_id), measurement, row.label)


@dataclass(frozen=True)
class _Answer:
    """An answer's body, when it was made (monotonic seconds), and how many seconds that took."""

    body: bytes
    made: float
    took: float


@dataclass(eq=False)
class _Entry:
    """What is held of one search. `answers` are those to `found`, `earlier` the last slow ones.

    `looking` is for who brings it up to date, `making` for who makes answers, quick and slow apart.
    """

    id: str
    found: Found | None = None
    sequence: int = 0
    told: int = 0
    checked: float = float("-inf")
    read: float = float("-inf")
    answers: OrderedDict[object, _Answer] = field(default_factory=OrderedDict)
    earlier: dict[object, _Answer] = field(default_factory=dict)
    looking: threading.Lock = field(default_factory=threading.Lock)
    making: tuple[threading.Lock, threading.Lock] = field(
        default_factory=lambda: (threading.Lock(), threading.Lock())
    )


class Findings:
    """The last searches that were asked about. Any thread may ask; memory is bounded."""

    def __init__(self, store: SqlStore, serving: ServingStore) -> None:
        self._store, self._serving = store, serving
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def ready(self, search: str, question: object) -> bytes | None:
        """An answer that is known to be right now, without a look at the record; else None."""
        entry = self._entries.get(search)
        if entry is None or monotonic() - entry.checked > FRESH_SECONDS:
            return None
        answer = entry.answers.get(question)
        return None if answer is None else answer.body

    def answer(
        self, search: str, question: object, make: Callable[[Found], bytes], *, slow: bool = False
    ) -> bytes:
        """The answer to a question about a search, made once for what there is of it now.

        A `slow` one may be a little behind a search that still runs. Raises `SearchNotFound` and
        what `make` raises.
        """
        asked = monotonic()
        entry = self._entry(search)
        found = self._up_to_date(entry, asked)
        with suppress(KeyError):
            return entry.answers[question].body
        earlier = entry.earlier.get(question)
        if earlier is not None and self._serves(earlier, found):
            return earlier.body
        with entry.making[slow]:
            if entry.found is found and question in entry.answers:
                return entry.answers[question].body
            begun = monotonic()
            body = make(found)
            made = _Answer(body, monotonic(), monotonic() - begun)
            if slow:
                entry.earlier[question] = made
            with entry.looking:
                if entry.found is found:
                    entry.answers[question] = made
                    if len(entry.answers) > MOST_ANSWERS:
                        entry.answers.popitem(last=False)
        return body

    @staticmethod
    def _serves(earlier: _Answer, found: Found) -> bool:
        """Whether a slow answer to what there was before is still given."""
        young = monotonic() - earlier.made <= PATIENCE * earlier.took
        return young and found.record.state not in TERMINAL

    def told(self, searches: Iterable[str]) -> None:
        """Says that something happened in these searches: the next question is a look at them."""
        for search in searches:
            if (entry := self._entries.get(search)) is not None:
                entry.told += 1
                entry.checked = float("-inf")

    def forget(self, search: str) -> None:
        """Holds nothing more of a search: it was deleted."""
        with self._lock:
            self._entries.pop(search, None)

    def _entry(self, search: str) -> _Entry:
        id = search if search in self._entries else self._store.get(search).id
        with self._lock:
            entry = self._entries.setdefault(id, _Entry(id))
            self._entries.move_to_end(id)
            self._make_room()
        return entry

    def _make_room(self) -> None:
        held = [len(each.found.trials) if each.found else 0 for each in self._entries.values()]
        trials = sum(held)
        for count in held[:-1]:
            if len(self._entries) <= MOST_SEARCHES and trials <= MOST_TRIALS:
                return
            self._entries.popitem(last=False)
            trials -= count

    def _up_to_date(self, entry: _Entry, asked: float) -> Found:
        with entry.looking:
            # One look serves all who waited for it: it began after they asked.
            if entry.found is not None and asked - entry.checked <= FRESH_SECONDS:
                return entry.found
            now, told = monotonic(), entry.told
            # Read first, so that whatever comes meanwhile is seen by the next look.
            sequence = self._serving.last_sequence()
            try:
                found = self._looked_at(entry, sequence, sure=now - entry.read > SURE_SECONDS)
            except SearchNotFound:
                self.forget(entry.id)
                raise
            if found is not entry.found:
                entry.found = found
                entry.answers.clear()
            entry.sequence = sequence
            if entry.told == told:
                entry.checked = now
            return found

    def _looked_at(self, entry: _Entry, sequence: int, *, sure: bool) -> Found:
        found = entry.found
        if found is not None and not sure and not self._changed(entry, sequence):
            return found
        entry.read = monotonic()
        record = replace(self._store.get(entry.id), holder=None, expires=None)
        if found is None:
            return Found(record).later(record, self._serving.scores(entry.id))
        rows = self._serving.scores(entry.id, found.place)
        return found.later(record, rows) if rows or record != found.record else found

    def _changed(self, entry: _Entry, sequence: int) -> bool:
        """Whether the search has an event that was not there at the last look."""
        if sequence == entry.sequence:
            return False
        return bool(self._store.events(entry.id, entry.sequence, 1))
