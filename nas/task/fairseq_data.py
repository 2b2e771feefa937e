"""How is a corpus read that fairseq-preprocess has cut? Id for id, from its binarised folder."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy
from pydantic import Field

from nas.errors import DataError
from nas.space.digest import digest
from nas.space.sentence_pairs import EOS
from nas.space.task_shape import TextShape
from nas.task.dictionaries import Dictionaries, Joined, Tokenizer
from nas.task.parallel_text import CHUNK_LINES, SPLITS
from nas.task.task import data_root
from nas.task.text_task import CorpusTask, FolderOptions
from nas.task.token_store import CutChunk, CutLines, TokenStore, stored_ids

LAYOUT = "dict.LANGUAGE.txt and SPLIT.SOURCE-TARGET.LANGUAGE.{bin,idx} as fairseq-preprocess writes"
SUFFIXES = (".bin", ".idx")
# fairseq's symbols before those of a dictionary's file.
MARKS = 4
# What the dictionaries say of themselves, among the options.
SIZES = ("source_vocabulary", "target_vocabulary", "one_dictionary")
# Other arrays made of the same folder are other data.
FORMAT = 1

Symbols = Annotated[int, Field(gt=MARKS, le=1_000_000)]


class FairseqDataOptions(FolderOptions):
    """A folder that fairseq-preprocess wrote, and how its words are put together again."""

    joined: Joined = "subword_nmt"
    """How pieces become words again, fairseq's --post-process: subword_nmt ("@@ " goes),
    sentencepiece, or none."""
    tokenizer: Tokenizer = "none"
    """What cut words from punctuation before: moses (translations and references are detokenised
    by sacremoses before they are judged) or none."""
    source_vocabulary: Symbols | None = None
    """Symbols of the source's dictionary, four marks included; read from the folder where not
    given."""
    target_vocabulary: Symbols | None = None
    """The same of the target's."""
    one_dictionary: bool | None = None
    """Whether both sides have the same one, as `shared` embeddings want; read where not given."""


class FairseqData(CorpusTask):
    """Somebody's own corpus as fairseq trains on it.

    Texts to translate are symbols of its dictionary with white space between them, as
    fairseq-interactive takes them. What the dictionaries lack is <unk> in the references too.
    Reading the folder takes fairseq; using a network that was trained on it does not.
    """

    name = "fairseq_data"
    options_model = FairseqDataOptions

    def resolved(self, options: FairseqDataOptions, /) -> FairseqDataOptions:
        """The options with the sizes of the dictionaries under `data_root()`, where not given."""
        known = [getattr(options, name) for name in SIZES]
        return _Folder.of(options, data_root()).options if None in known else options

    def shape(self, options: FairseqDataOptions, /) -> TextShape:
        """The vocabularies of the resolved options, and the lengths."""
        known = self.resolved(options)
        source, target = known.source_vocabulary or 0, known.target_vocabulary or 0
        return options.text_shape(source, target, bool(known.one_dictionary))

    def corpus(self, options: FairseqDataOptions, root: Path) -> _Folder:
        """The folder of the options."""
        return _Folder.of(options, root)


FAIRSEQ_DATA = FairseqData()


@dataclass(frozen=True)
class _Folder:
    """A folder whose files for all splits and both dictionaries are there."""

    folder: Path
    languages: tuple[str, str]
    prefixes: dict[str, tuple[str, ...]]
    """What the files' names start with, by split: training may have several, as fairseq reads
    train, train1, train2."""
    options: FairseqDataOptions
    """With the sizes of the dictionaries."""

    @classmethod
    def of(cls, options: FairseqDataOptions, root: Path) -> _Folder:
        """Raises `DataError` naming what is missing."""
        path, languages = root / options.path, (options.source, options.target)
        prefixes = {split: tuple(_prefixes(path, split, languages)) for split in SPLITS}
        source, target = languages
        missing = [
            f"{split}.{source}-{target}.{{{source},{target}}}.{{bin,idx}}"
            for split, found in prefixes.items()
            if not found
        ]
        dictionaries = _dictionaries(path, languages)
        missing += [file.name for file in dictionaries if not file.is_file()]
        if missing:
            raise DataError(f"{path}: no {' and no '.join(missing)}; wanted there: {LAYOUT}")
        return cls(path, languages, prefixes, _sized(options, dictionaries))

    @property
    def dictionaries(self) -> list[Path]:
        """The files of the source's and of the target's dictionary."""
        return _dictionaries(self.folder, self.languages)

    def parts(self, split: str) -> Iterator[tuple[Path, Path]]:
        """What the names of the source's and of the target's files start with, shard by shard."""
        for prefix in self.prefixes[split]:
            source, target = (self.folder / f"{prefix}.{each}" for each in self.languages)
            yield source, target

    def pairs(self, split: str) -> int:
        """How many sentence pairs a split has."""
        return sum(len(_opened(source)) for source, _ in self.parts(split))

    def content(self, split: str) -> str:
        """Tells the files of a split from any others."""
        found = hashlib.sha256()
        for sides in self.parts(split):
            for path in sides:
                for suffix in SUFFIXES:
                    with _named(path), Path(f"{path}{suffix}").open("rb") as file:
                        found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()

    def pieces(self) -> Dictionaries:
        """Both dictionaries; raises `DataError` if they are not what the options say."""
        sides, options = [], self.options
        wanted = (options.source_vocabulary, options.target_vocabulary)
        for file, size in zip(self.dictionaries, wanted, strict=True):
            with _named(file):
                symbols = tuple(_fairseq().Dictionary.load(str(file)).symbols)
            if len(symbols) != size:
                raise DataError(
                    f"{file}: {len(symbols)} symbols, its {MARKS} marks included; {size} given"
                )
            sides.append(symbols)
        source, target = sides
        if options.one_dictionary and source != target:
            one, other = self.dictionaries
            raise DataError(f"{one} and {other} differ; task.one_dictionary: true is given")
        return Dictionaries(source, target, options.joined, options.tokenizer, options.target)

    def stored(self, split: str, pieces: Dictionaries) -> TokenStore:
        """A split in the cache."""
        size = max(len(pieces.sources), len(pieces.targets))
        key = [digest([FORMAT, split == "train", self.content(split)]), pieces.digest]
        return stored_ids(key, size, self._chunks(split, pieces))

    def _chunks(self, split: str, pieces: Dictionaries) -> Iterator[CutChunk]:
        for paths in self.parts(split):
            source, target = map(_opened, paths)
            if len(source) != len(target):
                raise DataError(
                    f"{paths[0]} has {len(source):,} sentences and {paths[1]} has "
                    f"{len(target):,}; as many in both are wanted"
                )
            for first in range(0, len(source), CHUNK_LINES):
                places = range(first, min(first + CHUNK_LINES, len(source)))
                one = _cut(source, places, len(pieces.sources), paths[0])
                other = _cut(target, places, len(pieces.targets), paths[1])
                if split != "train":
                    _refuse_empty(one, first, paths[0])
                    _refuse_empty(other, first, paths[1])
                yield one, other


def _dictionaries(folder: Path, languages: tuple[str, str]) -> list[Path]:
    return [folder / f"dict.{each}.txt" for each in languages]


def _sized(options: FairseqDataOptions, dictionaries: list[Path]) -> FairseqDataOptions:
    """The options with what the dictionaries say of themselves, where not given."""
    contents = []
    for file in dictionaries:
        with _named(file):
            contents.append(file.read_bytes())
    # A line a symbol; what a line says is read, and checked, with the pieces.
    read = (*(MARKS + len(each.splitlines()) for each in contents), contents[0] == contents[1])
    found = dict(zip(SIZES, read, strict=True))
    given = {name: getattr(options, name) for name in SIZES}
    given = {name: value for name, value in given.items() if value is not None}
    return type(options).model_validate(options.model_dump() | found | given)


def _prefixes(path: Path, split: str, languages: tuple[str, str]) -> Iterator[str]:
    """The complete ones; fairseq reads either direction from a folder made for one."""
    source, target = languages
    for shard in count() if split == "train" else (0,):
        name = f"{split}{shard or ''}"
        for prefix in (f"{name}.{source}-{target}", f"{name}.{target}-{source}"):
            files = [f"{prefix}.{each}{suffix}" for each in languages for suffix in SUFFIXES]
            if all((path / file).is_file() for file in files):
                yield prefix
                break
        else:
            return


def _cut(dataset: Any, places: range, vocabulary: int, path: Path) -> CutLines:
    """Some sentences without their end marks."""
    with _named(path):
        ids = [dataset[place].numpy() for place in places]
    lengths = numpy.array([len(each) for each in ids], numpy.int64)
    tokens = numpy.concatenate(ids)
    ends = lengths.cumsum() - 1
    wrong = (lengths == 0) | (tokens[ends] != EOS)
    if wrong.any():
        number = places[int(wrong.argmax())] + 1
        raise DataError(f"{path}: sentence {number} has no </s> at its end; wanted: {LAYOUT}")
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise DataError(
            f"{path}: ids from {tokens.min()} to {tokens.max()}, and its dictionary has "
            f"{vocabulary}; it was cut by another one"
        )
    inside = numpy.ones(len(tokens), numpy.bool_)
    inside[ends] = False
    return CutLines(tokens[inside], lengths - 1, lengths == 1)


def _refuse_empty(lines: CutLines, first: int, path: Path) -> None:
    if lines.empty.any():
        raise DataError(
            f"{path}: sentence {first + int(lines.empty.argmax()) + 1} is empty; validation and "
            "test pairs are never left out, so each needs a sentence"
        )


# -- fairseq ---------------------------------------------------------------------------------------


def _opened(path: Path) -> Any:
    """fairseq's data set of one side, sentence i a tensor (T,) int64 that ends with </s>."""
    indexed = _fairseq().indexed_dataset
    with _named(path):
        kind = indexed.infer_dataset_impl(str(path))
        # What it calls cached has to be told beforehand which sentences will be read.
        kind = "lazy" if kind == "cached" else kind
        found = indexed.make_dataset(str(path), kind, fix_lua_indexing=True)
        if found is None:
            raise ValueError("no index that fairseq knows")
        return found


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file that fairseq stumbles over, which raises what it will."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        told = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read ({told}); wanted: {LAYOUT}") from error


def _fairseq() -> Any:
    """Its module of data sets; raises `DataError` where it is not installed."""
    root = logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import fairseq.data
            import fairseq.data.indexed_dataset
    except ModuleNotFoundError as error:
        raise DataError(
            "task fairseq_data reads its folder by fairseq, and a package is missing here "
            f"({error.name}): pip install -e '.[engine,fairseq]' in an environment of its own, "
            "with a C++ compiler and Python's headers"
        ) from error
    finally:
        # Two of its modules set up the logging of the whole process when they are imported.
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.disable(disabled)
    return fairseq.data
