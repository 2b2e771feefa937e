"""Where a cost takes a machine: some networks are timed, most predicted, the front measured."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nas.cost.forecast import FORECASTS, from_text, learnt, to_text
from nas.run.queue import fixed
from nas.run.running import Running
from nas.run.submission import problem_of
from nas.search.pareto import front_of
from nas.search.trial import Proposal, Trial
from nas.strategy.ranked import spread_out


def predict_costs(running: Running) -> None:
    """Times the request's `prediction.timings` networks and learns from them, or goes on.

    What was learnt is a fact of the search, so that a resumed one predicts the same.
    """
    spec = running.spec
    count = spec.prediction.timings if spec.measured_costs else 0
    if not count or running.setup.forecasts:
        return
    if running.store.count(running.id, "search"):
        # Begun by older code, which measured every candidate: that is not changed half-way.
        return
    running.enter("timed")
    problem, rng = problem_of(spec), random.Random(f"{spec.seed}/timed")
    drawn = spread_out(problem, set(), rng, count, count // 2)
    proposals = [Proposal("timed", i, each) for i, each in enumerate(drawn)]

    def over(_: int) -> bool:
        left = running.left()
        return left is not None and left <= 0

    trials = running.evaluate("timed", fixed(proposals), len(proposals), over)
    running.note_facts({FORECASTS: to_text(learnt(spec, trials))})


def measure_front(running: Running) -> None:
    """Measures the front's predicted costs, and those of who takes the place of who leaves it.

    So at the end nothing predicted is left on the front, but where a measurement failed.
    """
    spec = running.spec
    if not any(each.used for each in from_text(spec, running.setup.forecasts).values()):
        return
    running.enter("remeasured")
    searched = running.store.trials(running.id, "search")

    def propose(measured: Sequence[Trial]) -> list[Proposal]:
        known = {trial.architecture for trial in measured}
        front = front_of(spec, [*searched, *measured]).members
        fresh = [each for each in front if each.architecture not in known]
        return [
            Proposal("remeasured", len(measured) + i, each.architecture, f"search {each.index}")
            for i, each in enumerate(fresh)
        ]

    running.evaluate("remeasured", propose, len(propose(())))
    running.note_front(running.store.trials(running.id))
