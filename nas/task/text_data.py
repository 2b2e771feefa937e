"""How do sentence pairs reach a network? As padded batches of mapped ids, training pairs mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from nas.errors import DataError, SpecError
from nas.space.digest import digest
from nas.space.sentence_pairs import BOS, EOS, PAD, SentencePairs
from nas.space.task_shape import longest_target
from nas.task.length_buckets import LengthBuckets
from nas.task.pieces import Pieces
from nas.task.splits import keyed_seed
from nas.task.task import Batch, scored_on
from nas.task.token_store import TokenStore

if TYPE_CHECKING:
    import torch

    from nas.search.recipe import TrainingRecipe
    from nas.search.stages import Evaluation

Positions = NDArray[numpy.int64]


@dataclass(frozen=True)
class LengthLimits:
    """Which training pairs are learnt from, by the lengths of their sides."""

    pieces: int
    """The most of either side, without its end mark."""
    ratio: float
    margin: int

    def target_tokens(self, source_tokens: Positions) -> Positions:
        """(N,) the longest target in tokens: M = ceil(ratio x source tokens + margin)."""
        longest = longest_target(source_tokens, self.ratio, self.margin)
        return numpy.asarray(longest, numpy.int64)

    def broken(self, sentences: Sentences) -> dict[str, NDArray[numpy.bool_]]:
        """(E,) for each reason to leave a pair out of training whether it is the pair's first."""
        source, target = sentences.source_tokens, sentences.target_tokens
        lines, store = sentences.positions, sentences.store
        found = {
            "empty line": store.source.empty[lines] | store.target.empty[lines],
            "longer than max_length": numpy.maximum(source, target) > self.pieces + 1,
            "target longer than its source allows": target > self.target_tokens(source),
        }
        taken = numpy.zeros(len(lines), numpy.bool_)
        for reason, each in found.items():
            found[reason] = each & ~taken
            taken |= each
        return found


@dataclass(frozen=True, eq=False)
class Sentences:
    """Pairs of a store in an order of their own: `positions` (E,) int64 of its lines."""

    store: TokenStore
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: a store is named by what is in it."""
        content = hashlib.sha256(self.store.folder.name.encode())
        content.update(self.positions.astype(numpy.int64).data)
        return content.hexdigest()[:16]

    @property
    def source_tokens(self) -> Positions:
        """(E,) tokens of each source, its end mark included."""
        return self.store.source.lengths[self.positions] + 1

    @property
    def target_tokens(self) -> Positions:
        """(E,) tokens of each target, its end mark included."""
        return self.store.target.lengths[self.positions] + 1

    def batch(self, chosen: Positions, device: torch.device | str) -> Batch:
        """The pairs at `chosen` (B,) of this set, padded, on a device."""
        import torch

        lines = self.positions[chosen]
        source = self.store.source.padded(lines, before=(), after=EOS, pad=PAD)
        # The decoder takes all but the last token of each row, and is to give all but the first.
        whole = self.store.target.padded(lines, before=(BOS,), after=EOS, pad=PAD)
        source_lengths = self.store.source.lengths[lines] + 1
        target_lengths = self.store.target.lengths[lines] + 1
        true = numpy.arange(whole.shape[1] - 1) < target_lengths[:, None]
        target = numpy.where(true, whole[:, :-1], PAD)
        arrays = (source, source_lengths, target, target_lengths, numpy.flatnonzero(true))
        inputs = SentencePairs(*(torch.from_numpy(each).to(device) for each in arrays))
        labels = torch.from_numpy(whole[:, 1:][true]).to(device)
        return Batch(inputs, labels, torch.from_numpy(chosen), inputs.target_lengths)


@dataclass(frozen=True, eq=False)
class TextData:
    """A corpus as ids, mapped from disk; the test split is read only by who asks for it.

    `skipped` says how many pairs of the training files are not learnt from, by reason; of the
    validation and test pairs none is ever left out, and `beyond` counts them.
    `valid` stands in an order drawn once, so that every prefix is a fair sample. `digest` tells
    these pairs, pieces and limits from any others.
    """

    train: Sentences
    valid: Sentences
    pieces: Pieces
    limits: LengthLimits
    skipped: Mapping[str, int]
    digest: str
    read_test: Callable[[], TokenStore]
    device: torch.device | str = "cpu"
    _buckets: dict[tuple[int, int], LengthBuckets] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device | str) -> TextData:
        """The same, whose batches lie on another device."""
        return replace(self, device=device)

    @property
    def about(self) -> Mapping[str, Any]:
        """The pieces, for `read_pieces`."""
        return self.pieces.to_json()

    def training_batch(self, step: int, recipe: TrainingRecipe, seed: int, /) -> Batch:
        """Pairs of at most `recipe.batch_tokens` tokens a side, padding included; pure.

        Raises:
            SpecError: if that is less than the longest pair that is learnt from.
        """
        tokens = recipe.batch_tokens
        buckets = self._buckets.get((tokens, seed))
        if buckets is None:
            source, target = self.train.source_tokens, self.train.target_tokens
            longest = int(max(source.max(), target.max()))
            if longest > tokens:
                raise SpecError(
                    f"batch_tokens: {tokens} given, at least {longest} allowed: so many tokens has "
                    "the longest training sentence; or lower task.max_length"
                )
            buckets = LengthBuckets.of(source, target, tokens, seed)
            self._buckets[tokens, seed] = buckets
        return self.train.batch(buckets.at(step), self.device)

    def validation(self, examples: int | None = None, /) -> Sentences:
        """The first `examples` of the validation pairs (None: all), the same for every candidate.

        Raises:
            SpecError: if there are fewer.
        """
        count = scored_on(examples, len(self.valid))
        return Sentences(self.valid.store, self.valid.positions[:count])

    def test(self) -> Sentences:
        """The test pairs in the order of their files: for networks whose training has ended."""
        store = self.read_test()
        return Sentences(store, numpy.arange(len(store.source)))

    def batches(self, chosen: Sentences, evaluation: Evaluation, /) -> Iterator[Batch]:
        """Every pair once, longest first, of at most `evaluation.batch_tokens` tokens a side."""
        source, target = chosen.source_tokens, chosen.target_tokens
        for part in LengthBuckets.of(source, target, evaluation.batch_tokens, 0).once():
            yield chosen.batch(part, self.device)

    def beyond(self, chosen: Sentences) -> dict[str, int]:
        """How many pairs of a set would be left out of training, by reason: they are in it."""
        return _counted(self.limits.broken(chosen))

    def source_ids(self, chosen: Sentences) -> list[list[int]]:
        """The ids to translate, without EOS."""
        return [chosen.store.source.line(each) for each in chosen.positions]

    def sources(self, chosen: Sentences) -> list[str]:
        """The texts to translate."""
        return [self.pieces.source(ids) for ids in self.source_ids(chosen)]

    def references(self, chosen: Sentences) -> list[str]:
        """Their true translations."""
        return [self.decode(chosen.store.target.line(each)) for each in chosen.positions]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts to translate as a network takes them, the end mark included."""
        return [[*ids, EOS] for ids in self.pieces.encode(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """The translation that has these ids, on one line."""
        return one_line(self.pieces.decode(ids))


def text_data(
    train: TokenStore,
    valid: TokenStore,
    pieces: Pieces,
    limits: LengthLimits,
    read_test: Callable[[], TokenStore],
) -> TextData:
    """The training pairs within the limits, and all validation pairs.

    Raises:
        DataError: if no training pair is left.
    """
    everything = Sentences(train, numpy.arange(len(train.source)))
    broken = limits.broken(everything)
    kept = numpy.flatnonzero(~numpy.logical_or.reduce(list(broken.values())))
    skipped = _counted(broken)
    if not len(kept):
        told = ", ".join(f"{reason}: {count:,}" for reason, count in skipped.items())
        raise DataError(f"no training pair of {len(everything):,} is left ({told})")
    order = sorted(range(len(valid.source)), key=lambda each: keyed_seed("validation", each))
    held = Sentences(valid, numpy.array(order, numpy.int64))
    # A store is named by what is in it.
    key = [train.folder.name, valid.folder.name, limits.pieces, limits.ratio, limits.margin]
    return TextData(Sentences(train, kept), held, pieces, limits, skipped, digest(key), read_test)


def _counted(broken: Mapping[str, NDArray[numpy.bool_]]) -> dict[str, int]:
    return {reason: int(each.sum()) for reason, each in broken.items() if each.any()}


def one_line(text: str) -> str:
    """A text with spaces for what would end a line of it."""
    return " ".join(text.splitlines())
