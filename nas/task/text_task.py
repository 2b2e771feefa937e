"""What do tasks of sentence pairs share? Options, metrics, shape, and how outputs are scored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.errors import SpecError
from nas.search.objective import Metric
from nas.space.task_shape import TextShape
from nas.task.parallel_text import SPLITS
from nas.task.pieces import Pieces
from nas.task.subwords import LEAST_VOCABULARY
from nas.task.text_data import LengthLimits, TextData, text_data
from nas.task.token_store import TokenStore

if TYPE_CHECKING:
    from torch import Tensor

    from nas.search.recipe import Unit
    from nas.task.task import Scores

LOSS = Metric("loss", "minimize", "nats", best=0.0)
PERPLEXITY = Metric("perplexity", "minimize", "1", best=1.0)
BLEU = Metric("bleu", "maximize", "points", best=100.0)
CHRF = Metric("chrf", "maximize", "points", best=100.0)

Vocabulary = Annotated[
    int, Field(ge=LEAST_VOCABULARY, le=500_000, description="Pieces of both languages together.")
]
Tokens = Annotated[int, Field(ge=1, le=4096)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class LengthOptions(BaseModel):
    """What all text tasks can be told; lengths are in pieces of words."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    max_length: Annotated[int, Field(ge=1, le=4096)] = 128
    """Pieces a side; longer training pairs are left out, and counted."""
    length_ratio: Annotated[float, Field(ge=0, le=10)] = 1.5
    """The longest translation has length_ratio x source tokens + length_margin tokens, rounded
    up; longer training pairs are left out, and counted."""
    length_margin: Annotated[int, Field(ge=1, le=4096)] = 10
    """See `length_ratio`."""
    source_length: Tokens = 30
    """Tokens of the source for which costs are counted."""
    target_length: Tokens = 30
    """Tokens of the translation for which costs are counted."""

    @property
    def limits(self) -> LengthLimits:
        """Which training pairs are kept."""
        return LengthLimits(self.max_length, self.length_ratio, self.length_margin)

    def text_shape(self, source: int, target: int, one_vocabulary: bool = True) -> TextShape:
        """The shape of a task whose sides have so many pieces, by default the same ones."""
        return TextShape(
            source,
            target,
            self.source_length,
            self.target_length,
            self.length_ratio,
            self.length_margin,
            one_vocabulary,
        )


class TextOptions(LengthOptions):
    """What tasks can be told that learn their pieces."""

    vocabulary: Vocabulary = 10_000


class FolderOptions(LengthOptions):
    """A folder of somebody's own, and which two languages of it."""

    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
    """The folder; absolute, or under `NAS_DATA_DIR`."""
    source: Language
    """The language to translate from, as the names of the files end."""
    target: Language
    """The language to translate into, as the names of the files end."""

    @model_validator(mode="after")
    def _two_languages(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name two files a split")
        return self


def text_metrics(
    hypotheses: Sequence[str], references: Sequence[str], names: Sequence[str] = ("bleu", "chrf")
) -> tuple[dict[str, float], dict[str, str]]:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of plain, detokenised texts.

    In points, by sacrebleu at its defaults (Post 2018), and its signatures: both by metric.

    Raises:
        SpecError: if there are not as many of both, or none.
    """
    from sacrebleu.metrics.bleu import BLEU as Bleu
    from sacrebleu.metrics.chrf import CHRF as Chrf

    if len(hypotheses) != len(references) or not references:
        raise SpecError(
            f"{len(hypotheses)} translations and {len(references)} references given; as many of "
            "both are wanted, and at least one"
        )
    values, signatures = {}, {}
    for name in names:
        metric = {BLEU.name: Bleu, CHRF.name: Chrf}[name]()
        values[name] = float(metric.corpus_score(hypotheses, [references]).score)
        signatures[name] = str(metric.get_signature())
    return values, signatures


class TextTask:
    """What the text tasks share: metrics, shape, and how outputs are scored."""

    name: str
    options_model: type[LengthOptions] = TextOptions
    unit: Unit = "sentences"
    metrics = (LOSS, PERPLEXITY)
    primary = LOSS.name
    generated: tuple[Metric, ...] = (BLEU, CHRF)
    """What `judged` gives: metrics of translations that a network has written."""

    def resolved(self, options: Any, /) -> Any:
        """The options as they are: nothing is known from the data alone."""
        return options

    def flips_safe(self, _options: Any, /) -> bool:
        """There is nothing to mirror."""
        return False

    def shape(self, options: Any, /) -> TextShape:
        """One vocabulary for both sides, and the lengths of the options."""
        found: TextShape = options.text_shape(options.vocabulary, options.vocabulary)
        return found

    def uninformed(self, shape: TextShape, /) -> dict[str, float]:
        """ln(vocabulary) nats a token, and as much perplexity as there are pieces."""
        pieces = shape.target_vocabulary
        return {LOSS.name: math.log(pieces), PERPLEXITY.name: float(pieces)}

    def score(self, outputs: Tensor, labels: Tensor, counts: Tensor | None = None, /) -> Scores:
        """Sentence by sentence: cross-entropy and hits of logits (N, vocabulary), summed."""
        from nas.task.task import score_labels

        return score_labels(outputs, labels, counts)

    def summary(self, scores: Scores, /) -> dict[str, float]:
        """Cross-entropy in nats a target token, end marks included, and its exponential."""
        loss = scores.mean_loss
        # exp() of more than 709 is no float.
        return {LOSS.name: loss, PERPLEXITY.name: math.inf if loss > 709 else math.exp(loss)}

    def judged(
        self, hypotheses: Sequence[str], references: Sequence[str], /
    ) -> tuple[dict[str, float], dict[str, str]]:
        """The metrics `generated` of translations, and how each was computed (a signature)."""
        return text_metrics(hypotheses, references)


class Corpus(Protocol):
    """The sentence pairs of a folder, split by split (`SPLITS`)."""

    @property
    def folder(self) -> Path:
        """Where they are."""

    def pairs(self, split: str) -> int:
        """How many a split has; raises `DataError` where its sides have not as many."""

    def pieces(self) -> Pieces:
        """What they are cut into."""

    def stored(self, split: str, pieces: Any) -> TokenStore:
        """A split in the cache; raises `DataError` for what is broken, and where, and for an empty
        sentence to validate or to test on."""


class CorpusTask(TextTask, ABC):
    """A task whose pairs lie in a folder: those of validation choose, those of the test come last.

    A subclass says in `corpus` which they are.
    """

    @abstractmethod
    def corpus(self, options: Any, root: Path) -> Corpus:
        """The corpus of these options under a data root; raises `DataError` for missing files."""

    def load(self, options: Any, root: Path, /) -> TextData:
        """Cuts and maps the training and validation pairs, once; the test pairs when asked for.

        Raises:
            DataError: naming what is missing or broken, and where.
            SpecError: if the training text has fewer pieces than `vocabulary`.
        """
        corpus = self.corpus(options, root)
        pieces = corpus.pieces()
        train, valid = (corpus.stored(split, pieces) for split in SPLITS[:2])
        test = partial(corpus.stored, SPLITS[2], pieces)
        return text_data(train, valid, pieces, options.limits, test)

    def held_out(self, options: Any, root: Path, /) -> int:
        """The pairs of the validation split; the files of the others must be there."""
        return self.corpus(options, root).pairs(SPLITS[1])

    def prepare(self, options: Any, root: Path, /) -> str:
        """Cuts all splits, and says how many pairs there are and how many are not learnt from.

        Raises what `load` raises, and `DataError` for what is broken in the test files.
        """
        data, folder = self.load(options, root), self.corpus(options, root).folder
        learnt_from, left_out = len(data.train), sum(data.skipped.values())
        counts = (learnt_from + left_out, len(data.valid), len(data.test()))
        told = ", ".join(f"{n:,} in {split}" for n, split in zip(counts, SPLITS, strict=True))
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in data.skipped.items())
        return f"{self.name}: complete in {folder}: pairs {told}" + (
            f"; not learnt from: {reasons}" if reasons else ""
        )
