"""How is window attention done on a GPU? By the kernels of kernels.py, as operators of torch."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op
from triton import cdiv

from nas_kernels import tuning
from nas_kernels.counting import register_flops
from nas_kernels.launching import dot_dtype, launch, or_nothing
from nas_kernels.window_attention import kernels


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, key_lengths: Tensor | None, window: int, causal: bool
) -> Tensor:
    """As operator.py says; lengths (B,) lie where the tokens are."""
    out: Tensor = forward(q, k, v, key_lengths, window, causal)[0]
    return out


@triton_op("nas_kernels::window_attention", mutates_args={})
def forward(
    q: Tensor, k: Tensor, v: Tensor, key_lengths: Tensor | None, window: int, causal: bool
) -> tuple[Tensor, Tensor]:
    """The output (B, H, T, V) and the base 2 logarithm of each query's sum, (B, H, T) in fp32."""
    batch, heads, queries, width = q.shape
    columns = v.shape[3]
    out = q.new_empty(batch, heads, queries, columns)
    lse = q.new_empty(batch, heads, queries, dtype=torch.float32)
    chosen = tuning.square(width, columns, q.dtype)
    launch(
        kernels.forward_kernel, (batch * heads * cdiv(queries, chosen.tokens),), chosen,
        q, k, v, or_nothing(key_lengths, q), out, lse, *q.stride(), *k.stride(), *v.stride(),
        heads, queries, k.shape[2], window, width, columns, _scale(width),
        **_flags(q, key_lengths, causal),
    )  # fmt: skip
    return out, lse


@triton_op("nas_kernels::window_attention_backward", mutates_args={})
def backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    key_lengths: Tensor | None,
    window: int,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v by that of the output, g (B, H, T, V)."""
    batch, heads, queries, width = q.shape
    keys, columns = v.shape[2:]
    delta = torch.empty_like(lse)
    chosen = tuning.square(width, columns, q.dtype)
    blocks = (batch * heads * cdiv(queries, chosen.tokens),)
    launch(kernels.delta_kernel, blocks, chosen, g, o, delta, *g.stride(), heads, queries, columns)
    dq = q.new_empty(q.shape)
    dk, dv = k.new_empty(k.shape), v.new_empty(v.shape)
    shared = (
        *g.stride(), *q.stride(), *k.stride(), *v.stride(),
        heads, queries, keys, window, width, columns, _scale(width),
    )  # fmt: skip
    lengths, flags = or_nothing(key_lengths, q), _flags(q, key_lengths, causal)
    launch(
        kernels.query_gradient_kernel, blocks, chosen,
        g, q, k, v, lengths, lse, delta, dq, *shared, **flags,
    )  # fmt: skip
    launch(
        kernels.key_gradient_kernel, (batch * heads * cdiv(keys, chosen.tokens),), chosen,
        g, q, k, v, lengths, lse, delta, dk, dv, *shared, **flags,
    )  # fmt: skip
    return dq, dk, dv


def _scale(width: int) -> float:
    # 2^(x log2(e)) is e^x.
    return math.log2(math.e) / math.sqrt(width)


def _flags(q: Tensor, lengths: Tensor | None, causal: bool) -> dict[str, Any]:
    return {
        "CAUSAL": causal,
        "LENGTHS": lengths is not None,
        "DOT": dot_dtype(q.dtype, of_sums=False),
    }


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, key_lengths, *options = inputs
    o, lse = output
    ctx.save_for_backward(q, k, v, o, lse, key_lengths)
    ctx.options = options
    ctx.mark_non_differentiable(lse)


def _differentiate(ctx: Any, g: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return (*backward(g, *ctx.saved_tensors, *ctx.options), None, None, None)


forward.register_autograd(_differentiate, setup_context=_keep)


@register_flops(torch.ops.nas_kernels.window_attention)
def _forward_flops(*shapes: Any, **_: Any) -> int:
    """2 MAC of scores and weighted sum over the keys that each query sees, none of them padding."""
    q, k, v, _, window, causal = shapes[:6]
    batch, heads, queries, width = q
    keys, columns = k[2], v[3]
    ahead = 0 if causal else window
    seen = sum(max(0, min(keys, i + ahead + 1) - max(0, i - window)) for i in range(queries))
    return 2 * int(batch * heads * seen * (width + columns))


@register_flops(torch.ops.nas_kernels.window_attention_backward)
def _backward_flops(*shapes: Any, **_: Any) -> int:
    """Each of the two products has two in the backward pass; computing scores again is not work."""
    q, k, v, _, _, lengths, window, causal = shapes[1:9]
    return 2 * _forward_flops(q, k, v, lengths, window, causal)
