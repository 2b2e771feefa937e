"""Linear attention one token at a time: what was seen is a state of constant size."""

from typing import NamedTuple

from torch import Tensor

from nas_kernels.arguments import check_choice, check_eps, check_inputs
from nas_kernels.linear_attention.reference import FEATURE_MAPS, FeatureMap, phi
from nas_kernels.precision import autocast_off, sum_dtype


class LinearState(NamedTuple):
    """What the tokens so far add up to: sums (B, H, R, V) and total (B, H, R), R feature width."""

    sums: Tensor
    total: Tensor


def linear_attention_step(
    state: LinearState | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "relu",
    eps: float = 1e-6,
) -> tuple[Tensor, LinearState]:
    """The next token's output of causal `linear_attention`, and the state with it.

    Args:
        state: of the tokens before, None before the first.
        q: (B, H, 1, K).
        k: (B, H, 1, K).
        v: (B, H, 1, V).
        feature_map: as in `linear_attention`.
        eps: as in `linear_attention`.

    Returns:
        The output (B, H, 1, V) in the inputs' dtype, and the new state in the dtype of the sums;
        the state that was given is left as it was, so that beams may share it.

    Raises:
        ValueError: naming an argument, what was given and what is allowed.
    """
    check_choice("feature_map", feature_map, FEATURE_MAPS)
    check_step(q, k, v, eps)
    dtype = sum_dtype(q.dtype)
    query, key = phi(q.to(dtype), feature_map), phi(k.to(dtype), feature_map)
    return step(state, query, key, v, eps)


def step(
    state: LinearState | None, query: Tensor, key: Tensor, v: Tensor, eps: float
) -> tuple[Tensor, LinearState]:
    """The same for a query's and a key's features, (B, H, 1, R)."""
    sums = key.transpose(-1, -2) * v.to(key.dtype)
    total = key[:, :, 0]
    if state is not None:
        before = _checked(state, sums, total)
        sums, total = before.sums + sums, before.total + total
    with autocast_off(query.device.type):
        weighted = query @ sums
    normaliser = (query * total[:, :, None]).sum(-1, keepdim=True).clamp(min=eps)
    return (weighted / normaliser).to(v.dtype), LinearState(sums, total)


def _checked(state: object, sums: Tensor, total: Tensor) -> LinearState:
    """A state that fits, be it a plain pair as reordering beams leaves it."""
    if not isinstance(state, tuple) or [isinstance(each, Tensor) for each in state] != [True] * 2:
        raise ValueError(f"state is a {type(state).__name__}, expected a LinearState or None")
    found = LinearState(*state)
    for name, given, wanted in zip(LinearState._fields, found, (sums, total), strict=True):
        fits = given.dtype == wanted.dtype and given.device == wanted.device
        # A text with a size in it would fix that size in a traced graph.
        if not (fits and given.shape == wanted.shape):
            told, expected = (
                f"shape {tuple(each.shape)}, {each.dtype} on {each.device}"
                for each in (given, wanted)
            )
            raise ValueError(f"state has {name} of {told}, expected {expected}")
    return found


def check_step(q: Tensor, k: Tensor, v: Tensor, eps: float) -> None:
    """Raises `ValueError` for what is not one token."""
    check_inputs(q, k, v)
    check_eps(eps, q)
    for name, tensor in (("q", q), ("k", k)):
        if tensor.shape[2] != 1:
            raise ValueError(
                f"{name} has {tensor.shape[2]} tokens, expected 1: a step is one token"
            )
