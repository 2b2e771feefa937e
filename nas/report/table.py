"""Which figures stand side by side: plain tables of text, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nas.cost.analytic import FLOPS
from nas.report.architecture import looks, marks, outline
from nas.report.evidence import Comparison, Coverage, Member, Summary
from nas.report.statistics import Estimate
from nas.search.objective import Metric

UNITLESS = {"fraction", "1"}
PREFIXED = {"FLOPs", "parameters", "bytes"}
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# Beside a member's place.
DOMINATED = "*"


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns and rows of as many cells, all plain text.

    `spare` has the groups of columns that may go where there is no room, the first to go first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spare: tuple[tuple[str, ...], ...] = ()


def quantity(value: float, metric: Metric) -> str:
    """A metric's value with its unit: `21.3 MFLOPs`, `0.8127 nats`, `0.731`."""
    if metric.unit in PREFIXED:
        for factor, prefix in PREFIXES:
            if abs(value) >= factor:
                return f"{_digits(value / factor)} {prefix}{metric.unit}"
        return f"{value:.4g} {metric.unit}"
    return _digits(value) if metric.unit in UNITLESS else f"{_digits(value)} {metric.unit}"


def _digits(value: float) -> str:
    # Zeros at the end included, so that what stands below each other is as exact.
    return f"{value:#.4g}".rstrip(".")


def interval(estimate: Estimate, sign: Literal["+", "-"] = "+") -> str:
    """A mean with its interval: `+0.0310 [+0.0100, +0.0520]`; says so where there is none.

    `sign` as in a format: a plus stands before differences only. From 10 up two decimals.
    """
    form = f"{sign}.2f" if abs(estimate.mean) >= 10 else f"{sign}.4f"
    if estimate.low is None or estimate.high is None:
        seeds = f"{estimate.n} seed{'s' * (estimate.n != 1)}"
        return f"{estimate.mean:{form}} (no interval, {seeds})"
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def coverage(side: Coverage) -> str:
    """`0.7123`, or `0.7011 ± 0.0123` over subsamples."""
    spread = "" if side.deviation is None else f" ± {side.deviation:.4f}"
    return f"{side.mean:.4f}{spread}"


def noise(comparison: Comparison) -> str:
    """`± 0.0123`, or `unknown`."""
    return "unknown" if comparison.noise is None else f"± {comparison.noise:.4f}"


def table(summary: Summary) -> Table:
    """The front, best score first: the table that ends a search in the terminal."""
    shown = (*summary.objectives, *summary.further)
    further = tuple(metric.name for metric in summary.further)
    known = looks(summary.attentions)
    key = ", ".join(f"{look.mark} {name}" for name, look in known.items())
    if any(len(member.architecture.stacks) > 1 for member in summary.front):
        key += "; encoder | decoder's own/cross"
    if summary.dominated_by_controls:
        key += f"; {DOMINATED} {dominated_means(summary)}"
    rows = (
        (
            place_of(place, member),
            str(member.index),
            *(quantity(member.metrics[m.name], m) for m in shown),
            marks(member.architecture, known),
            outline(member.architecture),
            f"{member.share_efficient:.0%}",
            member.architecture_id,
        )
        for place, member in enumerate(summary.front, 1)
    )
    return Table(
        f"Front by {'score' if summary.looked_up else 'supernet score'} ({key})",
        (
            "#",
            "trial",
            *(metric.name for metric in shown),
            "attention",
            "dimensions",
            "efficient",
            "architecture",
        ),
        tuple(rows),
        (("efficient",), ("trial",), ("dimensions",), ("architecture",), further),
    )


def dominated_means(summary: Summary) -> str:
    """What `DOMINATED` beside a member says."""
    predicted = " and ".join(each.metric.name for each in summary.predicted if each.used)
    return "a control dominates it" + (f" by {predicted} as predicted of both" * bool(predicted))


def place_of(place: int, member: Member) -> str:
    """A member's place on the front, marked where a control dominates it."""
    return f"{place} {DOMINATED}" if member.dominated_by else str(place)


def tables(summary: Summary) -> tuple[Table, ...]:
    """Every further table that has rows: matched networks, hypervolumes, confirmation, counts."""
    made = (
        hypervolumes(summary.comparisons),
        _matched(summary),
        alone(summary),
        confirmation(summary),
        _counts(summary),
    )
    return tuple(each for each in made if each.rows)


def hypervolumes(
    comparisons: Sequence[Comparison], first: str = "search", second: str = "control"
) -> Table:
    """Normalised hypervolumes at equal numbers of scored networks."""
    rows = (
        (
            each.control,
            str(each.n),
            coverage(each.search),
            coverage(each.other),
            f"{each.difference:+.4f}",
            noise(each),
            f"{first} {each.verdict}" if each.verdict.startswith("covers") else each.verdict,
        )
        for each in comparisons
    )
    return Table(
        "Hypervolume at equal n",
        ("against", "n", first, second, "difference", "noise (sd)", "verdict"),
        tuple(rows),
        ((first, second), ("noise (sd)",)),
    )


def _matched(summary: Summary) -> Table:
    types = [name for name in summary.attentions if _has(summary, name)]
    rows = []
    for place, member in enumerate(summary.front, 1):
        best = {each.attention: each.value for each in member.matched}
        own = member.metrics[summary.primary.name]
        cells = (quantity(best[t], summary.primary) if t in best else "none" for t in types)
        rows.append((place_of(place, member), quantity(own, summary.primary), *cells))
    return Table(
        f"Best homogeneous control at no more FLOPs, {summary.primary.name} on the supernet",
        ("#", "member", *types),
        tuple(rows) if types else (),
    )


def _has(summary: Summary, attention: str) -> bool:
    return any(each.attention == attention for member in summary.front for each in member.matched)


def alone(summary: Summary) -> Table:
    """What each member and its rivals reach when trained alone; no rows where there is none."""
    found = summary.confirmation
    if found is None:
        return Table("Trained alone", (), ())
    rows = []
    for member in found.members:
        own = "mixed" if member.attention is None else f"all {member.attention}"
        networks = [(f"member, {own}", member.architecture_id, 1.0, member.values)]
        networks += [
            (f"all {each.attention}", each.architecture_id, each.flops_ratio, each.values)
            for each in member.contrasts
        ]
        for network, architecture, ratio, values in networks:
            cells = (interval(each, "-") for each in values.values())
            seeds = str(next(iter(values.values())).n)
            flops = quantity(member.flops * ratio, FLOPS.metric)
            name = short_name(summary, member.architecture_id)
            rows.append((name, network, architecture, flops, seeds, *cells))
    metrics = tuple(found.members[0].values) if found.members else ()
    return Table(
        "Trained alone: results, mean and 95% interval over seeds",
        ("member", "network", "architecture", "FLOPs", "seeds", *metrics),
        tuple(rows),
        (("architecture",), ("FLOPs",), ("seeds",), *((each,) for each in reversed(metrics[1:]))),
    )


def confirmation(summary: Summary) -> Table:
    """Members minus rivals, trained alone, with the verdicts; no rows where there is none."""
    found = summary.confirmation
    if found is None:
        return Table("Trained alone", (), ())
    names = list(found.members[0].values) if found.members else []
    rows = [
        (
            short_name(summary, member.architecture_id),
            contrast.attention,
            f"{contrast.flops_ratio:.3f}",
            *(interval(each.estimate) for each in contrast.differences),
            str(contrast.differences[0].estimate.n),
            contrast.verdict,
        )
        for member in found.members
        for contrast in member.contrasts
    ]
    differences = tuple(f"difference in {name}" for name in names)
    return Table(
        "Trained alone: member minus homogeneous network, 95% interval over seeds",
        ("member", "against", "FLOPs ratio", *differences, "seeds", "verdict"),
        tuple(rows),
        (*((each,) for each in reversed(differences[1:])), ("seeds",), ("FLOPs ratio",)),
    )


def _counts(summary: Summary) -> Table:
    rows = (
        (
            each.role,
            str(each.succeeded),
            str(each.breaking_constraints),
            str(each.infeasible),
            str(each.failed),
            "; ".join(f"{shorten(reason)} ({n})" for reason, n in list(each.reasons.items())[:5]),
        )
        for each in summary.counts
        if each.succeeded + each.infeasible + each.failed
    )
    columns = ("role", "scored", "of these break a constraint", "infeasible", "failed", "reasons")
    return Table("Trials", columns, tuple(rows))


def member_name(summary: Summary, architecture_id: str) -> str:
    """`#3 (1f2e...)` for a member of the front, else the architecture's id."""
    short = short_name(summary, architecture_id)
    return short if short == architecture_id else f"{short} ({architecture_id})"


def short_name(summary: Summary, architecture_id: str) -> str:
    """`#3` for a member of the front, else the architecture's id."""
    for place, member in enumerate(summary.front, 1):
        if member.architecture_id == architecture_id:
            return f"#{place}"
    return architecture_id


def shorten(text: str, length: int = 120) -> str:
    """One line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
