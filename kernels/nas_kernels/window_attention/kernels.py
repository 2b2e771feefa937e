"""Window attention in Triton: blocks of queries meet the blocks of keys near them, and no others.

The forward pass is the online softmax of FlashAttention (Dao et al. 2022, arXiv:2205.14135) over
the blocks that a window touches; the backward pass computes the weights again from the saved
logarithm of their sum. Every output is written by one program, so results repeat bit by bit.

Legend: B batch, H heads, T queries, S keys, K key width, V value width, C queries or keys a block.
Sums and lse are in base 2: 2^x is what the hardware has.
"""

import triton
from triton import language as tl

from nas_kernels.loading import load_length, load_rows


@triton.jit
def _place(tokens, C: tl.constexpr):
    """Which head of which row, and which block of its tokens."""
    # In one dimension: the others end at 65,535.
    blocks = tl.cdiv(tokens, C)
    return tl.program_id(0) // blocks, tl.program_id(0) % blocks


@triton.jit
def _seen(i, j, queries, keys, window, CAUSAL: tl.constexpr):
    """(C, C): does query i see key j?"""
    behind = (i[:, None] - j[None, :] <= window) & (i < queries)[:, None] & (j < keys)[None, :]
    if CAUSAL:
        return behind & (j[None, :] <= i[:, None])
    return behind & (j[None, :] - i[:, None] <= window)


@triton.jit
def forward_kernel(
    q, k, v, lengths, out, lse,
    q_b, q_h, q_n, q_k, k_b, k_h, k_n, k_k, v_b, v_h, v_n, v_v,
    heads, queries, keys, window, K, V, scale,
    CAUSAL: tl.constexpr, LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """One block of queries; grid (B H T / C,). out (B, H, T, V), lse (B, H, T) are contiguous."""
    pair, block = _place(queries, C)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    columns_k, columns_v = tl.arange(0, BK), tl.arange(0, BV)
    q += batch * q_b + head * q_h
    k += batch * k_b + head * k_h
    v += batch * v_b + head * v_h
    end = load_length(lengths, batch, keys, LENGTHS)
    i = block * C + tl.arange(0, C)
    query = load_rows(q, i, i < queries, q_n, columns_k, K, q_k).to(DOT)
    highest = tl.full((C,), float("-inf"), tl.float32)
    total = tl.zeros((C,), tl.float32)
    found = tl.zeros((C, BV), tl.float32)
    lo = tl.maximum(block * C - window, 0) // C * C
    hi = block * C + C
    if not CAUSAL:
        hi += window
    for start in range(lo, tl.minimum(hi, end), C):
        j = start + tl.arange(0, C)
        key = load_rows(k, j, j < end, k_n, columns_k, K, k_k).to(DOT)
        scores = tl.dot(query, tl.trans(key)) * scale
        seen = _seen(i, j, queries, end, window, CAUSAL)
        scores = tl.where(seen, scores, float("-inf"))
        peak = tl.maximum(highest, tl.max(scores, 1))
        # A query that has seen no key yet has no peak to measure from.
        base = tl.where(peak == float("-inf"), 0.0, peak)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(highest - base)
        total = total * shrink + tl.sum(weights, 1)
        value = load_rows(v, j, j < end, v_n, columns_v, V, v_v).to(DOT)
        found = tl.dot(weights.to(DOT), value, found * shrink[:, None])
        highest = peak
    row = pair.to(tl.int64) * queries + i
    total = tl.where(total == 0, 1.0, total)
    found /= total[:, None]
    tl.store(lse + row, highest + tl.log2(total), mask=i < queries)
    at = out + row[:, None] * V + columns_v[None, :]
    inside = (i < queries)[:, None] & (columns_v < V)[None, :]
    tl.store(at, found.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _score_gradients(
    query, key, value, given, lse, delta, seen, scale, LOG2: tl.constexpr, DOT: tl.constexpr
):
    """The weights p (queries, keys) and the gradients of the scores, both in DOT."""
    scores = tl.dot(query, tl.trans(key)) * scale
    weights = tl.exp2(tl.where(seen, scores - lse[:, None], float("-inf")))
    d = weights * (tl.dot(given, tl.trans(value)) - delta[:, None])
    # scale holds log2(e), which the scores' gradients do not.
    return weights.to(DOT), (d * (scale * LOG2)).to(DOT)


LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def query_gradient_kernel(
    g, q, k, v, lengths, lse, delta, dq,
    g_b, g_h, g_n, g_v, q_b, q_h, q_n, q_k, k_b, k_h, k_n, k_k, v_b, v_h, v_n, v_v,
    heads, queries, keys, window, K, V, scale,
    CAUSAL: tl.constexpr, LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """dq of one block of queries; grid (B H T / C,). dq (B, H, T, K) is contiguous."""
    pair, block = _place(queries, C)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    columns_k, columns_v = tl.arange(0, BK), tl.arange(0, BV)
    g += batch * g_b + head * g_h
    q += batch * q_b + head * q_h
    k += batch * k_b + head * k_h
    v += batch * v_b + head * v_h
    end = load_length(lengths, batch, keys, LENGTHS)
    i = block * C + tl.arange(0, C)
    row = pair.to(tl.int64) * queries + i
    query = load_rows(q, i, i < queries, q_n, columns_k, K, q_k).to(DOT)
    given = load_rows(g, i, i < queries, g_n, columns_v, V, g_v).to(DOT)
    own_lse = tl.load(lse + row, mask=i < queries, other=0.0)
    own_delta = tl.load(delta + row, mask=i < queries, other=0.0)
    found = tl.zeros((C, BK), tl.float32)
    lo = tl.maximum(block * C - window, 0) // C * C
    hi = block * C + C
    if not CAUSAL:
        hi += window
    for start in range(lo, tl.minimum(hi, end), C):
        j = start + tl.arange(0, C)
        key = load_rows(k, j, j < end, k_n, columns_k, K, k_k).to(DOT)
        value = load_rows(v, j, j < end, v_n, columns_v, V, v_v).to(DOT)
        seen = _seen(i, j, queries, end, window, CAUSAL)
        _, d = _score_gradients(query, key, value, given, own_lse, own_delta, seen, scale, LN2, DOT)
        found = tl.dot(d, key, found)
    at = dq + row[:, None] * K + columns_k[None, :]
    inside = (i < queries)[:, None] & (columns_k < K)[None, :]
    tl.store(at, found.to(dq.dtype.element_ty), mask=inside)


@triton.jit
def key_gradient_kernel(
    g, q, k, v, lengths, lse, delta, dk, dv,
    g_b, g_h, g_n, g_v, q_b, q_h, q_n, q_k, k_b, k_h, k_n, k_k, v_b, v_h, v_n, v_v,
    heads, queries, keys, window, K, V, scale,
    CAUSAL: tl.constexpr, LENGTHS: tl.constexpr,
    DOT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """dk and dv of one block of keys; grid (B H S / C,). dk and dv are contiguous."""
    pair, block = _place(keys, C)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    columns_k, columns_v = tl.arange(0, BK), tl.arange(0, BV)
    g += batch * g_b + head * g_h
    q += batch * q_b + head * q_h
    k += batch * k_b + head * k_h
    v += batch * v_b + head * v_h
    end = load_length(lengths, batch, keys, LENGTHS)
    j = block * C + tl.arange(0, C)
    key = load_rows(k, j, j < end, k_n, columns_k, K, k_k).to(DOT)
    value = load_rows(v, j, j < end, v_n, columns_v, V, v_v).to(DOT)
    key_found = tl.zeros((C, BK), tl.float32)
    value_found = tl.zeros((C, BV), tl.float32)
    lo = block * C
    if not CAUSAL:
        lo = tl.maximum(block * C - window, 0) // C * C
    for start in range(lo, tl.minimum(block * C + C + window, queries), C):
        i = start + tl.arange(0, C)
        row = pair.to(tl.int64) * queries + i
        query = load_rows(q, i, i < queries, q_n, columns_k, K, q_k).to(DOT)
        given = load_rows(g, i, i < queries, g_n, columns_v, V, g_v).to(DOT)
        own_lse = tl.load(lse + row, mask=i < queries, other=0.0)
        own_delta = tl.load(delta + row, mask=i < queries, other=0.0)
        seen = _seen(i, j, queries, end, window, CAUSAL)
        weights, d = _score_gradients(
            query, key, value, given, own_lse, own_delta, seen, scale, LN2, DOT
        )
        value_found = tl.dot(tl.trans(weights), given, value_found)
        key_found = tl.dot(tl.trans(d), query, key_found)
    row = pair.to(tl.int64) * keys + j
    at = dk + row[:, None] * K + columns_k[None, :]
    inside = (j < keys)[:, None] & (columns_k < K)[None, :]
    tl.store(at, key_found.to(dk.dtype.element_ty), mask=inside)
    at = dv + row[:, None] * V + columns_v[None, :]
    inside = (j < keys)[:, None] & (columns_v < V)[None, :]
    tl.store(at, value_found.to(dv.dtype.element_ty), mask=inside)


@triton.jit
def delta_kernel(
    g, o, delta, g_b, g_h, g_n, g_v, heads, queries, V, C: tl.constexpr, BV: tl.constexpr
):
    """g . o of each query; grid (B H T / C,). o (B, H, T, V) and delta (B, H, T) are contiguous."""
    pair, block = _place(queries, C)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    i, columns = block * C + tl.arange(0, C), tl.arange(0, BV)
    row = pair.to(tl.int64) * queries
    valid = i < queries
    given = load_rows(g + batch * g_b + head * g_h, i, valid, g_n, columns, V, g_v).to(tl.float32)
    found = load_rows(o + row * V, i, valid, V, columns, V, 1).to(tl.float32)
    tl.store(delta + row + i, tl.sum(given * found, 1), mask=i < queries)
