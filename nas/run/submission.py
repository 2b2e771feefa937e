"""What is written when a request comes in: its record, and what later runs must find as it was."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nas.errors import StoreUnavailable
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.search.trial import Trial
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord

# The fact that says how many of the earlier search's trials a warm start looks at.
WARM_TRIALS = "warm_start_trials"


def submit(spec: SearchSpec, place: Workspace, *, warm_start: str | None = None) -> SearchRecord:
    """Commits a request to the record, once nothing that can be known now stands against it.

    Needs no engine: whoever runs the search may be elsewhere. Raises `SearchNotFound` for an
    unknown `warm_start` and `StoreUnavailable` where record or folder cannot be used; nothing is
    left then.
    """
    store = SqlStore(place.record_url)
    # A record that cannot be reached is found before there is a folder.
    store.searches()
    facts = {
        "space_digest": spec.search_space.digest,
        "supernet_digest": spec.supernet_digest,
        **place.versions(),
    }
    if warm_start is not None:
        warm_start = store.get(warm_start).id
        # The earlier search may still go on; a resumed run must begin with the same trials.
        facts[WARM_TRIALS] = str(_without_gaps(store.trials(warm_start, "search")))
    try:
        place.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"work folder {place.root}: {error.strerror}") from error
    if not os.access(place.root, os.W_OK):
        raise StoreUnavailable(f"work folder {place.root}: it cannot be written to")
    return store.create_search(spec.to_json(), warm_start=warm_start, facts=facts)


def _without_gaps(trials: Sequence[Trial]) -> int:
    return next((i for i, trial in enumerate(trials) if trial.index != i), len(trials))
