"""How does a front grow: the hypervolume after each trial beside the random control's."""

from __future__ import annotations

from collections.abc import Sequence

from nas_services import schemas
from nas_services.pages.axes import Axis
from nas_services.pages.scatter import PLANE, Key, Picture, grid, plane, svg

# A line of more points looks the same.
MOST_POINTS = 400
_TITLE = "share of the objectives' box that the front covers, higher is better"


def curve(history: schemas.HistoryShown) -> Picture:
    """Trials to the right, covered share upwards."""
    ours, control = history.curve.hypervolume, history.random
    theirs = list(control.mean) if control else []
    spread = list(control.deviation) if control else []
    tops = [a + b for a, b in zip(theirs, spread, strict=True)]
    right = Axis("trials", 0, max(len(ours), len(theirs), 2), least=1)
    up = Axis(_TITLE, 0, min(1.0, 1.06 * max([*ours, *tops, 0.01])))

    def path(values: Sequence[float], *, back: bool = False) -> str:
        places = _places(len(values))
        points = (
            f"{PLANE * right.share(n + 1):.1f} {PLANE * (1 - up.share(_inside(values[n], up))):.1f}"
            for n in (reversed(places) if back else places)
        )
        return "L".join(points)

    drawn, key = "", [Key(_line("curve"), "search")]
    if theirs:
        lows = [a - b for a, b in zip(theirs, spread, strict=True)]
        drawn += f'<path d="M{path(tops)}L{path(lows, back=True)}Z" class="spread"/>'
        drawn += f'<path d="M{path(theirs)}" class="curve random"/>'
        key.append(Key(_line("curve random"), "random control, mean ± deviation over orders"))
    drawn += f'<path d="M{path(ours)}" class="curve"/>'
    said = f"Hypervolume after {len(ours)} trials: {ours[-1]:.4f}"
    if theirs:
        said += f"; of the random control after {len(theirs)}: {theirs[-1]:.4f}"
    return Picture(svg(grid(right, up) + plane(drawn), said), up.title, right.title, tuple(key))


def _inside(value: float, axis: Axis) -> float:
    return min(max(value, axis.low), axis.high)


def _places(count: int) -> list[int]:
    """Which of so many points are drawn: the first, the last, and enough between."""
    if count <= MOST_POINTS:
        # One point is drawn as a line that ends where it begins.
        return [*range(count), *range(2 - count)]
    return [round(place * (count - 1) / (MOST_POINTS - 1)) for place in range(MOST_POINTS)]


def _line(kind: str) -> str:
    return (
        '<svg viewBox="0 0 24 16" width="24" height="16" aria-hidden="true">'
        f'<path d="M1 8H23" class="{kind}"/></svg>'
    )
