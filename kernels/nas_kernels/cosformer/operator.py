"""cosFormer attention: linear attention that weighs near tokens more than far ones."""

from functools import partial

from torch import Tensor

from nas_kernels.arguments import check_inputs, norm_lengths
from nas_kernels.cosformer import reference
from nas_kernels.dispatch import Backend, Plan, planned
from nas_kernels.linear_attention import operator as linear


@planned
def cosformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    norm_length: Tensor | float | None = None,
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> Plan:
    """cosFormer attention (Qin et al. 2022, arXiv:2202.08791).

    o_i = sum_j s_ij v_j / max(sum_j s_ij, eps), s_ij = relu(q_i) . relu(k_j) cos((pi/2)(i - j)/M),
    j over the true keys, with causal over those up to i, positions counted from 0 on both sides. No
    1/sqrt(K): a scale of the scores cancels.

    Args:
        q: (B, H, T, K), any strides.
        k: (B, H, S, K).
        v: (B, H, S, V).
        causal: whether a query sees the keys up to its own position only.
        query_lengths: (B,) true number of queries of each row. The rest is padding at the end, may
            hold anything, and comes out as 0 without a gradient; None means T.
        key_lengths: (B,) true number of keys of each row, likewise; None means S.
        norm_length: M in tokens, one number or (B,). None means each row's larger true length, so
            padded rows need both lengths or M, or their outputs depend on the padding. Step-by-step
            decoding needs the same fixed M in training, and goes wrong without a word otherwise.
        eps: lower bound of the normaliser, above 0.
        backend: "auto" (Triton on a GPU that can, else torch), "torch", "triton" or "reference".

    Lengths and M are checked where they lie in host memory and the call is not traced; otherwise
    they are taken as they are, and a position beyond M counts as M: no weight is ever negative.

    Returns:
        (B, H, T, V) in the inputs' dtype ("reference": fp32, or fp64 for fp64), summed in fp32
        (fp64 for fp64), also under autocast. Triton multiplies fp32 as tf32.

    Raises:
        ValueError: naming an argument, what was given and what is allowed; norm_length below the
            longest distance of two tokens among them.
    """
    check_inputs(q, k, v, query_lengths=query_lengths, key_lengths=key_lengths)
    norm = norm_lengths(norm_length, q, k, query_lengths, key_lengths)
    definition = partial(
        reference.cosformer_attention, q, k, v, causal=causal, query_lengths=query_lengths,
        key_lengths=key_lengths, norm_length=norm_length, eps=eps,
    )  # fmt: skip
    return linear.plan(
        "cosformer_attention", q, k, v, definition, feature_map="relu", norm=norm, causal=causal,
        query_lengths=query_lengths, key_lengths=key_lengths, eps=eps, backend=backend,
    )  # fmt: skip
