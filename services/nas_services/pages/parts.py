"""What is drawn of a search's findings: the front, how it grew, and whether it can be trusted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.report.architecture import (
    Look,
    attention_names,
    looks,
    outline,
    share_efficient,
    strip,
)
from nas.report.table import quantity
from nas.search.objective import Metric
from nas.search.spec import SearchSpec
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas_services import schemas
from nas_services.findings import Found
from nas_services.fronts import ReadArchitecture, fidelity_shown, front_shown, history_shown
from nas_services.pages.curve import curve
from nas_services.pages.rendering import rendered
from nas_services.pages.scatter import scatter

# More strips than these make a page that nobody reads; the API has them all.
MOST_ROWS = 200


@dataclass(frozen=True)
class Row:
    """A member of the front in the table: `values` are figures by metric, in one order for all."""

    number: int
    trial: str
    index: int
    architecture_id: str
    values: tuple[tuple[str, str], ...]
    outline: str
    efficient: str
    strip: str


def front_part(found: Found, read: ReadArchitecture) -> bytes:
    """The scatter and the table of the front, as HTML."""
    spec, front = found.spec, front_shown(found, (), read)
    built = [Architecture.from_json(each.architecture) for each in front.members[:MOST_ROWS]]
    known = looks(attention_names(built, map(str, spec.search_space.all_attentions)))
    members = [(each.index, each.metrics) for each in front.members]
    html = rendered(
        "front.html",
        front=front,
        picture=scatter(spec, found.trials, members, known),
        rows=_rows(spec, front, built, known),
        metrics=[metric.name for metric in _metrics(spec, front)],
        looks=known,
        tallest=_tallest(built),
        stacks=len(built[0].stacks) if built else 1,
        predicted=_predicted(front),
    )
    return html.encode()


def _rows(
    spec: SearchSpec,
    front: schemas.FrontShown,
    built: Sequence[Architecture],
    known: Mapping[str, Look],
) -> list[Row]:
    metrics = _metrics(spec, front)
    deepest = (
        [max(len(each.layers_of(stack)) for each in built) for stack in built[0].stacks]
        if built
        else []
    )
    return [
        Row(
            number,
            member.trial,
            member.index,
            member.architecture_id,
            tuple((metric.name, _figure(member, metric)) for metric in metrics),
            outline(architecture),
            f"{share_efficient(architecture):.0%} efficient",
            strip(architecture, known, _tallest(built), deepest),
        )
        for number, (member, architecture) in enumerate(zip(front.members, built, strict=False), 1)
    ]


def _metrics(spec: SearchSpec, front: schemas.FrontShown) -> list[Metric]:
    """The objectives, then what else all members have and a constraint or the task is about."""
    asked = [*spec.objectives, spec.primary.metric.name]
    asked += [each.metric for each in spec.parsed_constraints]
    shown = dict.fromkeys(asked)
    return [
        spec.metrics[name]
        for name in shown
        if name in spec.metrics and all(name in member.metrics for member in front.members)
    ]


def _figure(member: schemas.MemberShown, metric: Metric) -> str:
    mark = "≈ " if member.sources.get(metric.name) == "predicted" else ""
    return mark + quantity(member.metrics[metric.name], metric)


def _predicted(front: schemas.FrontShown) -> bool:
    return any("predicted" in each.sources.values() for each in front.members)


def _tallest(built: Sequence[Architecture]) -> int:
    return max((layer.ffn_width for each in built for layer in each.layers), default=1)


def history_part(found: Found) -> bytes:
    """The curve of the hypervolume, as HTML; raises `Problem` (404) where there is none."""
    history = history_shown(found)
    return rendered("history.html", picture=curve(history), history=history).encode()


def verdict_part(found: Found, alone: Sequence[Trial]) -> bytes:
    """Whether the ranking can be trusted, in a sentence, as HTML."""
    gate = fidelity_shown(found, alone).gate
    return rendered("verdict.html", gate=gate).encode()
