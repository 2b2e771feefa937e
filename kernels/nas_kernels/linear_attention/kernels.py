"""Linear attention in Triton: three kernels make forward and backward, causal or not.

Tokens that *feed* build a state, tokens that *read* use it; forward, queries read what keys feed,
and backward also the other way round. A token of angle a (cosFormer) has the features
f(x) = [phi(x) cos a ; phi(x) sin a], without one f(x) = phi(x); features never leave the registers.

    state          S = sum_j f(x_j)^T c_j y_j,   z = sum_j e_j f(x_j)
    read_values    y_i = f(x_i) S,   and over max(f(x_i) . z, eps) where it is normalised
    read_features  df_i = S c_i y_i + e_i z,   dx_i = phi'(x_i) (df_i turned back by the angle)

c and e are 1, or given for each token (SCALED), of the feeders or of the readers. The state is
summed over segments of the feeders, one a program; who reads sums the segments that it may see: all
of them, or where it is causal those before its own (behind it, REVERSE), and walks its own chunk by
chunk with the state in registers.
Nothing is added in an order that depends on timing, so results repeat bit by bit.

Legend: B batch, H heads, N tokens, K key width, V value width, C chunk, G segments, W halves of
the features (2 with angles, else 1). state is (B H, G, W, K, V), total is (B H, G, W, K), in fp32.
"""

import triton
from triton import language as tl

from nas_kernels.linear_attention.chunk import (
    chunks_to_walk,
    clamped,
    feed,
    load_features,
    load_norm,
    load_scaled,
    load_scales,
    nearness,
    read,
    read_back,
    sees,
    sum_states,
    times_slope,
    tokens_of,
    turns,
)
from nas_kernels.loading import load_length, load_rows


@triton.jit
def state_kernel(
    x, y, scale, bias, norm, lengths, state, total,
    x_b, x_h, x_n, x_k, y_b, y_h, y_n, y_v,
    heads, tokens, segments, span, K, V,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr, LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """The state of one segment of feeders, one (BK, BV) tile of it; grid (B H, G, tiles)."""
    pair, segment, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    v_tiles = tl.cdiv(V, BV)
    k = (tile // v_tiles) * BK + tl.arange(0, BK)
    v = (tile % v_tiles) * BV + tl.arange(0, BV)
    x += batch * x_b + head * x_h
    y += batch * y_b + head * y_h
    m = load_norm(norm, batch, WEIGHTED)
    end = tl.minimum(load_length(lengths, batch, tokens, LENGTHS), (segment + 1) * span)
    S0, S1, z0, z1 = sum_states(state, total, pair, 0, 0, segments, k, v, K, V, WEIGHTED)
    for start in range(segment * span, end, C):
        n = start + tl.arange(0, C)
        valid = n < end
        phi = load_features(x, n, valid, x_n, k, K, x_k, MAP)
        c, e = load_scales(scale, bias, pair.to(tl.int64) * tokens, n, valid, SCALED)
        fed = load_scaled(y, n, valid, y_n, v, V, y_v, c, SCALED)
        cos, sin = turns(n, m, WEIGHTED)
        S0, S1, z0, z1 = feed(S0, S1, z0, z1, phi, fed, e, cos, sin, DOT, WEIGHTED, SCALED)
    W: tl.constexpr = 2 if WEIGHTED else 1
    at = (pair.to(tl.int64) * segments + segment) * W * K
    inside = (k < K)[:, None] & (v < V)[None, :]
    # Tiles beside each other along V find the same total; the first one writes it.
    first = k < tl.where(tile % v_tiles == 0, K, 0)
    tl.store(state + (at + k[:, None]) * V + v[None, :], S0, mask=inside)
    tl.store(total + at + k, z0, mask=first)
    if WEIGHTED:
        tl.store(state + (at + K + k[:, None]) * V + v[None, :], S1, mask=inside)
        tl.store(total + at + K + k, z1, mask=first)


@triton.jit
def _seen(
    state, total, pair, segment, segments, fx, fy, scale, bias, m, length, feeders,
    fx_n, fx_k, fy_n, fy_v, k, v, K, V,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr, CAUSAL: tl.constexpr,
    REVERSE: tl.constexpr, INLINE: tl.constexpr, DOT: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The state that the first token of a program's span reads."""
    lo, hi = 0, segments
    if CAUSAL:
        if REVERSE:
            lo = segment + 1
        else:
            hi = segment
    if INLINE:
        hi = lo
    S0, S1, z0, z1 = sum_states(state, total, pair, lo, hi, segments, k, v, K, V, WEIGHTED)
    if INLINE and not CAUSAL:
        # The short form: one program goes over all feeders itself, and no state is written.
        for start in range(0, length, C):
            n = start + tl.arange(0, C)
            valid = n < length
            phi = load_features(fx, n, valid, fx_n, k, K, fx_k, MAP)
            c, e = load_scales(scale, bias, pair.to(tl.int64) * feeders, n, valid, SCALED)
            fed = load_scaled(fy, n, valid, fy_n, v, V, fy_v, c, SCALED)
            cos, sin = turns(n, m, WEIGHTED)
            S0, S1, z0, z1 = feed(S0, S1, z0, z1, phi, fed, e, cos, sin, DOT, WEIGHTED, SCALED)
    return S0, S1, z0, z1


@triton.jit
def read_values_kernel(
    x, fx, fy, scale, bias, norm, read_lengths, feed_lengths, state, total, out, normaliser,
    x_b, x_h, x_n, x_k, fx_b, fx_h, fx_n, fx_k, fy_b, fy_h, fy_n, fy_v,
    heads, readers, feeders, segments, span, K, V, eps,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr, NORMALISED: tl.constexpr,
    CAUSAL: tl.constexpr, REVERSE: tl.constexpr, INLINE: tl.constexpr,
    READ_LENGTHS: tl.constexpr, FEED_LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Values of one span of readers x (N, K), a BV wide tile of them; grid (B H, spans, tiles).

    out is (B, H, N, V) and normaliser (B, H, N), both contiguous. BK holds all of K.
    """
    pair, segment, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    k, v = tl.arange(0, BK), tile * BV + tl.arange(0, BV)
    x += batch * x_b + head * x_h
    fx += batch * fx_b + head * fx_h
    fy += batch * fy_b + head * fy_h
    m = load_norm(norm, batch, WEIGHTED)
    read_length = load_length(read_lengths, batch, readers, READ_LENGTHS)
    feed_length = load_length(feed_lengths, batch, feeders, FEED_LENGTHS)
    S0, S1, z0, z1 = _seen(
        state, total, pair, segment, segments, fx, fy, scale, bias, m, feed_length, feeders,
        fx_n, fx_k, fy_n, fy_v, k, v, K, V,
        MAP, WEIGHTED, SCALED, CAUSAL, REVERSE, INLINE, DOT, C,
    )  # fmt: skip
    first = segment * span
    chunks = chunks_to_walk(readers, feeders, first, span, C, REVERSE)
    for chunk in range(0, chunks):
        n = tokens_of(chunk, chunks, first, C, REVERSE)
        valid = n < read_length
        cos, sin = turns(n, m, WEIGHTED)
        phi = load_features(x, n, valid, x_n, k, K, x_k, MAP)
        y, d = read(phi, S0, S1, z0, z1, cos, sin, DOT, WEIGHTED)
        if CAUSAL:
            fed = n < feed_length
            keys = load_features(fx, n, fed, fx_n, k, K, fx_k, MAP)
            c, e = load_scales(scale, bias, pair.to(tl.int64) * feeders, n, fed, SCALED)
            values = load_scaled(fy, n, fed, fy_n, v, V, fy_v, c, SCALED)
            scores = tl.dot(phi.to(DOT), tl.trans(keys).to(DOT))
            if WEIGHTED:
                scores *= nearness(cos, sin)
            scores = tl.where(sees(n, REVERSE), scores, 0.0)
            y = tl.dot(scores.to(DOT), values.to(DOT), y)
            if NORMALISED:
                d += tl.sum(scores, 1)
            S0, S1, z0, z1 = feed(S0, S1, z0, z1, keys, values, e, cos, sin, DOT, WEIGHTED, SCALED)
        row = pair.to(tl.int64) * readers + n
        if NORMALISED:
            y /= clamped(d, eps)[:, None]
            tl.store(normaliser + row, d, mask=n < tl.where(tile == 0, readers, 0))
        at = out + row[:, None] * V + v[None, :]
        tl.store(at, y.to(out.dtype.element_ty), mask=(n < readers)[:, None] & (v < V)[None, :])


@triton.jit
def read_features_kernel(
    x, y, fx, fy, scale, bias, norm, read_lengths, feed_lengths, state, total, out,
    x_b, x_h, x_n, x_k, y_b, y_h, y_n, y_v,
    fx_b, fx_h, fx_n, fx_k, fy_b, fy_h, fy_n, fy_v,
    heads, readers, feeders, segments, span, K, V,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, READ_SCALED: tl.constexpr, SCALED: tl.constexpr,
    CAUSAL: tl.constexpr, REVERSE: tl.constexpr, INLINE: tl.constexpr,
    READ_LENGTHS: tl.constexpr, FEED_LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Gradients of one span of x (N, K) by what its values y (N, V) read; a BK wide tile of them.

    Grid (B H, spans, tiles); out is (B, H, N, K), contiguous. BV holds all of V. scale and bias are
    those of the readers (READ_SCALED) or of the feeders (SCALED).
    """
    pair, segment, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    k, v = tile * BK + tl.arange(0, BK), tl.arange(0, BV)
    x += batch * x_b + head * x_h
    y += batch * y_b + head * y_h
    fx += batch * fx_b + head * fx_h
    fy += batch * fy_b + head * fy_h
    m = load_norm(norm, batch, WEIGHTED)
    read_length = load_length(read_lengths, batch, readers, READ_LENGTHS)
    feed_length = load_length(feed_lengths, batch, feeders, FEED_LENGTHS)
    S0, S1, z0, z1 = _seen(
        state, total, pair, segment, segments, fx, fy, scale, bias, m, feed_length, feeders,
        fx_n, fx_k, fy_n, fy_v, k, v, K, V,
        MAP, WEIGHTED, SCALED, CAUSAL, REVERSE, INLINE, DOT, C,
    )  # fmt: skip
    first = segment * span
    chunks = chunks_to_walk(readers, feeders, first, span, C, REVERSE)
    for chunk in range(0, chunks):
        n = tokens_of(chunk, chunks, first, C, REVERSE)
        valid = n < read_length
        cos, sin = turns(n, m, WEIGHTED)
        c, e = load_scales(scale, bias, pair.to(tl.int64) * readers, n, valid, READ_SCALED)
        values = load_scaled(y, n, valid, y_n, v, V, y_v, c, READ_SCALED).to(DOT)
        d = read_back(values, e, S0, S1, z0, z1, cos, sin, DOT, WEIGHTED, READ_SCALED)
        if CAUSAL:
            fed = n < feed_length
            keys = load_features(fx, n, fed, fx_n, k, K, fx_k, MAP)
            feed_c, feed_e = load_scales(scale, bias, pair.to(tl.int64) * feeders, n, fed, SCALED)
            feed_values = load_scaled(fy, n, fed, fy_n, v, V, fy_v, feed_c, SCALED)
            scores = tl.dot(values, tl.trans(feed_values).to(DOT))
            # Either the readers or the feeders have an e of their own.
            scores += feed_e[None, :] if SCALED else e[:, None]
            if WEIGHTED:
                scores *= nearness(cos, sin)
            scores = tl.where(sees(n, REVERSE), scores, 0.0)
            d = tl.dot(scores.to(DOT), keys.to(DOT), d)
            S0, S1, z0, z1 = feed(
                S0, S1, z0, z1, keys, feed_values, feed_e, cos, sin, DOT, WEIGHTED, SCALED
            )
        d = times_slope(d, load_rows(x, n, valid, x_n, k, K, x_k).to(tl.float32), MAP)
        # elu1's slope at what is not there is 1, and its gradient must be 0.
        d = tl.where(valid[:, None], d, 0.0)
        at = out + (pair.to(tl.int64) * readers + n)[:, None] * K + k[None, :]
        tl.store(at, d.to(out.dtype.element_ty), mask=(n < readers)[:, None] & (k < K)[None, :])


@triton.jit
def row_scales_kernel(
    g, o, normaliser, scale, bias, g_b, g_h, g_n, g_v, heads, readers, V, eps,
    C: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """c = 1 / max(d, eps) and e = -(g . o) c of each query, e = 0 below eps; grid (B H chunks,).

    With o = n / max(d, eps): dn = c g, and dd = e, which the clamp lets through from eps on.
    """
    chunks = tl.cdiv(readers, C)
    pair, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    n, v = chunk * C + tl.arange(0, C), tl.arange(0, BV)
    valid = n < readers
    row = pair.to(tl.int64) * readers
    given = load_rows(g + batch * g_b + head * g_h, n, valid, g_n, v, V, g_v).to(tl.float32)
    found = load_rows(o + row * V, n, valid, V, v, V, 1).to(tl.float32)
    d = tl.load(normaliser + row + n, mask=valid, other=1.0)
    c = 1 / clamped(d, eps)
    e = tl.where(d < eps, 0.0, -tl.sum(given * found, 1) * c)
    tl.store(scale + row + n, c, mask=valid)
    tl.store(bias + row + n, e, mask=valid)
