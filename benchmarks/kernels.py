"""What do the attention kernels cost beside SDPA? Forward, and with backward, timed in turns.

On a GPU in bf16, B x T = 65,536 tokens, H x K = 512 and 1024: cosFormer and linear attention by
Triton. On a CPU in fp32, 4,096 tokens, H x K = 512: their torch form, one thread, CPU time. Rivals:
torch's SDPA; eager, the operator's own formula over all pairs (to T = 1024); and, causal on a GPU
where flash-linear-attention is installed, its linear attention and retention on ready-made
features. ratio is our time over the rival's, the median over pairs; faster names who is, or says
even where the quartiles hold 1. On a GPU also: over floor, our time over that of moving inputs and
outputs once at the bandwidth of a copy; our peak, the GPU memory of one call beside its inputs.
Break-even: the shortest T from which on ours is faster than SDPA at every T measured.

Nothing is timed before its output and gradients are those of the definition (to 300 tokens) and, on
a GPU, those of the torch form at the shape that is timed.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import options
from benchmarks.measuring.attention_calls import (
    Core,
    Once,
    Shape,
    check,
    copy_bandwidth,
    least_bytes,
    peak_bytes,
    timed,
)
from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.measuring.rivals import SDPA, Rival, rivals
from benchmarks.measuring.verdict import break_even, faster
from nas_kernels import cosformer_attention, linear_attention
from nas_kernels.dispatch import WIDEST

TOKENS = {"cuda": 65_536, "cpu": 4096}
"""B x T: the same work at each length, and enough of it that a call's own cost does not tell."""
WIDTHS = {"cuda": (512, 1024), "cpu": (512,)}
HEAD_WIDTHS = {"cuda": [32, 64, 128], "cpu": [64]}
LENGTHS = {
    "cuda": [64, 128, 197, 256, 512, 1024, 2048, 4096, 16_384],
    "cpu": [64, 128, 256, 512, 1024, 2048],
}
OURS: dict[bool, dict[str, Core]] = {
    causal: {
        "cosformer": partial(cosformer_attention, causal=causal),
        "linear": partial(linear_attention, causal=causal),
    }
    for causal in (False, True)
}
"""Our operators, bidirectional and causal, in the form that `auto` takes on the tensors' device."""

COMMON = ("operator", "causal", "pass", "H x K", "K")
"""What the rows of one case have in common, as a table heads it."""

Record = dict[str, Any]


def shapes(device: str, lengths: list[int], head_widths: list[int]) -> Iterator[Shape]:
    """Every point of the table on this device."""
    for width in WIDTHS[device]:
        for head_width in head_widths:
            for length in lengths:
                batch = max(1, TOKENS[device] // length)
                yield Shape(batch, width // head_width, length, head_width)


def measure(shape: Shape, device: str, pairs: int, bandwidth: float | None) -> Iterator[Record]:
    """One record for each of our operators, direction and rival; what only a GPU tells is None."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    tensors = shape.draw(device, dtype)
    for causal in (False, True):
        for name, core in OURS[causal].items():
            check(f"{name}, causal={causal}", core, shape, device, dtype)
            for backward in (False, True):
                mine = timed(core, tensors, backward)
                held = None if device == "cpu" else peak_bytes(mine)
                floor = None if bandwidth is None else least_bytes(tensors, backward) / bandwidth
                for other, rival in rivals(name, shape.length, causal).items():
                    found = against(mine, rival, tensors, backward, pairs)
                    yield {
                        "operator": name,
                        "causal": causal,
                        "backward": backward,
                        "rival": other,
                        **vars(shape),
                        **found.to_json(),
                        "faster": faster(found.lower_quartile, found.upper_quartile, other),
                        "peak_bytes": held,
                        "over_floor": None if floor is None else 1e-3 * found.a_ms / floor,
                    }


def against(mine: Once, rival: Rival, tensors: list[Tensor], backward: bool, pairs: int) -> Paired:
    """Our call over the rival's, whose own tensors are gone when this returns."""
    on_gpu = tensors[0].is_cuda
    theirs = timed(rival.core, rival.given(tensors), backward)
    found = compare(mine, theirs, pairs, clock=time.perf_counter if on_gpu else time.process_time)
    if on_gpu:
        del theirs
        # Blocks of another rival's sizes would stay with the allocator.
        torch.cuda.empty_cache()
    return found


def case_of(each: Record) -> dict[str, Any]:
    """What the records share that differ only in length and rival; `width` is H x K."""
    return {
        **{name: each[name] for name in ("operator", "causal", "backward")},
        "width": each["heads"] * each["head_width"],
        "head_width": each["head_width"],
    }


def break_evens(found: Sequence[Record]) -> list[Record]:
    """For each operator, direction, pass and width the length from which on ours beats SDPA."""
    fastest: dict[tuple[Any, ...], dict[int, str]] = {}
    for each in found:
        if each["rival"] == SDPA:
            fastest.setdefault(tuple(case_of(each).items()), {})[each["length"]] = each["faster"]
    return [dict(key) | {"length": break_even(each)} for key, each in fastest.items()]


def head_width(text: str) -> int:
    """A head width that divides every H x K."""
    width = options.whole(1, WIDEST)(text)
    narrowest = WIDTHS["cpu"][0]
    if narrowest % width:
        raise ArgumentTypeError(f"{width} given, expected a divisor of H x K = {narrowest}")
    return width


def defaults(values: dict[str, list[int]]) -> str:
    """What an option is by default, told for its help."""
    on_gpu, on_cpu = (" ".join(map(str, values[device])) for device in ("cuda", "cpu"))
    return f"default on a GPU: {on_gpu}; on a CPU: {on_cpu}"


def arguments(given: Sequence[str] | None = None) -> Namespace:
    """The command line, or what is given in its place; lengths and head widths in order, once."""
    made = parser(__doc__)
    made.add_argument(
        "--pairs", type=options.whole(2), default=10, metavar="N",
        help="timings of each of the two, in turns (default: 10)",
    )  # fmt: skip
    made.add_argument(
        "--device", type=options.device, default="cuda" if torch.cuda.is_available() else "cpu",
        metavar="{cpu,cuda}", help="where to time (default: cuda where there is one, else cpu)",
    )  # fmt: skip
    made.add_argument(
        "--lengths", type=options.whole(1), nargs="+", metavar="T",
        help=f"tokens of a sequence ({defaults(LENGTHS)})",
    )  # fmt: skip
    made.add_argument(
        "--head-widths", type=head_width, nargs="+", metavar="K",
        help=f"divisors of {WIDTHS['cpu'][0]} up to {WIDEST} ({defaults(HEAD_WIDTHS)})",
    )  # fmt: skip
    read = made.parse_args(given)
    read.lengths = sorted(set(read.lengths or LENGTHS[read.device]))
    read.head_widths = sorted(set(read.head_widths or HEAD_WIDTHS[read.device]))
    return read


def labels(case: Record) -> tuple[str, ...]:
    """The cells under `COMMON`."""
    return (
        case["operator"],
        "yes" if case["causal"] else "no",
        "with backward" if case["backward"] else "forward",
        str(case["width"]),
        str(case["head_width"]),
    )


def show(found: Sequence[Record], pairs: int, bandwidth: float | None) -> None:
    """Prints the table, and below it the break-evens."""
    heads = ["B", "T", "rival", "ours, ms", "ratio", "quartiles", "faster"]
    how = "the torch form on a CPU, fp32, one thread, CPU time"
    if bandwidth is not None:
        how = f"on a GPU, bf16; a copy moves {bandwidth / 1e12:.2f} TB/s"
        heads += ["over floor", "our peak, MB"]
    rows = []
    for each in found:
        told = [
            *(str(each["batch"]), str(each["length"]), each["rival"]),
            *(f"{each['a_ms']:.3f}", f"{each['ratio']:.2f}"),
            f"{each['lower_quartile']:.2f} to {each['upper_quartile']:.2f}",
            each["faster"],
        ]
        if bandwidth is not None:
            told += [f"{each['over_floor']:.2f}", f"{each['peak_bytes'] / 1e6:.0f}"]
        rows.append((*labels(case_of(each)), *told))
    print_table(f"Our time over a rival's, {pairs} pairs, {how}", (*COMMON, *heads), rows)
    print_table(
        "Break-even: the shortest T from which on ours is faster than SDPA at every T measured",
        (*COMMON, "from T"),
        [(*labels(each), str(each["length"] or "none")) for each in break_evens(found)],
    )


def main() -> None:
    given = arguments()
    if given.device == "cpu":
        torch.set_num_threads(1)
    bandwidth = None if given.device == "cpu" else copy_bandwidth()
    found: list[Record] = []
    for shape in shapes(given.device, given.lengths, given.head_widths):
        found += measure(shape, given.device, given.pairs, bandwidth)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    # The lengths of one case below each other; a stable sort keeps the rivals' order.
    found.sort(key=lambda each: (*case_of(each).values(), each["length"]))
    show(found, given.pairs, bandwidth)
    write(
        given.out,
        {
            "machine": machine(given.device),
            "copy_bandwidth": bandwidth,
            "figures": found,
            "break_even": break_evens(found),
        },
    )


if __name__ == "__main__":
    main()
