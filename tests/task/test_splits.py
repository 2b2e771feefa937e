"""Is what is held out balanced, disjoint, and the same everywhere?"""

import hashlib
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import SpecError
from nas.task.splits import batch_positions, keyed_seed, split_digest, stratified_split

LABELS = st.lists(st.integers(0, 5), min_size=10, max_size=200)


@given(LABELS, st.floats(0, 1), st.integers(0, 9))
def test_a_split_parts_the_pool_in_proportion(labels: list[int], at: float, seed: int) -> None:
    classes = Counter(labels)
    most = len(labels) - len(classes)
    count = max(1, round(at * most))
    split = stratified_split(labels, count, str(seed), "here")
    assert sorted([*split.kept, *split.held]) == list(range(len(labels)))
    assert list(split.kept) == sorted(split.kept)
    assert len(split.held) == count
    assert set(classes) == {labels[i] for i in split.kept}
    held = Counter(labels[i] for i in split.held)
    if count <= len(labels) - max(len(labels) / n for n in classes.values()):
        for label, number in classes.items():
            assert abs(held[label] - count * number / len(labels)) < 1
    for end in range(1, count + 1):
        prefix = Counter(labels[i] for i in split.held[:end])
        for label, number in held.items():
            share = number / count
            # Half an image for rounding this class, half for each other, in its share of them.
            assert abs(prefix[label] - end * share) <= 1 + len(held) / 2 * share


def test_equal_classes_take_turns() -> None:
    labels = [i % 10 for i in range(1000)]
    split = stratified_split(labels, 200, "0", "here")
    for end in range(1, 201):
        prefix = Counter(labels[i] for i in split.held[:end])
        assert max(prefix.values()) - min(prefix[label] for label in range(10)) <= 1


def test_a_split_follows_its_key_alone() -> None:
    labels = [i % 7 for i in range(300)]
    first, again, other = (stratified_split(labels, 60, key, "here") for key in ("a", "a", "b"))
    assert first == again
    assert set(first.held) != set(other.held)


def test_the_split_of_every_machine() -> None:
    labels = [0, 1, 2] * 8
    held = stratified_split(labels, 6, "validation/0", "here").held
    # Worked out anew from the rule: the lowest hashes of each class, in turns.
    order = {
        label: sorted(
            (i for i in range(24) if labels[i] == label),
            key=lambda i: hashlib.sha256(f"validation/0/{i}".encode()).digest(),
        )
        for label in range(3)
    }
    for turn in range(2):
        assert set(held[3 * turn : 3 * turn + 3]) == {order[label][turn] for label in range(3)}


def test_the_digest_is_of_positions_and_labels() -> None:
    labels = [5, 6, 7, 8]
    want = hashlib.sha256(b"[[1,6],[3,8]]").hexdigest()
    assert split_digest([3, 1], labels) == split_digest([1, 3], labels) == want
    assert split_digest([1, 3], [5, 6, 7, 9]) != want


@pytest.mark.parametrize("count", [0, -1, 9, 10, 11])
def test_a_split_that_leaves_nothing_is_refused(count: int) -> None:
    with pytest.raises(SpecError, match=rf"task\.validation: {count} of 10 images given; 1 to 8"):
        stratified_split([0, 1] * 5, count, "0", "task.validation")


def test_the_rarest_classes_keep_one_image() -> None:
    labels = [0] * 20 + [1, 2]
    split = stratified_split(labels, 19, "0", "here")
    assert Counter(labels[i] for i in split.kept) == {0: 1, 1: 1, 2: 1}


@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 2**63 - 1))
def test_batches_cut_an_endless_row_of_epochs(count: int, batch_size: int, seed: int) -> None:
    steps = 3 * count // batch_size + 2
    parts = [batch_positions(count, step, batch_size, seed) for step in range(steps)]
    assert {len(part) for part in parts} == {batch_size}
    row = torch.cat(parts).tolist()
    for start in range(0, len(row) - count + 1, count):
        assert sorted(row[start : start + count]) == list(range(count))
    last = batch_positions(count, steps - 1, batch_size, seed)
    assert torch.equal(last, parts[-1])


def test_epochs_and_seeds_differ() -> None:
    epochs = [batch_positions(100, step, 100, 0).tolist() for step in range(3)]
    assert len({tuple(each) for each in epochs}) == 3
    assert batch_positions(100, 0, 100, 1).tolist() != epochs[0]


def test_a_keyed_seed_fits_a_generator_and_follows_its_key() -> None:
    seeds = {keyed_seed("epoch", seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
