"""cosFormer attention over keys of which several in a row share one position."""

import torch
from torch import Tensor

from nas_kernels.arguments import check_eps, check_inputs, norm_lengths, padding_of
from nas_kernels.cosformer.decoding import check_copies
from nas_kernels.linear_attention.decoding import blanked_keys, recalled, remembered
from nas_kernels.linear_attention.features import turned
from nas_kernels.precision import sum_dtype


def cosformer_attention_copies(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    copies: int,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    norm_length: Tensor | float | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """`cosformer_attention` where key j * copies + c stands at j, by plain operators of torch.

    A decoder layer that reads several layers of its encoder meets each source token so many times.
    Arguments, result and errors are those of `cosformer_attention`; S and key_lengths count keys,
    copies included, and M positions.
    """
    check_inputs(q, k, v, query_lengths=query_lengths, key_lengths=key_lengths)
    check_copies(copies, k)
    check_eps(eps, q)
    places = None if key_lengths is None else -(-key_lengths // copies)
    m = norm_lengths(norm_length, q, k[:, :, ::copies], query_lengths, places)
    at = torch.arange(k.shape[2], device=k.device) // copies
    keys, values = blanked_keys(k, v, key_lengths)
    state = remembered(None, turned(keys.relu(), m, at), values)
    queries = q.to(sum_dtype(q.dtype))
    if query_lengths is not None:
        queries = queries.masked_fill(padding_of(query_lengths, q), 0)
    return recalled(state, turned(queries.relu(), m), eps).to(q.dtype)
