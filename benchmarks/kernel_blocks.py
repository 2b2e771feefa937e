"""Which blocks are the fastest for linear attention's kernels on this GPU? Needs one.

For each entry of the pinned table (nas_kernels/tuning.py) every candidate takes its place, and
cosFormer, forward and backward, is timed with it over the pinned one, in turns. Compiled first, in
as many processes as there are cores, for compiling takes longer than timing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from triton.runtime.errors import OutOfResources

from benchmarks.kernels import Shape, timed
from benchmarks.measuring.pairs import compare
from benchmarks.measuring.report import machine, parser, print_table, write
from nas_kernels import cosformer_attention, tuning

WIDTH = 512
TOKENS = 65_536
LENGTHS = (256, 4096)
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


def call(candidate: Candidate, length: int) -> Any:
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


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=10)
    arguments.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128])
    arguments.add_argument("--best", type=int, default=3, help="rows to show of each entry")
    given = arguments.parse_args()
    if not torch.cuda.is_available():
        print("kernel_blocks.py needs a CUDA device: nothing was measured")
        return
    tried = list(candidates(given.widths))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        fitting = [each for each, fits in zip(tried, pool.map(starts, tried), strict=True) if fits]
    found = [measure(each, length, given.pairs) for each in fitting for length in LENGTHS]
    found.sort(key=lambda each: (*(each[name] for name in Candidate._fields[:3]), each["length"]))
    rows = []
    for entry in dict.fromkeys((*list(each.values())[:3], each["length"]) for each in found):
        same = [each for each in found if (*list(each.values())[:3], each["length"]) == entry]
        for each in sorted(same, key=lambda each: float(each["ratio"]))[: given.best]:
            rows.append(
                (
                    *(each["operands"], "yes" if each["causal"] else "no", str(each["widest"])),
                    *(str(each["length"]), "{} x {}, {} warps".format(*each["blocks"])),
                    *("{} x {}, {} warps".format(*each["pinned"]), f"{each['a_ms']:.3f}"),
                    f"{each['ratio']:.2f}",
                )
            )
    print_table(
        f"The best {given.best} blocks over the pinned ones, forward and backward",
        ("operands", "causal", "widest", "T", "tokens x part", "pinned", "ms", "ratio"),
        rows,
    )
    write(given.out, {"machine": machine("cuda"), "figures": found})


if __name__ == "__main__":
    main()
