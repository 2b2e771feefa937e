"""Are batches full, little padded, mixed, and the same wherever a run goes on?"""

from collections import Counter
from itertools import pairwise

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas.task.length_buckets import LengthBuckets

Lengths = NDArray[numpy.int64]


def lengths(count: int, mean: float, spread: float, longest: int) -> tuple[Lengths, Lengths]:
    """Tokens of sentence pairs: log-normal sources, targets about as long but for 20%."""
    generator = numpy.random.default_rng(0)
    source = numpy.exp(generator.normal(numpy.log(mean), spread, count))
    target = source * numpy.exp(generator.normal(0.05, 0.2, count))
    one, other = (side.round().clip(2, longest).astype(numpy.int64) for side in (source, target))
    return one, other


# Counts, means and spreads of the training files of Multi30k and of the WMT14 slice, in pieces.
REAL_LIKE = {
    "multi30k": lengths(29_000, 14.5, 0.3, 60),
    "wmt14": lengths(52_000, 28, 0.6, 129),
}


@pytest.mark.parametrize("tokens", [2000, 8000])
@pytest.mark.parametrize("name", REAL_LIKE)
def test_little_is_padding_and_batches_are_full(name: str, tokens: int) -> None:
    source, target = REAL_LIKE[name]
    buckets = LengthBuckets.of(source, target, tokens, 0)
    for steps in (range(len(buckets)), range(3 * len(buckets), 4 * len(buckets))):
        batches = [buckets.at(step) for step in steps]
        padded = sum(len(b) * int(source[b].max() + target[b].max()) for b in batches)
        assert 1 - (source + target).sum() / padded <= 0.10
        longer = numpy.maximum(source, target)
        sides = [len(b) * int(longer[b].max()) for b in batches]
        assert max(sides) <= tokens
        assert numpy.mean(sides) >= 0.95 * tokens


def test_pairs_meet_other_pairs_at_each_epoch() -> None:
    source, target = REAL_LIKE["multi30k"]
    buckets = LengthBuckets.of(source, target, 2000, 0)
    epochs = []
    for epoch in range(3):
        mates = numpy.empty(len(source), numpy.int64)
        for step in range(epoch * len(buckets), (epoch + 1) * len(buckets)):
            batch = buckets.at(step)
            mates[batch] = step
        epochs.append(mates)
    for one, other in pairwise(epochs):
        # Few batches stay together: those of lengths that hardly any pair has.
        together = Counter(zip(one.tolist(), other.tolist(), strict=True))
        sizes = Counter(one.tolist())
        kept = sum(n for (batch, _), n in together.items() if n > 0.75 * sizes[batch])
        assert kept < 0.05 * len(source)


def test_long_and_short_batches_come_in_any_order() -> None:
    source, target = REAL_LIKE["multi30k"]
    buckets = LengthBuckets.of(source, target, 2000, 0)
    longest = [int(source[buckets.at(step)].max()) for step in range(len(buckets))]
    ranks = numpy.argsort(numpy.argsort(longest))
    assert abs(numpy.corrcoef(ranks, numpy.arange(len(ranks)))[0, 1]) < 0.2


sides = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=120)


@given(sides, st.integers(60, 400), st.integers(0, 5))
def test_every_pair_is_in_one_batch_of_each_epoch(
    pairs: list[tuple[int, int]], tokens: int, seed: int
) -> None:
    source, target = (numpy.array(side) for side in zip(*pairs, strict=True))
    buckets = LengthBuckets.of(source, target, tokens, seed)
    again = LengthBuckets.of(source, target, tokens, seed)
    for epoch in range(2):
        steps = range(epoch * len(buckets), (epoch + 1) * len(buckets))
        batches = [buckets.at(step) for step in steps]
        assert sorted(numpy.concatenate(batches).tolist()) == list(range(len(pairs)))
        for step, batch in zip(steps, batches, strict=True):
            assert len(batch) * max(source[batch].max(), target[batch].max()) <= tokens
            assert again.at(step).tolist() == batch.tolist()
    assert sorted(numpy.concatenate(list(buckets.once())).tolist()) == list(range(len(pairs)))


def test_a_pair_beyond_the_bound_is_alone() -> None:
    source, target = numpy.array([5, 90, 5, 7]), numpy.array([5, 5, 300, 7])
    batches = [batch.tolist() for batch in LengthBuckets.of(source, target, 40, 0).once()]
    assert batches[:2] == [[2], [1]]
    assert sorted(each for batch in batches[2:] for each in batch) == [0, 3]


def test_a_far_step_needs_no_step_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = REAL_LIKE["multi30k"]
    buckets = LengthBuckets.of(source, target, 2000, 0)
    dealt: list[int] = []
    batch = LengthBuckets._batch

    def counted(self: LengthBuckets, number: int, epoch: int | None) -> Lengths:
        dealt.append(number)
        return batch(self, number, epoch)

    monkeypatch.setattr(LengthBuckets, "_batch", counted)
    far = 10**9
    assert LengthBuckets.of(source, target, 2000, 0).at(far).tolist() == buckets.at(far).tolist()
    assert len(dealt) == 2


def test_other_seeds_mix_otherwise() -> None:
    source, target = REAL_LIKE["multi30k"]
    one, other = (LengthBuckets.of(source, target, 2000, seed) for seed in (0, 1))
    assert any(one.at(step).tolist() != other.at(step).tolist() for step in range(3))
