"""Which searches are there, and how far is each?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.report.table import Table
from nas.run.lease import shown_state
from nas.run.workspace import workspace
from nas.store.parameters import part_name
from nas.store.sql import SqlStore


@dataclass(frozen=True)
class Listed:
    """A search in one line, by its record and who holds it: no part that it names is loaded."""

    id: str
    name: str
    state: str
    """As `shown_state` says."""
    phase: str
    task: str
    space: str
    scored: int
    """Architectures of the search that have a score, controls left out."""
    budget: int
    """How many the request allows."""
    created: str
    """RFC 3339, in UTC."""


def list_searches(home: str | Path | None = None) -> list[Listed]:
    """The searches of a home, the newest first; none where there is no record, which is not made.

    Raises `StoreUnavailable` for a record that cannot be read.
    """
    store = SqlStore(workspace(home).record_url)
    return [
        Listed(
            id=record.id,
            name=record.name,
            state=shown_state(record),
            phase=record.phase,
            task=part_name(record.spec, "task"),
            space=part_name(record.spec, "space"),
            scored=store.count(record.id, "search", "succeeded"),
            budget=record.spec["budget"]["trials"],
            created=record.created,
        )
        for record in ([] if store.missing else store.searches())
    ]


def listing(searches: Sequence[Listed]) -> Table:
    """The searches as a table; times to the minute."""
    rows = (
        (
            each.id,
            each.name,
            each.state,
            each.phase,
            each.task,
            each.space,
            f"{each.scored} of {each.budget}",
            each.created[:16].replace("T", " "),
        )
        for each in searches
    )
    columns = ("id", "name", "state", "phase", "task", "space", "scored", "created (UTC)")
    spare = (("phase",), ("created (UTC)",), ("task",), ("space",))
    return Table("Searches", columns, tuple(rows), spare)
