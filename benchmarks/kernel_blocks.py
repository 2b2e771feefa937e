"""Which blocks are the fastest for linear attention's kernels on this GPU? Needs one.

For each entry of the pinned table (nas_kernels/tuning.py: operands, causality, the wider of K and
V) every candidate takes its place, and cosFormer, forward and backward, is timed with it over the
pinned one, in turns: B x T = 65,536 tokens, H x K = 512. C x part are the tokens and the width of a
tile; ratio is the candidate's time over that of the pinned blocks, below 1 where it is faster. All
are compiled first, in several processes, for compiling takes longer than timing; a candidate that
the GPU has no room for is left out.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from triton.runtime.errors import OutOfResources

from benchmarks.measuring import options
from benchmarks.measuring.attention_calls import Once, Shape, timed
from benchmarks.measuring.pairs import compare
from benchmarks.measuring.report import machine, parser, print_table, write
from nas_kernels import cosformer_attention, tuning

WIDTH = 512
TOKENS = 65_536
LENGTHS = (256, 4096)
ENTRIES = sorted({widest for entries in tuning.CHUNKS.values() for widest in entries})
MOST_PROCESSES = 16
"""That compile at once: each holds a context and tensors of its own on the GPU."""
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Candidate(NamedTuple):
    """An entry of the table, and what may stand there: tokens, width of a part, warps."""

    operands: str
    causal: bool
    widest: int
    blocks: tuple[int, int, int]


def candidates(widths: list[int]) -> Iterator[Candidate]:
    """Each entry with all of its blocks, the pinned ones among them."""
    for (operands, causal), entries in tuning.CHUNKS.items():
        for widest in entries:
            if widest in widths:
                for tokens in (16, 32, 64):
                    for part in sorted({32, min(64, widest), min(128, widest)}):
                        for warps in (4, 8):
                            yield Candidate(operands, causal, widest, (tokens, part, warps))


@contextmanager
def standing(candidate: Candidate) -> Iterator[None]:
    """Within it, the table holds the candidate."""
    entries = tuning.CHUNKS[candidate.operands, candidate.causal]
    pinned, entries[candidate.widest] = entries[candidate.widest], candidate.blocks
    try:
        yield
    finally:
        entries[candidate.widest] = pinned


def call(candidate: Candidate, length: int) -> Once:
    """cosFormer, forward and backward, at one length of the entry's class."""
    shape = Shape(TOKENS // length, max(1, WIDTH // candidate.widest), length, candidate.widest)
    tensors = shape.draw("cuda", DTYPES[candidate.operands])

    def core(*inputs: torch.Tensor) -> torch.Tensor:
        return cosformer_attention(*inputs, causal=candidate.causal, backend="triton")

    return timed(core, tensors, backward=True)


def starts(candidate: Candidate) -> bool:
    """Whether the device has room for it; compiles it, and the compiler's cache keeps that."""
    with standing(candidate):
        try:
            for length in LENGTHS:
                call(candidate, length)(0)
        except OutOfResources:
            return False
    return True


def measure(candidate: Candidate, length: int, pairs: int) -> dict[str, Any]:
    """The candidate's time over that of the pinned blocks."""
    pinned = call(candidate, length)

    def tried(number: int) -> None:
        with standing(candidate):
            pinned(number)

    return {
        **candidate._asdict(),
        "length": length,
        "pinned": tuning.CHUNKS[candidate.operands, candidate.causal][candidate.widest],
        **compare(tried, pinned, pairs).to_json(),
    }


def best(found: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The `count` fastest of each entry and length, the fastest first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in found:
        key = (each["operands"], each["causal"], each["widest"], each["length"])
        groups.setdefault(key, []).append(each)
    return [
        each
        for key in sorted(groups)
        for each in sorted(groups[key], key=lambda one: float(one["ratio"]))[:count]
    ]


def arguments(given: Sequence[str] | None = None) -> Namespace:
    """The command line, or what is given in its place."""
    made = parser(__doc__)
    made.add_argument(
        "--pairs", type=options.whole(2), default=10, metavar="N",
        help="timings of each of the two, in turns (default: 10)",
    )  # fmt: skip
    made.add_argument(
        "--widths", type=int, nargs="+", choices=ENTRIES, default=[32, 64, 128],
        help="entries to try: the wider of K and V (default: 32 64 128)",
    )  # fmt: skip
    made.add_argument(
        "--best", type=options.whole(1), default=3, metavar="N",
        help="rows to show of each entry and length (default: 3)",
    )  # fmt: skip
    return made.parse_args(given)


def main() -> None:
    given = arguments()
    if not torch.cuda.is_available():
        print("kernel_blocks.py needs a CUDA device: nothing was measured")
        return
    tried = list(candidates(given.widths))
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        fitting = [each for each, fits in zip(tried, pool.map(starts, tried), strict=True) if fits]
    found = []
    for each in fitting:
        found += [measure(each, length, given.pairs) for length in LENGTHS]
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table(
        f"The best {given.best} blocks of each entry over the pinned ones, {given.pairs} pairs",
        (
            *("operands", "causal", "widest", "T", "C x part", "warps"),
            *("pinned", "warps", "candidate, ms", "ratio", "quartiles"),
        ),
        [
            (
                each["operands"],
                "yes" if each["causal"] else "no",
                str(each["widest"]),
                str(each["length"]),
                *(text for name in ("blocks", "pinned") for text in told(each[name])),
                f"{each['a_ms']:.3f}",
                f"{each['ratio']:.2f}",
                f"{each['lower_quartile']:.2f} to {each['upper_quartile']:.2f}",
            )
            for each in best(found, given.best)
        ],
    )
    write(given.out, {"machine": machine("cuda"), "figures": found})


def told(blocks: tuple[int, int, int]) -> tuple[str, str]:
    """Tokens by width of a part, and warps."""
    tokens, part, warps = blocks
    return f"{tokens} x {part}", str(warps)


if __name__ == "__main__":
    main()
