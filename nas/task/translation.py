"""Which texts are to be translated? WMT14, Multi30k, or somebody's own pair of parallel files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.errors import SpecError
from nas.search.objective import Metric
from nas.space.task_shape import TextShape
from nas.task import corpora
from nas.task.parallel_text import SPLITS, ParallelFiles
from nas.task.subwords import LEAST_VOCABULARY, Subwords, learnt
from nas.task.text_data import LengthLimits, TextData, text_data
from nas.task.token_store import TokenStore, stored

if TYPE_CHECKING:
    from torch import Tensor

    from nas.search.recipe import Unit
    from nas.task.task import Scores

LOSS = Metric("loss", "minimize", "nats")
PERPLEXITY = Metric("perplexity", "minimize", "1")
BLEU = Metric("bleu", "maximize", "points")
CHRF = Metric("chrf", "maximize", "points")

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


class TextOptions(LengthOptions):
    """What tasks can be told that learn their pieces."""

    vocabulary: Vocabulary = 10_000


class Multi30kOptions(TextOptions):
    """29,000 short sentences: fewer pieces, so that each is seen often enough to be learnt."""

    vocabulary: Vocabulary = 4_000


class ParallelTextOptions(TextOptions):
    """Files {train,valid,test}.SOURCE and .TARGET in a folder, one sentence a line."""

    path: Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
    """The folder; absolute, or under `NAS_DATA_DIR`."""
    source: Language
    """How the names of the files to translate from end."""
    target: Language
    """How the names of the files to translate into end."""

    @model_validator(mode="after")
    def _two_languages(self) -> Self:
        check_languages(self.source, self.target)
        return self


def check_languages(source: str, target: str) -> None:
    """Raises `ValueError` where both sides are the same files."""
    if source == target:
        raise ValueError(f"source and target are both {source!r}; name two files a split")


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
        return text_shape(options, options.vocabulary, options.vocabulary)

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


def text_shape(
    options: LengthOptions, source: int, target: int, one_vocabulary: bool = True
) -> TextShape:
    """The shape of a task whose sides have so many pieces, by default the same ones."""
    return TextShape(
        source,
        target,
        options.source_length,
        options.target_length,
        options.length_ratio,
        options.length_margin,
        one_vocabulary,
    )


def limits(options: LengthOptions) -> LengthLimits:
    """Which training pairs these options keep."""
    return LengthLimits(options.max_length, options.length_ratio, options.length_margin)


class ParallelText(TextTask):
    """A user's own parallel files: those of validation choose, those of the test come last."""

    name = "parallel_text"
    options_model: type[TextOptions] = ParallelTextOptions

    def _files(self, options: Any, root: Path, split: str) -> ParallelFiles:
        return ParallelFiles.of(root / options.path, split, options.source, options.target)

    def load(self, options: Any, root: Path, /) -> TextData:
        """Cuts and maps the training and validation files, once; the test files when asked for.

        Raises:
            DataError: naming file and line, or the files that are missing.
            SpecError: if the training text has fewer pieces than `vocabulary`.
        """
        train, valid, test = (self._files(options, root, split) for split in SPLITS)
        subwords = learnt(train.survey()[1], train.chunks(), options.vocabulary)
        return text_data(
            _stored(train, subwords, allow_empty=True),
            _stored(valid, subwords, allow_empty=False),
            subwords,
            limits(options),
            partial(_stored, test, subwords, allow_empty=False),
        )

    def held_out(self, options: Any, root: Path, /) -> int:
        """The lines of the validation files, which must be as many; the others must be there."""
        _, valid, _ = (self._files(options, root, split) for split in SPLITS)
        return valid.survey()[0]

    def prepare(self, options: Any, root: Path, /) -> str:
        """Says what there is, or what is wanted; nothing can be downloaded."""
        found = {split: self._files(options, root, split) for split in SPLITS}
        told = ", ".join(f"{each.survey()[0]:,} in {split}" for split, each in found.items())
        return f"{self.name}: complete in {found['train'].source.parent}: pairs {told}"


def _stored(files: ParallelFiles, subwords: Subwords, *, allow_empty: bool) -> TokenStore:
    _, content = files.survey()
    return stored(content, subwords, files.chunks(allow_empty))


class PublicCorpus(ParallelText):
    """A corpus of English and German that `prepare` downloads; translated into German."""

    def __init__(self, name: str, options_model: type[TextOptions], corpus: corpora.Corpus) -> None:
        self.name, self.options_model, self.corpus = name, options_model, corpus

    def _files(self, _options: Any, root: Path, split: str) -> ParallelFiles:
        return ParallelFiles.of(root / self.name, split, "en", "de")

    def prepare(self, options: Any, root: Path, /) -> str:
        """Downloads the splits that are missing; nothing is half-written if that fails."""
        fetched = corpora.fetch(self.corpus, root / self.name)
        told = f"{self.name}: downloaded {', '.join(fetched)}; " if fetched else ""
        return told + super().prepare(options, root)


WMT14_EN_DE = PublicCorpus("wmt14_en_de", TextOptions, corpora.WMT14)
MULTI30K_EN_DE = PublicCorpus("multi30k_en_de", Multi30kOptions, corpora.MULTI30K)
PARALLEL_TEXT = ParallelText()
