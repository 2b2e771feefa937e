"""Which candidates would widen a front the most, one by one and as a batch?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.pareto import Losses, non_dominated

# So many are measured again at a time while the next of a batch is looked for.
SHORTLIST = 2_000
CHUNK = 8_192
# Points of the box by which volumes of three and more objectives are estimated; two are exact.
POINTS = 4_096
FEW_POINTS = 512


Rows = NDArray[np.int64]
"""Numbers of rows, the best first."""


def improvements(
    candidates: Losses, front: Losses, reference: Sequence[float], *, points: int = POINTS
) -> NDArray[np.float64]:
    """What each candidate (n, m) alone would add (n,) to the hypervolume of the front (k, m).

    Up to the reference point (m,). Exact with two objectives; with more it is estimated on `points`
    fixed points of the box, as an exact volume would have to be taken for every candidate.
    """
    corner = np.asarray(reference, dtype=np.float64)
    held = front[(front < corner).all(axis=1)] if len(front) else front
    if len(corner) == 2:
        steps = held[non_dominated(held)] if len(held) else held
        steps = steps[np.argsort(steps[:, 0], kind="stable")]
        # Most candidates are behind the front: where the stairs are lower than they, they add 0.
        place = np.searchsorted(steps[:, 0], candidates[:, 0], side="right")
        ahead = candidates[:, 1] < np.concatenate([corner[1:], steps[:, 1]])[place]
        gains = np.zeros(len(candidates))
        gains[ahead] = _chunked(candidates[ahead], lambda rows: _areas(rows, steps, corner))
        return gains
    low = np.minimum(candidates.min(axis=0), held.min(axis=0, initial=np.inf))
    low = np.minimum(low, corner)
    box = float(np.prod(corner - low))
    drawn = low + np.random.default_rng(0).random((points, len(corner))) * (corner - low)
    covered = np.zeros(points, dtype=bool)
    for row in held:
        covered |= (row <= drawn).all(axis=1)
    free = drawn[~covered]
    return _chunked(candidates, lambda rows: _share(rows, free) * box / points, CHUNK // 8)


def leading(candidates: Losses, front: Losses, reference: Sequence[float], count: int) -> Rows:
    """The `count` rows of candidates (n, m) that add most by themselves, then the nearest ones."""
    return _leading(_quick(candidates, front, reference), candidates, front, count)


def _leading(gains: NDArray[np.float64], candidates: Losses, front: Losses, count: int) -> Rows:
    adding = np.flatnonzero(gains > 0)
    adding = adding[_least(-gains[adding], count)]
    if len(adding) == min(count, len(candidates)):
        return adding
    return np.concatenate([adding, _nearest(candidates, front, count - len(adding), adding)])


def batch(candidates: Losses, front: Losses, reference: Sequence[float], count: int) -> list[int]:
    """Rows of up to `count` candidates (n, m) that together widen the front (k, m), best first.

    Greedy: each adds most to the front and those before it, so that with two objectives, whose
    volumes are exact, all add at least 1 - 1/e of what the best such set adds (Nemhauser et al.,
    1978), and one point many times never pays. Where nothing is left that adds, those follow that
    miss the front by least.
    """
    if not len(candidates):
        return []
    bounds = _quick(candidates, front, reference)
    if candidates.shape[1] > 2:
        # What is rough may miss the little that they add.
        bounds[_leading(bounds, candidates, front, SHORTLIST)] = np.inf
    chosen: list[int] = []
    reached = front
    while len(chosen) < count:
        row = _widest(candidates, bounds, reached, reference)
        if row is None:
            break
        chosen.append(row)
        reached = np.vstack([reached, candidates[row]])
    left = _nearest(candidates, reached, count - len(chosen), np.array(chosen, dtype=np.int64))
    return chosen + [int(row) for row in left]


def _quick(candidates: Losses, front: Losses, reference: Sequence[float]) -> NDArray[np.float64]:
    """The improvements of many candidates; of three and more objectives roughly."""
    points = FEW_POINTS if candidates.shape[1] > 2 else POINTS
    return improvements(candidates, front, reference, points=points)


def _widest(
    candidates: Losses, bounds: NDArray[np.float64], reached: Losses, reference: Sequence[float]
) -> int | None:
    """The row that adds most to what is reached; None where none adds. `bounds` are lowered.

    They are what each row added earlier. As that only shrinks while the front grows, rows below
    the best one need no look (Minoux, Accelerated greedy algorithms, 1978).
    """
    stale, best, found = bounds > 0, 0.0, None
    while len(rows := np.flatnonzero(stale & (bounds > best))):
        rows = rows[_least(-bounds[rows], SHORTLIST)]
        stale[rows] = False
        bounds[rows] = improvements(candidates[rows], reached, reference)
        leader = rows[np.argmax(bounds[rows])]
        if bounds[leader] > best:
            best, found = float(bounds[leader]), int(leader)
    return found


def _nearest(candidates: Losses, front: Losses, count: int, taken: Rows) -> Rows:
    """Rows nearest to the front, in shares of its range, by what they are worse in.

    The distance of Ishibuchi et al., Modified distance calculation in generational distance and
    inverted generational distance (2015).
    """
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    held = front[non_dominated(front)] if len(front) else front
    span = np.ptp(np.vstack([candidates, held]), axis=0)
    scale = np.where(span > 0, span, 1.0)
    left = np.setdiff1d(np.arange(len(candidates)), taken)
    misses = _chunked(candidates[left], lambda rows: _misses(rows, held, scale))
    return left[_least(misses, count)]


def _least(values: NDArray[np.float64], count: int) -> Rows:
    """Rows of the `count` least values, ascending; of equal ones the first."""
    if count >= len(values):
        return np.argsort(values, kind="stable")
    near = np.flatnonzero(values <= np.partition(values, count)[count])
    return near[np.argsort(values[near], kind="stable")[:count]]


def _misses(rows: Losses, held: Losses, scale: Losses) -> NDArray[np.float64]:
    """The least square by which each row is worse than one of those held."""
    columns = np.ascontiguousarray(rows.T)
    least = np.full(len(rows), np.inf)
    for each in held:
        worse = [np.maximum(c - v, 0) / s for c, v, s in zip(columns, each, scale, strict=True)]
        np.minimum(least, sum(map(np.square, worse)), out=least)
    return least


def _areas(rows: Losses, steps: Losses, corner: Losses) -> NDArray[np.float64]:
    """Two objectives: between each row and the staircase of `steps`, sorted by the first one."""
    starts = np.concatenate([[-np.inf], steps[:, 0]])
    ends = np.concatenate([steps[:, 0], corner[:1]])
    heights = np.concatenate([corner[1:], steps[:, 1]])
    widths = np.minimum(ends, corner[0]) - np.maximum(starts, rows[:, :1])
    depths = np.minimum(heights, corner[1]) - rows[:, 1:]
    found: NDArray[np.float64] = (np.maximum(widths, 0) * np.maximum(depths, 0)).sum(axis=1)
    return found


def _share(rows: Losses, free: Losses) -> NDArray[np.float64]:
    """How many of the free points (p, m) each row dominates."""
    inside = np.ones((len(rows), len(free)), dtype=bool)
    for column in range(rows.shape[1]):
        inside &= rows[:, column, None] <= free[:, column]
    found: NDArray[np.float64] = inside.sum(axis=1).astype(np.float64)
    return found


def _chunked(
    rows: Losses, measure: Callable[[Losses], NDArray[np.float64]], size: int = CHUNK
) -> NDArray[np.float64]:
    """What `measure` gives for all rows, a cache's worth at a time."""
    parts = [measure(rows[start : start + size]) for start in range(0, len(rows), size)]
    return np.concatenate(parts) if parts else np.zeros(0)
