"""How is one proposal measured where its network stands in a table? Its row is looked up."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from math import nan

from nas.cost.cost import exact_costs
from nas.cost.span import spans
from nas.run.evaluate import Setup, beyond_constraints
from nas.search.extent import EXTENT, Span, fixed_extent
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Proposal
from nas.space.architecture import Architecture
from nas.task.tabled import Rows
from nas.train.loop import Progress


def rows_of(setup: Setup) -> Rows:
    """The table of a request; raises as `Setup.data` does."""
    found = setup.data(setup.request())
    assert isinstance(found, Rows), "a task of rows loads them"
    return found


def opened(setup: Setup) -> Generator[Progress]:
    """What there is instead of a supernet's training: a look into the table, told in one report.

    Its facts are the table's digest and the extent of hypervolumes, from the table's own worst and
    best. Raises as `Setup.data` does, and `SpecError` where an architecture of the space has no
    row.
    """
    spec, rows = setup.request(), rows_of(setup)
    rows.check(spec.search_space)
    facts = {"data_digest": rows.digest, "table": f"{rows.file}, {len(rows.metrics)} networks"}
    if extent := setup.extent or _extent(spec, rows):
        facts[EXTENT] = extent
    size = spec.search_space.size
    stopped = f"nothing to train: {size} networks of a table"
    yield Progress(size, size, nan, 0.0, stopped=stopped, facts=facts)


def _extent(spec: SearchSpec, rows: Rows) -> str:
    held = [rows.metrics[each] for each in spec.search_space.enumerate()]
    known = spans(spec)
    for name in spec.objectives:
        if name not in known:
            values = [metrics[name] for metrics in held]
            told = "the lowest in the table", "the highest in the table"
            known[name] = Span(min(values), max(values), *told)
    fixed = fixed_extent(spec, known)
    assert fixed is not None, "every objective is a cost with a span or stands in the table"
    return fixed.to_text()


class Lookup:
    """Measures proposals by their rows; the table is read once."""

    def __init__(self, setup: Setup) -> None:
        self.spec = setup.request()
        self.rows = rows_of(setup)
        self.exact = exact_costs(self.spec.task_shape, self.spec.latency)

    def __call__(self, proposal: Proposal) -> Measurement:
        """The row's metrics and the exact costs, or why the trial has none."""
        start = time.perf_counter()
        found = self._measured(proposal.architecture)
        return replace(found, seconds=time.perf_counter() - start)

    def _measured(self, architecture: Architecture) -> Measurement:
        costs = self.exact(architecture)
        if refused := beyond_constraints(self.spec, costs):
            return refused
        row = self.rows.metrics.get(architecture)
        if row is None:
            return Measurement.failed(f"{architecture.id} has no row in {self.rows.file}")
        return Measurement.of({**costs, **row})
