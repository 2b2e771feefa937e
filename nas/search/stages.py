"""What does each stage of a search take: scoring, controls, and networks trained alone?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nas.search.section import Positive, PositiveFloat, Section, Whole

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
