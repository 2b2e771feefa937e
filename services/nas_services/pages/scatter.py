"""How do the trials lie in the plane of two objectives: an SVG that needs no script and no style.

Places are percentages, so that a picture fills any width while its text and symbols keep their
size. What is drawn by the thousand is one path of dots in a plane of its own, which is stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nas.report.architecture import Look
from nas.report.table import quantity
from nas.search.objective import Metric
from nas.search.pareto import scored
from nas.search.remeasured import with_measured
from nas.search.spec import SearchSpec
from nas.search.trial import SLICES, Standing, Trial
from nas_services.pages.axes import Axis

Place = tuple[float, float]
# The plane that is stretched, and the finest places in it that are told apart.
PLANE, GRID = 1000, 500
# Symbols that are drawn one by one at most.
MOST_SYMBOLS = 1500
# Members that have their number beside them: no other one is as near, as a share of the plane.
NEAR = 0.06

SHAPES: Mapping[str, str] = {
    "cross": "M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5",
    "diamond": "M0-6 6 0 0 6-6 0Z",
    "square": "M-4.5-4.5H4.5V4.5H-4.5Z",
    "triangle-up": "M0-5.5 5.5 4.5H-5.5Z",
    "triangle-down": "M0 5.5 5.5-4.5H-5.5Z",
    "pentagon": "M0-5.5 5.2-1.7 3.2 4.4H-3.2L-5.2-1.7Z",
    "star": "M0-6.5 1.5-2.1H6.2L2.4.8 3.8 5.2 0 2.6-3.8 5.2-2.4.8-6.2-2.1H-1.5Z",
    "hexagram": "M0-6 1.7-3H5.2L3.5 0 5.2 3H1.7L0 6-1.7 3H-5.2L-3.5 0-5.2-3H-1.7Z",
}
"""Paths around the origin, by the names of `nas.report.architecture.SYMBOLS`."""


@dataclass(frozen=True)
class Key:
    """A line of the legend: a small SVG, and what it stands for."""

    symbol: str
    text: str


@dataclass(frozen=True)
class Picture:
    """An SVG with the titles of its axes, from top and from below, and its legend."""

    svg: str
    vertical: str
    horizontal: str
    key: tuple[Key, ...]


def scatter(
    spec: SearchSpec,
    trials: Sequence[Trial],
    members: Sequence[tuple[int, Mapping[str, float]]],
    looks: Mapping[str, Look],
) -> Picture | None:
    """First objective upwards, second to the right; None where no trial was scored.

    `members` are the front's in its order, each by its index and metrics.
    """
    controls = [each for each in trials if each.role in SLICES and each.role != "search"]
    shown = scored([*controls, *with_measured(spec, trials)])
    vertical, horizontal = (each.metric for each in spec.parsed_objectives[:2])
    drawable = [t for t in shown if vertical.name in t.metrics and horizontal.name in t.metrics]
    if not drawable:
        return None
    up = Axis.of(vertical, [trial.metrics[vertical.name] for trial in drawable])
    right = Axis.of(horizontal, [trial.metrics[horizontal.name] for trial in drawable])

    def at(metrics: Mapping[str, float]) -> Place:
        return right.share(metrics[horizontal.name]), 1 - up.share(metrics[vertical.name])

    drawn, key = _trials(spec, drawable, {index for index, _ in members}, looks, at)
    staircase = len(spec.objectives) == 2
    drawn += _front(members, (horizontal, vertical), at, line=staircase)
    if members:
        key.append(Key(_key('<circle r="5.5" class="front"/>'), "front"))
    said = (
        f"{len(drawable)} scored networks by {horizontal.name} and {vertical.name}; the "
        f"{len(members)} of the front are in the table"
    )
    return Picture(svg(grid(right, up) + drawn, said), up.title, right.title, tuple(key))


# -- trials ----------------------------------------------------------------------------------------


def _trials(
    spec: SearchSpec,
    shown: Sequence[Trial],
    front: set[int],
    looks: Mapping[str, Look],
    at: Callable[[Mapping[str, float]], Place],
) -> tuple[str, list[Key]]:
    """The search's trials and the controls, each kind behind the next, and their legend."""
    kinds: dict[tuple[str, str], list[Place]] = {}
    for trial in shown:
        if trial.role != "search" or trial.index not in front:
            kinds.setdefault(_kind(spec, trial), []).append(at(trial.metrics))
    drawn, key = "", list[Key]()
    order = ("random", "broken", "homogeneous", "matched", "kept")
    ordered = sorted(kinds.items(), key=lambda each: order.index(each[0][0]))
    for (kind, attention), places in ordered:
        look = looks.get(attention)
        match kind:
            case "kept":
                drawn += dots(places, "dots")
                key.append(Key(_key('<circle r="3" class="dot"/>'), "search"))
            case "broken":
                drawn += dots(places, "dots ring") + dots(places, "dots hole")
                key.append(Key(_key('<circle r="3" class="open"/>'), "search, breaks a constraint"))
            case "random":
                drawn += _symbols(places, "cross", "open")
                key.append(Key(_key(f'<path d="{SHAPES["cross"]}" class="open"/>'), "random"))
            case _ if look is not None:
                small = " small" if kind == "matched" else ""
                drawn += _symbols(places, look.symbol, f"control{small}", look.colour)
                shape = f'<path d="{SHAPES[look.symbol]}" stroke="{look.colour}"'
                text = f"all {attention}" + ", at a member's FLOPs" * bool(small)
                key.append(Key(_key(f'{shape} class="control{small}"/>'), text))
    return drawn, key


def _kind(spec: SearchSpec, trial: Trial) -> tuple[str, str]:
    """What a trial is drawn as, and the attention type whose look it has."""
    match trial.role:
        case "search":
            return ("kept" if spec.keeps_constraints(trial.metrics) else "broken"), ""
        case "homogeneous":
            return "homogeneous", trial.architecture.single_attention or trial.label
        case "matched":
            return "matched", str(Standing.of(trial).attention)
    return "random", ""


def _front(
    members: Sequence[tuple[int, Mapping[str, float]]],
    metrics: tuple[Metric, Metric],
    at: Callable[[Mapping[str, float]], Place],
    *,
    line: bool,
) -> str:
    """The front's members with their numbers in the table; in two objectives its staircase too."""
    places = [at(held) for _, held in members]
    parts = []
    if line and len(places) > 1:
        loss = metrics[0].direction == "minimize"
        ordered = sorted(places, reverse=not loss)
        steps = "".join(f"H{_in_plane(x)}V{_in_plane(y)}" for x, y in ordered[1:])
        start = f"M{_in_plane(ordered[0][0])} {_in_plane(ordered[0][1])}"
        parts.append(plane(f'<path d="{start}{steps}" class="stairs"/>'))
    aside = [6 if metric.direction == "maximize" else -6 for metric in metrics]
    for number, ((index, held), (x, y)) in enumerate(zip(members, places, strict=True), 1):
        values = ", ".join(f"{each.name} {quantity(held[each.name], each)}" for each in metrics)
        title = f"<title>{escape(f'{number}: trial {index}, {values}')}</title>"
        where = f'cx="{percent(x)}" cy="{percent(y)}"'
        parts.append(f'<circle {where} r="5.5" class="front">{title}</circle>')
        others = (each for each in places if each != (x, y))
        if all(max(abs(a - x), abs(b - y)) > NEAR for a, b in others):
            # On the side of what is better, where no trial lies.
            anchor = "start" if aside[0] > 0 else "end"
            below = 15 if aside[1] < 0 else -8
            parts.append(
                f'<text x="{percent(x)}" y="{percent(y)}" dx="{aside[0]}" dy="{below}" '
                f'class="number" text-anchor="{anchor}">{number}</text>'
            )
    return "".join(parts)


def _symbols(places: Iterable[Place], shape: str, kind: str, colour: str = "") -> str:
    """A symbol at each place; of very many every so-manieth."""
    found = sorted(_apart(places))
    stroke = f' stroke="{colour}"' if colour else ""
    drawn = "".join(
        f'<use href="#mark-{shape}" x="{percent(x / GRID)}" y="{percent(y / GRID)}"/>'
        for x, y in found[:: -(-len(found) // MOST_SYMBOLS) or 1]
    )
    return f'<g class="{kind}"{stroke}>{drawn}</g>'


# -- drawing ---------------------------------------------------------------------------------------


def dots(places: Iterable[Place], kind: str) -> str:
    """A dot at each place, all of them one path."""
    scale = PLANE // GRID
    drawn = "".join(f"M{x * scale} {y * scale}h0" for x, y in sorted(_apart(places)))
    return plane(f'<path d="{drawn}" class="{kind}"/>')


def _apart(places: Iterable[Place]) -> set[tuple[int, int]]:
    """Places that can be told apart, in steps of the grid."""
    return {(round(x * GRID), round(y * GRID)) for x, y in places}


def plane(drawn: str) -> str:
    """What is drawn in `PLANE` steps to the right and down, stretched over the picture."""
    return (
        f'<svg viewBox="0 0 {PLANE} {PLANE}" preserveAspectRatio="none" width="100%" height="100%">'
        f"{drawn}</svg>"
    )


def grid(right: Axis, up: Axis) -> str:
    """Lines at the ticks of both axes, with their texts outside of the picture."""
    parts = []
    for share, text in right.ticks():
        x = percent(share)
        parts.append(f'<line x1="{x}" x2="{x}" y1="0" y2="100%" class="grid"/>')
        parts.append(f'<text x="{x}" y="100%" dy="18" text-anchor="middle">{escape(text)}</text>')
    for share, text in up.ticks():
        y = percent(1 - share)
        parts.append(f'<line x1="0" x2="100%" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="0" y="{y}" dx="-8" dy="4" text-anchor="end">{escape(text)}</text>')
    return "".join(parts)


def svg(drawn: str, said: str) -> str:
    """A picture that fills what it stands in; `said` is for who does not see it."""
    shapes = "".join(f'<path id="mark-{name}" d="{path}"/>' for name, path in SHAPES.items())
    return (
        f'<svg role="img" aria-label="{escape(said)}" width="100%" height="100%">'
        f"<defs>{shapes if '#mark-' in drawn else ''}</defs>{drawn}</svg>"
    )


def _key(drawn: str) -> str:
    return f'<svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true">{drawn}</svg>'


def percent(share: float) -> str:
    """A share of the picture as an attribute has it."""
    return f"{100 * share:.2f}%"


def _in_plane(share: float) -> str:
    return f"{PLANE * share:.1f}".removesuffix(".0")
