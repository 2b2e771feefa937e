"""Sliding window attention: softmax over the keys that lie near."""

from functools import partial

from torch import Tensor

from nas_kernels.arguments import check_inputs, placed
from nas_kernels.dispatch import Backend, Plan, choose, explainable
from nas_kernels.window import reference, torch_form

NAME = "window_attention"


def _planned(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool = False,
    key_lengths: Tensor | None = None,
    backend: Backend = "auto",
) -> Plan:
    check_inputs(q, k, v, key_lengths=key_lengths)
    whole: object = window
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < 0:
        raise ValueError(f"window is {window!r}, expected a whole number of at least 0")
    chosen, why = choose(backend, q, v)
    if chosen == "triton":
        from nas_kernels.window import triton_form

        # No token lies farther away; a plain number keeps the kernel from being compiled anew.
        near = min(window, max(q.shape[2], k.shape[2]))
        run = partial(triton_form.window_attention, q, k, v, placed(key_lengths, q), near, causal)
        return Plan(
            "window_attention",
            "triton",
            "online softmax over the blocks of keys in reach",
            why,
            run,
        )
    form = reference.window_attention if chosen == "reference" else torch_form.window_attention
    run = partial(form, q, k, v, window=window, causal=causal, key_lengths=key_lengths)
    if chosen == "reference":
        return Plan(NAME, "reference", "the definition, query by query", why, run)
    return Plan(NAME, "torch", "blocks of queries against the keys around them", why, run)


@explainable(_planned)
def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool = False,
    key_lengths: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Sliding window softmax attention (Beltagy et al. 2020, arXiv:2004.05150).

    o_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j over the true keys with |i - j| <= window, with
    causal over those up to i, positions counted from 0 on both sides. A query that sees no key
    comes out as 0.

    Args:
        q: (B, H, T, K), any strides.
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
    return _planned(
        q, k, v, window=window, causal=causal, key_lengths=key_lengths, backend=backend
    )()
