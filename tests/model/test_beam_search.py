"""Does beam search find what it should? Against all sequences, and its rules in plain code."""

import dataclasses
import itertools
import math
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from nas.errors import SpecError, TrainingDiverged
from nas.model.beam_search import Hypothesis, beam_search, translate_in_batches
from nas.space.sentence_pairs import BOS, EOS, PAD

Tokens = tuple[int, ...]
Rule = Callable[[Tokens, Tokens], Sequence[float]]
"""Source with EOS, history with BOS: the logits (V,) of the next token."""

PENALTIES = [0.0, 0.6, 1.0, 2.0, -0.5]
SOURCES: list[Tokens] = [(3, 4, EOS), (EOS,), (4, EOS), (3, 3, 3, 4, EOS), (4, 3, EOS)]


def drawn(vocabulary: int, seed: int = 0, spread: float = 2.0) -> Rule:
    """Random logits of every source and history; float32 holds them exactly."""

    def rule(source: Tokens, history: Tokens) -> list[float]:
        chance = random.Random(zlib.crc32(repr((seed, source, history)).encode()))
        return [round(chance.gauss(0, spread) * 1024) / 1024 for _ in range(vocabulary)]

    return rule


@dataclasses.dataclass(frozen=True)
class Memory:
    """Everything that was written, row by row, and the sources, one a sentence."""

    sources: tuple[Tokens, ...]
    history: Tensor

    @property
    def width(self) -> int:
        return len(self.history) // len(self.sources)


@dataclasses.dataclass
class Lookup:
    """A decoder whose next token depends on the source and on all that its row holds."""

    rule: Rule
    margin: int = 2
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    rows: list[int] = dataclasses.field(default_factory=list)
    batches: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def start(self, source: Tensor, source_lengths: Tensor) -> Memory:
        assert (source.device.type, source.dtype) == (self.device, torch.int64)
        self.batches.append(tuple(source.shape))
        lengths = source_lengths.tolist()
        for row, length in zip(source, lengths, strict=True):
            assert (row[length:] == PAD).all()
        kept = tuple(tuple(r[:n].tolist()) for r, n in zip(source, lengths, strict=True))
        return Memory(kept, source.new_empty(len(source), 0))

    def step(self, memory: Memory, tokens: Tensor, position: int) -> tuple[Tensor, Memory]:
        assert tokens.shape == memory.history.shape[:1]
        assert memory.history.shape[1] == position
        history = torch.cat([memory.history, tokens[:, None]], dim=1)
        self.rows.append(len(history))
        logits = [
            self.rule(memory.sources[row // memory.width], tuple(written))
            for row, written in enumerate(history.tolist())
        ]
        scores = torch.tensor(logits, device=self.device).to(self.dtype)
        return scores, Memory(memory.sources, history)

    def reorder(self, memory: Memory, hypotheses: Tensor, sentences: Tensor | None) -> Memory:
        chosen = range(len(memory.sources)) if sentences is None else sentences.tolist()
        beam = len(hypotheses) // len(chosen)
        assert list(chosen) == sorted(set(chosen))
        owners = [row // memory.width for row in hypotheses.tolist()]
        assert owners == [sentence for sentence in chosen for _ in range(beam)]
        return Memory(
            tuple(memory.sources[sentence] for sentence in chosen), memory.history[hypotheses]
        )

    def longest(self, source_lengths: Tensor) -> Tensor:
        return source_lengths + self.margin


def padded(sources: Sequence[Tokens], extra: int = 0) -> tuple[Tensor, Tensor]:
    """(B, S + extra) and (B,)."""
    longest = max(map(len, sources)) + extra
    rows = [[*source, *[PAD] * (longest - len(source))] for source in sources]
    return torch.tensor(rows), torch.tensor([len(source) for source in sources])


def log_softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    total = math.log(math.fsum(math.exp(logit - top) for logit in logits)) + top
    return [logit - total for logit in logits]


def as_taken(logits: Sequence[float]) -> list[float]:
    """The same in float32 as torch has it: what is equal there is equal here."""
    taken: list[float] = torch.tensor(logits).log_softmax(-1).tolist()
    return taken


def log_probability(rule: Rule, source: Tokens, tokens: Tokens) -> float:
    """Of the tokens and EOS, each given all before it, in float64."""
    written = (BOS, *tokens, EOS)
    return math.fsum(
        log_softmax(rule(source, written[:place]))[written[place]]
        for place in range(1, len(written))
    )


def every_translation(
    rule: Rule, source: Tokens, vocabulary: int, longest: int, penalty: float
) -> list[Hypothesis]:
    """All of 1 to longest - 1 words, best first."""
    found = []
    for count in range(1, longest):
        for tokens in itertools.product(range(3, vocabulary), repeat=count):
            nats = log_probability(rule, source, tokens)
            found.append(Hypothesis(tokens, nats / (count + 1) ** penalty, nats))
    return sorted(found, key=lambda one: -one.score)


def by_the_rules(
    rule: Rule, source: Tokens, longest: int, beam: int, penalty: float
) -> list[Hypothesis]:
    """One sentence, one candidate at a time, as fairseq words it: 2 x beam candidates a step."""
    running: list[tuple[float, Tokens]] = [(0.0, (BOS,))]
    finished: list[Hypothesis] = []
    for length in range(1, longest + 1):
        candidates = []
        for number, (total, history) in enumerate(running):
            gains = as_taken(rule(source, history))
            for token in range(EOS, len(gains)):
                refused = length == 1 < longest if token == EOS else length == longest
                if not refused:
                    candidates.append((-total - gains[token], number, token))
        candidates = sorted(candidates)[: 2 * beam]
        for minus, number, token in candidates[:beam]:
            if token == EOS and len(finished) < beam:
                words = running[number][1][1:]
                finished.append(Hypothesis(words, -minus / length**penalty, -minus))
        if len(finished) == beam:
            break
        going = [candidate for candidate in candidates if candidate[2] != EOS][:beam]
        running = [(-minus, (*running[number][1], token)) for minus, number, token in going]
    return sorted(finished, key=lambda one: -one.score)


def assert_alike(got: Sequence[Hypothesis], want: Sequence[Hypothesis]) -> None:
    """The same tokens in the same order, and scores to what float32 holds of a log-probability."""
    assert [one.tokens for one in got] == [one.tokens for one in want]
    for one, other in zip(got, want, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6, abs=1e-6)
        assert one.log_probability == pytest.approx(other.log_probability, rel=1e-6, abs=1e-6)


class TestWhatIsFound:
    @pytest.mark.parametrize("penalty", PENALTIES)
    @pytest.mark.parametrize("vocabulary", [5, 6])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_beam_that_holds_every_translation_finds_them_all_in_order(
        self, penalty: float, vocabulary: int, seed: int
    ) -> None:
        rule = drawn(vocabulary, seed)
        got = beam_search(
            Lookup(rule), *padded(SOURCES[:3]), beam=200, length_penalty=penalty, n_best=200
        )
        for source, found in zip(SOURCES, got, strict=False):
            want = every_translation(rule, source, vocabulary, len(source) + 2, penalty)
            assert_alike(found, want)

    @given(
        seed=st.integers(0, 10**6),
        vocabulary=st.integers(4, 9),
        beam=st.integers(1, 7),
        penalty=st.sampled_from(PENALTIES),
        margin=st.integers(0, 6),
        spread=st.sampled_from([0.1, 1.0, 4.0]),
    )
    def test_it_follows_its_rules(
        self, seed: int, vocabulary: int, beam: int, penalty: float, margin: int, spread: float
    ) -> None:
        rule = drawn(vocabulary, seed, spread)
        decoder = Lookup(rule, margin)
        want = [by_the_rules(rule, s, len(s) + margin, beam, penalty) for s in SOURCES]
        for n_best in range(1, beam + 1):
            got = beam_search(
                decoder, *padded(SOURCES), beam=beam, length_penalty=penalty, n_best=n_best
            )
            for found, wanted in zip(got, want, strict=True):
                assert_alike(found, wanted[:n_best])

    @pytest.mark.parametrize("seed", range(5))
    def test_a_beam_of_one_is_greedy(self, seed: int) -> None:
        rule, source, longest = drawn(8, seed), SOURCES[3], len(SOURCES[3]) + 6
        history: Tokens = (BOS,)
        while len(history) < longest:
            logits = rule(source, history)
            allowed = range(EOS if len(history) > 1 else EOS + 1, 8)
            token = max(allowed, key=lambda token: logits[token])
            if token == EOS:
                break
            history = (*history, token)
        [[found]] = beam_search(Lookup(rule, margin=6), *padded([source]), beam=1)
        assert found.tokens == history[1:]
        assert found.log_probability == pytest.approx(
            log_probability(rule, source, found.tokens), rel=1e-6
        )
        assert found.score == pytest.approx(
            found.log_probability / (len(found.tokens) + 1) ** 0.6, rel=1e-12
        )

    def test_the_n_best_are_distinct_ordered_and_what_they_say(self) -> None:
        rule = drawn(12, spread=1.0)
        for source, found in zip(
            SOURCES,
            beam_search(Lookup(rule, 5), *padded(SOURCES), beam=6, n_best=6),
            strict=True,
        ):
            assert len(found) == len({one.tokens for one in found}) == 6
            assert [one.score for one in found] == sorted((o.score for o in found), reverse=True)
            for one in found:
                assert len(one.tokens) + 1 <= len(source) + 5
                assert not {BOS, PAD, EOS} & set(one.tokens)
                assert one.log_probability == pytest.approx(
                    log_probability(rule, source, one.tokens), rel=1e-6
                )

    def test_the_specials_are_never_written_however_probable(self) -> None:
        got = beam_search(Lookup(lambda *_: [9.0, 9.0, 0.0, 0.0, 1.0]), *padded(SOURCES), n_best=4)
        assert all({3, 4} >= set(one.tokens) for found in got for one in found)
        # They take their share of the probability all the same.
        assert all(one.log_probability < -8 for found in got for one in found)

    def test_an_empty_translation_is_written_where_nothing_else_can_be(self) -> None:
        [[found]] = beam_search(Lookup(drawn(5), margin=0), *padded([(EOS,)]))
        nats = log_softmax(drawn(5)((EOS,), (BOS,)))[EOS]
        assert_alike([found], [Hypothesis((), nats, nats)])

    def test_a_beam_beyond_the_vocabulary_gives_what_there_is(self) -> None:
        [found] = beam_search(
            Lookup(drawn(4), margin=2), *padded([(EOS,)]), beam=9, n_best=9, length_penalty=1.0
        )
        assert {one.tokens for one in found} == {(3,), (3, 3)}


class TestEqualScores:
    @given(
        vocabulary=st.integers(5, 9),
        beam=st.integers(1, 6),
        levels=st.integers(1, 3),
        seed=st.integers(0, 1000),
    )
    def test_the_lower_hypothesis_and_then_the_lower_token_goes_first(
        self, vocabulary: int, beam: int, levels: int, seed: int
    ) -> None:
        # The same logits after every history: sums of the same gains in any order are equal.
        logits = [float(random.Random(seed + n).randrange(levels)) for n in range(vocabulary)]
        got = beam_search(Lookup(lambda *_: logits, 4), *padded(SOURCES), beam=beam, n_best=beam)
        for source, found in zip(SOURCES, got, strict=True):
            assert found == by_the_rules(lambda *_: logits, source, len(source) + 4, beam, 0.6)

    @given(
        logits=st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, -math.inf]), min_size=5, max_size=600)
        | st.lists(st.floats(-9, 9, width=16), min_size=200, max_size=600),
        beam=st.integers(1, 12),
    )
    @example(logits=[0.0] * 1000, beam=5)
    @example(logits=[*[0.0] * 500, 1.0, *[0.0] * 490, 1.0], beam=4)
    @example(logits=[n / 100 if n % 64 == 5 else 0.0 for n in range(1024)], beam=5)
    def test_the_best_words_of_a_long_vocabulary(self, logits: list[float], beam: int) -> None:
        logits = [5.0, 5.0, 5.0, *logits, 0.0]
        [found] = beam_search(
            Lookup(lambda *_: logits, 1), *padded([(EOS,)]), beam=beam, n_best=beam
        )
        taken = as_taken(logits)
        possible = [token for token in range(3, len(logits)) if taken[token] > -math.inf]
        want = sorted(possible, key=lambda token: -taken[token])[:beam]
        assert [one.tokens for one in found] == [(token,) for token in want]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_scores_of_any_precision_are_taken_in_float32(self, dtype: torch.dtype) -> None:
        def coarse(source: Tokens, history: Tokens) -> list[float]:
            rounded: list[float] = torch.tensor(drawn(70)(source, history)).to(dtype).tolist()
            return rounded

        got = beam_search(Lookup(coarse, 4, dtype=dtype), *padded(SOURCES), n_best=4)
        assert got == beam_search(Lookup(coarse, 4), *padded(SOURCES), n_best=4)


class TestBatches:
    @pytest.mark.parametrize("beam", [1, 4])
    def test_a_sentence_alone_is_translated_as_in_a_batch(self, beam: int) -> None:
        decoder = Lookup(drawn(40, spread=1.5), margin=7)
        together = beam_search(decoder, *padded(SOURCES, extra=3), beam=beam, n_best=beam)
        alone = [beam_search(decoder, *padded([s]), beam=beam, n_best=beam)[0] for s in SOURCES]
        assert together == alone
        assert len({max(len(one.tokens) for one in found) for found in alone}) > 2

    def test_each_sentence_ends_at_its_own_longest(self) -> None:
        got = beam_search(
            Lookup(lambda *_: [0.0, 0.0, -40.0, 0.0, 1.0]), *padded(SOURCES), beam=2, n_best=2
        )
        lengths = [{len(one.tokens) + 1 for one in found} for found in got]
        assert lengths == [{len(source) + 2} for source in SOURCES]

    def test_what_is_finished_leaves_the_batch_and_the_beam_grows_from_one(self) -> None:
        decoder = Lookup(lambda *_: [0.0, 0.0, -40.0, 0.0, 1.0])
        beam_search(decoder, *padded(SOURCES), beam=3)
        # The longest are 3, 4, 5, 5 and 7 tokens; two words make a beam of 1, 2 and then 3.
        assert decoder.rows == [5, 10, 15, 12, 9, 3, 3]

    def test_a_sentence_ends_with_as_many_as_its_beam(self) -> None:
        # An end is ever the second best: one a step is finished, and what runs could be better.
        decoder = Lookup(lambda *_: [-30.0, -30.0, 0.0, 1.0, -9.0], margin=50)
        [found] = beam_search(decoder, *padded([(EOS,)]), beam=3, length_penalty=2.0, n_best=3)
        assert [one.tokens for one in found] == [(3, 3, 3), (3, 3), (3,)]
        assert decoder.rows == [1, 2, 3, 3]

    def test_a_sentence_ends_once_nothing_that_runs_can_be_better(self) -> None:
        def sure(_: Tokens, history: Tokens) -> list[float]:
            # After one word the end is all but certain.
            return [-30.0, -30.0, 0.0 if len(history) > 1 else -30.0, -20.0, -21.0]

        decoder = Lookup(sure, margin=50)
        [[found]] = beam_search(decoder, *padded([(EOS,)]), beam=4, length_penalty=0.0)
        assert (found.tokens, decoder.rows) == ((3,), [1, 2])

    def test_rows_that_stay_where_they_are_are_not_moved(self) -> None:
        class Still(Lookup):
            def reorder(self, *_: object) -> Memory:
                raise AssertionError("moved")

        [[found]] = beam_search(Still(drawn(9)), *padded([SOURCES[3]]), beam=1)
        assert found == beam_search(Lookup(drawn(9)), *padded([SOURCES[3]]), beam=1)[0][0]

    def test_no_sentence_is_no_translation(self) -> None:
        none = torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        assert beam_search(Lookup(drawn(5)), *none) == []

    def test_it_leaves_no_graph(self) -> None:
        class Learnt(Lookup):
            def step(self, memory: Memory, tokens: Tensor, position: int) -> tuple[Tensor, Memory]:
                logits, memory = super().step(memory, tokens, position)
                logits = logits * torch.ones((), requires_grad=True)
                assert not logits.requires_grad
                return logits, memory

        assert beam_search(Learnt(drawn(5)), *padded(SOURCES))

    @pytest.mark.gpu
    def test_a_gpu_finds_the_same(self) -> None:
        source, lengths = (part.cuda() for part in padded(SOURCES))
        got = beam_search(Lookup(drawn(300), 5, "cuda"), source, lengths, n_best=4)
        want = beam_search(Lookup(drawn(300), 5), *padded(SOURCES), n_best=4)
        for found, wanted in zip(got, want, strict=True):
            assert_alike(found, wanted)


class TestManySentences:
    SENTENCES: Sequence[Tokens] = [
        tuple(random.Random(n).choices((3, 4, 5), k=random.Random(-n).randrange(12)))
        for n in range(40)
    ]

    def test_they_come_back_in_order_from_batches_of_like_length(self) -> None:
        decoder = Lookup(drawn(30))
        got = translate_in_batches(decoder, self.SENTENCES, batch_tokens=36, beam=3, n_best=2)
        want = [
            beam_search(decoder, *padded([(*sentence, EOS)]), beam=3, n_best=2)[0]
            for sentence in self.SENTENCES
        ]
        assert got == want

    def test_a_batch_holds_no_more_tokens_than_allowed_unless_it_is_one_sentence(self) -> None:
        decoder = Lookup(drawn(30), margin=0)
        translate_in_batches(decoder, [*self.SENTENCES, (3,) * 50], batch_tokens=24)
        assert decoder.batches[0] == (1, 51)
        assert all(count * longest <= 24 for count, longest in decoder.batches[1:])
        # Nothing more fits: the next sentence, no longer than this batch's, would be one too many.
        assert all((count + 1) * longest > 24 for count, longest in decoder.batches[:-1])
        assert sum(count for count, _ in decoder.batches) == len(self.SENTENCES) + 1

    def test_none_and_an_empty_one(self) -> None:
        assert translate_in_batches(Lookup(drawn(5)), []) == []
        [[empty]] = translate_in_batches(Lookup(drawn(5)), [()])
        assert [[empty]] == beam_search(Lookup(drawn(5)), *padded([(EOS,)]))

    def test_a_network_that_fails_is_told_by_the_sentence_it_fails_on(self) -> None:
        def failing(source: Tokens, _: Tokens) -> list[float]:
            return [math.nan if source == (5, 5, 5, EOS) else 0.0] * 6

        with pytest.raises(TrainingDiverged, match=r"^sentence 2: .* token 1 are not finite"):
            translate_in_batches(Lookup(failing), [(3,), (4, 4, 4, 4), (5, 5, 5), ()])

    def test_a_batch_of_nothing_is_refused(self) -> None:
        with pytest.raises(SpecError, match="batch_tokens 0"):
            translate_in_batches(Lookup(drawn(5)), [(3,)], batch_tokens=0)


class TestScoresThatAreNoneAndArgumentsThatCannotBe:
    @pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf])
    @pytest.mark.parametrize("place", range(5))
    def test_a_score_that_is_not_a_number(self, value: float, place: int) -> None:
        def broken(source: Tokens, history: Tokens) -> list[float]:
            logits = list(drawn(5)(source, history))
            if len(source) == 5 and len(history) == 3:
                logits[place] = value
            return logits

        with pytest.raises(TrainingDiverged, match=r"sentence 3: .* token 3 are not finite"):
            beam_search(Lookup(broken), *padded(SOURCES))

    @pytest.mark.parametrize("beam", [1, 3])
    def test_no_score_above_minus_infinity(self, beam: int) -> None:
        with pytest.raises(TrainingDiverged, match=r"sentence 0: .* token 1 are not finite"):
            beam_search(Lookup(lambda *_: [-math.inf] * 5), *padded(SOURCES), beam=beam)

    def test_an_end_that_is_impossible(self) -> None:
        with pytest.raises(TrainingDiverged, match="sentence 1 has no translation of up to 3 tok"):
            beam_search(Lookup(lambda *_: [0.0, 0.0, -math.inf, 0.0, 0.0]), *padded(SOURCES))

    def test_an_end_that_is_all_there_is(self) -> None:
        only = [-math.inf, -math.inf, 0.0, -math.inf, -math.inf]
        got = beam_search(Lookup(lambda *_: only), *padded(SOURCES))
        assert got == [[Hypothesis((), 0.0, 0.0)]] * len(SOURCES)

    def test_what_is_impossible_is_not_written_and_not_asked(self) -> None:
        def partly(source: Tokens, history: Tokens) -> list[float]:
            if 3 in history:
                return [math.nan] * 6
            return [*drawn(6)(source, history)[:3], -math.inf, 0.0, 0.5]

        def without(source: Tokens, history: Tokens) -> list[float]:
            return [*drawn(6)(source, history)[:3], -math.inf, 0.0, 0.5]

        got = beam_search(Lookup(partly), *padded(SOURCES), beam=8, n_best=8)
        assert got == beam_search(Lookup(without), *padded(SOURCES), beam=8, n_best=8)
        assert all(3 not in one.tokens for found in got for one in found)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"beam": 0}, "beam 0 is given; allowed: at least 1"),
            ({"n_best": 0}, "n_best 0 is given; allowed: 1 to the beam, 4"),
            ({"n_best": 5}, "n_best 5 is given; allowed: 1 to the beam, 4"),
            ({"length_penalty": math.nan}, "length_penalty nan is given"),
            ({"length_penalty": 11}, "length_penalty 11 is given; allowed: -10 to 10"),
        ],
    )
    def test_a_search_that_cannot_be(self, changed: dict[str, Any], message: str) -> None:
        with pytest.raises(SpecError, match=message):
            beam_search(Lookup(drawn(5)), *padded(SOURCES), **changed)
        with pytest.raises(SpecError, match=message):
            translate_in_batches(Lookup(drawn(5)), SOURCES, **changed)

    def test_a_source_that_cannot_be(self) -> None:
        source, lengths = padded(SOURCES)
        decoder = Lookup(drawn(5))
        with pytest.raises(SpecError, match=r"source \(5, 5\) and lengths \(4,\) are given"):
            beam_search(decoder, source, lengths[1:])
        with pytest.raises(SpecError, match=r"source torch.int32 and lengths torch.int64"):
            beam_search(decoder, source.int(), lengths)
        with pytest.raises(SpecError, match=r"length of 6 is given; allowed: 1 to the padded 5"):
            beam_search(decoder, source, lengths + 1)
        with pytest.raises(SpecError, match=r"length of 0 is given"):
            beam_search(decoder, source, lengths - 1)

    def test_a_longest_of_nothing(self) -> None:
        with pytest.raises(SpecError, match="sentence 1 of 1 tokens may be translated by 0 tokens"):
            beam_search(Lookup(drawn(5), margin=-1), *padded(SOURCES))
