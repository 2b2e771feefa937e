"""Which values may a benchmark's options have? Types for argparse, each with one clear refusal."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

CAPABILITIES = ("8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
"""From the least that the kernels support; on one that it does not know LLVM ends the process."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least` up, to `most` where that is given."""
    allowed = f"a whole number from {least} {'up' if most is None else f'to {most}'}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} given, expected {allowed}") from None
        if number < least or (most is not None and number > most):
            raise ArgumentTypeError(f"{number} given, expected {allowed}")
        return number

    return read


def device(text: str) -> str:
    """`cpu`, or `cuda` where there is one."""
    import torch

    if text not in ("cpu", "cuda"):
        raise ArgumentTypeError(f"{text!r} given, expected cpu or cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise ArgumentTypeError("cuda given, expected cpu: torch finds no CUDA device here")
    return text


def capability(text: str) -> tuple[int, int]:
    """8.6 as (8, 6); one of those that Triton compiles for."""
    if text not in CAPABILITIES:
        raise ArgumentTypeError(f"{text!r} given, expected one of {', '.join(CAPABILITIES)}")
    major, minor = text.split(".")
    return int(major), int(minor)
