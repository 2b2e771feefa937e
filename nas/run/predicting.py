"""Where a cost takes a machine: some networks are timed, most predicted, the front measured."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from nas.cost.forecast import FORECASTS, learnt, to_text
from nas.run.queue import fixed
from nas.run.running import Running
from nas.run.submission import problem_of
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec
from nas.search.stages import FEWEST_TIMINGS
from nas.search.timing import REFERENCE, turn
from nas.search.trial import Proposal, Trial
from nas.space.architecture import Architecture
from nas.strategy.random import draw
from nas.strategy.ranked import spread_out

# Of the time budget, what timings may use besides training: the search must still be worth it.
TIMING_SHARE = 0.85
# What the label of a network begins with that is confirmed, and was not on the front.
RIVAL = "rival"


def reference(spec: SearchSpec) -> Architecture:
    """The network beside which the others are timed: one that keeps all exact constraints."""
    return draw(problem_of(spec), random.Random(f"{spec.seed}/{REFERENCE}"))


def predict_costs(running: Running) -> None:
    """Times the request's `prediction.timings` networks in turns and learns from them, or goes on.

    What was learnt is a fact of the search, so that a resumed one predicts the same.
    """
    spec = running.spec
    count = spec.prediction.timings if spec.measured_costs else 0
    if not count or running.setup.forecasts:
        return
    if running.store.count(running.id, "search"):
        # Begun by older code, which measured every candidate: that is not changed half-way.
        return
    problem, rng = problem_of(spec), random.Random(f"{spec.seed}/timed")
    drawn = spread_out(problem, set(), rng, count, count // 2)
    if len(drawn) < FEWEST_TIMINGS:
        return
    running.enter("timed")
    proposals: list[Proposal] = []
    for _ in range(spec.prediction.rounds):
        proposals += turn(reference(spec), "timed", len(proposals), [(each, "") for each in drawn])

    def over(_: int) -> bool:
        left = running.left(TIMING_SHARE)
        return left is not None and left <= 0

    trials = running.evaluate("timed", fixed(proposals), len(proposals), over, alone=True)
    running.note_facts({FORECASTS: to_text(learnt(spec, trials))})


def measure_front(running: Running) -> None:
    """Measures the front anew where costs are measured, and who takes the place of who leaves it.

    In each turn who is on the front then, or was before, and was measured less often than is asked
    for, until nobody is left. So at the end nothing is on the front that was predicted, or lucky in
    one taking, and nothing left it that was unlucky in one, but where a measurement failed.
    """
    spec, rounds = running.spec, running.spec.prediction.rounds
    if not spec.measured_costs:
        return
    running.enter("remeasured")
    store = running.store
    before = [*store.trials(running.id, "timed"), *store.trials(running.id, "search")]

    def propose(measured: Sequence[Trial]) -> list[Proposal]:
        front = front_of(spec, [*before, *measured]).members
        networks = {each.architecture: f"search {each.index}" for each in front}
        networks |= {t.architecture: t.label for t in measured if t.label != REFERENCE}
        return _next_turn(spec, networks, measured)

    total = len(propose(())) * rounds
    running.evaluate("remeasured", propose, total, alone=True)
    running.note_front(store.trials(running.id))


def measure_rivals(running: Running, networks: Sequence[Architecture]) -> None:
    """Measures what is to be confirmed, where costs are measured, as the front was before.

    Beside trainings every timing would be one of a busy machine. What the front's turns measured is
    not measured again.
    """
    spec, done = running.spec, running.store.trials(running.id, "remeasured")
    rivals = {each: f"{RIVAL} {each.id}" for each in networks}
    if not spec.measured_costs or not _next_turn(spec, rivals, done):
        return
    running.revisit("remeasured")
    # Those before are the front's, whose order is a queue of its own.
    begun = (trial.index - 1 for trial in done if trial.label.startswith(RIVAL))
    first = next(begun, len(done))

    def propose(measured: Sequence[Trial]) -> list[Proposal]:
        return _next_turn(spec, rivals, measured)

    short = len(propose(done[:first]))
    total = first + short * spec.prediction.rounds
    running.evaluate("remeasured", propose, total, first=first, alone=True)


def _next_turn(
    spec: SearchSpec, networks: Mapping[Architecture, str], measured: Sequence[Trial]
) -> list[Proposal]:
    """A turn of those that were measured less often than is asked for; empty where none was."""
    turns = Counter(trial.architecture for trial in measured if trial.label != REFERENCE)
    rounds = spec.prediction.rounds
    short = [(each, label) for each, label in networks.items() if turns[each] < rounds]
    return turn(reference(spec), "remeasured", len(measured), short) if short else []
