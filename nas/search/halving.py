"""Which networks of a shortlist are trained on? Successive halving, by vectors of true metrics.

Kevin Jamieson, Ameet Talwalkar: Non-stochastic best arm identification and hyperparameter
optimization (2016); with several objectives as in Robin Schmucker et al.: Multi-objective
asynchronous successive halving (2021), here rung by rung.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

from nas import catalog
from nas.search.objective import Constraint
from nas.search.pareto import front_of, losses_of, scored
from nas.search.spec import SearchSpec
from nas.search.stages import Start
from nas.search.survival import survivors
from nas.search.trial import Proposal, Trial
from nas.space.architecture import Architecture

SEED = 0
"""With which a rung's networks are trained: the first seed of those that are confirmed."""


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder; kept as the label of its trials.

    `number` counts from 1, `steps` are those of the stand-alone recipe that its networks have
    behind them, `entrants` is how many of them there are.
    """

    number: int
    steps: int
    start: Start
    entrants: int

    def label(self) -> str:
        """The label's text, JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, trial: Proposal | Trial) -> Rung:
        """Reads the label of a trial of role `rung`; raises `ValueError` where it cannot."""
        try:
            rung = cls(**json.loads(trial.label))
            counts = (rung.number, rung.steps, rung.entrants)
            if rung.start not in get_args(Start) or any(type(n) is not int for n in counts):
                raise ValueError(f"{rung} given")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"trial {trial.role}/{trial.index}: label {trial.label!r} is not a JSON object "
                f"with number, steps, start and entrants: {error}"
            ) from error
        return rung


def ladder(spec: SearchSpec) -> tuple[int, ...]:
    """The steps of each rung, the last with all of the recipe's; empty where nothing is halved.

    A rung has `eta` times the steps of the one before, rounded up; equal ones are one.
    """
    asked, steps = spec.confirmation, spec.standalone.steps
    if asked.rungs < 2:
        return ()
    shares = (asked.eta**place for place in reversed(range(asked.rungs)))
    return tuple(dict.fromkeys(-(-steps // share) for share in shares))


def shortlist(spec: SearchSpec, trials: Sequence[Trial]) -> list[Trial]:
    """The front members that enter the first rung, in the front's order, each network once.

    Of a longer front those that contribute most to its hypervolume, the best by the task's metric
    included; see `survivors`.
    """
    first: dict[Architecture, Trial] = {}
    for member in front_of(spec, trials).members:
        first.setdefault(member.architecture, member)
    unique = list(first.values())
    losses = losses_of(unique, spec.parsed_objectives)
    room = max(spec.confirmation.members, spec.confirmation.shortlist)
    return [unique[row] for row in survivors(losses, room, leading=leading(spec))]


def leading(spec: SearchSpec) -> int:
    """Which objective counts most: the task's own metric, or else its first among them."""
    quality = [metric.name for metric in catalog.TASKS.load(spec.task.name).metrics]
    named = [name for name in (spec.primary.metric.name, *quality) if name in spec.objectives]
    return spec.objectives.index(named[0])


def room_after(spec: SearchSpec, rung: Rung) -> int:
    """How many of a rung's networks go on: one in `eta`, never fewer than are confirmed.

    From the last rung exactly those that are confirmed.
    """
    asked = spec.confirmation
    if rung.steps == spec.standalone.steps:
        return asked.members
    return max(asked.members, -(-rung.entrants // asked.eta))


def sizes(spec: SearchSpec, entrants: int, number: int = 1) -> list[int]:
    """How many networks the rungs have from `number` on, where `entrants` begin it, none fails."""
    found: list[int] = []
    for place, steps in list(enumerate(ladder(spec), 1))[number - 1 :]:
        found.append(entrants)
        rung = Rung(place, steps, spec.confirmation.start, entrants)
        entrants = min(entrants, room_after(spec, rung))
    return found


def going_on(spec: SearchSpec, rung: Rung, trials: Sequence[Trial]) -> list[Trial]:
    """The trials of a rung that go on, in their order: those that failed never do.

    By constrained rank, then by hypervolume contribution; the best by the task's metric always
    does. See `survivors`.
    """
    held = scored(trials)
    losses = losses_of(held, spec.parsed_objectives)
    kept = binding(spec, rung)
    broken = [math.fsum(each.violation(trial.metrics) for each in kept) for trial in held]
    rows = survivors(losses, room_after(spec, rung), broken, leading(spec))
    return [held[row] for row in rows]


def binding(spec: SearchSpec, rung: Rung) -> list[Constraint]:
    """The constraints that a rung's networks are held to.

    A bound on quality is one on networks that are trained to the end: it waits for the last rung.
    """
    if rung.steps == spec.standalone.steps:
        return list(spec.parsed_constraints)
    quality = {metric.name for metric in catalog.TASKS.load(spec.task.name).metrics}
    return [each for each in spec.parsed_constraints if each.metric not in quality]
