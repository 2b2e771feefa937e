"""What does each Triton kernel take of a GPU? Registers, spills, shared memory; none is needed.

Every kernel of forward and backward is compiled for a CUDA capability as its first call there would
do it. A program that wants more shared memory than a device has does not start; spilled registers
go through memory. A long sequence of few rows is cut, a short one of many is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.measuring.report import machine, parser, print_table, write
from nas_kernels.launching import Launch, noted
from nas_kernels.linear_attention import triton_form as linear
from nas_kernels.resources import Resources, resources
from nas_kernels.window import triton_form as window

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
OPERATORS = ("linear", "cosformer", "window")


def launches(operator: str, dtype: torch.dtype, width: int, causal: bool) -> list[Launch]:
    """All that one call and its backward pass start, true lengths given."""
    q, k, v, g = torch.empty(4, 1, 2, 1024, width, dtype=dtype).unbind()
    lengths = torch.empty(1, dtype=torch.int32)
    norm = torch.empty(1) if operator == "cosformer" else None
    found: list[Launch] = []
    for tokens in (1024, 256):
        short = (each[:, :, :tokens] for each in (q, k, v))
        with noted() as made:
            if operator == "window":
                call = (*short, lengths, 64, causal)
                window.backward(g[:, :, :tokens], *call[:3], *window.forward(*call), *call[3:])
            else:
                options = (norm, lengths, lengths, "relu", causal, 1e-6)
                call = tuple(short)
                linear.backward(g[:, :, :tokens], *call, *linear.forward(*call, *options), *options)
        found += made
    return found


def measure(
    operators: list[str], dtypes: list[str], widths: list[int], capability: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """One record a kernel that differs."""
    for operator in operators:
        for dtype in dtypes:
            for width in widths:
                for causal in (False, True):
                    seen: set[tuple[str, Resources]] = set()
                    for launch in launches(operator, DTYPES[dtype], width, causal):
                        taken = resources(launch, capability)
                        if (launch.kernel.__name__, taken) in seen:
                            continue
                        seen.add((launch.kernel.__name__, taken))
                        yield {
                            "operator": operator,
                            "dtype": dtype,
                            "width": width,
                            "causal": causal,
                            "kernel": launch.kernel.__name__,
                            **vars(launch.blocks),
                            **vars(taken),
                        }
                    print(".", end="", file=sys.stderr, flush=True)


def capability(text: str) -> tuple[int, int]:
    """8.6 as (8, 6)."""
    major, minor = text.split(".")
    return int(major), int(minor)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--capability", type=capability, default="9.0", help="CUDA capability to compile for"
    )
    arguments.add_argument("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS))
    arguments.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["bf16", "fp32"])
    arguments.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    given = arguments.parse_args()
    found = list(measure(given.operators, given.dtypes, given.widths, given.capability))
    told = "{}.{}".format(*given.capability)
    print_table(
        f"Compiled for capability {told}",
        (
            *("operator", "dtype", "K = V", "causal", "kernel", "C x K x V", "warps"),
            *("registers", "spilled, B", "shared, KiB"),
        ),
        [
            (
                each["operator"],
                each["dtype"],
                str(each["width"]),
                "yes" if each["causal"] else "no",
                each["kernel"].removesuffix("_kernel"),
                f"{each['tokens']} x {each['keys']} x {each['values']}",
                str(each["warps"]),
                str(each["registers"]),
                str(each["spilled"]),
                f"{each['shared'] / 1024:.1f}",
            )
            for each in found
        ],
    )
    write(given.out, {"machine": machine(), "capability": told, "kernels": found})


if __name__ == "__main__":
    main()
