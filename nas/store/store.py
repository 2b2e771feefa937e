"""Where is a search kept? The record's values and what any store of them must guarantee."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from nas.search.trial import Measurement, Trial, TrialRole, TrialState
from nas.space.architecture import Architecture

SearchState = Literal[
    "queued", "provisioning", "running", "paused", "cancelling", "cancelled", "succeeded", "failed"
]
STATES: tuple[SearchState, ...] = get_args(SearchState)
TERMINAL = frozenset[SearchState]({"cancelled", "succeeded", "failed"})
"""States that `set_state` never leaves; only `reopen` takes a failed search up again."""

Purpose = Literal["search", "projection"]
Member = tuple[TrialRole, int]
"""A trial by its role and index."""

LAST = "last"
"""What `SearchStore.get` takes for the newest search."""
SHORTEST_PREFIX = 6
ID_LENGTH = 26
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class SearchRecord:
    """A search as the record holds it; times are RFC 3339 in UTC, `updated` that of its state.

    `facts` are what a reader needs to repeat it: commit, versions, digests. `attempt` counts how
    often it was taken up. `holder` and `expires` show the lease, None where nobody holds it.
    """

    id: str
    name: str
    spec: dict[str, Any]
    state: SearchState
    created: str
    updated: str
    phase: str = ""
    attempt: int = 0
    error: str | None = None
    warm_start: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    holder: str | None = None
    expires: str | None = None


@dataclass(frozen=True)
class Lease:
    """The right to write one search (or its projection) until it expires or is taken over.

    `attempt` is the fencing token: it rises with each `acquire`, and a write with an older one is
    refused.
    """

    search: str
    holder: str
    attempt: int
    expires: str
    purpose: Purpose = "search"


@dataclass(frozen=True)
class Event:
    """One line of the record's log; `sequence` rises within a search without going back."""

    sequence: int
    search: str
    kind: str
    data: dict[str, Any]
    time: str


@dataclass(frozen=True)
class Artifact:
    """A file that belongs to a search: its name there, its path or URI, its SHA-256."""

    name: str
    uri: str
    digest: str


@dataclass(frozen=True)
class Spend:
    """Time used so far, in seconds of wall clock and of devices (two devices count twice)."""

    seconds: float = 0.0
    device_seconds: float = 0.0


class SearchStore(Protocol):
    """The record: searches, their append-only trials, events, artifacts and leases.

    Every method is one transaction that is committed when it returns, and may raise
    `StoreUnavailable`. Every method that names a search raises `SearchNotFound` where there is
    none. Every method that takes a lease raises `LeaseLost`, having written nothing, once the lease
    was released or taken over; one that merely ran out still writes, as nobody else can have
    written since. What is returned is a copy.

    Each search has a log of events, written in the transaction of the fact they tell: its kinds are
    search.created, search.state, search.facts, trial, pareto.updated and artifact, and of a service
    search.desired (what is wanted of a search from now on). It is also the outbox, where all but
    the last kind wait until they are marked projected.
    """

    def create_search(
        self,
        spec: Mapping[str, Any],
        *,
        warm_start: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> SearchRecord:
        """A new search, queued, for the JSON form of a valid `SearchSpec`."""

    def get(self, id: str) -> SearchRecord:
        """The search by its id, an unambiguous prefix of six characters or more, or `LAST`.

        `SearchNotFound` names recent ones, or all that an ambiguous prefix fits.
        """

    def searches(self) -> list[SearchRecord]:
        """All searches, the newest first."""

    def acquire(
        self,
        search: str,
        holder: str,
        seconds: float,
        holder_alive: Callable[[str], bool] | None = None,
        *,
        purpose: Purpose = "search",
    ) -> Lease:
        """The lease, by compare-and-set, with the next attempt number.

        Granted where nobody holds it, it ran out, its holder is the caller itself or, by
        `holder_alive`, is dead. Raises `LeaseLost` where another live holder has it. A lease of
        purpose `projection` guards what is written elsewhere and is refused by the writes here.
        """

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """The lease, `seconds` from now on."""

    def release(self, lease: Lease) -> None:
        """Gives the lease back; does nothing where it was lost already."""

    def set_state(
        self,
        lease: Lease,
        state: SearchState,
        *,
        phase: str | None = None,
        error: str | None = None,
    ) -> SearchRecord:
        """Sets state and phase (None: as it is); an equal state is no change and no event.

        Raises `SearchStateError` for another state than the terminal one the search has reached; a
        phase of it may still change, as a confirmation follows a search that succeeded.
        """

    def reopen(self, lease: Lease) -> SearchRecord:
        """Makes a search resumable: a failed one is queued again, an unfinished one stays as it is.

        Raises `SearchStateError` for one that succeeded, was cancelled or is to be cancelled.
        """

    def add_facts(self, lease: Lease, facts: Mapping[str, str]) -> None:
        """Adds to the facts, replacing those of the same name."""

    def add_trial(self, lease: Lease, trial: Trial) -> None:
        """Appends a trial; raises `DuplicateTrial` where (role, index) is there already."""

    def trials(
        self, id: str, role: TrialRole | None = None, *, after: int = -1, limit: int | None = None
    ) -> list[Trial]:
        """Trials with an index above `after`, by role in the order of `ROLES`, then by index."""

    def count(self, id: str, role: TrialRole | None = None, state: TrialState | None = None) -> int:
        """How many trials there are, of this role and in this state (None: of any)."""

    def set_front(self, lease: Lease, members: Iterable[Member]) -> None:
        """Says which trials are Pareto-optimal now: an event `pareto.updated`."""

    def front(self, id: str) -> tuple[Member, ...]:
        """The members that were set last; empty before that."""

    def set_artifact(self, lease: Lease, name: str, uri: str, digest: str) -> None:
        """Enters or replaces an artifact."""

    def artifacts(self, id: str) -> dict[str, Artifact]:
        """Artifacts by name."""

    def events(self, id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Events with a sequence above `after`, in order."""

    def record_spend(
        self, lease: Lease, phase: str, seconds: float, device_seconds: float = 0.0
    ) -> None:
        """Adds to what the phase has used."""

    def spent(self, id: str) -> dict[str, Spend]:
        """What each phase has used, over all attempts."""

    def unprojected(self) -> list[str]:
        """Ids of the searches whose outbox is not empty, the oldest event first."""

    def outbox(self, id: str, limit: int | None = None) -> list[Event]:
        """Events not yet marked projected, in order."""

    def mark_projected(self, sequences: Iterable[int]) -> None:
        """Takes these events out of the outbox; unknown ones are ignored."""

    def requeue(self, id: str) -> None:
        """Puts every event back into the outbox."""

    def import_search(
        self,
        record: SearchRecord,
        trials: Sequence[Trial],
        *,
        artifacts: Iterable[Artifact] = (),
        front: Iterable[Member] = (),
        spent: Mapping[str, Spend] | None = None,
    ) -> SearchRecord:
        """Restores a search from elsewhere, adding what is missing and changing nothing else.

        Its events are new and wait in no outbox; nobody holds its lease.
        """


def new_id(now: float, randomness: bytes) -> str:
    """A ULID: 26 characters of Crockford's base 32, 48 bits of milliseconds, then 80 random bits.

    Ids sort by time. `now` is in seconds since 1970, `randomness` ten bytes.
    """
    number = (int(now * 1000) << 80) | int.from_bytes(randomness)
    return "".join(CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def rfc3339(now: float) -> str:
    """Seconds since 1970 as a UTC time of fixed width, so that text order is time order."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A trial's JSON form; `trial_from_json` reads it back to an equal trial."""
    measurement = trial.measurement
    return {
        "role": trial.role,
        "index": trial.index,
        "label": trial.label,
        "architecture": trial.architecture.to_json(),
        "metrics": dict(measurement.metrics),
        "state": measurement.state,
        "reason": measurement.reason,
        "seconds": measurement.seconds,
    }


def trial_from_json(given: Mapping[str, Any], where: str) -> Trial:
    """The trial; raises `SpecError` naming `where` if its architecture cannot be read here."""
    return Trial(
        role=given["role"],
        index=given["index"],
        architecture=Architecture.from_json(given["architecture"], f"{where}.architecture"),
        measurement=Measurement(
            given["metrics"], given["state"], given["reason"], given["seconds"]
        ),
        label=given["label"],
    )
