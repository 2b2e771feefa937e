"""Who went on from rung to rung, and what is the front by the metrics of trained networks?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas import catalog
from nas.search.halving import Rung, binding, leading
from nas.search.objective import Constraint, values_of
from nas.search.pareto import Losses, losses_of, scored
from nas.search.spec import SearchSpec
from nas.search.stages import Start
from nas.search.survival import far_reference
from nas.search.trial import SLICES, Standing, Trial
from nas.space.architecture import Architecture


@dataclass(frozen=True)
class Entrant:
    """One network of a rung. `metrics` are the objectives', empty where it could not be scored."""

    architecture_id: str
    metrics: Mapping[str, float]
    goes_on: bool | None
    """Into the next rung, from the last one to the confirmation; None: not settled yet."""
    dominated_by: tuple[str, ...]
    """The architectures of the rung that dominate it."""
    reason: str
    """Why it does not go on where no other network is why: its failure, a broken constraint."""


@dataclass(frozen=True)
class RungResult:
    """One rung of successive halving, as far as it is trained.

    `reference` is the point (metric values) to which contributions are taken: the worst scored
    values of the rung plus their range; None where none is scored.
    """

    number: int
    steps: int
    of_steps: int
    """Those of the whole stand-alone schedule."""
    start: Start
    expected: int
    """How many networks it has when all are trained."""
    entrants: tuple[Entrant, ...]
    leading: str
    """The objective whose best network always goes on."""
    reference: Mapping[str, float] | None


@dataclass(frozen=True)
class Trained:
    """One network trained to the end; `values` are means over its `seeds`, by objective."""

    architecture_id: str
    attention: str | None
    """None where it mixes types."""
    member: bool
    """Whether it is one of the supernet's front, and no rival alone."""
    seeds: int
    values: Mapping[str, float]
    on_front: bool
    dominated_by: tuple[str, ...]
    breaks: tuple[str, ...]
    """The constraints that its means do not keep."""


@dataclass(frozen=True)
class TrueFront:
    """The front among the networks that are trained to the end, by the request's objectives.

    `judged_by` names the metric that an objective is judged by: that on test examples where all
    networks have it.
    """

    judged_by: Mapping[str, str]
    networks: tuple[Trained, ...]
    """The best by the first objective first."""


def rungs(
    spec: SearchSpec, trials: Sequence[Trial], later_constraints: Sequence[str] = ()
) -> tuple[RungResult, ...]:
    """The rungs that the record holds, the first one first; empty where nothing was halved.

    Who went on is what the record shows, so that a report stays what it was whatever rule comes
    after; `later_constraints` were no reason. Raises `ValueError` for a label that cannot be read.
    """
    held: dict[int, tuple[Rung, list[Trial]]] = {}
    for trial in sorted(trials, key=lambda each: each.index):
        if trial.role == "rung":
            rung = Rung.of(trial)
            held.setdefault(rung.number, (rung, []))[1].append(trial)
    found = []
    for number, (rung, own) in sorted(held.items()):
        after, settled = _after(spec, rung, own, trials)
        if number + 1 in held:
            following, present = held[number + 1]
            after = {trial.architecture.id for trial in present}
            settled = len(present) == following.entrants
        kept = [each for each in binding(spec, rung) if str(each) not in later_constraints]
        found.append(_rung(spec, rung, own, kept, after, settled))
    return tuple(found)


def _after(
    spec: SearchSpec, rung: Rung, own: Sequence[Trial], trials: Sequence[Trial]
) -> tuple[set[str], bool]:
    """The networks that are confirmed after the last rung, and whether these are all."""
    if rung.steps != spec.standalone.steps:
        return set(), False
    roles = ("matched", "confirmed")
    named = {Standing.of(trial).member for trial in trials if trial.role in roles}
    # Rivals may have been drawn for members of no rung, by a version before there were any.
    after = named & {trial.architecture.id for trial in own}
    return after, len(after) == min(spec.confirmation.members, len(scored(own)))


def _rung(
    spec: SearchSpec,
    rung: Rung,
    own: Sequence[Trial],
    kept: Sequence[Constraint],
    after: set[str],
    settled: bool,
) -> RungResult:
    objectives, held = spec.parsed_objectives, scored(own)
    losses = losses_of(held, objectives)
    reference = values_of(objectives, far_reference(losses)) if held else None
    entrants = []
    for trial in own:
        metrics: dict[str, float] = {}
        rivals: tuple[str, ...] = ()
        reason = trial.measurement.reason
        if trial.succeeded:
            metrics = {each.metric.name: trial.metrics[each.metric.name] for each in objectives}
            broken = (str(each) for each in kept if each.violation(trial.metrics) > 0)
            reason = ", ".join(f"breaks {limit}" for limit in broken)
            own_losses = losses[held.index(trial)]
            rivals = _dominators(losses, own_losses, [t.architecture.id for t in held])
        goes_on = trial.architecture.id in after
        known = goes_on or settled or not trial.succeeded
        entrants.append(
            Entrant(trial.architecture.id, metrics, goes_on if known else None, rivals, reason)
        )
    return RungResult(
        rung.number,
        rung.steps,
        spec.standalone.steps,
        rung.start,
        rung.entrants,
        tuple(entrants),
        spec.objectives[leading(spec)],
        reference,
    )


def _dominators(losses: Losses, own: Losses, names: Sequence[str]) -> tuple[str, ...]:
    better = (losses <= own).all(axis=1) & (losses < own).any(axis=1)
    return tuple(names[place] for place in np.flatnonzero(better).tolist())


# -- the front -------------------------------------------------------------------------------------


def true_front(spec: SearchSpec, trials: Sequence[Trial]) -> TrueFront | None:
    """The front of the confirmed networks by means over their seeds; None where there is none.

    A cost that the record has not of a trained network is that of its slice; a network with an
    objective that nothing is known of takes no part.
    """
    confirmed = [trial for trial in scored(trials) if trial.role == "confirmed"]
    # The rival of several members was trained once a seed, whatever its labels say.
    runs: dict[Architecture, dict[int, Trial]] = {}
    members: set[Architecture] = set()
    for trial in sorted(confirmed, key=lambda each: each.index):
        standing = Standing.of(trial)
        assert standing.seed is not None, "a confirmed trial's label has one"
        runs.setdefault(trial.architecture, {}).setdefault(standing.seed, trial)
        if standing.attention is None:
            members.add(trial.architecture)
    judged_by = _judged_by(spec, confirmed)
    wanted = dict.fromkeys((*spec.objectives, *(c.metric for c in spec.parsed_constraints)))
    means: dict[Architecture, dict[str, float]] = {}
    for architecture, by_seed in runs.items():
        sliced = [t for t in scored(trials) if t.architecture == architecture and t.role in SLICES]
        found = {
            name: mean
            for name in wanted
            if (mean := _mean(by_seed.values(), judged_by.get(name), name, sliced)) is not None
        }
        if all(name in found for name in spec.objectives):
            means[architecture] = found
    if not means:
        return None
    seeds = {architecture: len(by_seed) for architecture, by_seed in runs.items()}
    shown = {name: judged_by.get(name, name) for name in spec.objectives}
    return TrueFront(shown, _ordered(spec, means, members, seeds))


def _judged_by(spec: SearchSpec, confirmed: Sequence[Trial]) -> dict[str, str]:
    """For each of the task's metrics the name to judge it by: on test where all have that."""
    found = {}
    for metric in catalog.TASKS.load(spec.task.name).metrics:
        tested = f"test_{metric.name}"
        has_it = all(tested in trial.metrics for trial in confirmed)
        found[metric.name] = tested if has_it else metric.name
    return found


def _mean(
    runs: Iterable[Trial], judged_by: str | None, name: str, sliced: Sequence[Trial]
) -> float | None:
    """Over the runs that have the metric; of a cost, which has no `judged_by`, else a slice's."""
    held = [t.metrics[judged_by or name] for t in runs if (judged_by or name) in t.metrics]
    if not held and judged_by is None:
        held = [trial.metrics[name] for trial in sliced if name in trial.metrics][:1]
    return math.fsum(held) / len(held) if held else None


def _ordered(
    spec: SearchSpec,
    means: Mapping[Architecture, Mapping[str, float]],
    members: set[Architecture],
    seeds: Mapping[Architecture, int],
) -> tuple[Trained, ...]:
    losses = np.array(
        [[each.loss(found) for each in spec.parsed_objectives] for found in means.values()]
    )
    breaks = [
        tuple(
            str(limit)
            for limit in spec.parsed_constraints
            if limit.metric in found and limit.violation(found) > 0
        )
        for found in means.values()
    ]
    kept = np.array([not each for each in breaks])
    ids = np.array([architecture.id for architecture in means])
    networks = []
    for row, (architecture, found) in enumerate(means.items()):
        rivals = _dominators(losses[kept], losses[row], ids[kept].tolist())
        trained = Trained(
            architecture.id,
            architecture.single_attention,
            architecture in members,
            seeds[architecture],
            {name: found[name] for name in spec.objectives},
            bool(kept[row]) and not rivals,
            rivals,
            breaks[row],
        )
        networks.append(((*losses[row].tolist(), architecture.id), trained))
    return tuple(trained for _, trained in sorted(networks, key=lambda each: each[0]))
