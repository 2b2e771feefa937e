"""Which form of an operator runs, and why?"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.profiler import record_function

from nas_kernels import device
from nas_kernels.arguments import check_choice

Backend = Literal["auto", "reference", "torch", "triton"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 256
LEAST_CAPABILITY = (8, 0)

P = ParamSpec("P")


@dataclass(frozen=True)
class Plan:
    """A call that was checked and not yet made: the form chosen for it, and why."""

    operator: str
    backend: Literal["reference", "torch", "triton"]
    why: str
    run: Callable[[], Tensor]
    form: Callable[[], str]
    """Told when asked for: a text with a length in it would fix that length in a traced graph."""

    def __call__(self) -> Tensor:
        """Makes the call, under the operator's name for torch's profiler."""
        if torch.compiler.is_compiling():
            return self.run()
        with record_function(f"nas_kernels::{self.operator} ({self.backend})"):
            return self.run()

    def __str__(self) -> str:
        return f"{self.backend}: {self.form()} ({self.why})"


def planned(plan: Callable[P, Plan]) -> Callable[P, Tensor]:
    """The operator that makes the calls which the function plans, under its name and signature."""

    @wraps(plan)
    def operator(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        return plan(*args, **kwargs)()

    told: Any = operator
    told.plan = plan
    # Names and defaults are those of the plan, the result is not.
    told.__signature__ = inspect.signature(plan).replace(return_annotation=Tensor)
    told.__annotations__ = plan.__annotations__ | {"return": Tensor}
    return operator


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Which form a call of an operator with these arguments runs, and why; nothing is computed.

    Raises:
        ValueError: what the call itself would raise, or a function that is no operator of ours.
    """
    plan = getattr(function, "plan", None)
    if plan is None:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"function is {name}, expected linear_attention, cosformer_attention or "
            "window_attention of nas_kernels (a step has one form)"
        )
    return str(plan(*args, **kwargs))


def choose(backend: Backend, q: Tensor, k: Tensor, v: Tensor) -> tuple[Backend, str]:
    """The backend that runs and why; `auto` takes Triton where it can and torch elsewhere.

    Raises:
        ValueError: an unknown backend, or "triton" for what it does not support.
    """
    check_choice("backend", backend, BACKENDS)
    if backend in ("reference", "torch"):
        return backend, "as asked for"
    missing = _unsupported(q)
    if backend == "triton":
        if missing and not _interpreted(q):
            raise _refusal(missing)
        if misfit := _misfit(q, k, v):
            raise _refusal(misfit)
        return "triton", "as asked for"
    if missing := missing or _misfit(q, k, v):
        return "torch", missing
    return "triton", f"{q.dtype} on {device.name(q.device)}"


def _refusal(missing: str) -> ValueError:
    least = "{}.{}".format(*LEAST_CAPABILITY)
    return ValueError(
        f"backend is 'triton', but {missing}; it supports CUDA devices of capability {least} and "
        f"up, fp32, bf16 and fp16, K and V up to {WIDEST}"
    )


def _unsupported(q: Tensor) -> str | None:
    """Why Triton cannot run where the tensors lie, None where it can."""
    if q.device.type != "cuda":
        return f"the tensors lie on {q.device.type}"
    if not installed():
        return "triton is not installed"
    if device.capability(q.device) < LEAST_CAPABILITY:
        return f"{device.name(q.device)} has no matrix units that it needs"
    if torch.compiler.is_exporting():
        return "an exported program is to run anywhere"
    return None


def _misfit(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why Triton cannot take these tensors anywhere, None where it can."""
    if q.dtype not in TRITON_DTYPES:
        return f"the dtype is {q.dtype}"
    widths = {"K": q.shape[3], "V": v.shape[3]}
    for name, width in widths.items():
        if width > WIDEST:
            return f"{name} is {width}"
    if not torch.compiler.is_compiling() and any(map(_has_tangent, (q, k, v))):
        return "forward-mode differentiation is asked for"
    return "the batch is empty" if q.shape[0] * q.shape[1] == 0 else None


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def installed() -> bool:
    """Whether there is a Triton to import."""
    return _TRITON


def _importable(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


_TRITON = _importable("triton")


def _interpreted(q: Tensor) -> bool:
    """Whether Triton's interpreter takes tensors from where they lie."""
    # The compiler sees through no interpreter.
    if q.device.type != "cpu" or torch.compiler.is_compiling() or not installed():
        return False
    from nas_kernels.launching import interpreted

    return interpreted()
