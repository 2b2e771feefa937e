"""Which texts are to be translated? WMT14, Multi30k, or somebody's own pair of parallel files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.task import corpora
from nas.task.parallel_text import SPLITS, ParallelFiles
from nas.task.subwords import Subwords, learnt
from nas.task.text_task import CorpusTask, FolderOptions, LengthOptions, TextOptions, Vocabulary
from nas.task.token_store import TokenStore, stored


class Multi30kOptions(TextOptions):
    """29,000 short sentences: fewer pieces, so that each is seen often enough to be learnt."""

    vocabulary: Vocabulary = 4_000


class ParallelTextOptions(FolderOptions, TextOptions):
    """Files {train,valid,test}.SOURCE and .TARGET in a folder, one sentence a line."""


@dataclass(frozen=True)
class ParallelCorpus:
    """Parallel files, cut into pieces that are learnt from those of training."""

    folder: Path
    files: Mapping[str, ParallelFiles]
    vocabulary: int

    @classmethod
    def of(cls, folder: Path, source: str, target: str, vocabulary: int) -> ParallelCorpus:
        """Raises `DataError` naming the files that are missing."""
        files = {split: ParallelFiles.of(folder, split, source, target) for split in SPLITS}
        return cls(folder, files, vocabulary)

    def pairs(self, split: str) -> int:
        """The lines of both files."""
        return self.files[split].survey()[0]

    def pieces(self) -> Subwords:
        """Learnt once; raises `SpecError` if the text has fewer."""
        train = self.files["train"]
        return learnt(train.survey()[1], train.chunks(), self.vocabulary)

    def stored(self, split: str, pieces: Subwords) -> TokenStore:
        """A split in the cache."""
        files = self.files[split]
        return stored(files.survey()[1], pieces, files.chunks(allow_empty=split == "train"))


class ParallelText(CorpusTask):
    """A user's own parallel files."""

    name = "parallel_text"
    options_model: type[LengthOptions] = ParallelTextOptions

    def corpus(self, options: Any, root: Path) -> ParallelCorpus:
        """The files in the folder of the options."""
        folder = root / options.path
        return ParallelCorpus.of(folder, options.source, options.target, options.vocabulary)


class PublicCorpus(CorpusTask):
    """A corpus of English and German that `prepare` downloads; translated into German."""

    def __init__(self, name: str, options_model: type[TextOptions], source: corpora.Corpus) -> None:
        self.name, self.options_model, self.source = name, options_model, source

    def corpus(self, options: Any, root: Path) -> ParallelCorpus:
        """The files in the folder of this name."""
        return ParallelCorpus.of(root / self.name, "en", "de", options.vocabulary)

    def prepare(self, options: Any, root: Path, /) -> str:
        """Downloads the splits that are missing, each whole; then cuts and counts all."""
        fetched = corpora.fetch(self.source, root / self.name)
        told = f"{self.name}: downloaded {', '.join(fetched)}; " if fetched else ""
        corpus, known = self.corpus(options, root), self.source.pairs
        others = ", ".join(
            f"{split} ({known[split]:,})" for split in SPLITS if corpus.pairs(split) != known[split]
        )
        note = f"; not the published number of pairs: {others}" if others else ""
        return told + super().prepare(options, root) + note


WMT14_EN_DE = PublicCorpus("wmt14_en_de", TextOptions, corpora.WMT14)
MULTI30K_EN_DE = PublicCorpus("multi30k_en_de", Multi30kOptions, corpora.MULTI30K)
PARALLEL_TEXT = ParallelText()
