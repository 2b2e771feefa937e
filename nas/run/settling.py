"""How does a search that nobody runs come to rest where it was asked to: paused, or cancelled?"""

from __future__ import annotations

from nas.errors import LeaseLost, SearchStateError
from nas.run.lease import LEASE_SECONDS, holder, holder_alive
from nas.store.serving import Desired, ServingStore
from nas.store.store import TERMINAL, SearchState, SearchStore

RESTING: dict[Desired, SearchState] = {"pause": "paused", "cancel": "cancelled"}
"""The state that a wish ends in, once nobody runs the search."""


def settle(store: SearchStore, serving: ServingStore, search: str) -> bool:
    """Sets the state to what is wanted of a search, its phase as it is; returns whether it is so.

    It is not where the search is wanted to run, has come to another end, or is held by a live
    process. Raises `SearchNotFound`.
    """
    wanted, now = RESTING.get(serving.wish(search).desired), store.get(search).state
    if wanted is None or now == wanted or now in TERMINAL:
        return now == wanted
    try:
        lease = store.acquire(search, holder(), LEASE_SECONDS, holder_alive)
    except LeaseLost:
        return False
    try:
        # Asked for once more behind the lease, as it may be wanted to run again.
        wanted = RESTING.get(serving.wish(search).desired)
        return wanted is not None and store.set_state(lease, wanted).state == wanted
    except (LeaseLost, SearchStateError):
        return False
    finally:
        store.release(lease)
