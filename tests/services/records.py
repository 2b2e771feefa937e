"""Searches as the record has them, written directly: nothing is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from nas.search.spec import load_spec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.store.store import Lease, SearchState
from nas_services.dependencies import Services
from tests.store.conformance import SPEC, trial

HOLDER = "elsewhere:1:1"


def services_of(app: FastAPI) -> Services:
    """The parts of the service."""
    found: Services = app.state.services
    return found


def new_search(services: Services, *, owner: str = "local", **changes: Any) -> str:
    """The id of a new search of an owner, its request changed by field."""
    spec = load_spec({**SPEC, **changes}).to_json()
    with services.serving.once(owner, None, "") as once:
        return once.create_search(spec, owner=owner).id


@contextmanager
def held(services: Services, search: str) -> Iterator[Lease]:
    """The lease of a search, as its driver has it."""
    lease = services.store.acquire(search, HOLDER, 60)
    try:
        yield lease
    finally:
        services.store.release(lease)


def set_state(services: Services, search: str, state: SearchState, **changes: Any) -> None:
    """Brings a search into a state."""
    with held(services, search) as lease:
        services.store.set_state(lease, state, **changes)


def add_trials(services: Services, search: str, trials: Sequence[Trial]) -> None:
    """Appends trials."""
    with held(services, search) as lease:
        for each in trials:
            services.store.add_trial(lease, each)


def scored(
    index: int, cross_entropy: float, flops: float, role: TrialRole = "search", **more: float
) -> Trial:
    """A trial with these metrics; each index is another architecture."""
    metrics = {"cross_entropy": cross_entropy, "flops": flops, **more}
    return replace(trial(index, role), measurement=Measurement.of(metrics, 0.25))


def trade_off(count: int, role: TrialRole = "search") -> list[Trial]:
    """Trials of which every second one is on the front: the others cost more and score less."""
    return [
        scored(index, 2.0 / (1 + index) + 0.5 * (index % 2), 1e6 * (1 + index), role)
        for index in range(count)
    ]


def import_trials(services: Services, search: str, trials: Sequence[Trial]) -> None:
    """Appends many trials in one transaction."""
    services.store.import_search(services.store.get(search), trials)


def add_facts(services: Services, search: str, facts: dict[str, str]) -> None:
    """Adds facts to the record."""
    with held(services, search) as lease:
        services.store.add_facts(lease, facts)
