"""How long do networks take, while a machine's speed changes? In turns, beside a reference."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from nas.search.spec import SearchSpec
from nas.search.trial import Proposal, Trial, TrialRole
from nas.search.workload import Workload
from nas.space.architecture import Architecture

REFERENCE = "reference"
"""The label of the reference network, which is timed before and after every other."""


def turn_workload(spec: SearchSpec) -> Workload:
    """On what a network is timed in one turn: a share of the workload's repetitions."""
    share = -(-spec.latency.repetitions // spec.prediction.rounds)
    return spec.latency.model_copy(update={"repetitions": share})


def turn(
    reference: Architecture,
    role: TrialRole,
    first: int,
    networks: Sequence[tuple[Architecture, str]],
) -> list[Proposal]:
    """One turn from the index `first` on: the networks, with their labels, between references."""
    beside = reference, REFERENCE
    order = [beside, *(each for network in networks for each in (network, beside))]
    return [Proposal(role, first + i, *each) for i, each in enumerate(order)]


def steady(
    spec: SearchSpec, trials: Iterable[Trial], role: TrialRole
) -> dict[Architecture, dict[str, float]]:
    """The measured costs of each network of a role: the medians of its turns, at one speed.

    A shared or warming machine is half as fast for seconds on end. So each figure is divided by the
    mean of the reference's before and after it, and multiplied by the reference's median while
    networks were `timed`, or in the role's own turns where none were. Turns whose references have
    no figures count as they are.
    """
    names = spec.measured_costs
    given = [trial for trial in trials if trial.succeeded]
    held = {trial.index: trial for trial in given if trial.role == role}
    usual = _usual(given, names, role)
    turns: dict[Architecture, list[dict[str, float]]] = {}
    for index in sorted(held):
        trial = held[index]
        if trial.label != REFERENCE:
            beside = [held[i].metrics for i in (index - 1, index + 1) if _is_reference(held, i)]
            found = {name: trial.metrics[name] * _factor(usual, beside, name) for name in names}
            turns.setdefault(trial.architecture, []).append(found)
    return {
        architecture: {name: statistics.median(each[name] for each in found) for name in names}
        for architecture, found in turns.items()
    }


def _usual(trials: Sequence[Trial], names: Sequence[str], role: TrialRole) -> dict[str, float]:
    references = [trial for trial in trials if trial.label == REFERENCE]
    held = [t.metrics for t in references if t.role == "timed"]
    held = held or [t.metrics for t in references if t.role == role]
    if not held:
        return {}
    return {name: statistics.median(each[name] for each in held) for name in names}


def _is_reference(held: Mapping[int, Trial], index: int) -> bool:
    return index in held and held[index].label == REFERENCE


def _factor(usual: Mapping[str, float], beside: Sequence[Mapping[str, float]], name: str) -> float:
    now = statistics.fmean(each[name] for each in beside) if beside else 0.0
    return usual[name] / now if now > 0 and name in usual else 1.0
