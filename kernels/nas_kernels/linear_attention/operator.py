"""Linear attention: scores that factor over queries and keys, so that the cost is linear."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from nas_kernels import tuning
from nas_kernels.arguments import check_choice, check_eps, check_flag, check_inputs, placed
from nas_kernels.dispatch import Backend, Plan, choose, planned
from nas_kernels.linear_attention import reference, torch_form
from nas_kernels.linear_attention.reference import FEATURE_MAPS, FeatureMap


@planned
def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "relu",
    causal: bool = False,
    key_lengths: Tensor | None = None,
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> Plan:
    """Linear attention (Katharopoulos et al. 2020, arXiv:2006.16236).

    o_i = sum_j s_ij v_j / max(sum_j s_ij, eps), s_ij = phi(q_i) . phi(k_j), j over the true keys,
    with causal over those up to i, positions counted from 0 on both sides. No 1/sqrt(K): a scale of
    the scores cancels.

    Args:
        q: (B, H, T, K), any strides. Queries of padding are queries like others: they must be
            finite, and are to be left out of the loss.
        k: (B, H, S, K).
        v: (B, H, S, V).
        feature_map: phi: "relu", "elu1" (elu + 1) or "identity"; with the last, scores may be
            negative and their sum near 0 is bounded by eps alone.
        causal: whether a query sees the keys up to its own position only.
        key_lengths: (B,) true number of keys of each row, the rest is padding at the end and may
            hold anything; None means S.
        eps: lower bound of the normaliser, above 0.
        backend: "auto" (Triton on a GPU that can, else torch), "torch", "triton" or "reference".

    Returns:
        (B, H, T, V) in the inputs' dtype ("reference": fp32, or fp64 for fp64), summed in fp32
        (fp64 for fp64), also under autocast. Triton multiplies fp32 as tf32.

    Raises:
        ValueError: naming an argument, what was given and what is allowed.
    """
    check_inputs(q, k, v, key_lengths=key_lengths)
    check_choice("feature_map", feature_map, FEATURE_MAPS)
    definition = partial(
        reference.linear_attention, q, k, v,
        feature_map=feature_map, causal=causal, key_lengths=key_lengths, eps=eps,
    )  # fmt: skip
    return plan(
        "linear_attention", q, k, v, definition, feature_map=feature_map, norm=None, causal=causal,
        query_lengths=None, key_lengths=key_lengths, eps=eps, backend=backend,
    )  # fmt: skip


def plan(
    operator: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    definition: Callable[[], Tensor],
    *,
    feature_map: FeatureMap,
    norm: Tensor | None,
    causal: bool,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    eps: float,
    backend: Backend,
) -> Plan:
    """The plan of linear attention re-weighted by cos((pi/2)(i - j)/M), M = norm (B,) or None."""
    check_eps(eps, q)
    check_flag("causal", causal)
    chosen, why = choose(backend, q, k, v)
    if chosen == "reference":
        return Plan(
            operator, "reference", why, definition, lambda: "the definition, query by query"
        )
    if chosen == "triton":
        # On its first call: torch takes over a second to look into an operator's kernels.
        from nas_kernels.linear_attention import triton_form

        # By place: an operator of torch is told nothing by name.
        run = partial(
            triton_form.linear_attention, q, k, v, placed(norm, q), placed(query_lengths, q),
            placed(key_lengths, q), feature_map, causal, eps,
        )  # fmt: skip
        return Plan(operator, "triton", why, run, partial(_by_triton, q, k, causal))
    run = partial(
        torch_form.linear_attention, q, k, v, feature_map=feature_map, norm=norm, causal=causal,
        query_lengths=query_lengths, key_lengths=key_lengths, eps=eps,
    )  # fmt: skip
    return Plan(operator, "torch", why, run, partial(_by_torch, causal))


def _by_torch(causal: bool) -> str:
    return f"chunks of {torch_form.CHUNK}" if causal else "keys into a state, queries from it"


def _by_triton(q: Tensor, k: Tensor, causal: bool) -> str:
    what = "causal scan" if causal else "keys into a state, queries from it"
    rows, longest = q.shape[0] * q.shape[1], max(q.shape[2], k.shape[2])
    segments, span = tuning.spans(rows, longest, q.device)
    if segments == 1:
        return f"{what}, one program a head"
    return f"{what}, two passes over {segments} segments of {span} tokens"
