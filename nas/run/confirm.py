"""Does mixing win? Front members and homogeneous networks at matched FLOPs, each trained alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from nas.cost.analytic import FLOPS
from nas.errors import NothingFeasible, SearchStateError
from nas.operators.declaration import Choice
from nas.run.halving import members
from nas.run.predicting import measure_rivals
from nas.run.queue import fixed
from nas.run.running import Listener, Running, holding
from nas.run.search import Reporter, to_train_alone, write_report
from nas.run.workspace import Workspace
from nas.search.objective import Constraint
from nas.search.problem import Problem
from nas.search.trial import Proposal, Standing, Trial
from nas.space.architecture import Architecture
from nas.store.store import SearchRecord
from nas.strategy.random import fresh
from nas.train.checkpoint import read_state
from nas.train.standalone import standalone_file
from nas.train.supernet import supernet_file

Pair = tuple[Trial, Architecture, str | None]
"""A front member, a network to train for it, and that network's attention type (None: itself)."""


def confirm(
    search: str, place: Workspace, *, reporter: Reporter, listener: Listener = lambda _: None
) -> SearchRecord:
    """Trains members of a finished search's front alone and reports the differences.

    The members are those that successive halving leaves of a shortlist (`nas.run.halving`). For
    each of them and each attention type, the homogeneous rival is the one with the best supernet
    score among `controls.homogeneous` drawn at the member's FLOPs (within `flops_tolerance`), so
    both sides were selected by the same score. All are trained by the same recipe with the same
    seeds, from scratch; a member's first training goes on where its last rung left it. Costs that
    are measured do not hang on weights: those of members are their front's, and rivals are measured
    likewise before anything is trained.

    Raises `SearchStateError` for an unfinished search and one whose supernet is gone,
    `EvaluationBroken` where none of the shortlist can be trained, and `DataChanged` where the data
    are not those that the supernet learnt from.
    """
    record = to_train_alone(search, place)
    with holding(record.id, place, listener) as running:
        _check_supernet(running)
        running.revisit("halving")
        chosen = members(running)
        running.revisit("match")
        pairs = _pairs(running, chosen)
        measure_rivals(running, list(dict.fromkeys(architecture for _, architecture, _ in pairs)))
        running.revisit("confirm")
        proposals = _trainings(running, pairs)
        _note_weights(running, running.evaluate("confirmed", fixed(proposals), len(proposals)))
        write_report(running, reporter)
        return running.store.set_state(running.lease, "succeeded", phase="report")


def _note_weights(running: Running, trials: Sequence[Trial]) -> None:
    """Enters the trained networks into the record, so that MLflow gets a copy of each."""
    for trial in trials:
        seed = Standing.of(trial).seed
        assert seed is not None, "confirmed networks are proposed with one"
        file = standalone_file(running.setup.standalone, trial.architecture, seed)
        # An earlier training's file may have been taken away since: its figures stay.
        if trial.succeeded and file.exists():
            running.note_artifact(f"standalone/{file.name}", file)


def _check_supernet(running: Running) -> None:
    """Raises where the supernet is gone or unfinished, and the data are others or broken.

    The record learns which test examples all networks are to be tested on.
    """
    setup = running.setup
    file = supernet_file(setup.supernet_on(setup.data_digest))
    if not file.exists():
        raise SearchStateError(
            f"search {running.id}: its supernet {file} is gone, so no rival can be scored; put it "
            "back (MLflow has a copy, supernet.safetensors), or run the request as a new search"
        )
    if not read_state(file, {}).complete:
        raise SearchStateError(
            f"search {running.id}: its supernet {file} is trained to a part only; put the finished "
            "one back (MLflow has a copy, supernet.safetensors), or run the request as a new search"
        )
    # A training that is finished only looks at the data, where they are: on a worker.
    for progress in running.executor.train(replace(setup, testing=True)):
        running.note_facts(progress.facts)


def _pairs(running: Running, members: Sequence[Trial]) -> list[Pair]:
    """Members and their rivals, the rivals chosen by supernet score at matched FLOPs."""
    spec = running.spec
    drawn: list[Proposal] = []
    for member in members:
        for attention in spec.search_space.all_attentions:
            for architecture in _matched(running, member, attention):
                label = _rival(member, attention)
                drawn.append(Proposal("matched", len(drawn), architecture, label))
    candidates = running.evaluate("matched", fixed(drawn), len(drawn))
    loss = spec.primary.loss
    pairs: list[Pair] = []
    for member in members:
        pairs.append((member, member.architecture, None))
        for attention in spec.search_space.all_attentions:
            label = _rival(member, attention)
            rivals = [t for t in candidates if t.label == label and t.succeeded]
            if rivals:
                best = min(rivals, key=lambda trial: (loss(trial.metrics), trial.index))
                pairs.append((member, best.architecture, str(attention)))
    return pairs


def _rival(member: Trial, attention: Choice) -> str:
    return Standing(member.architecture.id, str(attention)).label()


def _matched(running: Running, member: Trial, attention: Choice) -> list[Architecture]:
    """Homogeneous networks of a type whose FLOPs are the member's, within the tolerance."""
    spec = running.spec
    own = all(each == attention for each in member.architecture.attentions)
    if own or not spec.search_space.allows_everywhere(attention):
        return []
    flops = FLOPS.of(member.architecture, spec.task_shape)
    name, tolerance = FLOPS.metric.name, spec.confirmation.flops_tolerance
    bounds = (
        Constraint(name, "<=", flops * (1 + tolerance)),
        Constraint(name, ">=", flops * (1 - tolerance)),
    )
    base = running.problem
    within = Problem(
        spec.search_space.homogeneous(attention),
        base.objectives,
        (*base.constraints, *bounds),
        base.cost,
    )
    stream = random.Random(f"{spec.seed}/{attention}@{member.architecture.id}")
    try:
        return fresh(within, set(), stream, max(1, spec.controls.homogeneous))
    except NothingFeasible:
        # The type cannot be built at these FLOPs; the report then shows no such rival.
        return []


def _trainings(running: Running, pairs: Sequence[Pair]) -> list[Proposal]:
    proposals: list[Proposal] = []
    for seed in range(running.spec.confirmation.seeds):
        for member, architecture, attention in pairs:
            label = Standing(member.architecture.id, attention, seed).label()
            proposals.append(Proposal("confirmed", len(proposals), architecture, label))
    return proposals
