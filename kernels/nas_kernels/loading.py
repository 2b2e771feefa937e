"""How does a Triton program read its tokens? Masked: what lies in padding may be anything."""

import triton
from triton import language as tl


@triton.jit
def load_rows(base, n, valid, n_stride, columns, width, column_stride):
    """(C, columns) of the tokens n, zero where one is not valid or a column is beyond the width."""
    # Offsets within a head may be beyond 32 bits where another dimension lies inside.
    at = base + n[:, None].to(tl.int64) * n_stride + columns[None, :].to(tl.int64) * column_stride
    return tl.load(at, mask=valid[:, None] & (columns < width)[None, :], other=0.0)


@triton.jit
def load_length(lengths, batch, tokens, GIVEN: tl.constexpr):
    """A row's true length, at most the tokens there are: on a device nobody could check it."""
    found = tokens
    if GIVEN:
        found = tl.minimum(tl.load(lengths + batch).to(tl.int32), tokens)
    return found
