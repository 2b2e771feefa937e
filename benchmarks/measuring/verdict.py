"""Who is faster, and from which length on? Read off paired ratios, our time over a rival's."""

from __future__ import annotations

from collections.abc import Mapping

OURS = "ours"
EVEN = "even"


def faster(lower_quartile: float, upper_quartile: float, rival: str) -> str:
    """`ours`, the rival's name, or `even` where the quartiles of the ratio hold 1 between them."""
    if upper_quartile < 1:
        return OURS
    return rival if lower_quartile > 1 else EVEN


def break_even(fastest: Mapping[int, str]) -> int | None:
    """The shortest length from which on ours is faster at every longer one; None if there is none.

    `fastest` says who is at each length that was measured, in any order.
    """
    shortest = None
    for length in sorted(fastest, reverse=True):
        if fastest[length] != OURS:
            break
        shortest = length
    return shortest
