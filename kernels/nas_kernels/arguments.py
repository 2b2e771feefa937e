"""Which tensors may an attention operator be given, and which tokens of them count?"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from nas_kernels.precision import sum_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LENGTH_DTYPES = (torch.int32, torch.int64)


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
) -> None:
    """Refuses what is not q (B, H, T, K), k (B, H, S, K), v (B, H, S, V) of one dtype and device.

    Lengths are (B,) integers of 0 to T and 0 to S. Those in host memory are read, those on an
    accelerator are taken as they are: reading them would wait for the device.

    Raises:
        ValueError: naming the argument, what was given and what is allowed.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is {tensor!r:.60}, expected a tensor (B, H, tokens, width)")
        if tensor.layout != torch.strided:
            raise ValueError(f"{name} has layout {tensor.layout}, expected {torch.strided}")
        if tensor.dim() != 4:
            raise ValueError(f"{name} has shape {_shape(tensor)}, expected (B, H, tokens, width)")
    batch, heads, queries, width = q.shape
    keys = k.shape[2]
    if (*k.shape[:2], k.shape[3]) != (batch, heads, width):
        expected = f"({batch}, {heads}, S, {width})"
        raise ValueError(f"k has shape {_shape(k)}, expected {expected} to fit q")
    if v.shape[:3] != k.shape[:3]:
        expected = f"({batch}, {heads}, {keys}, V)"
        raise ValueError(f"v has shape {_shape(v)}, expected {expected} to fit k")
    for name, size in (("T", queries), ("S", keys), ("K", width), ("V", v.shape[3])):
        if size < 1:
            raise ValueError(f"{name} is {size}, expected at least 1")
    if not q.dtype == k.dtype == v.dtype or q.dtype not in DTYPES:
        dtypes, allowed = f"{q.dtype}, {k.dtype}, {v.dtype}", _listed(DTYPES)
        raise ValueError(f"q, k, v have dtypes {dtypes}, expected one floating dtype: {allowed}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k, v lie on {q.device}, {k.device}, {v.device}, expected one device")
    _check_lengths("query_lengths", query_lengths, q)
    _check_lengths("key_lengths", key_lengths, k)


def _check_lengths(name: str, lengths: Tensor | None, tokens: Tensor) -> None:
    if lengths is None:
        return
    batch, _, longest, _ = tokens.shape
    # Told only where it is wrong: a text with a size in it would fix that size in a traced graph.
    if not isinstance(lengths, Tensor):
        raise ValueError(f"{name} is {lengths!r:.60}, expected a tensor ({batch},) or None")
    if lengths.shape != (batch,):
        shape = _shape(lengths)
        raise ValueError(f"{name} has shape {shape}, expected ({batch},): lengths, not a mask")
    if lengths.dtype not in LENGTH_DTYPES:
        raise ValueError(f"{name} has dtype {lengths.dtype}, expected {_listed(LENGTH_DTYPES)}")
    _check_device(name, lengths, tokens)
    if readable(lengths) and bool(((lengths < 0) | (lengths > longest)).any()):
        raise ValueError(
            f"{name} is {lengths.tolist()}, expected values in 0..{longest}, the number of tokens "
            "in (B, H, tokens, width)"
        )


def _check_device(name: str, tensor: Tensor, q: Tensor) -> None:
    # From another accelerator a copy would have to be waited for.
    if tensor.device.type != "cpu" and tensor.device != q.device:
        raise ValueError(f"{name} lies on {tensor.device}, expected cpu or {q.device}")


def check_choice(name: str, given: Any, allowed: tuple[Any, ...]) -> None:
    """Raises `ValueError` for a value that is none of those allowed."""
    if given not in allowed:
        raise ValueError(f"{name} is {given!r}, expected one of {', '.join(map(repr, allowed))}")


def check_flag(name: str, given: object) -> None:
    """Raises `ValueError` for what is not True or False."""
    if not isinstance(given, bool):
        raise ValueError(f"{name} is {given!r}, expected True or False")


def check_eps(eps: object, q: Tensor) -> None:
    """Raises `ValueError` for a lower bound of the normaliser by which nothing can be divided."""
    kept = torch.finfo(sum_dtype(q.dtype))
    if not (is_number(eps) and kept.tiny <= eps <= kept.max):
        raise ValueError(
            f"eps is {eps!r:.60}, expected a number above 0, from {kept.tiny:.3g} to {kept.max:.3g}"
        )


def is_number(given: object) -> TypeGuard[float]:
    """Whether this is a real number, be it one that a traced graph leaves open."""
    numbers = (Real, torch.SymInt, torch.SymFloat)
    return isinstance(given, numbers) and not isinstance(given, bool)


def norm_lengths(
    norm_length: Tensor | float | None,
    q: Tensor,
    k: Tensor,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
) -> Tensor:
    """M of each row, (B,), or (1,) where it is the same for all, on q's device in the sums' dtype.

    None means each row's max(query_lengths, key_lengths), T and S standing in where no lengths are
    given, and at least 1.

    Raises:
        ValueError: M below 1, or below the longest distance of two tokens, where the weights
            cos((pi/2)(i - j)/M) turn negative; only what is in host memory is looked at.
    """
    longest = _longest(q, k, query_lengths, key_lengths)
    if norm_length is None:
        return _on_device(longest, q).clamp(min=1)
    found = per_row("norm_length", norm_length, q, least=1)
    given, tokens = host_value(norm_length), host_value(longest)
    if given is not None and tokens is not None:
        least = (tokens - 1).clamp(min=1)
        if not bool((given >= least).all()):
            raise ValueError(
                f"norm_length is {_told(norm_length)}, expected at least the longest distance of "
                f"two tokens, {least.long().tolist()}: the weights cos((pi/2)(i - j)/M) would turn "
                "negative"
            )
    return found.clamp(min=1)


def per_row(name: str, given: Any, q: Tensor, *, least: int) -> Tensor:
    """(B,) of one number a row, (1,) of one for all, on q's device in the sums' dtype.

    Raises:
        ValueError: what is neither, or in host memory and below `least` or not finite.
    """
    batch, dtype = q.shape[0], sum_dtype(q.dtype)
    if isinstance(given, Tensor):
        if given.dim() and given.shape != (batch,):
            raise ValueError(f"{name} has shape {_shape(given)}, expected ({batch},)")
        if given.is_complex() or given.dtype == torch.bool:
            raise ValueError(f"{name} has dtype {given.dtype}, expected real numbers")
        _check_device(name, given, q)
    elif not is_number(given):
        expected = f"a number of at least {least}, or a tensor ({batch},) of them"
        raise ValueError(f"{name} is {given!r:.60}, expected {expected}")
    value = host_value(given)
    # What is finite in another dtype need not be so in the one that it is used in.
    if value is not None and not bool(((value >= least) & (value <= torch.finfo(dtype).max)).all()):
        raise ValueError(f"{name} is {_told(given)}, expected a number of at least {least}")
    return _on_device(given, q)


def host_value(given: Any) -> Tensor | None:
    """A number or a tensor of them in fp64 in host memory; None where it cannot be looked at."""
    if isinstance(given, Tensor):
        return given.double() if readable(given) else None
    if torch.compiler.is_compiling():
        return None
    try:
        return torch.tensor(float(given), dtype=torch.float64, device="cpu")
    except OverflowError:
        return torch.tensor(math.inf, dtype=torch.float64, device="cpu")


def _on_device(given: Any, q: Tensor) -> Tensor:
    """(B,) or (1,): in a traced graph a number stays open, where a tensor would fix it."""
    dtype = sum_dtype(q.dtype)
    if isinstance(given, Tensor):
        return given.to(q.device, dtype, non_blocking=True).reshape(-1)
    number = given if torch.compiler.is_compiling() else float(given)
    return torch.full((1,), number, dtype=dtype, device=q.device)


def _told(given: Any) -> str:
    return str(given.tolist()) if isinstance(given, Tensor) else f"{given!r:.60}"


def _longest(
    q: Tensor, k: Tensor, query_lengths: Tensor | None, key_lengths: Tensor | None
) -> Tensor | int:
    """The longer of both sides' true lengths: of each row (B,), or one number for all."""
    if query_lengths is None and key_lengths is None:
        return max(q.shape[2], k.shape[2])
    if query_lengths is None or key_lengths is None:
        given, other = (query_lengths, k) if key_lengths is None else (key_lengths, q)
        assert given is not None, "one of them is there"
        return given.clamp(min=other.shape[2])
    if query_lengths.device != key_lengths.device:
        query_lengths = query_lengths.to(q.device, non_blocking=True)
        key_lengths = key_lengths.to(q.device, non_blocking=True)
    return torch.maximum(query_lengths, key_lengths)


def readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a traced graph."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter)
    return plain and tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def padding_of(lengths: Tensor, tokens: Tensor) -> Tensor:
    """(B, 1, N, 1) bool: does a token of (B, H, N, width) lie at its row's length or beyond?"""
    positions = torch.arange(tokens.shape[2], device=tokens.device)
    return positions[:, None] >= lengths.to(tokens.device, non_blocking=True)[:, None, None, None]


def blanked(k: Tensor, v: Tensor, key_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """k and v with their padding zero, and where that lies: (B, 1, 1, S) bool.

    A masked score is not enough: padding may be NaN, and NaN times a weight of zero is NaN.
    """
    padding = padding_of(key_lengths, k)
    return k.masked_fill(padding, 0), v.masked_fill(padding, 0), padding.transpose(-2, -1)


def placed(tensor: Tensor | None, q: Tensor) -> Tensor | None:
    """(B,) lengths as int32 and M as fp32, contiguous, where q lies: as a kernel reads them."""
    if tensor is None:
        return None
    dtype = torch.float32 if tensor.is_floating_point() else torch.int32
    return tensor.to(q.device, dtype, non_blocking=True).expand(q.shape[:1]).contiguous()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _listed(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(each).removeprefix("torch.") for each in dtypes)
