"""What follows from a search's figures, in plain sentences, `not resolved` included."""

from __future__ import annotations

from nas.report.evidence import (
    EXPLORATORY,
    NOT_RESOLVED,
    Comparison,
    Confirmation,
    MemberConfirmation,
    Summary,
)
from nas.report.halving_shown import halving_words, selection_words, true_front_words
from nas.report.prediction_shown import prediction_words
from nas.report.summary import RESOLVED_FROM
from nas.report.table import coverage, interval, member_name, noise, quantity, shorten
from nas.report.trust import sentences as checked


def words(summary: Summary) -> list[str]:
    """Sentences in the order of reading: trust, what there is, what can be told, what decides."""
    return [
        summary.gate.sentence,
        *_outcome(summary),
        *_exploratory(summary),
        *_resolution(summary),
        *_comparisons(summary),
        summary.proposed,
        *_rankers(summary),
        *prediction_words(summary),
        *checked(summary),
        *halving_words(summary),
        *_confirmation(summary),
        *true_front_words(summary),
    ]


def brief(summary: Summary) -> list[str]:
    """The sentences for who has the tables before them: trust, outcome, resolution, decision."""
    return [
        summary.gate.sentence,
        *_scored(summary),
        *_exploratory(summary),
        *_resolution(summary),
        *prediction_words(summary),
        *_decision(summary),
        *true_front_words(summary),
    ]


def _outcome(summary: Summary) -> list[str]:
    return [*_scored(summary), *_scale(summary)]


def _scored(summary: Summary) -> list[str]:
    search = summary.count("search")
    total = search.succeeded + search.infeasible + search.failed
    said = [
        f"The search scored {search.succeeded} of {total} architectures of {summary.space} "
        f"({search.infeasible} infeasible, {search.failed} failed)."
    ]
    if search.reasons:
        reason, count = next(iter(search.reasons.items()))
        said.append(f"The most frequent reason without a score ({count}): {shorten(reason)}.")
    if summary.front:
        said.append(f"The front has {_count(len(summary.front), 'member')}.")
    elif not search.succeeded:
        said.append("There is no front: no architecture of the search was scored.")
    else:
        limits = "; ".join(summary.constraints)
        said.append(f"There is no front: no scored architecture keeps the constraints ({limits}).")
    if summary.front and (
        summary.count("random").succeeded or summary.count("homogeneous").succeeded
    ):
        said.append(
            f"{summary.dominated_by_controls} of {_count(len(summary.front), 'front member')} "
            f"{'is' if summary.dominated_by_controls == 1 else 'are'} dominated by a control."
        )
    return said


def _scale(summary: Summary) -> list[str]:
    if summary.reference is None or summary.ideal is None:
        return []
    worst = ", ".join(_value(summary, name, at) for name, at in summary.reference.items())
    best = ", ".join(_value(summary, name, at) for name, at in summary.ideal.items())
    return [
        f"Reference point: {worst} (the worst scored values of search and controls, plus 1% of "
        f"the range); best values: {best}. Hypervolumes are normalised between the two."
    ]


def _value(summary: Summary, name: str, value: float) -> str:
    metric = next(each for each in summary.objectives if each.name == name)
    return f"{name} {quantity(value, metric)}"


def _exploratory(summary: Summary) -> list[str]:
    if not summary.later_constraints:
        return []
    limits = "; ".join(summary.later_constraints)
    return [
        f"Exploratory, as chosen after the run: {limits}. Some limit makes any front look better, "
        "so comparisons with the controls have no verdict; a search that asks for it from the "
        "start gives one."
    ]


def _resolution(summary: Summary) -> list[str]:
    found = summary.resolution
    if summary.learnt is False:
        return [
            "Not resolved: the supernet has not learnt, as half of the scored networks are no "
            f"better in {summary.primary.name} than a constant guess; nothing follows from these "
            "scores. Train it longer."
        ]
    if found.n == 0:
        return [
            "Not resolved: no random control was scored, so nothing says how far scores of "
            "different networks lie apart."
        ]
    if summary.looked_up and not found.spread:
        return [f"Not resolved: no two of {found.n} random networks have different scores."]
    if summary.looked_up:
        return [
            f"Scores can be told apart: the table has one {found.metric} a network, whose standard "
            f"deviation over {found.n} random networks is {found.spread:.4g}. What another seed of "
            "these trainings would have scored, the table does not say."
        ]
    if found.resolved is None or found.spread is None or found.standard_error is None:
        return [
            "Not resolved: the record does not tell the noise of a score (it takes two scored "
            "random controls with a paired standard error above 0)."
        ]
    facts = (
        f"the {found.metric} of {found.n} random networks has a standard deviation of "
        f"{found.spread:.4g}, {found.ratio:.2f} times the median paired standard error of "
        f"{found.standard_error:.4g} on the held-out examples"
    )
    if found.resolved:
        return [f"Scores can be told apart: {facts} (at least {RESOLVED_FROM:g} are asked for)."]
    return [
        f"Not resolved: {facts}; below {RESOLVED_FROM:g} the ranking of networks is mostly noise. "
        "More held-out examples or a longer supernet training would help."
    ]


def _comparisons(summary: Summary) -> list[str]:
    said = [_comparison(each) for each in summary.comparisons]
    if said:
        said.append(
            "Hypervolumes are compared at equal numbers of scored networks only (random subsamples "
            "where the numbers differ). They are one run's: the spread over repeated searches is "
            "not in the noise."
        )
    elif summary.count("search").succeeded:
        said.append("No control was scored, so the front stands alone and shows no gain.")
    return said


def _comparison(each: Comparison) -> str:
    facts = (
        f"at n = {each.n} the search covers {coverage(each.search)} and {each.control} "
        f"{coverage(each.other)}"
    )
    if each.verdict in (NOT_RESOLVED, EXPLORATORY):
        return f"Against {each.control}, {each.verdict}: {facts}; noise {noise(each)}."
    word = "more" if each.difference > 0 else "less"
    return f"Against {each.control} the search covers {word}: {facts}; noise {noise(each)}."


def _rankers(summary: Summary) -> list[str]:
    told = [
        f"{each.name} alone {each.tau:+.2f}" for each in summary.rankers if each.tau is not None
    ]
    if not told:
        return []
    whose = "table" if summary.looked_up else "supernet"
    return [
        f"Kendall's tau with the {whose}'s score among {summary.rankers[0].n} random controls: "
        f"{', '.join(told)}."
    ]


def _decision(summary: Summary) -> list[str]:
    if summary.looked_up:
        return []
    decided_by = (
        "Supernet scores never decide whether mixing wins: networks trained alone at matched FLOPs "
        "do"
    )
    found = summary.confirmation
    if found is None or not found.members:
        trained = summary.count("confirmed")
        if trained.failed + trained.infeasible + trained.succeeded:
            return [f"{decided_by}, and no front member was trained to the end. Not resolved."]
        return [f"{decided_by}. None was trained yet (`nas confirm ID` does that). Not resolved."]
    return [
        f"{decided_by}, judged by {found.metric}.",
        *(_verdict(summary, member) for member in found.members),
    ]


def _confirmation(summary: Summary) -> list[str]:
    said = _decision(summary)[:1]
    found = summary.confirmation
    if found is None or not found.members:
        return said
    for member in found.members:
        said += _member(summary, member)
    said += _fidelity(found)
    said.append(
        "Each interval is Student's over seeds that both networks were trained with, 95% on its "
        "own: among many intervals some miss. It does not hold what another draw of test examples "
        "would change."
    )
    search = summary.count("search").succeeded
    said.append(
        f"Selection differs: a member is the choice among {search} scored networks, its rival the "
        "choice among those drawn for its type."
    )
    return [*said, *selection_words(summary)]


def _verdict(summary: Summary, member: MemberConfirmation) -> str:
    name = member_name(summary, member.architecture_id)
    kind = "mixed" if member.attention is None else f"all {member.attention}"
    mixing = member.better == "member" and member.attention is None
    verdict = "mixing wins" if mixing else member.verdict
    if not member.contrasts:
        verdict += ", as no rival was trained at its FLOPs"
    return f"Front member {name}, {kind}: {verdict}."


def _member(summary: Summary, member: MemberConfirmation) -> list[str]:
    name = member_name(summary, member.architecture_id)
    said = [_verdict(summary, member)]
    for contrast in member.contrasts:
        estimate = contrast.differences[0].estimate
        beside = "" if contrast.matched else ", beyond the tolerance: FLOPs are not matched"
        said.append(
            f"{name} against all {contrast.attention} at {contrast.flops_ratio:.3f} times the "
            f"FLOPs{beside}: {interval(estimate)} in {contrast.differences[0].metric}, "
            f"{contrast.verdict}."
        )
    missing = [
        attention
        for attention in summary.attentions
        if attention not in {each.attention for each in member.contrasts} | {member.attention}
    ]
    if missing:
        said.append(f"{name} has no trained rival at matched FLOPs of type {', '.join(missing)}.")
    return said


def _fidelity(found: Confirmation) -> list[str]:
    fidelity = found.fidelity
    if fidelity is None:
        return [
            "Fewer than 4 networks have both a supernet score and a stand-alone result: no tau."
        ]
    if fidelity.tau is None:
        return ["The supernet's ranking could not be checked: one side's scores are all equal."]
    bounds = (
        "without an interval"
        if fidelity.low is None or fidelity.high is None
        else f"95% bootstrap interval [{fidelity.low:+.2f}, {fidelity.high:+.2f}]"
    )
    trust = (
        ""
        if fidelity.low is not None and fidelity.low > 0
        else " The interval does not exclude chance: the supernet's ranking is not shown to hold."
    )
    return [
        f"Kendall's tau between supernet score and stand-alone {found.metric} over {fidelity.n} "
        f"networks: {fidelity.tau:+.2f}, {bounds}.{trust}"
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
