"""Can a network write numbers in words? English ones in German, drawn from a seed."""

from __future__ import annotations

import importlib.metadata
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from nas.search.objective import Metric
from nas.space.digest import digest
from nas.task.parallel_text import SPLITS, Chunk
from nas.task.splits import keyed_seed
from nas.task.subwords import learnt
from nas.task.text_data import TextData, text_data
from nas.task.text_task import CHRF, TextOptions, TextTask, Vocabulary, text_metrics
from nas.task.token_store import stored

EXACT_MATCH = Metric("exact_match", "maximize", "fraction", best=1.0)

MONTHS = (
    ("January", "Januar"), ("February", "Februar"), ("March", "März"), ("April", "April"),
    ("May", "Mai"), ("June", "Juni"), ("July", "Juli"), ("August", "August"),
    ("September", "September"), ("October", "Oktober"), ("November", "November"),
    ("December", "Dezember"),
)  # fmt: skip
FIRST_DAY, LAST_DAY = date(1500, 1, 1).toordinal(), date(2099, 12, 31).toordinal()
# Other sentences from the same seed are other data.
FORMAT = 1

Pair = tuple[str, str]


class NumbersOptions(TextOptions):
    """Numbers to 999,999, ordinals to 9,999, and dates from 1500 to 2099, written out."""

    # A piece for most parts of a number. Of 260 (bytes), 320, 400 and 600 a tiny transformer learns
    # these the fastest: 84% exact after 37 s of one core, against 0, 42 and 76%.
    vocabulary: Vocabulary = 400
    pairs: Annotated[int, Field(ge=100, le=200_000)] = 20_000
    """Training pairs."""
    validation: Annotated[int, Field(ge=10, le=10_000)] = 1_000
    """Pairs held out for scores."""
    test: Annotated[int, Field(ge=10, le=10_000)] = 1_000
    """Pairs held out for tests, the same for every `seed`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Draws training and validation pairs."""


class Numbers(TextTask):
    """Numbers, ordinals and dates in English words, to be written in German ones (num2words)."""

    name = "numbers_en_de"
    options_model = NumbersOptions
    generated = (EXACT_MATCH, CHRF)

    def load(self, options: NumbersOptions, _root: Path, /) -> TextData:
        """Made once and kept in the cache; no pair is in two of the three splits."""
        made = [FORMAT, importlib.metadata.version("num2words"), *_drawn_by(options)]
        content = {split: digest([*made, split]) for split in SPLITS}
        chunks = {split: _Chunks(options, split) for split in SPLITS}
        subwords = learnt(content["train"], chunks["train"], options.vocabulary)
        train, valid = (stored(content[s], subwords, chunks[s]) for s in ("train", "valid"))
        test = partial(stored, content["test"], subwords, chunks["test"])
        return text_data(train, valid, subwords, options.limits, test)

    def held_out(self, options: NumbersOptions, _root: Path, /) -> int:
        """As many as are asked for: they are made."""
        return options.validation

    def prepare(self, _options: Any, _root: Path, /) -> str:
        """Nothing to do."""
        return f"{self.name}: nothing to prepare, the sentences are made from the seed"

    def judged(
        self, hypotheses: Sequence[str], references: Sequence[str], /
    ) -> tuple[dict[str, float], dict[str, str]]:
        """The share of sentences that are right to the letter, and chrF.

        No BLEU: German numbers are one word, and BLEU counts runs of four.
        """
        values, signatures = text_metrics(hypotheses, references, (CHRF.name,))
        right = sum(map(str.__eq__, hypotheses, references))
        told = f"nrefs:1|case:mixed|n:{len(references)}"
        return (
            {EXACT_MATCH.name: right / len(references), **values},
            {EXACT_MATCH.name: told, **signatures},
        )


NUMBERS_EN_DE = Numbers()


class _Chunks:
    """The sentences of a split, made when they are asked for."""

    def __init__(self, options: NumbersOptions, split: str) -> None:
        self.options, self.split = options, split

    def __iter__(self) -> Iterator[Chunk]:
        pairs = sentences(*_drawn_by(self.options))[self.split]
        yield [english for english, _ in pairs], [german for _, german in pairs]


def _drawn_by(options: NumbersOptions) -> tuple[int, int, int, int]:
    return options.pairs, options.validation, options.test, options.seed


@lru_cache(maxsize=1)
def sentences(pairs: int, validation: int, test: int, seed: int) -> dict[str, list[Pair]]:
    """English and German of each split, all English sentences different."""
    seen: set[str] = set()
    # Test sentences first, by no seed: another seed must not train on them.
    tested = _draw(random.Random(keyed_seed("numbers", "test")), test, seen)
    generator = random.Random(keyed_seed("numbers", seed))
    held = _draw(generator, validation, seen)
    return {"train": _draw(generator, pairs, seen), "valid": held, "test": tested}


def _draw(generator: random.Random, count: int, seen: set[str]) -> list[Pair]:
    found: list[Pair] = []
    while len(found) < count:
        pair = KINDS[generator.randrange(len(KINDS))](generator)
        if pair[0] not in seen:
            seen.add(pair[0])
            found.append(pair)
    return found


def _words(number: int, form: str) -> Pair:
    from num2words import num2words

    english, german = (num2words(number, lang=language, to=form) for language in ("en", "de"))
    return english, german


def _spread(generator: random.Random, digits: int) -> int:
    """A number of at most so many digits, each count of them as likely."""
    return generator.randrange(10 ** generator.randint(1, digits))


def _cardinal(generator: random.Random) -> Pair:
    return _words(_spread(generator, 6), "cardinal")


def _ordinal(generator: random.Random) -> Pair:
    english, german = _words(1 + _spread(generator, 4), "ordinal")
    return f"the {english}", f"der {german}"


def _date(generator: random.Random) -> Pair:
    day = date.fromordinal(generator.randint(FIRST_DAY, LAST_DAY))
    (nth, nte), (year, jahr) = _words(day.day, "ordinal"), _words(day.year, "year")
    month, monat = MONTHS[day.month - 1]
    return f"the {nth} of {month} {year}", f"der {nte} {monat} {jahr}"


KINDS: tuple[Callable[[random.Random], Pair], ...] = (_cardinal, _ordinal, _date)
