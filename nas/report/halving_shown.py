"""How are the rungs and the front of trained networks shown: tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

from nas.report.evidence import Summary
from nas.report.halving import Entrant, Trained, TrueFront
from nas.report.table import Table, quantity, short_name, shorten
from nas.search.objective import Metric


def halving_tables(summary: Summary) -> tuple[Table, ...]:
    """The front of trained networks, and the rungs that led there, where they have rows."""
    return tuple(each for each in (true_front(summary), rungs(summary)) if each.rows)


def rungs(summary: Summary) -> Table:
    """Who entered each rung with which metrics, and who went on; no rows where there are none."""
    names = tuple(metric.name for metric in summary.objectives)
    rows = [
        (
            str(rung.number),
            f"{rung.steps:,}",
            short_name(summary, each.architecture_id),
            each.architecture_id,
            *(_cell(each, metric) for metric in summary.objectives),
            _fate(summary, each),
        )
        for rung in summary.rungs
        for each in rung.entrants
    ]
    return Table(
        "Successive halving of the shortlist, trained alone: metrics on the validation split",
        ("rung", "steps", "network", "architecture", *names, "goes on"),
        tuple(rows),
        (("architecture",), *((each,) for each in reversed(names[1:]))),
    )


def true_front(summary: Summary) -> Table:
    """All networks trained to the end and which are the front; no rows where there is none."""
    found = summary.confirmation.front if summary.confirmation else None
    if found is None:
        return Table("Trained to the end", (), ())
    names = tuple(found.judged_by.values())
    rows = [
        (
            f"{_named(summary, each)}, {_kind(each)}" if each.member else _named(summary, each),
            each.architecture_id,
            *(quantity(each.values[metric.name], metric) for metric in summary.objectives),
            str(each.seeds),
            _standing(summary, found, each),
        )
        for each in found.networks
    ]
    return Table(
        "Front of the networks trained to the end, by means over seeds",
        ("network", "architecture", *names, "seeds", "front"),
        tuple(rows),
        (("seeds",), ("architecture",)),
    )


def halving_words(summary: Summary) -> list[str]:
    """How the members that are confirmed were chosen; nothing where nothing was halved."""
    if not summary.rungs:
        return []
    first = summary.rungs[0]
    sizes = ", ".join(f"{len(each.entrants)} to step {each.steps:,}" for each in summary.rungs)
    begun = "inherited from the supernet" if first.start == "inherited" else "drawn at random"
    names = " and ".join(metric.name for metric in summary.objectives)
    said = [
        f"Successive halving chose whom to confirm: {first.expected} members of the front were "
        f"trained alone, with weights {begun}: {sizes} of {first.of_steps:,}. Who goes on is "
        f"decided by {names} on the validation split: the best by {first.leading}, and else the "
        "lower rank, then the larger contribution to the hypervolume, up to the rung's worst "
        "values plus their range."
    ]
    failed = [each for rung in summary.rungs for each in rung.entrants if not each.metrics]
    if failed:
        last = failed[-1]
        verb = "has" if len(failed) == 1 else "have"
        name = short_name(summary, last.architecture_id)
        said.append(
            f"{len(failed)} of these trainings {verb} no score and dropped out; the last one's "
            f"reason ({name}): {shorten(last.reason)}."
        )
    return said


def true_front_words(summary: Summary) -> list[str]:
    """Which networks are the front once they are trained; nothing where none is."""
    found = summary.confirmation.front if summary.confirmation else None
    if found is None:
        return []
    best = [each for each in found.networks if each.on_front]
    judges = " and ".join(found.judged_by.values())
    names = ", ".join(_named(summary, each) for each in best) or "empty: all break a constraint"
    said = [
        f"By {judges}, means over seeds, the front of the {len(found.networks)} networks trained "
        f"to the end is {names}. Means alone decide this: neighbours may not be told apart."
    ]
    members = [each for each in found.networks if each.member]
    stay = [short_name(summary, each.architecture_id) for each in members if each.on_front]
    gone = [
        f"{short_name(summary, each.architecture_id)} ({_standing(summary, found, each)})"
        for each in members
        if not each.on_front
    ]
    told = [
        f"{_listed(stay)} {'stays' if len(stay) == 1 else 'stay'}" if stay else "",
        f"{_listed(gone)} {'does' if len(gone) == 1 else 'do'} not" if gone else "",
    ]
    said.append(f"Of the supernet's front, trained so, {'; '.join(filter(None, told))}.")
    return said


def selection_words(summary: Summary) -> list[str]:
    """What the choice by rungs means for the comparisons; nothing where there is no such choice."""
    if not summary.rungs or summary.rungs[0].start != "scratch":
        return []
    return [
        "Members were also chosen by the validation scores of their first training (seed 0), which "
        "is one of those compared: in it they are favoured."
    ]


def _kind(network: Trained) -> str:
    return "mixed" if network.attention is None else f"all {network.attention}"


def _named(summary: Summary, network: Trained) -> str:
    """`#3` of a member, `all softmax (1f2e...)` of a rival."""
    if network.member:
        return short_name(summary, network.architecture_id)
    return f"{_kind(network)} ({network.architecture_id})"


def _standing(summary: Summary, found: TrueFront, network: Trained) -> str:
    if network.on_front:
        return "on it"
    if network.breaks:
        return f"breaks {', '.join(network.breaks)}"
    first = next(e for e in found.networks if e.architecture_id == network.dominated_by[0])
    return f"dominated by {_named(summary, first)}{_more(network.dominated_by)}"


def _cell(entrant: Entrant, metric: Metric) -> str:
    return quantity(entrant.metrics[metric.name], metric) if entrant.metrics else "none"


def _fate(summary: Summary, entrant: Entrant) -> str:
    if entrant.goes_on:
        return "yes"
    if entrant.goes_on is None:
        return "not settled yet"
    if entrant.reason:
        return f"no: {shorten(entrant.reason)}"
    if entrant.dominated_by:
        first = short_name(summary, entrant.dominated_by[0])
        return f"no: dominated by {first}{_more(entrant.dominated_by)}"
    return "no: contributes least"


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
