"""Which front members are confirmed? Those that are left of a shortlist, trained rung by rung."""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import SearchStateError
from nas.run.running import EvaluationBroken, Running
from nas.search.halving import Rung, going_on, ladder, shortlist, sizes
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec
from nas.search.trial import Proposal, Trial


def members(running: Running) -> list[Trial]:
    """The front members to confirm, by successive halving of the shortlist.

    Without rungs, and where the front has no more members than are confirmed, those spread along
    the front; so too where a confirmation has begun without rungs. Raises `SearchStateError` where
    the search has no front and `EvaluationBroken` where none of the shortlist can be trained.
    """
    spec, store = running.spec, running.store
    # Those that were timed, too: the front stands with what was measured of it.
    searched = store.trials(running.id)
    if not front_of(spec, searched).members:
        raise SearchStateError(f"search {running.id} has no front: no trial meets the constraints")
    entrants = shortlist(spec, searched)
    begun = any(store.count(running.id, role) for role in ("matched", "confirmed"))
    without_rungs = begun and not store.count(running.id, "rung")
    if not ladder(spec) or len(entrants) <= spec.confirmation.members or without_rungs:
        return spread(spec, searched)
    return _halved(running, entrants)


def spread(spec: SearchSpec, searched: Sequence[Trial]) -> list[Trial]:
    """Front members spread evenly along the front, the best by the task's metric included."""
    found = front_of(spec, searched).members
    front = sorted(found, key=lambda trial: spec.primary.loss(trial.metrics))
    count = min(spec.confirmation.members, len(front))
    places = {round(i * (len(front) - 1) / max(1, count - 1)) for i in range(count)}
    return [front[i] for i in sorted(places)]


def _halved(running: Running, entrants: Sequence[Trial]) -> list[Trial]:
    """What is left of the shortlist when every rung has been trained, in the shortlist's order."""
    spec = running.spec
    by_architecture = {trial.architecture: trial for trial in entrants}
    left, first = list(by_architecture), 0
    steps = ladder(spec)
    for number, until in enumerate(steps, 1):
        rung = Rung(number, until, spec.confirmation.start, len(left))
        batch = [
            Proposal("rung", first + place, architecture, rung.label())
            for place, architecture in enumerate(left)
        ]
        total = first + sum(sizes(spec, len(left), number))
        trials = _trained(running, batch, total)
        left = [trial.architecture for trial in going_on(spec, rung, trials)]
        if not left:
            reason = trials[-1].measurement.reason
            raise EvaluationBroken(
                f"search {running.id}: none of the {len(trials)} networks that were trained alone "
                f"to step {until} (rung {number} of {len(steps)}) can be scored, so none is "
                f"confirmed; the last one's reason: {reason}. For another standalone recipe, run a "
                f"new search: --warm-start {running.id} begins with this one's front"
            )
        first += len(batch)
    return [by_architecture[architecture] for architecture in left]


def _trained(running: Running, batch: Sequence[Proposal], total: int) -> list[Trial]:
    """A rung's trials in the order of its batch."""
    first, behind = batch[0].index, batch[-1].index + 1
    trials = running.evaluate(
        "rung", lambda before: () if len(before) > first else batch, total, first=first
    )
    return [trial for trial in trials if first <= trial.index < behind]
