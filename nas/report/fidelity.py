"""Can the ranking be trusted? The supernet against training alone, a ranker on unseen networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas import catalog
from nas.cost.analytic import PARAMS
from nas.errors import GateFailed
from nas.report.evidence import Fidelity, GateVerdict, TrainedAlone
from nas.search.fidelity import (
    FEWEST_JUDGED,
    HOURS_SPENT,
    SEED,
    Agreements,
    RankerTest,
    networks_to_train,
    short_recipe,
    slices,
)
from nas.search.pareto import front_of, scored
from nas.search.rank_correlation import RankAgreement
from nas.search.recipe import KEYS
from nas.search.spec import SearchSpec
from nas.search.stages import Gate
from nas.search.trial import Trial


def fidelity(
    spec: SearchSpec, trials: Sequence[Trial], facts: Mapping[str, str]
) -> Fidelity | None:
    """What the networks that were trained alone say; None where there is no such trial.

    The search's `facts` tell whether its hours for them are up.
    """
    tried = [trial for trial in trials if trial.role == "fidelity"]
    hours = facts.get(HOURS_SPENT, "")
    if not tried and not hours:
        return None
    loss, name = spec.primary.loss, spec.primary.metric.name
    alone = {each.architecture.id: each for each in scored(tried) if name in each.metrics}
    pairs = [
        (each, alone[each.architecture.id])
        for each in slices(spec, trials)
        if each.architecture.id in alone
    ]
    front = {each.architecture.id for each in front_of(spec, trials).members}
    networks = tuple(
        TrainedAlone(
            architecture_id=each.architecture.id,
            trial=f"{each.role} {each.index}",
            on_front=each.architecture.id in front,
            supernet=each.metrics[name],
            alone=own.metrics[name],
            params=PARAMS.of(each.architecture, spec.task_shape),
            depth=each.architecture.depth,
        )
        for each, own in pairs
    )
    planned = len(networks_to_train(spec, trials))
    return Fidelity(
        metric=name,
        planned=planned,
        open=0 if hours else max(0, planned - len(tried)),
        hours_spent=hours,
        lost=len(tried) - len(networks),
        recipe=_recipe(spec),
        networks=networks,
        agreements=Agreements.of(
            [loss(each.metrics) for each, _ in pairs],
            [loss(own.metrics) for _, own in pairs],
            [each.params for each in networks],
            [each.depth for each in networks],
        ),
    )


def _recipe(spec: SearchSpec) -> dict[str, Any]:
    """By which they were trained and on how many examples scored; no keys of other tasks."""
    unit = catalog.TASKS.load(spec.task.name).unit
    others = {key for each, keys in KEYS.items() if each != unit for key in keys}
    recipe = short_recipe(spec).standalone
    given = recipe.model_dump(mode="json", exclude={*others, "checkpoint_every"})
    return {**given, "seed": SEED, "validation_examples": spec.evaluation.examples}


def judge(
    asked: Gate, found: Fidelity | None, tried: RankerTest | None, *, looked_up: bool = False
) -> GateVerdict:
    """The gate's verdict: passed, failed with every reason, not known, or not needed.

    Passed where both taus reach what is asked for and the lower ends of their intervals lie above
    chance and above the tau of the number of parameters alone, on the same networks. Fewer than
    `FEWEST_JUDGED` networks say nothing of a tau; one that is not there for another reason reaches
    nothing.
    """
    asks = asked.model_dump()
    if looked_up:
        said = (
            "The ranking needs no check: scores are those of finished trainings, looked up in a "
            "table."
        )
        return GateVerdict("not needed", (), said, **asks)
    unchecked, untried = _unchecked(found), _untried(tried)
    on_unseen = None if untried or tried is None else tried.agreements
    reasons: list[str] = []
    if found is not None and not unchecked:
        reasons += _against(_supernet(found), found.agreements, asked.supernet_tau)
    if found is not None and not found.open and on_unseen is not None:
        reasons += _against(_ranker(on_unseen), on_unseen, asked.ranker_tau)
    if reasons:
        said = f"The ranking is not to be trusted: {'; '.join(reasons)}."
        return GateVerdict("failed", tuple(reasons), said, **asks)
    if found is None or on_unseen is None or unchecked:
        unknown = tuple(reason for reason in (unchecked, untried) if reason)
        said = f"Whether the ranking can be trusted is not known: {unknown[0]}."
        return GateVerdict("not known", unknown, said, **asks)
    return GateVerdict("passed", (), _trusted(asked, found, on_unseen), **asks)


def check(verdict: GateVerdict, search: str, *, confirming: bool = False) -> None:
    """Raises `GateFailed` where the request wants its search to end at this verdict.

    A confirmation wants a ranking that passed; else one that is not known may become so yet.
    """
    if verdict.stops or (confirming and verdict.on_fail == "stop" and verdict.open):
        raise GateFailed(
            f"search {search}: {verdict.sentence} Its request stops here (gate.on_fail: stop); "
            f"`nas confirm {search} --despite-gate` goes on all the same"
        )


def _unchecked(found: Fidelity | None) -> str:
    """Why nothing can be said of the supernet's ranking; empty where something can."""
    if found is None:
        return "no network was trained alone to check it; `nas fidelity ID` does that"
    if found.open:
        done = found.planned - found.open
        return (
            f"of {found.planned} networks {done} {'was' if done == 1 else 'were'} trained alone to "
            "check it; `nas fidelity ID` goes on"
        )
    if (n := len(found.networks)) >= FEWEST_JUDGED:
        return ""
    spent = f", then its {found.hours_spent} hours were up" if found.hours_spent else ""
    lost = f"; {found.lost} more have no result" if found.lost else ""
    return (
        f"{n} of {found.planned} networks were trained alone to check it{spent}{lost}; it takes "
        f"{FEWEST_JUDGED}"
    )


def _untried(tried: RankerTest | None) -> str:
    """Why nothing can be said of a ranker; empty where something can."""
    if tried is None:
        return "no ranker was tried on unseen networks; `nas fidelity ID` does that"
    unseen = 0 if tried.agreements is None else tried.agreements.score.n
    if unseen >= FEWEST_JUDGED:
        return ""
    return (
        f"a ranker was tried on {unseen} random controls that it never saw, and it takes "
        f"{FEWEST_JUDGED} (`controls.random`)"
    )


def _supernet(found: Fidelity) -> str:
    few = "" if len(found.networks) == found.planned else f" of {found.planned}"
    return f"supernet scores with training alone over {len(found.networks)}{few} networks"


def _ranker(tried: Agreements) -> str:
    return f"the ranker with the supernet over {tried.score.n} random controls that it never saw"


def _against(what: str, found: Agreements, bar: float) -> Iterator[str]:
    """What speaks against an agreement, if anything, in one clause."""
    score, params = found.score, found.params.tau or 0.0
    if score.tau is None:
        yield f"there is no tau of {what}: scores of one side are all equal, or not finite"
        return
    faults = [f"below the {bar:g} asked for"] if score.tau < bar else []
    # Networks of one size are not ranked by it, and some are by the reverse: chance is the least.
    if score.low is None or score.low <= max(0.0, params):
        least = f"the {params:+.2f} of parameters alone" if params > 0 else "chance"
        faults.append(f"not surely above {least}")
    if faults:
        yield f"Kendall's tau of {what} is {agreement(score)}, {' and '.join(faults)}"


def _trusted(asked: Gate, found: Fidelity, tried: Agreements) -> str:
    told = (
        f"{_supernet(found)} is {agreement(found.agreements.score)}",
        f"that of {_ranker(tried)} {agreement(tried.score)}",
    )
    return (
        f"The ranking can be trusted: Kendall's tau of {' and '.join(told)}, where "
        f"{asked.supernet_tau:g} and {asked.ranker_tau:g} are asked for; both intervals lie above "
        "the tau of parameters alone."
    )


def agreement(given: RankAgreement) -> str:
    """A tau with its interval: `+0.71 [+0.52, +0.86]`; says so where there is none."""
    if given.tau is None:
        return "none"
    if given.low is None or given.high is None:
        return f"{given.tau:+.2f} (no interval)"
    return f"{given.tau:+.2f} [{given.low:+.2f}, {given.high:+.2f}]"
