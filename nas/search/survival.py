"""Which trade-offs survive where there is no room for all: by rank, then by hypervolume lost."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.pareto import Losses, hypervolume, non_dominated_sort

# Shares of the box that differ by less are equal, so that no rounding decides between twins.
DIGITS = 12


def constrained_ranks(losses: Losses, violations: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank (n,) of each row of `losses` (n, m) under constrained domination (Deb et al., 2002).

    Rows without violation are sorted into fronts; the others follow by violation, the least first,
    equal ones together.
    """
    ranks = np.zeros(len(losses), dtype=np.int64)
    kept = violations == 0
    ranks[kept] = non_dominated_sort(losses[kept])
    after = ranks[kept].max(initial=-1) + 1
    ranks[~kept] = after + np.unique(violations[~kept], return_inverse=True)[1]
    return ranks


def far_reference(losses: Losses) -> Losses:
    """The reference point (m,) of contributions: the worst loss plus the range of `losses` (n, m).

    So far away that the ends of a front count by their distance to their neighbours, as the rest
    does: at the worst loss itself their contribution would be nothing. Where all are equal, 1 is
    the range. Raises `ValueError` where there is no row.
    """
    worst = np.max(losses, axis=0)
    return np.asarray(worst + _spans(losses), dtype=np.float64)


def contribution(losses: Losses, row: int, reference: Sequence[float] | Losses) -> float:
    """The volume that `row` of `losses` (n, m) alone covers: what would be lost without it.

    Exact: the row's box less what the others cover of it (While, Bradstreet, Barone: A fast way of
    calculating exact hypervolumes, 2012).
    """
    corner = np.asarray(reference, dtype=np.float64)
    own = losses[row]
    others = np.maximum(np.delete(losses, row, axis=0), own)
    box = float(np.prod(np.maximum(0.0, corner - own)))
    return box - hypervolume(others, corner)


def survivors(
    losses: Losses, count: int, violations: Sequence[float] = (), leading: int | None = None
) -> list[int]:
    """Rows of `losses` (n, m) that survive, `count` at most, in ascending order.

    The lower constrained rank first; of the rank that there is no room for, the row that
    contributes least to the rank's hypervolume goes, again and again, up to the `far_reference` of
    all rows. Of equal contributions the later row goes. Without `violations` (n,) nothing is
    violated. The lowest rank's best row by the objective `leading` (a column) never goes: among few
    survivors an end of the front may contribute least, and yet be what is asked for.
    """
    given = np.asarray(losses, dtype=np.float64)
    broken = np.asarray(violations, dtype=np.float64) if len(violations) else np.zeros(len(given))
    ranks = constrained_ranks(given, broken)
    found: list[int] = []
    for rank in np.unique(ranks):
        rows = np.flatnonzero(ranks == rank)
        room = max(0, count - len(found))
        if len(rows) > room:
            unit = (given[rows] - far_reference(given)) / _spans(given)
            best = int(np.argmin(unit[:, leading])) if rank == 0 and leading is not None else None
            found += rows[_thinned(unit, room, best)].tolist()
            break
        found += rows.tolist()
    return sorted(found)


def _spans(losses: Losses) -> Losses:
    spans = np.max(losses, axis=0) - np.min(losses, axis=0)
    return np.where(spans > 0, spans, 1.0)


def _thinned(unit: Losses, room: int, best: int | None) -> list[int]:
    """The rows that are left when the one that contributes least has gone, until there is room.

    The reference point is the origin; `best` never goes. What a row contributes never shrinks when
    another goes, so a figure from before is a lower bound, and only the least bounds are computed
    again.
    """
    left = list(range(len(unit)))

    def key(row: int) -> tuple[float, int]:
        own = contribution(unit[left], left.index(row), np.zeros(unit.shape[1]))
        return round(own, DIGITS), -row

    waiting = [(*key(row), len(left)) for row in left if row != best] if room else []
    heapq.heapify(waiting)
    while len(left) > room > 0:
        _, negative, of = heapq.heappop(waiting)
        row = -negative
        if of == len(left):
            left.remove(row)
        else:
            heapq.heappush(waiting, (*key(row), len(left)))
    return left if room else []
