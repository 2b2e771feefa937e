"""How fast is a large space looked through? Sampling, encoding and exact costs, one by one.

Bar: 100,000 architectures of `mixformer_cifar10` sampled, encoded and priced (parameters, FLOPs,
activation bytes) in <= 20 s on one core. Caches are empty at the start, as in a new search.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.measuring.report import machine, parser, print_table, write
from nas.cost.cost import exact_costs
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape

BAR_SECONDS, BAR_COUNT = 20.0, 100_000
SHAPE = ImageShape(side=224, channels=3, classes=10)
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that the work took, and what it gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def encode(space: SearchSpace, architectures: Sequence[Architecture]) -> int:
    """Encodes all; the number of genes that count in them."""
    return sum(int(space.encode(each).sum()) for each in architectures)


def price(architectures: Sequence[Architecture]) -> tuple[float, float]:
    """Prices all; the lowest and the highest FLOPs among them."""
    cost = exact_costs(SHAPE)
    flops = [cost(each)["flops"] for each in architectures]
    return min(flops), max(flops)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--space", default="mixformer_cifar10")
    arguments.add_argument("--count", type=int, default=BAR_COUNT)
    given = arguments.parse_args()
    space, rng = load_space(given.space), random.Random(0)
    seconds: dict[str, float] = {}
    seconds["sampling"], drawn = timed(lambda: [space.sample(rng) for _ in range(given.count)])
    seconds["encoding"], genes = timed(lambda: encode(space, drawn))
    seconds["analytic costs"], flops = timed(lambda: price(drawn))
    seconds["all three"] = sum(seconds.values())
    bar = BAR_SECONDS * given.count / BAR_COUNT
    print_table(
        f"{given.count:,} architectures of {space.name}, {len(set(drawn)):,} different, "
        f"{genes:,} genes, {flops[0]:.3g} to {flops[1]:.3g} FLOPs",
        ("work", "s", "us each", "bar, s"),
        [
            (name, f"{spent:.2f}", f"{1e6 * spent / given.count:.1f}", shown)
            for (name, spent), shown in zip(seconds.items(), ("", "", "", f"{bar:g}"), strict=True)
        ],
    )
    # One core: everything here runs in the interpreter, torch's threads have no part in it.
    figures = {"space": space.name, "count": given.count, "seconds": seconds, "bar_seconds": bar}
    write(given.out, {"machine": machine(), **figures})


if __name__ == "__main__":
    main()
