"""What does a service keep beside the searches: wishes, attempts, tokens, replies, operations?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from nas.search.trial import TrialRole, TrialState
from nas.store.store import Event, SearchRecord, SearchState

Desired = Literal["run", "pause", "cancel"]
"""What is wanted of a search; a reconciler brings its state there."""
Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
OperationState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Wish:
    """What is wanted of a search, and whose it is. A search of a terminal has none: `run`, ''."""

    search: str
    owner: str = ""
    desired: Desired = "run"
    changed: str = ""


@dataclass(frozen=True)
class Attempt:
    """One job that was to run a search. `number` counts from 1; `job` is `SEARCH-NUMBER`.

    `ended` is None while it may still run; `outcome` then says how it ended, for people.
    """

    search: str
    number: int
    job: str
    started: str
    ended: str | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Token:
    """A bearer token without its secret. It is valid until it `expires` or was `revoked`."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None


@dataclass(frozen=True)
class Reply:
    """An answer as it was given first: what a repeated request gets again."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Operation:
    """Work that was asked for beside a search: to train or export a network."""

    id: str
    kind: str
    target: str
    owner: str
    search: str | None
    state: OperationState
    created: str
    updated: str
    request: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class ScoreRow:
    """A trial as fronts and curves see it, without its architecture.

    `place` is its place in the order in which the search's trials came, from 1; `time` says when.
    """

    place: int
    time: str
    role: TrialRole
    index: int
    label: str
    architecture_id: str
    metrics: Mapping[str, float]
    state: TrialState


@dataclass(frozen=True)
class TrialRow(ScoreRow):
    """A trial as the record has it: its architecture is passed on as JSON and never read."""

    architecture: Mapping[str, Any]
    reason: str
    seconds: float


class Once(Protocol):
    """One transaction of a request that changes something; what it did is there whole or not.

    `replay` is the answer to an earlier request of the same key: then nothing may be written.
    """

    replay: Reply | None

    def create_search(
        self,
        spec: Mapping[str, Any],
        *,
        owner: str,
        warm_start: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> SearchRecord:
        """A new search, queued and wanted to run."""

    def unfinished(self, owner: str | None = None) -> int:
        """How many searches (of an owner) are not in a terminal state: for limits."""

    def wish(self, search: str) -> tuple[SearchRecord, Wish]:
        """A search and what is wanted of it, locked until the end; raises `SearchNotFound`."""

    def set_desired(self, search: str, desired: Desired) -> Wish:
        """Changes what is wanted: an event `search.desired` with {"desired": ...}, not projected.

        Where that is wanted already nothing changes.
        """

    def delete_search(self, search: str) -> None:
        """Removes a search and all that the record has of it.

        Raises `SearchStateError` where it is in no terminal state, somebody holds it (to confirm
        it, say), or an unfinished search begins from its trials or an unfinished operation is
        about it.
        """

    def create_operation(
        self,
        kind: str,
        target: str,
        *,
        owner: str,
        search: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Operation:
        """A new operation, queued."""

    def reply(self, reply: Reply) -> None:
        """What was answered, kept under the request's key where it has one."""


class ServingStore(Protocol):
    """The same database as the record's, as a service sees it; as many processes as like share it.

    Every method is one transaction and may raise `StoreUnavailable`.
    """

    def once(self, owner: str, key: str | None, digest: str) -> AbstractContextManager[Once]:
        """Begins a request's transaction; committed when the block ends without an error.

        `digest` is that of the request. Raises `IdempotencyConflict` where the owner's key stands
        for another one. Keys are forgotten after a day.
        """

    # -- searches --------------------------------------------------------------------------------

    def wish(self, search: str) -> Wish:
        """What is wanted of a search; raises `SearchNotFound`."""

    def search_page(
        self,
        *,
        size: int,
        before: str | None = None,
        owner: str | None = None,
        states: Iterable[SearchState] = (),
        name: str | None = None,
    ) -> list[tuple[SearchRecord, Wish]]:
        """Up to `size` searches with ids below `before`, the newest first, of exactly this name."""

    def trial_page(
        self,
        search: str,
        *,
        size: int,
        after: int = 0,
        role: TrialRole | None = None,
        state: TrialState | None = None,
    ) -> list[TrialRow]:
        """Up to `size` trials with a place above `after`, in the order in which they came."""

    def trial(self, search: str, role: TrialRole, index: int) -> TrialRow | None:
        """One trial of a search; None where there is none."""

    def scores(self, search: str, after: int = 0) -> list[ScoreRow]:
        """All trials with a place above `after`, as fronts see them, in that order."""

    def progress(self, searches: Sequence[str]) -> dict[str, dict[TrialRole, int]]:
        """How many trials of each role there are, by search."""

    def trials_of_architecture(
        self, architecture_id: str, limit: int
    ) -> list[tuple[str, TrialRow]]:
        """Trials of an architecture, each with its search, the newest search first."""

    def events_after(self, sequence: int, limit: int) -> list[Event]:
        """Events of all searches with a sequence above this one, in order.

        Where several write at once (not in SQLite), one may come in later than another above it.
        """

    def events_of(self, search: str, kinds: Iterable[str]) -> list[Event]:
        """A search's events of these kinds, in order."""

    def last_sequence(self) -> int:
        """That of the newest event; 0 where there is none."""

    # -- attempts: what a reconciler does ------------------------------------------------------

    def unsettled(self) -> list[tuple[SearchRecord, Wish, Attempt | None]]:
        """Searches with a wish and no terminal state, the oldest first, with their last attempt."""

    def begin_attempt(self, search: str, after: int) -> Attempt | None:
        """The attempt behind number `after` (0: the first), by compare-and-set.

        None where somebody else began it, or the search is not wanted to run any more.
        """

    def end_attempt(self, search: str, number: int, outcome: str) -> None:
        """Says that an attempt has ended and how; does nothing where that was said before."""

    def attempts(self, search: str) -> list[Attempt]:
        """All attempts in order."""

    # -- tokens ----------------------------------------------------------------------------------

    def add_token(
        self, name: str, scopes: Sequence[Scope], *, expires: str | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret, which is kept nowhere: only its SHA-256 is.

        Raises `SpecError` for a name, scopes or a time that cannot be, and `DuplicateName` where a
        token that is not revoked has this name.
        """

    def tokens(self) -> list[Token]:
        """All tokens, also those revoked, the oldest first."""

    def revoke_token(self, name_or_id: str) -> Token:
        """Ends a token at once, if it is not ended yet; raises `TokenNotFound`."""

    def find_token(self, secret: str) -> Token | None:
        """The token of a secret, compared in constant time; None where it is not valid now."""

    # -- operations ------------------------------------------------------------------------------

    def operation(self, id: str) -> Operation:
        """Raises `OperationNotFound`."""

    def operations(self, state: OperationState | None = None) -> list[Operation]:
        """The oldest first."""

    def change_operation(
        self,
        id: str,
        state: OperationState,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Operation:
        """Moves an operation on; a terminal state never changes (`SearchStateError`)."""
