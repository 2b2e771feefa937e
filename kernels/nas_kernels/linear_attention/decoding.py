"""Linear attention as tokens come: what was seen is a state of constant size."""

from typing import NamedTuple

from torch import Tensor

from nas_kernels.arguments import check_choice, check_eps, check_inputs, padding_of
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


def linear_attention_state(
    state: LinearState | None,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "relu",
    key_lengths: Tensor | None = None,
) -> LinearState:
    """The state with further keys: a prefix at once, or all keys of cross attention.

    Args:
        state: of the keys before, None before the first.
        k: (B, H, S, K).
        v: (B, H, S, V).
        feature_map: as in `linear_attention`.
        key_lengths: (B,) how many of these keys are true, the rest may hold anything; None means S.

    Raises:
        ValueError: naming an argument, what was given and what is allowed.
    """
    check_inputs(k, k, v, key_lengths=key_lengths)
    check_choice("feature_map", feature_map, FEATURE_MAPS)
    k, v = blanked_keys(k, v, key_lengths)
    keys = phi(k, feature_map)
    # Again: phi(0) need not be 0.
    return remembered(state, keys if key_lengths is None else _blank(keys, key_lengths), v)


def linear_attention_read(
    state: LinearState, q: Tensor, *, feature_map: FeatureMap = "relu", eps: float = 1e-6
) -> Tensor:
    """What queries (B, H, N, K) read from a state: (B, H, N, V) in their dtype.

    Raises:
        ValueError: naming an argument, what was given and what is allowed.
    """
    check_inputs(q, q, q)
    check_eps(eps, q)
    check_choice("feature_map", feature_map, FEATURE_MAPS)
    return recalled(state, phi(q.to(sum_dtype(q.dtype)), feature_map), eps).to(q.dtype)


def step(
    state: LinearState | None, query: Tensor, key: Tensor, v: Tensor, eps: float
) -> tuple[Tensor, LinearState]:
    """The same for a query's and a key's features, (B, H, 1, R)."""
    state = remembered(state, key, v)
    return recalled(state, query, eps).to(v.dtype), state


def remembered(state: LinearState | None, keys: Tensor, v: Tensor) -> LinearState:
    """The state with further keys' features (B, H, S, R) and values (B, H, S, V)."""
    values, total = v.to(keys.dtype), keys.sum(dim=2)
    if keys.shape[2] == 1:
        # An outer product, which is less work than a matrix product of one row.
        column = keys.transpose(-1, -2)
        if state is None:
            return LinearState(column * values, total)
        state = _checked(state, column.expand(*column.shape[:3], values.shape[3]), total)
        return LinearState(state.sums.addcmul(column, values), state.total + total)
    with autocast_off(keys.device.type):
        sums = keys.transpose(-1, -2) @ values
    if state is None:
        return LinearState(sums, total)
    state = _checked(state, sums, total)
    return LinearState(state.sums + sums, state.total + total)


def recalled(state: LinearState, queries: Tensor, eps: float) -> Tensor:
    """What queries' features (B, H, N, R) read: (B, H, N, V), in the dtype of the sums."""
    state = _checked(state, None, queries[:, :, 0])
    with autocast_off(queries.device.type):
        weighted, total = queries @ state.sums, queries @ state.total[..., None]
    return weighted / total.clamp(min=eps)


def blanked_keys(k: Tensor, v: Tensor, key_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """k in the dtype of the sums, and v, with their padding zero: it may hold NaN."""
    k = k.to(sum_dtype(k.dtype))
    return (k, v) if key_lengths is None else (_blank(k, key_lengths), _blank(v, key_lengths))


def _blank(x: Tensor, lengths: Tensor) -> Tensor:
    return x.masked_fill(padding_of(lengths, x), 0)


def _checked(state: object, sums: Tensor | None, total: Tensor) -> LinearState:
    """A state that fits, be it a plain pair as reordering beams leaves it; V may be left open."""
    if not isinstance(state, tuple) or [isinstance(each, Tensor) for each in state] != [True] * 2:
        raise ValueError(f"state is a {type(state).__name__}, expected a LinearState or None")
    found = LinearState(*state)
    for name, given, wanted in zip(LinearState._fields, found, (sums, total), strict=True):
        if wanted is None:
            continue
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
