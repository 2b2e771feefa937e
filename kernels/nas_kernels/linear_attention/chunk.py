"""What does a Triton program do with one chunk of tokens, in registers? The steps of kernels.py.

Legend: C chunk, K key width, V value width; phi (C, K) are features before they are turned by the
angle, S0 and S1 (K, V) the halves of a state, z0 and z1 (K,) those of its total (S1 and z1 unused
without angles).
"""

import triton
from triton import language as tl

from nas_kernels.loading import load_rows

HALF_PI = tl.constexpr(1.5707963267948966)


@triton.jit
def mapped(x, MAP: tl.constexpr):
    """phi(x)."""
    # The hardware's maximum drops NaN, and a diverged network must be seen to be one.
    if MAP == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif MAP == "elu1":
        x = tl.where(x > 0, x + 1, tl.exp(tl.where(x > 0, 0.0, x)))
    return x


@triton.jit
def times_slope(d, x, MAP: tl.constexpr):
    """d phi'(x)."""
    if MAP == "relu":
        d = tl.where(x <= 0, 0.0, d)
    elif MAP == "elu1":
        d = d * tl.exp(tl.where(x > 0, 0.0, x))
    return d


@triton.jit
def load_features(base, n, valid, n_stride, columns, width, column_stride, MAP: tl.constexpr):
    """phi (C, columns) in fp32, zero where a token is not valid."""
    x = load_rows(base, n, valid, n_stride, columns, width, column_stride).to(tl.float32)
    # phi(0) need not be 0, and what is not there has no features.
    return tl.where(valid[:, None] & (columns < width)[None, :], mapped(x, MAP), 0.0)


@triton.jit
def load_scaled(
    base, n, valid, n_stride, columns, width, column_stride, scale, SCALED: tl.constexpr
):
    """Values (C, columns) in fp32, each token's times its scale."""
    y = load_rows(base, n, valid, n_stride, columns, width, column_stride).to(tl.float32)
    return scaled(y, scale, SCALED)


@triton.jit
def sine(a):
    """sin a for a in 0 to pi/2: Taylor's series to a^13, within 2e-7."""
    # The library's sine is ready for any angle, and takes registers and local memory for it.
    s = a * a
    series = 1 - s * (1 / 110) * (1 - s * (1 / 156))
    series = 1 - s * (1 / 42) * (1 - s * (1 / 72) * series)
    return a * (1 - s * (1 / 6) * (1 - s * (1 / 20) * series))


@triton.jit
def turns(n, m, WEIGHTED: tl.constexpr):
    """cos a and sin a of each token."""
    cos, sin = 1.0, 0.0
    if WEIGHTED:
        # Who stands beyond M is padding, or M was not to be seen: no weight turns negative.
        at = tl.minimum(n.to(tl.float32), m)
        # From the nearer end, where a cosine is small: rounding an angle near pi/2 would tell.
        cos, sin = sine((m - at) * (HALF_PI / m)), sine(at * (HALF_PI / m))
    return cos, sin


@triton.jit
def nearness(cos, sin):
    """(C, C): cos(a_i - a_j) of a chunk's own tokens. Both terms are positive: nothing cancels."""
    return cos[:, None] * cos[None, :] + sin[:, None] * sin[None, :]


@triton.jit
def load_scales(scale, bias, row, n, valid, SCALED: tl.constexpr):
    """c and e of each token, zero where it is not valid; 1 where none are given."""
    c, e = 1.0, 1.0
    if SCALED:
        c = tl.load(scale + row + n, mask=valid, other=0.0)
        e = tl.load(bias + row + n, mask=valid, other=0.0)
    return c, e


@triton.jit
def scaled(x, c, SCALED: tl.constexpr):
    """Each token's row times its scale, (C, columns)."""
    if SCALED:
        x *= c[:, None]
    return x


@triton.jit
def load_norm(norm, batch, WEIGHTED: tl.constexpr):
    m = 1.0
    if WEIGHTED:
        m = tl.load(norm + batch)
    return m


@triton.jit
def feed(
    S0, S1, z0, z1, phi, y, e, cos, sin,
    DOT: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """The state and its total with a chunk of feeders more."""
    y = y.to(DOT)
    if WEIGHTED:
        with_cos, with_sin = phi * cos[:, None], phi * sin[:, None]
        S0 = tl.dot(tl.trans(with_cos).to(DOT), y, S0)
        S1 = tl.dot(tl.trans(with_sin).to(DOT), y, S1)
        z0 += tl.sum(scaled(with_cos, e, SCALED), 0)
        z1 += tl.sum(scaled(with_sin, e, SCALED), 0)
    else:
        S0 = tl.dot(tl.trans(phi).to(DOT), y, S0)
        z0 += tl.sum(scaled(phi, e, SCALED), 0)
    return S0, S1, z0, z1


@triton.jit
def read(phi, S0, S1, z0, z1, cos, sin, DOT: tl.constexpr, WEIGHTED: tl.constexpr):
    """f(x) S (C, V) and f(x) . z (C,)."""
    if WEIGHTED:
        with_cos, with_sin = phi * cos[:, None], phi * sin[:, None]
        y = tl.dot(with_cos.to(DOT), S0.to(DOT))
        y = tl.dot(with_sin.to(DOT), S1.to(DOT), y)
        d = tl.sum(with_cos * z0[None, :] + with_sin * z1[None, :], 1)
    else:
        y = tl.dot(phi.to(DOT), S0.to(DOT))
        d = tl.sum(phi * z0[None, :], 1)
    return y, d


@triton.jit
def read_back(
    values, e, S0, S1, z0, z1, cos, sin,
    DOT: tl.constexpr, WEIGHTED: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """S y + e z (C, K), both halves turned back by the angle."""
    d = tl.dot(values, tl.trans(S0).to(DOT)) + scaled(z0[None, :], e, SCALED)
    if WEIGHTED:
        turned = tl.dot(values, tl.trans(S1).to(DOT)) + scaled(z1[None, :], e, SCALED)
        d = d * cos[:, None] + turned * sin[:, None]
    return d


@triton.jit
def sum_states(state, total, pair, lo, hi, segments, k, v, K, V, WEIGHTED: tl.constexpr):
    """The sum of the segments' states from lo to hi, (k, v) of each half, and of their totals."""
    W: tl.constexpr = 2 if WEIGHTED else 1
    inside = (k < K)[:, None] & (v < V)[None, :]
    S0 = tl.zeros((k.shape[0], v.shape[0]), tl.float32)
    S1 = S0
    z0 = tl.zeros((k.shape[0],), tl.float32)
    z1 = z0
    for segment in range(lo, hi):
        at = (pair.to(tl.int64) * segments + segment) * W * K
        S0 += tl.load(state + (at + k[:, None]) * V + v[None, :], mask=inside, other=0.0)
        z0 += tl.load(total + at + k, mask=k < K, other=0.0)
        if WEIGHTED:
            S1 += tl.load(state + (at + K + k[:, None]) * V + v[None, :], mask=inside, other=0.0)
            z1 += tl.load(total + at + K + k, mask=k < K, other=0.0)
    return S0, S1, z0, z1


@triton.jit
def clamped(d, eps):
    """max(d, eps), NaN where d is."""
    return tl.where(d < eps, eps, d)


@triton.jit
def chunks_to_walk(readers, feeders, first, span, C: tl.constexpr, REVERSE: tl.constexpr):
    """How many chunks a program goes over from its first token on."""
    tokens = readers
    if REVERSE:
        # Who looks back from behind the last reader feeds it too.
        tokens = tl.maximum(readers, feeders)
    return tl.cdiv(tl.minimum(tokens - first, span), C)


@triton.jit
def tokens_of(chunk, chunks, first, C: tl.constexpr, REVERSE: tl.constexpr):
    """(C,): the tokens of the chunk that comes next, from the last one on where it is REVERSE."""
    place = chunk
    if REVERSE:
        place = chunks - 1 - chunk
    return first + place * C + tl.arange(0, C)


@triton.jit
def sees(n, REVERSE: tl.constexpr):
    """(C, C): may a reader (row) see a feeder (column) of its own chunk?"""
    seen = n[None, :] <= n[:, None]
    if REVERSE:
        seen = n[None, :] >= n[:, None]
    return seen
