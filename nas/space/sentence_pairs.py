"""How do sentence pairs stand in a batch? Token ids, padded at the end, with true lengths."""

from __future__ import annotations

from typing import Any, NamedTuple

# Fairseq's order, so that its binarised corpora are read as they are.
BOS, PAD, EOS, UNKNOWN = range(4)


class SentencePairs(NamedTuple):
    """A batch for a translation network, which scores the true target tokens alone.

    `source` (B, S) int64 are pieces and EOS, `target` (B, T) int64 decoder inputs: BOS and pieces;
    both padded behind their true lengths (B,) int64. `kept` (N,) int64 are the positions of the
    true target tokens in the flattened (B T), in order. All are tensors, of which this room knows
    nothing.
    """

    source: Any
    source_lengths: Any
    target: Any
    target_lengths: Any
    kept: Any
