"""Which sentence pairs make a batch? As many as the tokens allow, of like lengths, mixed anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from nas.task.splits import batch_positions, keyed_seed

Ints = NDArray[Any]

# Batches a bucket: their pairs change places at every epoch. More of them mix better and pad more;
# of batches of 2,000 tokens of WMT14 or Multi30k 5 to 6% are padding.
FEWEST, MOST = 2, 4
# How much shorter the longer side may be within a bucket of more than the fewest.
SPREAD = 0.03


@dataclass(frozen=True, eq=False)
class LengthBuckets:
    """Pairs in batches of at most `batch_tokens` tokens a side, padding included.

    Which pairs share a bucket is fixed, and so are the number of batches an epoch and their sizes:
    any step is found without looking at those before it. At each epoch the pairs of a bucket are
    dealt to its batches anew, and the batches are put in another order. A pair that is longer
    than `batch_tokens` is a batch of its own.
    """

    members: NDArray[numpy.int64]
    """(N,) positions of pairs, bucket by bucket."""
    starts: NDArray[numpy.int64]
    """(K + 1,) where the buckets start in `members`."""
    sizes: NDArray[numpy.int64]
    """(K,) pairs a batch; the last of the last bucket may have fewer."""
    batches_before: NDArray[numpy.int64]
    """(K + 1,) batches in the buckets before each."""
    seed: int

    @classmethod
    def of(cls, source: Ints, target: Ints, batch_tokens: int, seed: int) -> LengthBuckets:
        """Buckets of pairs with `source` and `target` (N,) tokens, ties in an order of the seed."""
        longer, leaning = numpy.maximum(source, target), source - target
        generator = numpy.random.default_rng(keyed_seed("buckets", seed))
        # Longest first, so that the first of a bucket says how many pairs a batch takes; among
        # those as long, by how much the source is longer.
        members = numpy.lexsort((generator.permutation(len(source)), leaning, -longer))
        falling = -longer[members]
        starts, sizes = [0], []
        while (at := starts[-1]) < len(members):
            size = max(1, batch_tokens // -int(falling[at]))
            alike = int(numpy.searchsorted(falling, falling[at] * (1 - SPREAD), "right")) - at
            batches = min(max(alike // size, FEWEST), MOST)
            starts.append(min(at + size * batches, len(members)))
            sizes.append(size)
        counts = -(-numpy.diff(starts) // numpy.array(sizes, numpy.int64))
        before = numpy.concatenate([[0], numpy.cumsum(counts)]).astype(numpy.int64)
        return cls(members, numpy.array(starts), numpy.array(sizes), before, seed)

    def __len__(self) -> int:
        """Batches an epoch."""
        return int(self.batches_before[-1])

    def at(self, step: int) -> Ints:
        """Positions (B,) of the pairs of a training step: a pure function of it."""
        number = int(batch_positions(len(self), step, 1, self.seed)[0])
        return self._batch(number, step // len(self))

    def once(self) -> Iterator[Ints]:
        """Every pair once, longest first."""
        return (self._batch(number, None) for number in range(len(self)))

    def _batch(self, number: int, epoch: int | None) -> Ints:
        bucket = int(numpy.searchsorted(self.batches_before, number, "right")) - 1
        pairs = self.members[self.starts[bucket] : self.starts[bucket + 1]]
        if epoch is not None:
            key = keyed_seed("bucket", self.seed, epoch, bucket)
            pairs = numpy.random.default_rng(key).permutation(pairs)
        size = int(self.sizes[bucket])
        start = (number - int(self.batches_before[bucket])) * size
        return pairs[start : start + size]
