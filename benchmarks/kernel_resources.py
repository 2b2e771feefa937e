"""What does each Triton kernel take of a GPU? Registers, stack, shared memory; none is needed.

Every kernel is compiled for a CUDA capability as its first call there would do it; one row a
kernel that differs. T = 256 is done by one program a head, T = 1024 is cut among programs, as a
long sequence of few rows is. gives is what the kernel writes, pass where it runs: forward, backward
or both. C x K x V are the tokens and widths of a program's tile. stack is local memory in bytes a
thread, spilled registers and arrays, which go through memory; a program that wants more shared
memory than a device has does not start.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.measuring import options
from benchmarks.measuring.compiled import Resources, resources
from benchmarks.measuring.report import machine, parser, print_table, write
from nas_kernels.dispatch import WIDEST
from nas_kernels.launching import Launch, interpreted, noted
from nas_kernels.linear_attention import triton_form as linear
from nas_kernels.tuning import Blocks
from nas_kernels.window_attention import triton_form as window

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
OPERATORS = ("linear", "cosformer", "window")
LENGTHS = (256, 1024)
GIVES = {
    ("state_kernel", False): "state of keys",
    ("state_kernel", True): "state of queries",
    ("read_values_kernel", False): "o",
    ("read_values_kernel", True): "dv",
    ("read_features_kernel", False): "dq",
    ("read_features_kernel", True): "dk",
    ("row_scales_kernel", None): "scale, bias",
    ("forward_kernel", None): "o",
    ("delta_kernel", None): "delta",
    ("query_gradient_kernel", None): "dq",
    ("key_gradient_kernel", None): "dk, dv",
}
"""By kernel, and whether queries feed keys in it, as they do in the backward pass."""


def launches(
    operator: str, dtype: torch.dtype, width: int, causal: bool, tokens: int
) -> Iterator[tuple[str, Launch]]:
    """All that a call and its backward pass start, true lengths given; the pass with each."""
    q, k, v, g = torch.empty(4, 1, 2, tokens, width, dtype=dtype).unbind()
    lengths = torch.empty(1, dtype=torch.int32)
    norm = torch.empty(1) if operator == "cosformer" else None
    form: Any = window if operator == "window" else linear
    given: tuple[Any, ...] = (norm, lengths, lengths, "relu", causal, 1e-6)
    if operator == "window":
        given = (lengths, 64, causal)
    with noted() as made:
        kept = form.forward(q, k, v, *given)
    yield from (("forward", each) for each in made)
    with noted() as made:
        form.backward(g, q, k, v, *kept, *given)
    yield from (("backward", each) for each in made)


def gives(launch: Launch) -> str:
    """What the kernel writes."""
    turned = launch.flags.get("REVERSE", launch.flags.get("SCALED"))
    return GIVES.get((launch.kernel.__name__, turned), "-")


def measure(
    operator: str, dtype: str, width: int, causal: bool, capability: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """One record a kernel that differs, with the passes and lengths that start it."""
    found: dict[tuple[str, str, Blocks, Resources], dict[str, list[Any]]] = {}
    for tokens in LENGTHS:
        for of, launch in launches(operator, DTYPES[dtype], width, causal, tokens):
            taken = resources(launch, capability)
            key = (launch.kernel.__name__, gives(launch), launch.blocks, taken)
            used = found.setdefault(key, {"passes": [], "lengths": []})
            for known, one in (("passes", of), ("lengths", tokens)):
                if one not in used[known]:
                    used[known].append(one)
    for (kernel, what, blocks, taken), used in found.items():
        yield {
            "operator": operator,
            "dtype": dtype,
            "width": width,
            "causal": causal,
            "kernel": kernel,
            "gives": what,
            **used,
            **vars(blocks),
            **vars(taken),
        }


def arguments(given: Sequence[str] | None = None) -> Namespace:
    """The command line, or what is given in its place."""
    made = parser(__doc__)
    made.add_argument(
        "--capability", type=options.capability, default="9.0", metavar="MAJOR.MINOR",
        help=f"one of {', '.join(options.CAPABILITIES)} (default: 9.0)",
    )  # fmt: skip
    made.add_argument(
        "--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS),
        help="whose kernels (default: all)",
    )  # fmt: skip
    made.add_argument(
        "--dtypes", nargs="+", choices=list(DTYPES), default=["bf16", "fp32"],
        help="dtypes of q, k and v (default: bf16 fp32)",
    )  # fmt: skip
    made.add_argument(
        "--widths", type=options.whole(1, WIDEST), nargs="+", default=[32, 64, 128, 256],
        metavar="K", help=f"head widths, K = V, to {WIDEST} (default: 32 64 128 256)",
    )  # fmt: skip
    read = made.parse_args(given)
    if interpreted():
        made.error("TRITON_INTERPRET is set, expected not: nothing would be compiled")
    read.widths = sorted(set(read.widths))
    return read


def main() -> None:
    given = arguments()
    found: list[dict[str, Any]] = []
    for operator in given.operators:
        for dtype in given.dtypes:
            for width in given.widths:
                for causal in (False, True):
                    found += measure(operator, dtype, width, causal, given.capability)
                    print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    told = "{}.{}".format(*given.capability)
    print_table(
        f"Compiled for capability {told}; T = 256: one program a head, T = 1024: cut",
        (
            *("operator", "dtype", "K = V", "causal", "kernel", "gives", "pass", "T"),
            *("C x K x V", "warps", "registers", "stack, B", "shared, KiB"),
        ),
        [
            (
                each["operator"],
                each["dtype"],
                str(each["width"]),
                "yes" if each["causal"] else "no",
                each["kernel"].removesuffix("_kernel"),
                each["gives"],
                "both" if len(each["passes"]) == 2 else each["passes"][0],
                ", ".join(map(str, each["lengths"])),
                f"{each['tokens']} x {each['keys']} x {each['values']}",
                str(each["warps"]),
                str(each["registers"]),
                str(each["stack"]),
                f"{each['shared'] / 1024:.1f}",
            )
            for each in found
        ],
    )
    write(given.out, {"machine": machine(), "capability": told, "kernels": found})


if __name__ == "__main__":
    main()
