"""cosFormer attention as tokens come, M being fixed."""

import torch
from torch import Tensor

from nas_kernels.arguments import check_eps, check_inputs, host_value, per_row
from nas_kernels.linear_attention.decoding import (
    LinearState,
    blanked_keys,
    check_step,
    recalled,
    remembered,
    step,
)
from nas_kernels.linear_attention.features import turned, turns
from nas_kernels.precision import sum_dtype


def cosformer_attention_step(
    state: LinearState | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    position: Tensor | int,
    norm_length: Tensor | float,
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
            among them, where the weights cos((pi/2)(i - j)/M) turn negative (on an accelerator or
            in a traced graph it counts as M instead).
    """
    check_step(q, k, v, eps)
    at, m = _placed(position, norm_length, q)
    cos, sin = turns(at, m)[:, None, None].unsqueeze(-1).unbind(-2)

    def features(x: Tensor) -> Tensor:
        x = x.to(sum_dtype(q.dtype)).relu()
        return torch.cat([x * cos, x * sin], dim=-1)

    return step(state, features(q), features(k), v, eps)


def cosformer_attention_state(
    state: LinearState | None,
    k: Tensor,
    v: Tensor,
    *,
    norm_length: Tensor | float,
    position: Tensor | int = 0,
    copies: int = 1,
    key_lengths: Tensor | None = None,
) -> LinearState:
    """The state with further keys: a prefix at once, or all keys of cross attention.

    Args:
        state: of the keys before, None before the first.
        k: (B, H, S, K).
        v: (B, H, S, V).
        norm_length: as in `cosformer_attention_step`.
        position: where the first of these keys stands, one number or (B,).
        copies: how many keys in a row share one position: key j * copies + c stands at j.
        key_lengths: (B,) how many of these keys are true, the rest may hold anything; None means S.

    Raises:
        ValueError: naming an argument, what was given and what is allowed; a key that stands beyond
            M among them, as in `cosformer_attention_step`.
    """
    check_inputs(k, k, v, key_lengths=key_lengths)
    check_copies(copies, k)
    last = ((k.shape[2] if key_lengths is None else key_lengths) - 1) // copies
    at, m = _placed(position, norm_length, k, last)
    apart = torch.arange(k.shape[2], device=k.device) // copies
    k, v = blanked_keys(k, v, key_lengths)
    return remembered(state, turned(k.relu(), m, at[:, None] + apart), v)


def cosformer_attention_read(
    state: LinearState,
    q: Tensor,
    *,
    position: Tensor | int,
    norm_length: Tensor | float,
    eps: float = 1e-6,
) -> Tensor:
    """What queries (B, H, N, K), all at `position`, read from a state: (B, H, N, V), their dtype.

    position is one number or (B,); norm_length as in `cosformer_attention_step`.

    Raises:
        ValueError: as `cosformer_attention_step`.
    """
    check_inputs(q, q, q)
    check_eps(eps, q)
    at, m = _placed(position, norm_length, q)
    queries = turned(q.to(sum_dtype(q.dtype)).relu(), m, at[:, None])
    return recalled(state, queries, eps).to(q.dtype)


def check_copies(copies: object, k: Tensor) -> None:
    """Raises `ValueError` for a number of copies that does not divide the number of keys."""
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
        raise ValueError(f"copies is {copies!r}, expected an integer of at least 1")
    if k.shape[2] % copies:
        raise ValueError(f"k has {k.shape[2]} tokens, expected a multiple of copies, {copies}")


def _placed(
    position: Tensor | int, norm_length: Tensor | float, x: Tensor, further: Tensor | int = 0
) -> tuple[Tensor, Tensor]:
    """Position and M of each row of x, (B,) or (1,), checked as far as the last token, `further`.

    Raises `ValueError` for either that is no such number, and for a token beyond M.
    """
    if norm_length is None:
        raise ValueError("norm_length is None, expected a number: M must be fixed while decoding")
    m = per_row("norm_length", norm_length, x, least=1)
    at = per_row("position", position, x, least=0)
    given, allowed, more = map(host_value, (position, norm_length, further))
    if given is not None and allowed is not None and more is not None:
        last = given + more
        if bool((last > allowed).any()):
            raise ValueError(
                f"position is {last.tolist()}, expected at most norm_length, {allowed.tolist()}: "
                "the weights cos((pi/2)(i - j)/M) would turn negative"
            )
    return at, m.clamp(min=1)
