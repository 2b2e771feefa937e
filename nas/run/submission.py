"""What is written when a request comes in: its record, and what later runs must find as it was."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence

from nas.cost.forecast import Forecasts, known_costs, known_costs_of_many
from nas.errors import StoreUnavailable
from nas.run.workspace import Workspace
from nas.search.problem import Problem
from nas.search.spec import SearchSpec
from nas.search.trial import Trial
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from nas.strategy.random import fresh

# The fact that says how many of the earlier search's trials a warm start looks at.
WARM_TRIALS = "warm_start_trials"


def problem_of(spec: SearchSpec, forecasts: Forecasts | None = None) -> Problem:
    """The request as strategies see it: what costs an architecture has without a machine.

    Exact ones, and those that there are forecasts of.
    """
    return Problem(
        spec.search_space,
        spec.parsed_objectives,
        spec.parsed_constraints,
        known_costs(spec, forecasts or {}),
        known_costs_of_many(spec, forecasts or {}),
    )


def check(spec: SearchSpec) -> None:
    """Raises `NothingFeasible` where no architecture is found that keeps all exact constraints.

    Each of them alone can be met when a request is valid; together they may still exclude all.
    """
    problem = problem_of(spec)
    if problem.analytic_constraints:
        fresh(problem, set(), random.Random(f"{spec.seed}/submission"), 1)


def submit(spec: SearchSpec, place: Workspace, *, warm_start: str | None = None) -> SearchRecord:
    """Commits a request to the record, once nothing that can be known now stands against it.

    Needs no engine: whoever runs the search may be elsewhere. Raises what `check` raises,
    `SearchNotFound` for an unknown `warm_start` and `StoreUnavailable` where record or folder
    cannot be used; nothing is left then.
    """
    check(spec)
    store = SqlStore(place.record_url)
    # A record that cannot be reached is found before there is a folder.
    store.searches()
    if warm_start is not None:
        warm_start = store.get(warm_start).id
    facts = facts_of(spec, store, place.versions(), warm_start)
    make_folder(place)
    return store.create_search(spec.to_json(), warm_start=warm_start, facts=facts)


def facts_of(
    spec: SearchSpec, store: SqlStore, versions: Mapping[str, str], warm_start: str | None
) -> dict[str, str]:
    """The facts of a new search, by the `versions` of the code and the id of the earlier search.

    Raises `SearchNotFound` for an unknown `warm_start`.
    """
    facts = {
        "space_digest": spec.search_space.digest,
        "supernet_digest": spec.supernet_digest,
        **versions,
    }
    if warm_start is not None:
        # The earlier search may still go on; a resumed run must begin with the same trials.
        facts[WARM_TRIALS] = str(_without_gaps(store.trials(warm_start, "search")))
    return facts


def make_folder(place: Workspace) -> None:
    """Makes the workspace's folder; raises `StoreUnavailable` where it cannot be written to."""
    try:
        place.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"work folder {place.root}: {error.strerror}") from error
    if not os.access(place.root, os.W_OK):
        raise StoreUnavailable(f"work folder {place.root}: it cannot be written to")


def _without_gaps(trials: Sequence[Trial]) -> int:
    return next((i for i, trial in enumerate(trials) if trial.index != i), len(trials))
