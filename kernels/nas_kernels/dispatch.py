"""Which form of an operator runs, and why?"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor
from torch.profiler import record_function

from nas_kernels.arguments import check_choice

Backend = Literal["auto", "reference", "torch", "triton"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 256
LEAST_CAPABILITY = (8, 0)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Plan:
    """A call that was checked and not yet made: the form chosen for it, and why."""

    operator: str
    backend: Literal["reference", "torch", "triton"]
    form: str
    why: str
    run: Callable[[], Tensor]

    def __call__(self) -> Tensor:
        """Makes the call, under the operator's name for torch's profiler."""
        if torch.compiler.is_compiling():
            return self.run()
        with record_function(f"nas_kernels::{self.operator} ({self.backend})"):
            return self.run()

    def __str__(self) -> str:
        return f"{self.backend}: {self.form} ({self.why})"


def explainable(plan: Callable[P, Plan]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Notes how calls of an operator are planned, for `explain`."""

    def noted(operator: Callable[P, R]) -> Callable[P, R]:
        operator.plan = plan  # type: ignore[attr-defined]
        return operator

    return noted


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Which form a call of an operator with these arguments runs, and why; nothing is computed.

    Raises:
        ValueError: what the call itself would raise, or a function that is no operator of ours.
    """
    plan = getattr(function, "plan", None)
    if plan is None:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(f"function is {name}, expected an operator of nas_kernels")
    return str(plan(*args, **kwargs))


def choose(backend: Backend, q: Tensor, v: Tensor) -> tuple[Backend, str]:
    """The backend that runs and why; `auto` takes Triton where it can and torch elsewhere.

    Raises:
        ValueError: an unknown backend, or "triton" for what it does not support.
    """
    check_choice("backend", backend, BACKENDS)
    if backend in ("reference", "torch"):
        return backend, "as asked for"
    missing = _unsupported(q, v)
    if backend == "triton":
        if missing and not (_interpreted() and q.device.type == "cpu" and _fits(q, v) is None):
            raise ValueError(
                f"backend is 'triton', but {missing}; it supports CUDA devices of capability "
                f"{'.'.join(map(str, LEAST_CAPABILITY))} and up, fp32, bf16 and fp16, K and V up "
                f"to {WIDEST}"
            )
        return "triton", "as asked for"
    if missing:
        return "torch", missing
    return "triton", f"{q.dtype} on {torch.cuda.get_device_name(q.device)}"


def _unsupported(q: Tensor, v: Tensor) -> str | None:
    """Why Triton cannot run, None where it can."""
    if q.device.type != "cuda":
        return f"the tensors lie on {q.device.type}"
    if not _installed():
        return "triton is not installed"
    if torch.cuda.get_device_capability(q.device) < LEAST_CAPABILITY:
        return f"{torch.cuda.get_device_name(q.device)} has no matrix units that it needs"
    if torch.compiler.is_exporting():
        return "an exported program is to run anywhere"
    return _fits(q, v)


def _fits(q: Tensor, v: Tensor) -> str | None:
    if q.dtype not in TRITON_DTYPES:
        return f"the dtype is {q.dtype}"
    widths = {"K": q.shape[3], "V": v.shape[3]}
    for name, width in widths.items():
        if width > WIDEST:
            return f"{name} is {width}"
    return "the batch is empty" if q.shape[0] * q.shape[1] == 0 else None


@cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    if not _installed():
        return False
    from nas_kernels.launching import interpreted

    return interpreted()
