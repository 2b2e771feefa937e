"""How is linear attention done on a GPU? By the kernels of kernels.py, as operators of torch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op
from triton import cdiv

from nas_kernels import tuning
from nas_kernels.counting import register_flops
from nas_kernels.launching import dot_dtype, launch, or_nothing
from nas_kernels.linear_attention import kernels


@dataclass(frozen=True)
class Side:
    """Tokens on one side: what features are made of, x (B, H, N, K), and values y (B, H, N, V)."""

    x: Tensor
    y: Tensor
    lengths: Tensor | None

    @property
    def tokens(self) -> int:
        return self.x.shape[2]


@dataclass(frozen=True)
class Call:
    """What all launches of one call share."""

    norm: Tensor | None
    feature_map: str
    causal: bool
    segments: int
    span: int

    def flags(self, dtype: torch.dtype) -> dict[str, Any]:
        weighted = self.norm is not None
        return {
            "MAP": self.feature_map,
            "WEIGHTED": weighted,
            "DOT": dot_dtype(dtype, of_sums=True),
        }

    @property
    def inline(self) -> bool:
        """Does one program go over all of a sequence?"""
        return self.segments == 1


@dataclass(frozen=True)
class Scales:
    """c and e of each token, (B, H, N) in fp32."""

    scale: Tensor
    bias: Tensor


@dataclass(frozen=True)
class State:
    """What the segments of the feeders sum to: sums (B H, G, W, K, V), totals (B H, G, W, K)."""

    sums: Tensor
    totals: Tensor


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    norm: Tensor | None,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    feature_map: str,
    causal: bool,
    eps: float,
) -> Tensor:
    """As operator.py says; norm (B,) in fp32 and lengths (B,) in int32 lie where the tokens are."""
    out: Tensor = forward(q, k, v, norm, query_lengths, key_lengths, feature_map, causal, eps)[0]
    return out


@triton_op("nas_kernels::linear_attention", mutates_args={})
def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    norm: Tensor | None,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    feature_map: str,
    causal: bool,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """The output (B, H, T, V) and its normaliser before the clamp, (B, H, T) in fp32.

    norm is M of each row, (B,) in fp32, or None without re-weighting; lengths are (B,) integers.
    """
    call = _call(q, k, norm, feature_map, causal)
    queries, keys = Side(q, q, query_lengths), Side(k, v, key_lengths)
    normaliser = q.new_empty(q.shape[:3], dtype=torch.float32)
    out = _read_values(call, queries, keys, _state(call, keys, None), None, normaliser, eps)
    return out, normaliser


@triton_op("nas_kernels::linear_attention_backward", mutates_args={})
def backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    normaliser: Tensor,
    norm: Tensor | None,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    feature_map: str,
    causal: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v by that of the output, g (B, H, T, V)."""
    call = _call(q, k, norm, feature_map, causal)
    queries, keys = Side(q, g, query_lengths), Side(k, v, key_lengths)
    scales = _row_scales(g, o, normaliser, eps)
    dq = _read_features(call, queries, keys, _state(call, keys, None), scales, None)
    # The queries feed now: a key reads from those that saw it.
    fed = _state(call, queries, scales)
    dk = _read_features(call, keys, queries, fed, None, scales)
    dv = _read_values(call, keys, queries, fed, scales, None, eps)
    return dq, dk, dv


def _call(q: Tensor, k: Tensor, norm: Tensor | None, feature_map: str, causal: bool) -> Call:
    rows, longest = q.shape[0] * q.shape[1], max(q.shape[2], k.shape[2])
    segments, span = tuning.spans(rows, longest, q.device)
    return Call(norm, feature_map, causal, segments, span)


def _state(call: Call, feed: Side, scales: Scales | None) -> State:
    x, y = feed.x, feed.y
    batch, heads, tokens, width = x.shape
    columns = y.shape[3]
    if call.inline:
        nothing = or_nothing(None, x)
        return State(nothing, nothing)
    halves = 1 if call.norm is None else 2
    rows, shape = batch * heads, (batch * heads, call.segments, halves, width)
    sums = x.new_empty(*shape, columns, dtype=torch.float32)
    totals = x.new_empty(shape, dtype=torch.float32)
    chosen = tuning.tiles(width, columns, whole="neither", causal=False, operands=x.dtype)
    grid = (rows, call.segments, cdiv(width, chosen.keys) * cdiv(columns, chosen.values))
    launch(
        kernels.state_kernel, grid, chosen,
        x, y, *_scales(scales, x), or_nothing(call.norm, x), or_nothing(feed.lengths, x),
        sums, totals, *x.stride(), *y.stride(),
        heads, tokens, call.segments, call.span, width, columns,
        **call.flags(x.dtype), SCALED=scales is not None, LENGTHS=feed.lengths is not None,
    )  # fmt: skip
    return State(sums, totals)


def _read_values(
    call: Call,
    read: Side,
    feed: Side,
    state: State,
    fed: Scales | None,
    normaliser: Tensor | None,
    eps: float,
) -> Tensor:
    """The readers' values (B, H, N, V); keys, whose feeders have scales, look back."""
    x = read.x
    batch, heads, readers, width = x.shape
    columns = feed.y.shape[3]
    out = x.new_empty(batch, heads, readers, columns)
    chosen = tuning.tiles(width, columns, whole="keys", causal=call.causal, operands=x.dtype)
    grid = (batch * heads, cdiv(readers, call.span), cdiv(columns, chosen.values))
    launch(
        kernels.read_values_kernel, grid, chosen,
        x, feed.x, feed.y, *_scales(fed, x), or_nothing(call.norm, x),
        or_nothing(read.lengths, x), or_nothing(feed.lengths, x), state.sums, state.totals,
        out, or_nothing(normaliser, x),
        *x.stride(), *feed.x.stride(), *feed.y.stride(),
        heads, readers, feed.tokens, call.segments, call.span, width, columns, eps,
        **call.flags(x.dtype), SCALED=fed is not None, NORMALISED=normaliser is not None,
        CAUSAL=call.causal, REVERSE=fed is not None, INLINE=call.inline,
        READ_LENGTHS=read.lengths is not None, FEED_LENGTHS=feed.lengths is not None,
    )  # fmt: skip
    return out


def _read_features(
    call: Call,
    read: Side,
    feed: Side,
    state: State,
    read_scales: Scales | None,
    fed: Scales | None,
) -> Tensor:
    """The gradients of the readers' x (B, H, N, K); keys, whose feeders have scales, look back."""
    x, y = read.x, read.y
    batch, heads, readers, width = x.shape
    columns = y.shape[3]
    out = x.new_empty(x.shape)
    chosen = tuning.tiles(width, columns, whole="values", causal=call.causal, operands=x.dtype)
    grid = (batch * heads, cdiv(readers, call.span), cdiv(width, chosen.keys))
    launch(
        kernels.read_features_kernel, grid, chosen,
        x, y, feed.x, feed.y, *_scales(read_scales or fed, x), or_nothing(call.norm, x),
        or_nothing(read.lengths, x), or_nothing(feed.lengths, x), state.sums, state.totals, out,
        *x.stride(), *y.stride(), *feed.x.stride(), *feed.y.stride(),
        heads, readers, feed.tokens, call.segments, call.span, width, columns,
        **call.flags(x.dtype), READ_SCALED=read_scales is not None, SCALED=fed is not None,
        CAUSAL=call.causal, REVERSE=fed is not None, INLINE=call.inline,
        READ_LENGTHS=read.lengths is not None, FEED_LENGTHS=feed.lengths is not None,
    )  # fmt: skip
    return out


def _row_scales(g: Tensor, o: Tensor, normaliser: Tensor, eps: float) -> Scales:
    batch, heads, readers, columns = o.shape
    scales = Scales(torch.empty_like(normaliser), torch.empty_like(normaliser))
    chosen = tuning.tiles(16, columns, whole="values", causal=False, operands=g.dtype)
    launch(
        kernels.row_scales_kernel, (batch * heads * cdiv(readers, chosen.tokens),), chosen,
        g, o, normaliser, scales.scale, scales.bias, *g.stride(), heads, readers, columns, eps,
    )  # fmt: skip
    return scales


def _scales(scales: Scales | None, x: Tensor) -> tuple[Tensor, Tensor]:
    nothing = or_nothing(None, x)
    return (nothing, nothing) if scales is None else (scales.scale, scales.bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, norm, query_lengths, key_lengths, *options = inputs
    o, normaliser = output
    ctx.save_for_backward(q, k, v, o, normaliser, norm, query_lengths, key_lengths)
    ctx.options = options
    ctx.mark_non_differentiable(normaliser)


def _differentiate(ctx: Any, g: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, o, normaliser, norm, query_lengths, key_lengths = ctx.saved_tensors
    dq, dk, dv = backward(g, q, k, v, o, normaliser, norm, query_lengths, key_lengths, *ctx.options)
    return (dq, dk, dv, *[None] * 6)


forward.register_autograd(_differentiate, setup_context=_keep)


@register_flops(torch.ops.nas_kernels.linear_attention)
def _forward_flops(q: Any, k: Any, v: Any, norm: Any, *_: Any, **__: Any) -> int:
    """2 MAC: keys build the state, queries read it and its normaliser, as the torch form does."""
    batch, heads, queries, width = q
    keys, columns = k[2], v[3]
    features = width if norm is None else 2 * width
    return int(2 * batch * heads * features * (keys * columns + queries * (columns + 1)))


@register_flops(torch.ops.nas_kernels.linear_attention_backward)
def _backward_flops(*shapes: Any, **_: Any) -> int:
    """Each product of the forward pass has two in the backward pass."""
    q, k, v, _, _, norm = shapes[1:7]
    return 2 * _forward_flops(q, k, v, norm)
