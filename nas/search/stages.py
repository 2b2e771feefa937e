"""What does each stage of a search take: scoring, controls, and networks trained alone?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from nas.errors import SpecError
from nas.search.section import Positive, PositiveFloat, Section, Whole

FEWEST_TIMINGS = 10
"""From fewer nothing is learnt that could be checked."""
Start = Literal["scratch", "inherited"]
"""With which weights a network of a rung begins: random ones, or the supernet's slice."""


class Evaluation(Section):
    """On what candidates are scored: the first `examples` that are held out, the same for all."""

    examples: Annotated[Whole, Field(ge=2)] | None = None
    """How many; null: all that are held out."""
    batch_size: Annotated[Positive, Field(le=65_536)] = 250
    """Images a forward pass; for tasks of images."""
    batch_tokens: Annotated[Positive, Field(le=1_000_000)] = 8000
    """Tokens a forward pass of the longer side, padding included; for tasks of sentences."""
    beam: Annotated[Positive, Field(le=1024)] = 4
    """Hypotheses of a sentence while networks trained alone translate the test sentences."""
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 0.6
    """A translation's score is its log-probability / tokens^length_penalty."""


class Prediction(Section):
    """How measured costs come about where objectives or constraints are about some.

    Networks spread over the space are timed, the others predicted from these, and the front is
    measured at the end, however its costs came about. Where predictions are not shown to order
    networks, or order them worse than their numbers of parameters do, every candidate is measured.
    """

    timings: Annotated[Whole, Field(le=1000)] = 80
    """How many are timed, 10 at least; 0: none is predicted and every candidate measured."""
    rounds: Annotated[Positive, Field(le=100)] = 3
    """In how many turns each is timed, beside a reference network that tells the machine's speed
    from turn to turn; `latency.repetitions` are shared among them. A shared machine takes more."""

    @field_validator("timings")
    @classmethod
    def _enough(cls, given: int) -> int:
        if 0 < given < FEWEST_TIMINGS:
            raise SpecError(f"{given} given; 0, or {FEWEST_TIMINGS} and more are allowed")
        return given


class Controls(Section):
    """What the search is compared with, scored on the same supernet."""

    random: Whole | None = None
    """Random architectures; null: as many as the search has."""
    homogeneous: Whole = 12
    """Networks of each attention type, and rivals drawn for each member that is confirmed."""


class Confirmation(Section):
    """Stand-alone training of front members against homogeneous networks at matched FLOPs."""

    members: Positive = 3
    """Front members that are confirmed: those that successive halving leaves."""
    seeds: Annotated[Whole, Field(ge=2, le=20)] = 3
    """Trainings of each network; 2 resolve next to nothing (t = 12.7 at 95%, 4.3 with 3)."""
    flops_tolerance: Annotated[PositiveFloat, Field(le=0.5)] = 0.03
    """How far a rival's FLOPs may lie from the member's, as a share of them."""
    shortlist: Positive = 12
    """Front members that enter the first rung, by hypervolume contribution; `members` at least."""
    rungs: Annotated[Whole, Field(le=10)] = 3
    """Rungs of halving, the last at all of the stand-alone steps; 0 or 1: none, and the members are
    spread over the front."""
    eta: Annotated[Whole, Field(ge=2, le=100)] = 2
    """One in so many networks goes on from a rung to the next, which has so many times the
    steps."""
    start: Start = "scratch"
    """What a rung's networks begin with: random weights, or those inherited from the supernet. What
    is confirmed begins from scratch."""


class FidelityCheck(Section):
    """Networks of the front and below it, trained alone: does the supernet rank them as that does?

    One seed each, by the stand-alone recipe in fewer steps, its warm-up shortened in proportion.
    """

    networks: Annotated[Whole, Field(ge=8, le=200)] = 24
    """How many. Between scores with nothing in common tau's standard error is 0.15 of 24 networks,
    0.29 of 8."""
    steps: Annotated[Positive, Field(le=100_000_000)] | None = None
    """Steps of each training; null: a quarter of `standalone.steps`."""
    hours: PositiveFloat | None = None
    """Hours by the clock after which no further network is begun; null: no bound. The search's
    budget is another."""
    deferred: Annotated[bool, Field(strict=True)] = True
    """Left to `nas fidelity`; false: done at the end of the search."""


Tau = Annotated[float, Field(ge=-1, le=1, strict=True)]


class Gate(Section):
    """What Kendall's tau must reach for the ranking to be trusted.

    The lower end of its interval must also lie above chance and above the tau of the number of
    parameters alone. With fewer than 8 networks trained alone, or 8 random controls, nothing is
    known.
    """

    supernet_tau: Tau = 0.5
    """Of supernet scores with those of the same networks trained alone."""
    ranker_tau: Tau = 0.6
    """Of a ranker that learnt from the search's trials with supernet scores of random controls."""
    on_fail: Literal["warn", "stop"] = "warn"
    """`warn`: the report says so; `stop`: `nas search` and `nas fidelity` end with exit code 4, and
    `nas confirm` wants a ranking that passed, or --despite-gate."""
