"""Sliding window attention: softmax over the keys that lie near."""

from functools import partial

import torch
from torch import Tensor

from nas_kernels.arguments import check_flag, check_inputs, placed
from nas_kernels.dispatch import Backend, Plan, choose, planned
from nas_kernels.window_attention import reference, torch_form

NAME = "window_attention"


@planned
def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool = False,
    key_lengths: Tensor | None = None,
    backend: Backend = "auto",
) -> Plan:
    """Sliding window softmax attention (Beltagy et al. 2020, arXiv:2004.05150).

    o_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j over the true keys with |i - j| <= window, with
    causal over those up to i, positions counted from 0 on both sides. A query that sees no key
    comes out as 0.

    Args:
        q: (B, H, T, K), any strides. Queries of padding are queries like others: they must be
            finite, and are to be left out of the loss.
        k: (B, H, S, K).
        v: (B, H, S, V).
        window: keys on each side that a query sees beside the one at its own position; from
            max(T, S) - 1 on, it sees all.
        causal: whether a query sees the keys up to its own position only.
        key_lengths: (B,) true number of keys of each row, the rest is padding at the end and may
            hold anything; None means S.
        backend: "auto" (Triton on a GPU that can, else torch), "torch", "triton" or "reference".

    Returns:
        (B, H, T, V) in the inputs' dtype ("reference": fp32, or fp64 for fp64).

    Raises:
        ValueError: naming an argument, what was given and what is allowed.
    """
    check_inputs(q, k, v, key_lengths=key_lengths)
    check_flag("causal", causal)
    whole: object = window
    if isinstance(whole, bool) or not isinstance(whole, (int, torch.SymInt)) or window < 0:
        raise ValueError(f"window is {window!r}, expected a whole number of at least 0")
    if not torch.compiler.is_exporting():
        # No token lies farther away, and numbers beyond 64 bits are no positions.
        window = min(window, max(q.shape[2], k.shape[2]))
    chosen, why = choose(backend, q, k, v)
    if chosen == "triton":
        # On its first call: torch takes over a second to look into an operator's kernels.
        from nas_kernels.window_attention import triton_form

        run = partial(triton_form.window_attention, q, k, v, placed(key_lengths, q), window, causal)
        return Plan(NAME, "triton", why, run, lambda: "online softmax over the blocks in reach")
    form = reference.window_attention if chosen == "reference" else torch_form.window_attention
    run = partial(form, q, k, v, window=window, causal=causal, key_lengths=key_lengths)
    if chosen == "reference":
        return Plan(NAME, "reference", why, run, lambda: "the definition, query by query")
    return Plan(NAME, "torch", why, run, partial(_by_torch, q, k, window, causal))


def _by_torch(q: Tensor, k: Tensor, window: int, causal: bool) -> str:
    if torch_form.blocks_pay(q, k, window, causal):
        return "blocks of queries against the keys around them"
    return "all queries against all keys, those out of reach masked"
