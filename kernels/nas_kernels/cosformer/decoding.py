"""cosFormer attention one token at a time, M being fixed."""

import math

import torch
from torch import Tensor

from nas_kernels.arguments import is_number, readable
from nas_kernels.linear_attention.decoding import LinearState, check_step, step
from nas_kernels.precision import sum_dtype


def cosformer_attention_step(
    state: LinearState | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    position: Tensor | int,
    norm_length: Tensor | int,
    eps: float = 1e-6,
) -> tuple[Tensor, LinearState]:
    """The next token's output of causal `cosformer_attention`, and the state with it.

    Args:
        state: of the tokens before, None before the first; as `linear_attention_step`'s, R = 2 K.
        q: (B, H, 1, K).
        k: (B, H, 1, K).
        v: (B, H, 1, V).
        position: of this token, from 0: one number or (B,).
        norm_length: M in tokens, one number or (B,), the same at every step: a state holds features
            that depend on it. None is refused, for M would grow with every token.
        eps: as in `cosformer_attention`.

    Returns:
        The output (B, H, 1, V) in the inputs' dtype, and the new state in the dtype of the sums.

    Raises:
        ValueError: naming an argument, what was given and what is allowed; a position beyond M
            among them, where the weights cos((pi/2)(i - j)/M) turn negative.
    """
    check_step(q, k, v, eps)
    if norm_length is None:
        raise ValueError("norm_length is None, expected a number: M must be fixed while decoding")
    m = _each_row("norm_length", norm_length, q, least=1)
    at = _each_row("position", position, q, least=0)
    if readable(m) and readable(at) and bool((at > m).any()):
        raise ValueError(
            f"position is {at.tolist()}, expected at most norm_length, {m.tolist()}: the weights "
            "cos((pi/2)(i - j)/M) would turn negative"
        )
    dtype = sum_dtype(q.dtype)
    m, at = (each.to(q.device, dtype, non_blocking=True) for each in (m, at))
    at = torch.minimum(at, m)
    # From the nearer end, where a cosine is small: rounding an angle near pi/2 would tell.
    cos, sin = ((each * (math.pi / 2) / m).sin()[:, None, None, None] for each in (m - at, at))

    def features(x: Tensor) -> Tensor:
        x = x.to(dtype).relu()
        return torch.cat([x * cos, x * sin], dim=-1)

    return step(state, features(q), features(k), v, eps)


def _each_row(name: str, given: Tensor | int, q: Tensor, *, least: int) -> Tensor:
    """(B,) of one number or of one a row."""
    if not isinstance(given, Tensor) and not is_number(given):
        raise ValueError(f"{name} is {given!r}, expected a number or a tensor ({q.shape[0]},)")
    found = torch.as_tensor(given)
    if found.dim() and found.shape != q.shape[:1]:
        raise ValueError(f"{name} has shape {tuple(found.shape)}, expected ({q.shape[0]},)")
    if readable(found) and not bool(((found >= least) & found.isfinite()).all()):
        raise ValueError(f"{name} is {found.tolist()}, expected at least {least}")
    return found.expand(q.shape[:1])
