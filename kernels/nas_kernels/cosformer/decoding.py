"""cosFormer attention one token at a time, M being fixed."""

import torch
from torch import Tensor

from nas_kernels.arguments import host_value, per_row
from nas_kernels.linear_attention.decoding import LinearState, check_step, step
from nas_kernels.linear_attention.features import turns
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
    if norm_length is None:
        raise ValueError("norm_length is None, expected a number: M must be fixed while decoding")
    m = per_row("norm_length", norm_length, q, least=1)
    at = per_row("position", position, q, least=0)
    given, allowed = host_value(position), host_value(norm_length)
    if given is not None and allowed is not None and bool((given > allowed).any()):
        raise ValueError(
            f"position is {given.tolist()}, expected at most norm_length, {allowed.tolist()}: the "
            "weights cos((pi/2)(i - j)/M) would turn negative"
        )
    cos, sin = turns(at, m.clamp(min=1))[:, None, None].unsqueeze(-1).unbind(-2)

    def features(x: Tensor) -> Tensor:
        x = x.to(sum_dtype(q.dtype)).relu()
        return torch.cat([x * cos, x * sin], dim=-1)

    return step(state, features(q), features(k), v, eps)
