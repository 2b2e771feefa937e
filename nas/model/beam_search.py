"""How a network's translations are found: beam search over any decoder that writes by the token.

Shapes: B sentences in the batch, S longest source, W hypotheses a sentence (W <= beam), V words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nas.errors import SpecError, TrainingDiverged
from nas.space.sentence_pairs import BOS, EOS, PAD

# A row of scores is searched by chunks of so many tokens.
CHUNK = 64
LAST = 2**31 - 1

Prefix = tuple[Any, int] | None
"""The tokens of a hypothesis, linked from the last to the first: (those before, token)."""


class Decoder(Protocol):
    """A network that writes target tokens one at a time, for one architecture.

    Rows stand sentence by sentence: row b * W + w is hypothesis w of sentence b. W is 1 until the
    first `reorder` and what the last one gave from then on. Everything lies on the source's device.
    """

    def start(self, source: Tensor, source_lengths: Tensor) -> Any:
        """An opaque memory of B sentences with no target yet, one hypothesis each.

        `source` (B, S) int64 is padded with 1 at the end; `source_lengths` (B,) int64 count EOS.
        """

    def step(self, memory: Any, tokens: Tensor, position: int) -> tuple[Tensor, Any]:
        """Logits (B * W, V) of the next token, and the memory with `tokens` in it.

        `tokens` (B * W,) int64 is each hypothesis's last one, `position` its place (BOS: 0). The
        logits are read only, in any floating-point type.
        """

    def reorder(self, memory: Any, hypotheses: Tensor, sentences: Tensor | None) -> Any:
        """The memory in which row i is what row `hypotheses[i]` was.

        `hypotheses` (B' * W',) int64: indices into the B * W rows before. `sentences` (B',) int64:
        those that are kept, ascending; None: all. What belongs to a source needs only them.
        """

    def longest(self, source_lengths: Tensor) -> Tensor:
        """(B,) the most tokens of a translation, EOS included, at least 1."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation: its tokens without BOS and EOS.

    `log_probability` is the sum over the tokens and EOS, in nats; `score` is that over the number
    of tokens, EOS counted, to the power of the length penalty.
    """

    tokens: tuple[int, ...]
    score: float
    log_probability: float


def beam_search(
    decoder: Decoder,
    source: Tensor,
    source_lengths: Tensor,
    *,
    beam: int = 4,
    length_penalty: float = 0.6,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """The best translations of each sentence, at most `n_best`, best first; distinct.

    `source` (B, S) int64 and `source_lengths` (B,) int64 as `Decoder.start` takes them. A beam of 1
    is greedy. Raises `SpecError` for arguments that cannot be used, `TrainingDiverged` where the
    network's scores are not numbers or leave a sentence without a translation.

    The rules are those of fairseq's `SequenceGenerator` (Ott et al., 2019; its own defaults: beam
    5, length penalty 1). The best `beam` continuations other than EOS go on; an EOS among the best
    `beam` of all finishes a hypothesis. A sentence ends with `beam` finished ones or at its
    longest, where EOS is forced. EOS is not written first (unless nothing else can be), padding
    never. The score is log p / length^length_penalty, the length with EOS. It differs in that

    - BOS starts a target (there EOS does) and is never written;
    - the longest target follows from the sentence's own length and counts EOS (there from the
      padded length of the batch, with EOS on top): the batch a sentence is in does not matter;
    - a sentence also ends once nothing that runs can enter its n best, which stay the same;
    - equal scores go to the lower hypothesis, then to the lower token, and among equal n best to
      the one that was finished first (there to whichever `topk` and `sort` put first);
    - log-probabilities are taken in float32 and summed in float64 (there in float32);
    - a beam beyond the vocabulary is kept, and filled as hypotheses come (there cut to V - 1);
    - the first step takes one row a sentence, and what belongs to a source is never repeated;
    - scores that are not numbers are an error (there NaN means impossible), and EOS is forced where
      nothing else is possible (there that fails);
    - there are no prefixes, constraints, sampling, ensembles, n-gram blocking, temperature, least
      length beyond one token, or penalty on unknown words.
    """
    _check_search(beam, length_penalty, n_best)
    _check_source(source, source_lengths)
    rules = _Rules(beam, length_penalty, n_best)
    return _search(decoder, source, source_lengths, rules, range(len(source)))


def translate_in_batches(
    decoder: Decoder,
    sentences: Sequence[Sequence[int]],
    *,
    batch_tokens: int = 8000,
    beam: int = 4,
    length_penalty: float = 0.6,
    n_best: int = 1,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """`beam_search` of any number of sentences, each its tokens without EOS, in their order.

    Batches hold sentences of like length, B * S <= `batch_tokens` source tokens, EOS and padding
    included; a longer sentence is a batch of its own. Raises as `beam_search` does.
    """
    _check_search(beam, length_penalty, n_best)
    if batch_tokens < 1:
        raise SpecError(f"batch_tokens {batch_tokens} is given; allowed: at least 1")
    rules = _Rules(beam, length_penalty, n_best)
    translations: list[list[Hypothesis]] = [[] for _ in sentences]
    for batch in _batches([len(sentence) + 1 for sentence in sentences], batch_tokens):
        rows = [torch.tensor([*sentences[index], EOS], dtype=torch.int64) for index in batch]
        source = pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)
        lengths = torch.tensor([len(row) for row in rows]).to(device)
        found = _search(decoder, source, lengths, rules, batch)
        for index, hypotheses in zip(batch, found, strict=True):
            translations[index] = hypotheses
    return translations


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """The indices of all lengths, the longest first: what does not fit in memory fails at once."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        count = max(1, batch_tokens // lengths[order[0]])
        yield order[:count]
        order = order[count:]


@dataclass(frozen=True)
class _Rules:
    beam: int
    length_penalty: float
    n_best: int


def _check_search(beam: int, length_penalty: float, n_best: int) -> None:
    if beam < 1:
        raise SpecError(f"beam {beam} is given; allowed: at least 1")
    if not 1 <= n_best <= beam:
        raise SpecError(f"n_best {n_best} is given; allowed: 1 to the beam, {beam}")
    if not -10 <= length_penalty <= 10:
        raise SpecError(f"length_penalty {length_penalty} is given; allowed: -10 to 10")


def _check_source(source: Tensor, lengths: Tensor) -> None:
    if source.dim() != 2 or lengths.shape != source.shape[:1]:
        raise SpecError(
            f"source {tuple(source.shape)} and lengths {tuple(lengths.shape)} are given; allowed: "
            "(sentences, tokens) and (sentences,)"
        )
    if source.dtype != torch.int64 or lengths.dtype != torch.int64:
        raise SpecError(f"source {source.dtype} and lengths {lengths.dtype} are given, not int64")
    wrong = [length for length in lengths.tolist() if not 1 <= length <= source.shape[1]]
    if wrong:
        raise SpecError(
            f"a source length of {wrong[0]} is given; allowed: 1 to the padded {source.shape[1]}"
        )


class _Sentence:
    """What one sentence's hypotheses are: those that run, in order, and those that are finished."""

    def __init__(self, name: int, source_length: int, longest: int, rules: _Rules) -> None:
        if longest < 1:
            raise SpecError(
                f"sentence {name} of {source_length} tokens may be translated by {longest} tokens; "
                "at least 1, for EOS"
            )
        self.name, self.longest, self.rules = name, longest, rules
        self.running: list[Prefix] = [None]
        self.finished: list[Hypothesis] = []

    def advance(self, position: int, row: list[float]) -> tuple[bool, bool]:
        """Takes in its row of `on_host`: whether the sentence goes on, and straight on.

        Straight on is every hypothesis by its own continuation: no row moves.
        """
        ends = row[: len(self.running)]
        width = (len(row) - len(ends)) // 3
        totals, parents, tokens = (
            row[len(ends) + part * width : len(ends) + (part + 1) * width] for part in range(3)
        )
        if math.isnan(totals[0]):
            raise TrainingDiverged(
                f"sentence {self.name}: the network's scores of token {position + 1} are not finite"
            )
        candidates = [
            (-total, parent, EOS) for parent, total in enumerate(ends) if total > -math.inf
        ]
        forced = position + 1 == self.longest or totals[0] == -math.inf
        if not forced:
            # The first step has no say: a translation is not empty.
            candidates = candidates if position else []
            candidates += [
                (-total, int(parent), int(token))
                for total, parent, token in zip(totals, parents, tokens, strict=True)
            ]
        for minus, parent, token in sorted(candidates)[: self.rules.beam]:
            if token == EOS and len(self.finished) < self.rules.beam:
                self._finish(self.running[parent], -minus, position + 1)
        if forced or len(self.finished) == self.rules.beam or self._settled(totals[0], position):
            self._end()
            return False, False
        straight = parents == list(range(width))
        self.running = [
            (self.running[int(parent)], int(token))
            for parent, token in zip(parents, tokens, strict=True)
        ]
        return True, straight

    def _finish(self, prefix: Prefix, log_probability: float, length: int) -> None:
        tokens = []
        while prefix is not None:
            prefix, token = prefix
            tokens.append(token)
        score = log_probability / length**self.rules.length_penalty
        self.finished.append(Hypothesis(tuple(reversed(tokens)), score, log_probability))

    def _settled(self, total: float, position: int) -> bool:
        """Whether the best one that runs, at a total of nats, cannot enter the n best."""
        if len(self.finished) < self.rules.n_best:
            return False
        # Totals only fall; as lengths grow their penalty is monotonic, rising or falling.
        reachable = max(
            total / length**self.rules.length_penalty for length in (position + 2, self.longest)
        )
        scores = sorted((one.score for one in self.finished), reverse=True)
        return bool(reachable <= scores[self.rules.n_best - 1])

    def _end(self) -> None:
        if not self.finished:
            raise TrainingDiverged(
                f"sentence {self.name} has no translation of up to {self.longest} tokens: the "
                "network holds every one for impossible"
            )
        # The sort is stable: of equals the one that was finished first.
        self.finished = sorted(self.finished, key=lambda one: -one.score)[: self.rules.n_best]


@dataclass(frozen=True)
class _Continuations:
    """A step: per sentence the best that go on, best first, and what EOS would make of each row."""

    totals: Tensor  # (B, W') float64, nats
    parents: Tensor  # (B, W') int64, in 0 .. W - 1
    tokens: Tensor  # (B, W') int64
    ends: Tensor  # (B, W) float64, nats

    @property
    def rows(self) -> Tensor:
        """(B, W') int64: the parents by their place among all B * W rows."""
        sentences, width = self.ends.shape
        return self.parents + torch.arange(sentences, device=self.parents.device)[:, None] * width

    @property
    def on_host(self) -> list[list[float]]:
        """Per sentence ends, totals, parents and tokens: the one transfer of a step."""
        parts = (self.ends, self.totals, self.parents.double(), self.tokens.double())
        rows: list[list[float]] = torch.cat(parts, dim=1).tolist()
        return rows


@torch.no_grad()
def _search(
    decoder: Decoder, source: Tensor, lengths: Tensor, rules: _Rules, names: Sequence[int]
) -> list[list[Hypothesis]]:
    sentences = [
        _Sentence(name, length, math.ceil(longest), rules)
        for name, length, longest in zip(
            names, lengths.tolist(), decoder.longest(lengths).tolist(), strict=True
        )
    ]
    running, position = sentences, 0
    memory = decoder.start(source, lengths) if running else None
    tokens = source.new_full((len(running),), BOS)
    totals = torch.zeros(len(running), 1, dtype=torch.float64, device=source.device)
    while running:
        logits, memory = decoder.step(memory, tokens, position)
        step = _continuations(logits, totals, rules.beam)
        going = [
            sentence.advance(position, row)
            for sentence, row in zip(running, step.on_host, strict=True)
        ]
        kept = [index for index, (on, _) in enumerate(going) if on]
        running, position = [running[index] for index in kept], position + 1
        if not running:
            break
        chosen = None
        totals, tokens, rows = step.totals, step.tokens, step.rows
        if len(kept) < len(going):
            chosen = torch.tensor(kept, device=source.device)
            totals, tokens, rows = totals[chosen], tokens[chosen], rows[chosen]
        tokens = tokens.flatten()
        if not all(straight for _, straight in going):
            memory = decoder.reorder(memory, rows.flatten(), chosen)
    return [sentence.finished for sentence in sentences]


@torch.no_grad()
def write_on(
    decoder: Decoder, memory: Any, sentences: int, *, beam: int, tokens: int, like: Tensor
) -> None:
    """Takes the steps of a search in which no sentence ends and rows always move, to be timed.

    `memory` is what `start` gave of so many sentences; everything lies on the device of `like`.
    """
    given = torch.full((sentences,), BOS, device=like.device)
    totals = torch.zeros(sentences, 1, dtype=torch.float64, device=like.device)
    for position in range(tokens):
        logits, memory = decoder.step(memory, given, position)
        step = _continuations(logits, totals, beam)
        # The host decides what ends, so each step waits for it.
        _ = step.on_host
        totals, given = step.totals, step.tokens.flatten()
        if position + 1 < tokens:
            memory = decoder.reorder(memory, step.rows.flatten(), None)


def _continuations(logits: Tensor, totals: Tensor, beam: int) -> _Continuations:
    """The best `beam` of each sentence (fewer while there are fewer) by logits (B * W, V).

    A row's log-probabilities are NaN where its logits are not numbers or all -inf.
    """
    sentences, width = totals.shape
    scores = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    # The specials come first, so that what may be written and go on is a slice.
    allowed = scores[:, EOS + 1 :]
    count = min(beam, allowed.shape[1])
    columns = _greatest(allowed, count)
    gains = allowed.gather(1, columns).double()
    dead = totals[..., None] == -math.inf
    # What cannot be reached stays so, whatever the network says to it.
    gains = gains.view(sentences, width, count).masked_fill(dead, 0.0)
    ends = totals + scores[:, EOS].double().view(sentences, width)
    reached = (totals[..., None] + gains).flatten(1)
    # Candidates stand by hypothesis and then by token, so a stable sort breaks ties as promised.
    reached, order = torch.sort(reached, dim=1, descending=True, stable=True)
    reached, order = reached[:, :beam], order[:, :beam]
    tokens = columns.view(sentences, -1).gather(1, order) + EOS + 1
    parents = order.div(count, rounding_mode="floor")
    return _Continuations(reached, parents, tokens, ends)


def _greatest(scores: Tensor, count: int) -> Tensor:
    """Where the greatest entries of each row of (R, N) float32 stand: (R, count), greatest first.

    Of equals the first ones. They lie in the `count` chunks of the greatest maxima (of equals the
    first) or in what is left over at the end: the long row is read once, by a vectorised maximum.
    """
    length = scores.shape[1]
    columns = torch.arange(length, device=scores.device)
    chunks = length // CHUNK
    if chunks <= count:
        return _first_greatest(scores, columns.expand_as(scores), count)
    whole = chunks * CHUNK
    maxima = scores[:, :whole].reshape(-1, chunks, CHUNK).amax(dim=-1)
    leaders = _first_greatest(maxima, columns[:chunks].expand_as(maxima), count)
    inside = (leaders[..., None] * CHUNK + columns[:CHUNK]).flatten(1)
    columns = torch.cat([inside, columns[whole:].expand(len(scores), -1)], dim=1)
    return _first_greatest(scores.gather(1, columns), columns, count)


def _first_greatest(values: Tensor, columns: Tensor, count: int) -> Tensor:
    """The columns of a row's greatest values (R, N) float32; of equal values the lower columns.

    Value and column are one integer, whose order is that of both: `topk` promises nothing on ties.
    """
    bits = values.view(torch.int32)
    ordered = (bits ^ ((bits >> 31) & LAST)).long()
    keys = ordered * 2**32 + (LAST - columns)
    return LAST - (keys.topk(count, dim=1).values & (2**32 - 1))
