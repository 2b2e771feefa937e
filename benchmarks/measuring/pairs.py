"""How do two ways of doing one thing compare? Timed in turns, so that a slow minute meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

WARM_UP = 3


@dataclass(frozen=True)
class Paired:
    """Medians of both in ms, and the paired ratio a / b: its median and quartiles."""

    pairs: int
    a_ms: float
    b_ms: float
    ratio: float
    lower_quartile: float
    upper_quartile: float

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def compare(
    a: Callable[[int], object],
    b: Callable[[int], object],
    pairs: int,
    warm_up: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
) -> Paired:
    """Times a(i), b(i) for i = 0, 1, ... in one process; the first `warm_up` pairs do not count.

    Each must have finished its work on the device when it returns. `clock` gives seconds: those of
    the wall, or with `time.process_time` those that this process computed.
    """

    def seconds(call: Callable[[int], object], number: int) -> float:
        start = clock()
        call(number)
        return clock() - start

    times = [(seconds(a, number), seconds(b, number)) for number in range(warm_up + pairs)]
    kept = times[warm_up:]
    ratios = [one / other for one, other in kept]
    lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return Paired(
        pairs,
        1e3 * statistics.median(one for one, _ in kept),
        1e3 * statistics.median(other for _, other in kept),
        median,
        lower,
        upper,
    )
