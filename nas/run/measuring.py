"""By what are proposals measured: a supernet that is trained for them, or a table that has all?

The one place where that is decided; executors know no more than the two functions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from nas.run import evaluate, lookup
from nas.run.evaluate import Evaluator, Setup
from nas.run.lookup import Lookup
from nas.search.trial import Measurement, Proposal
from nas.train.loop import Progress

Measure = Callable[[Proposal], Measurement]


def prepare(setup: Setup) -> Generator[Progress]:
    """Makes ready what measures a request's proposals: trains its supernet, or opens its table.

    Raises what `nas.run.evaluate.train` or `nas.run.lookup.opened` raises.
    """
    # A generator itself: Ray streams from no other function.
    yield from lookup.opened(setup) if setup.request().looked_up else evaluate.train(setup)


def measuring(setup: Setup) -> Measure:
    """What measures a request's proposals, once that is ready."""
    return Lookup(setup) if setup.request().looked_up else Evaluator(setup)
