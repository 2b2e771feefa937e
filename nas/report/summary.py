"""What came out of a search, and does it beat its controls at equal numbers of scored networks?"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas import catalog
from nas.cost.analytic import FLOPS, PARAMS
from nas.report.architecture import attention_names, share_efficient
from nas.report.confirmation import confirmation
from nas.report.evidence import (
    EXPLORATORY,
    NOT_RESOLVED,
    Comparison,
    Count,
    Coverage,
    Matched,
    Member,
    Ranker,
    Resolution,
    Summary,
    Verdict,
)
from nas.report.fidelity import fidelity, judge
from nas.report.halving import rungs
from nas.report.prediction import predicted_costs
from nas.report.statistics import standard_deviation
from nas.search.controls import Extent, control_pools, equal_n, judged
from nas.search.fidelity import RankerTest
from nas.search.objective import Metric, Objective, values_of
from nas.search.pareto import (
    ParetoFront,
    front_of,
    losses_of,
    scored,
)
from nas.search.rank_correlation import kendall_tau
from nas.search.spec import SearchSpec
from nas.search.trial import ROLES, SLICES, Trial
from nas.space.task_shape import can_tell
from nas.strategy.strategy import ACCOUNT

# Below this many standard errors the spread of random networks is mostly noise (method, section 5).
RESOLVED_FROM = 3.0


def summarize(
    spec: SearchSpec,
    trials: Sequence[Trial],
    later_constraints: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
) -> Summary:
    """The report of a search's trials of all roles: a pure function, the same for the same record.

    Supernet scores (search and controls) and stand-alone results (confirmed) are never mixed.
    `later_constraints` are those of the request that were chosen when its trials were known: no
    comparison under them has a verdict. `facts` are the record's: a ranker's test, what predicted.
    """
    ranker_test = RankerTest.of(facts or {})
    objectives, primary = spec.parsed_objectives, spec.primary.metric
    pools, held = control_pools(trials), judged(trials)
    front, learnt = front_of(spec, trials), _learnt(spec, trials)
    resolution = _resolution(spec, learnt, pools.get("random", []))
    attentions = attention_names(
        [trial.architecture for trial in trials], map(str, spec.search_space.all_attentions)
    )
    reference = ideal = None
    comparisons: tuple[Comparison, ...] = ()
    if scored(held):
        extent = Extent.of(spec, held)
        reference = values_of(objectives, extent.reference)
        ideal = values_of(objectives, extent.ideal)
        comparisons = _comparisons(spec, trials, extent, bool(resolution.resolved))
        if later_constraints:
            comparisons = tuple(replace(each, verdict=EXPLORATORY) for each in comparisons)
    dominators = _dominators(spec, front, held)
    members = zip(front.members, dominators, strict=True)
    checked = fidelity(spec, trials, facts or {})
    return Summary(
        name=spec.name,
        space=spec.search_space.name,
        task=spec.task.name,
        objectives=tuple(objective.metric for objective in objectives),
        constraints=tuple(map(str, spec.parsed_constraints)),
        later_constraints=tuple(later_constraints),
        primary=primary,
        further=_further(spec, front),
        attentions=attentions,
        counts=tuple(_count(spec, role, trials) for role in ROLES),
        front=tuple(_member(spec, primary, trial, trials, names) for trial, names in members),
        dominated_by_controls=sum(map(bool, dominators)),
        reference=reference,
        ideal=ideal,
        comparisons=comparisons,
        learnt=learnt,
        resolution=resolution,
        rankers=_rankers(spec, primary, pools.get("random", [])),
        rungs=rungs(spec, trials, later_constraints),
        confirmation=confirmation(spec, primary, trials, attentions),
        fidelity=checked,
        ranker_test=ranker_test,
        predicted=predicted_costs(spec, trials, facts or {}),
        proposed=_proposed(spec, facts or {}),
        gate=judge(spec.gate, checked, ranker_test, looked_up=spec.looked_up),
        looked_up=spec.looked_up,
    )


def _comparisons(
    spec: SearchSpec, trials: Sequence[Trial], extent: Extent, resolved: bool
) -> tuple[Comparison, ...]:
    searched = [trial for trial in trials if trial.role == "search"]
    return tuple(
        compare_at_equal_n(name, (spec, searched), (spec, pool), extent, resolved)
        for name, pool in control_pools(trials).items()
        if scored(pool) and scored(searched)
    )


def _learnt(spec: SearchSpec, trials: Sequence[Trial]) -> bool | None:
    """Whether the median searched network beats the best constant guess; None if not known."""
    losses = [spec.primary.loss(t.metrics) for t in scored(trials) if t.role == "search"]
    if not losses:
        return None
    guess = catalog.TASKS.load(spec.task.name).uninformed(spec.task_shape)
    if spec.primary.metric.name not in guess:
        return None
    return statistics.median(losses) < spec.primary.loss(guess)


Side = tuple[SearchSpec, Sequence[Trial]]
"""Trials with the request whose objectives and constraints they are judged by."""


def compare_at_equal_n(
    control: str,
    search: Side,
    other: Side,
    extent: Extent,
    resolved: bool,
) -> Comparison:
    """Hypervolumes of both sides at the smaller number of scored trials; nothing else is fair."""
    n = equal_n(search[1], other[1])
    sides, noises = [], []
    for spec, pool in (search, other):
        total = len(scored(pool))
        mean, deviation = extent.covered(spec, pool, n)
        sides.append(Coverage(mean, deviation if n < total else None, total))
        half = min(n, total // 2)
        noises.append(extent.covered(spec, pool, half)[1] if half >= 2 else None)
    first, second = noises
    noise = None if first is None or second is None else math.hypot(first, second)
    difference = sides[0].mean - sides[1].mean
    verdict: Verdict = NOT_RESOLVED
    if resolved and noise is not None and abs(difference) > 2 * noise:
        verdict = "covers more" if difference > 0 else "covers less"
    return Comparison(control, n, sides[0], sides[1], difference, noise, verdict)


def _count(spec: SearchSpec, role: str, trials: Sequence[Trial]) -> Count:
    held = [trial for trial in trials if trial.role == role]
    states = Counter(trial.measurement.state for trial in held)
    reasons = Counter(trial.measurement.reason for trial in held if not trial.succeeded)
    # Stand-alone trials need not carry every metric that a constraint of the search is about.
    judged = scored(held) if role in SLICES else []
    return Count(
        role,
        states["succeeded"],
        states["infeasible"],
        states["failed"],
        sum(not spec.keeps_constraints(trial.metrics) for trial in judged),
        dict(reasons.most_common()),
    )


def _further(spec: SearchSpec, front: ParetoFront) -> tuple[Metric, ...]:
    return tuple(
        metric
        for metric in catalog.TASKS.load(spec.task.name).metrics
        if metric.name not in spec.objectives
        and all(metric.name in trial.metrics for trial in front.members)
    )


def _member(
    spec: SearchSpec,
    primary: Metric,
    trial: Trial,
    trials: Sequence[Trial],
    dominated_by: tuple[str, ...],
) -> Member:
    flops = _flops(spec, trial)
    loss = Objective(primary).loss
    best: dict[str, tuple[Trial, int]] = {}
    for other in scored(trials):
        attention = other.architecture.single_attention
        if other.role not in ("homogeneous", "matched") or attention is None:
            continue
        if not spec.keeps_constraints(other.metrics):
            continue
        cost = _flops(spec, other)
        held = best.get(attention)
        if cost is None or flops is None:
            continue
        if cost <= flops and (held is None or loss(other.metrics) < loss(held[0].metrics)):
            best[attention] = (other, cost)
    return Member(
        trial.index,
        trial.architecture.id,
        trial.architecture,
        dict(trial.metrics),
        flops,
        share_efficient(trial.architecture),
        tuple(
            Matched(attention, other.architecture.id, other.metrics[primary.name], cost)
            for attention, (other, cost) in sorted(best.items())
        ),
        dominated_by,
    )


def _flops(spec: SearchSpec, trial: Trial) -> int | None:
    """FLOPs of a trial's network, None where nothing tells them."""
    if not can_tell(spec.task_shape, FLOPS.metric.name):
        return None
    return FLOPS.of(trial.architecture, spec.task_shape)


def _dominators(
    spec: SearchSpec, front: ParetoFront, judged: Sequence[Trial]
) -> list[tuple[str, ...]]:
    """The controls that dominate each member of the front, by role and index."""
    controls = [
        trial
        for trial in sorted(scored(judged), key=_in_record)
        if trial.role != "search" and spec.keeps_constraints(trial.metrics)
    ]
    theirs = losses_of(controls, spec.parsed_objectives)
    found = []
    # Controls stand as they were predicted, where costs are; so here do the members.
    as_scored = {trial.index: trial for trial in judged if trial.role == "search"}
    members = [as_scored.get(each.index, each) for each in front.members]
    for own in losses_of(members, spec.parsed_objectives):
        better = (theirs <= own).all(axis=1) & (theirs < own).any(axis=1)
        names = (f"{controls[i].role} {controls[i].index}" for i in np.flatnonzero(better))
        found.append(tuple(names))
    return found


def _in_record(trial: Trial) -> tuple[int, int]:
    return ROLES.index(trial.role), trial.index


def _resolution(spec: SearchSpec, learnt: bool | None, controls: Sequence[Trial]) -> Resolution:
    primary, held = spec.primary.metric, scored(controls)
    spread = standard_deviation([trial.metrics[primary.name] for trial in held])
    name = f"{primary.name}_paired_se"
    errors = [trial.metrics[name] for trial in held if name in trial.metrics]
    error = statistics.median(errors) if errors else None
    ratio = spread / error if spread is not None and error else None
    resolved = None if ratio is None else ratio >= RESOLVED_FROM
    if spec.looked_up:
        # One number a network, the same at every look: there is no noise to be told apart from.
        resolved = bool(spread)
    if learnt is False:
        resolved = False
    return Resolution(primary.name, len(held), spread, error, ratio, resolved)


def _proposed(spec: SearchSpec, facts: Mapping[str, str]) -> str:
    given = ", ".join(f"{name} {value}" for name, value in sorted(spec.strategy.options.items()))
    account = f": {facts[ACCOUNT]}" if facts.get(ACCOUNT) else ""
    whose = f"`{spec.strategy.name}`{f' ({given})' if given else ''}, seed {spec.seed}"
    return f"Candidates were proposed by {whose}, in batches of {spec.batch}{account}."


def _rankers(spec: SearchSpec, primary: Metric, controls: Sequence[Trial]) -> tuple[Ranker, ...]:
    held = scored(controls)
    quality = [-Objective(primary).loss(trial.metrics) for trial in held]
    params = [PARAMS.of(trial.architecture, spec.task_shape) for trial in held]
    depths = [trial.architecture.depth for trial in held]
    return tuple(
        Ranker(name, kendall_tau(counts, quality), len(held))
        for name, counts in (("number of parameters", params), ("depth", depths))
    )
