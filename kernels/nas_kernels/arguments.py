"""Which tensors may an attention operator be given, and which tokens of them count?"""

import math
from typing import Any

import torch
from torch import Tensor

from nas_kernels.precision import sum_dtype


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
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        dtypes = f"{q.dtype}, {k.dtype}, {v.dtype}"
        raise ValueError(f"q, k, v have dtypes {dtypes}, expected one floating dtype")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k, v lie on {q.device}, {k.device}, {v.device}, expected one device")
    _check_lengths("query_lengths", query_lengths, q)
    _check_lengths("key_lengths", key_lengths, k)


def _check_lengths(name: str, lengths: Tensor | None, tokens: Tensor) -> None:
    if lengths is None:
        return
    batch, _, longest, _ = tokens.shape
    if not isinstance(lengths, Tensor):
        raise ValueError(f"{name} is {lengths!r}, expected a tensor ({batch},) or None")
    if lengths.shape != (batch,):
        raise ValueError(f"{name} has shape {_shape(lengths)}, expected ({batch},)")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {lengths.dtype}, expected an integer dtype")
    if readable(lengths) and bool(((lengths < 0) | (lengths > longest)).any()):
        raise ValueError(f"{name} is {lengths.tolist()}, expected values in 0..{longest}")


def check_choice(name: str, given: Any, allowed: tuple[Any, ...]) -> None:
    """Raises `ValueError` for a value that is none of those allowed."""
    if given not in allowed:
        raise ValueError(f"{name} is {given!r}, expected one of {', '.join(map(repr, allowed))}")


def check_eps(eps: object) -> None:
    """Raises `ValueError` for a lower bound of the normaliser that is not above 0."""
    if not (isinstance(eps, (int, float)) and 0 < eps < math.inf):
        raise ValueError(f"eps is {eps!r}, expected a number above 0")


def norm_lengths(
    norm_length: Tensor | int | None,
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
    dtype, device = sum_dtype(q.dtype), q.device
    longest = _longest(q, k, query_lengths, key_lengths)
    if norm_length is None:
        if isinstance(longest, Tensor):
            return longest.clamp(min=1).to(device, dtype, non_blocking=True)
        return torch.full((1,), longest, dtype=dtype, device=device)
    if isinstance(norm_length, Tensor):
        if norm_length.shape != q.shape[:1]:
            shape = _shape(norm_length)
            raise ValueError(f"norm_length has shape {shape}, expected ({q.shape[0]},)")
        if norm_length.is_complex() or norm_length.dtype == torch.bool:
            raise ValueError(f"norm_length has dtype {norm_length.dtype}, expected real numbers")
    elif not (is_number(norm_length) and 1 <= norm_length < math.inf):
        raise ValueError(f"norm_length is {norm_length!r}, expected a number of at least 1")
    _check_distances(norm_length, longest)
    if isinstance(norm_length, Tensor):
        return norm_length.to(device, dtype, non_blocking=True)
    return torch.full((1,), norm_length, dtype=dtype, device=device)


def is_number(given: object) -> bool:
    """Whether this is a real number, be it one that a traced graph leaves open."""
    numbers = (int, float, torch.SymInt, torch.SymFloat)
    return isinstance(given, numbers) and not isinstance(given, bool)


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


def _check_distances(norm_length: Tensor | int, longest: Tensor | int) -> None:
    told = [each for each in (norm_length, longest) if isinstance(each, Tensor)]
    if torch.compiler.is_compiling() or not all(map(readable, told)):
        return
    given, tokens = torch.as_tensor(norm_length), torch.as_tensor(longest)
    least = (tokens - 1).clamp(min=1)
    if not bool(((given >= least) & given.isfinite()).all()):
        raise ValueError(
            f"norm_length is {given.tolist()}, expected at least the longest distance of two "
            f"tokens, {least.tolist()}: the weights cos((pi/2)(i - j)/M) would turn negative"
        )


def readable(tensor: Tensor) -> bool:
    """Whether values can be looked at without waiting for a device or breaking a traced graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


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
