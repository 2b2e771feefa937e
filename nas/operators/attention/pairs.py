"""Which pairs of tokens does softmax attention look at, and how many?"""

from __future__ import annotations

from typing import Any

from nas.errors import SpecError
from nas.operators.declaration import AttentionContext, Sizes


def pair_macs(sizes: Sizes) -> int:
    """Multiply-accumulates of scores and weighted sum, per head and element of its width.

    2 N S, and N^2 less where tokens see none behind them and N are the last of S: half of the
    square, its diagonal counted half.
    """
    return 2 * sizes["tokens"] * sizes["keys"] - sizes["causal"] * sizes["tokens"] ** 2


def is_causal(q: Any, k: Any, context: AttentionContext) -> bool:
    """Whether queries (B, H, N, K), the last N of the keys, see fewer than all of them.

    Raises `SpecError` where there are more queries than keys to be the last of.
    """
    if context.site != "decoder_self" or context.position is not None:
        return False
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys:
        raise SpecError(
            f"{queries} queries are given at decoder_self for {keys} keys; at most {keys} are "
            "allowed, for they are the last of the same tokens"
        )
    return bool(queries > 1)


def later(q: Any, k: Any) -> Any:
    """(N, S) bool: which keys come after each query, the queries being the last of the keys."""
    import torch

    queries, keys = q.shape[2], k.shape[2]
    square = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    return square.triu(keys - queries + 1)


def without_padding(q: Any, k: Any, v: Any, context: AttentionContext) -> tuple[Any, Any, Any]:
    """k and v with padding zero, and where it lies, (B, 1, 1, S) bool or None; raises `ValueError`.

    What is recalled was remembered without padding, so it is not copied again at each step.
    """
    if context.key_lengths is None:
        return k, v, None
    from nas_kernels.arguments import blanked, check_inputs, padding_of

    check_inputs(q, k, v, key_lengths=context.key_lengths)
    if context.position is not None:
        return k, v, padding_of(context.key_lengths, k).transpose(-2, -1)
    return blanked(k, v, context.key_lengths)
