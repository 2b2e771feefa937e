"""Does mixing win? Front members against homogeneous networks at matched FLOPs, trained alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from nas import catalog
from nas.cost.analytic import FLOPS
from nas.report.evidence import (
    NOT_RESOLVED,
    Better,
    Confirmation,
    Contrast,
    Difference,
    MemberConfirmation,
)
from nas.report.halving import true_front
from nas.report.statistics import Estimate, interval_of_mean
from nas.search.objective import Metric, Objective
from nas.search.pareto import scored
from nas.search.rank_correlation import FEWEST, RankAgreement
from nas.search.spec import SearchSpec
from nas.search.trial import SLICES, Standing, Trial

BySeed = Mapping[int, Trial]


def confirmation(
    spec: SearchSpec, primary: Metric, trials: Sequence[Trial], attentions: Sequence[str]
) -> Confirmation | None:
    """What the confirmed trials say; None where there are none that were trained to the end."""
    confirmed = (trial for trial in trials if trial.role == "confirmed")
    # Without the metric that decides, a trial of an incomplete record decides nothing.
    held = [trial for trial in scored(confirmed) if primary.name in trial.metrics]
    if not held:
        return None
    groups: dict[tuple[str, str | None], dict[int, Trial]] = {}
    for trial in sorted(held, key=lambda each: each.index):
        standing = Standing.of(trial)
        assert standing.seed is not None, "a confirmed trial's label has one"
        runs = groups.setdefault((standing.member, standing.attention), {})
        runs[standing.seed] = trial
    names = _reported(spec, primary, held)
    members = []
    for (member, other), runs in groups.items():
        if other is None:
            rivals = {
                attention: groups[member, attention]
                for attention in dict.fromkeys((*attentions, *(a for _, a in groups if a)))
                if (member, attention) in groups
            }
            members.append(_member(spec, names, runs, rivals))
    members.sort(key=lambda each: each.flops)
    decisive = next(iter(names))
    fidelity = _fidelity(primary, decisive, trials, held)
    return Confirmation(decisive, tuple(members), fidelity, true_front(spec, trials))


def _reported(spec: SearchSpec, primary: Metric, held: Sequence[Trial]) -> dict[str, Metric]:
    """The metrics that all confirmed trials have, the primary first; those on test where given."""
    task = catalog.TASKS.load(spec.task.name)
    rest = (metric for metric in task.metrics if metric.name != primary.name)
    ordered = (primary, *task.generated, *rest)
    found: dict[str, Metric] = {}
    for metric in ordered:
        for name in (f"test_{metric.name}", metric.name):
            if all(name in trial.metrics for trial in held):
                found[name] = metric
                break
    return found


def _member(
    spec: SearchSpec, names: Mapping[str, Metric], runs: BySeed, rivals: Mapping[str, BySeed]
) -> MemberConfirmation:
    architecture = next(iter(runs.values())).architecture
    flops = FLOPS.of(architecture, spec.task_shape)
    own = architecture.single_attention
    contrasts = tuple(
        _contrast(spec, names, attention, runs, rival, own)
        for attention, rival in rivals.items()
        if attention != own and set(runs) & set(rival)
    )
    better, verdict = _overall(own, contrasts, spec)
    values = _values(names, runs)
    return MemberConfirmation(architecture.id, own, flops, values, contrasts, better, verdict)


def _values(names: Iterable[str], runs: BySeed) -> dict[str, Estimate]:
    return {
        name: interval_of_mean([trial.metrics[name] for trial in runs.values()]) for name in names
    }


def _contrast(
    spec: SearchSpec,
    names: Mapping[str, Metric],
    attention: str,
    runs: BySeed,
    rival: BySeed,
    own: str | None,
) -> Contrast:
    seeds = sorted(set(runs) & set(rival))
    differences = tuple(
        Difference(
            name,
            interval_of_mean([runs[s].metrics[name] - rival[s].metrics[name] for s in seeds]),
        )
        for name in names
    )
    other = next(iter(rival.values())).architecture
    ratio = FLOPS.of(other, spec.task_shape) / FLOPS.of(
        next(iter(runs.values())).architecture, spec.task_shape
    )
    # A hair of slack: the tolerance is a round number and the ratio is not.
    matched = abs(ratio - 1) <= spec.confirmation.flops_tolerance + 1e-9
    metric = next(iter(names.values()))
    better = _better(metric, differences[0].estimate) if matched else None
    verdict = _verdict(better, own, [attention])
    values = _values(names, rival)
    return Contrast(attention, other.id, ratio, matched, differences, values, better, verdict)


def _better(metric: Metric, estimate: Estimate) -> Better:
    if estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high:
        return None
    member = (estimate.high < 0) == (metric.direction == "minimize")
    return "member" if member else "rival"


def _overall(
    own: str | None, contrasts: Sequence[Contrast], spec: SearchSpec
) -> tuple[Better, str]:
    """A member wins only against every other type of the space; one rival that wins settles it."""
    others = {str(attention) for attention in spec.search_space.all_attentions} - {own}
    lost = [each.attention for each in contrasts if each.better == "rival"]
    beaten = {each.attention for each in contrasts if each.better == "member"}
    won = bool(contrasts) and beaten >= others
    better: Better = "rival" if lost else "member" if won else None
    return better, _verdict(better, own, lost)


def _verdict(better: Better, own: str | None, rivals: Sequence[str]) -> str:
    if better is None:
        return NOT_RESOLVED
    if better == "member" and own is None:
        return "mixing wins"
    winners = rivals if better == "rival" else [str(own)]
    return f"{' and '.join(winners)} {'wins' if len(winners) == 1 else 'win'} here"


def _fidelity(
    primary: Metric, decisive: str, trials: Sequence[Trial], held: Sequence[Trial]
) -> RankAgreement | None:
    """Supernet score against stand-alone mean over seeds, for the networks that have both."""
    loss = Objective(primary).loss
    supernet = {
        trial.architecture.id: loss(trial.metrics)
        for trial in scored(trials)
        if trial.role in SLICES and primary.name in trial.metrics
    }
    alone: dict[str, list[float]] = {}
    for trial in held:
        value = loss({primary.name: trial.metrics[decisive]})
        alone.setdefault(trial.architecture.id, []).append(value)
    both = sorted(set(supernet) & set(alone))
    if len(both) < FEWEST:
        return None
    left = [supernet[each] for each in both]
    right = [math.fsum(alone[each]) / len(alone[each]) for each in both]
    return RankAgreement.of(left, right)
