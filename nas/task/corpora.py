"""From where do the public corpora come? Their archives, and how their files are made of them."""

from __future__ import annotations

import filecmp
import gzip
import html
import http.client
import re
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import DataError
from nas.task.cache import alone
from nas.task.parallel_text import SPLITS, ParallelFiles

Opener = Callable[[str], AbstractContextManager[Any]]

# The language translated from and that translated into, as file names tell them apart.
SIDES = (("en", "src"), ("de", "ref"))


@dataclass(frozen=True)
class Part:
    """A gzip file to download and, of a tar archive, the member wanted.

    In both, {language} stands for `en` or `de`, and {role} for `src` or `ref`.
    """

    url: str
    member: str = ""


@dataclass(frozen=True)
class Corpus:
    """The parts of each split, one after the other, and how many pairs they are together."""

    name: str
    parts: Mapping[str, tuple[Part, ...]]
    pairs: Mapping[str, int]


_WMT = "https://www.statmt.org"
# As the translation task of 2014 has them; newstest2013 to choose by, newstest2014 to test on.
WMT14 = Corpus(
    "wmt14_en_de",
    {
        "train": (
            Part(
                f"{_WMT}/wmt13/training-parallel-europarl-v7.tgz",
                "training/europarl-v7.de-en.{language}",
            ),
            Part(f"{_WMT}/wmt13/training-parallel-commoncrawl.tgz", "commoncrawl.de-en.{language}"),
            Part(
                f"{_WMT}/wmt14/training-parallel-nc-v9.tgz",
                "training/news-commentary-v9.de-en.{language}",
            ),
        ),
        "valid": (Part(f"{_WMT}/wmt13/test.tgz", "test/newstest2013-src.{language}.sgm"),),
        "test": (
            Part(
                f"{_WMT}/wmt14/test-full.tgz",
                "test-full/newstest2014-deen-{role}.{language}.sgm",
            ),
        ),
    },
    {"train": 4_520_620, "valid": 3_000, "test": 3_003},
)
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
# Elliott et al. 2016; the test set is the one of that year.
MULTI30K = Corpus(
    "multi30k_en_de",
    {
        "train": (Part(f"{_MULTI30K}/train.{{language}}.gz"),),
        "valid": (Part(f"{_MULTI30K}/val.{{language}}.gz"),),
        "test": (Part(f"{_MULTI30K}/test_2016_flickr.{{language}}.gz"),),
    },
    {"train": 29_000, "valid": 1_014, "test": 1_000},
)


def _web(url: str) -> AbstractContextManager[Any]:
    response: AbstractContextManager[Any] = urllib.request.urlopen(url, timeout=60)
    return response


def fetch(corpus: Corpus, folder: Path, opener: Opener = _web) -> tuple[str, ...]:
    """Downloads the splits of which a file is missing into `folder`, and names them.

    Files that are there stay as they are; each new one appears whole, split by split.

    Raises:
        DataError: naming the files that are wanted and where they come from, and a file that is
            there alone and is not the one to download.
    """
    if not (wanted := _wanted(folder)):
        return ()
    made_here = not folder.exists()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.with_name(f".{folder.name}")) as locked:
            folder.mkdir(exist_ok=True)
            for leftover in folder.glob(".download-*") if locked else ():
                shutil.rmtree(leftover, ignore_errors=True)
            # Another process may have been first.
            wanted = _wanted(folder)
            try:
                with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as name:
                    _download(corpus, wanted, folder, Path(name), opener)
            finally:
                # Only an empty folder can be removed: a download that failed leaves none.
                if made_here:
                    with suppress(OSError):
                        folder.rmdir()
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        zlib.error,
        tarfile.TarError,
        http.client.HTTPException,
    ) as why:
        missing = _wanted(folder)
        names = [file.name for split in missing for file in _files(folder, split).values()]
        urls = dict.fromkeys(url for split in missing for url in _urls(corpus, split))
        raise DataError(
            f"{corpus.name} could not be downloaded ({why}); wanted in {folder} (or where "
            f"NAS_DATA_DIR says): {', '.join(names)}, one sentence a line; they are made "
            f"of {', '.join(urls)}"
        ) from why
    return tuple(wanted)


def _wanted(folder: Path) -> list[str]:
    """The splits of which a file is missing."""
    return [each for each in SPLITS if not all(map(Path.is_file, _files(folder, each).values()))]


def _download(
    corpus: Corpus, wanted: Sequence[str], folder: Path, scratch: Path, opener: Opener
) -> None:
    for split in wanted:
        _make(corpus, split, scratch, opener)
        made, files = _files(scratch, split), _files(folder, split)
        for language, file in files.items():
            # Of a download that was killed between two files, one is there.
            if file.exists() and not filecmp.cmp(file, made[language], shallow=False):
                raise DataError(
                    f"{file} is there without its other language and is not what is downloaded; "
                    "complete the pair, or move it away"
                )
        for language, file in files.items():
            made[language].replace(file)


def _files(folder: Path, split: str) -> dict[str, Path]:
    return {language: folder / f"{split}.{language}" for language, _ in SIDES}


def _urls(corpus: Corpus, split: str) -> Iterator[str]:
    for part in corpus.parts[split]:
        yield from (part.url.format(language=language) for language, _ in SIDES)


def _make(corpus: Corpus, split: str, scratch: Path, opener: Opener) -> None:
    """Writes both files of a split; raises `DataError` if they are not what they should be."""
    files = _files(scratch, split)
    for number, part in enumerate(corpus.parts[split]):
        fetched: dict[str, Path] = {}
        for language, role in SIDES:
            url = part.url.format(language=language)
            if url not in fetched:
                fetched[url] = scratch / f"{split}-{number}-{language}"
                with opener(url) as response, fetched[url].open("wb") as out:
                    shutil.copyfileobj(response, out, 1 << 20)
            member = part.member.format(language=language, role=role)
            with _unpacked(fetched[url], member) as content, files[language].open("ab") as out:
                if member.endswith(".sgm"):
                    out.writelines(_segments(content))
                else:
                    shutil.copyfileobj(content, out, 1 << 20)
        for path in fetched.values():
            path.unlink()
    pairs, _ = ParallelFiles(*files.values()).survey()
    if pairs != corpus.pairs[split]:
        raise DataError(f"{pairs:,} pairs in {split}, {corpus.pairs[split]:,} are known")


@contextmanager
def _unpacked(file: Path, member: str) -> Iterator[Any]:
    """The content of a gzip file, or of one member of a tar archive in it."""
    if not member:
        with gzip.open(file) as content:
            yield content
        return
    with tarfile.open(file, "r:gz") as archive:
        found = archive.extractfile(member)
        if found is None:
            raise KeyError(f"{member} is no file in the archive")
        with found:
            yield found


def _segments(content: Any) -> Iterator[bytes]:
    """The sentences of a test set in NIST's SGML, white space made single, one a line."""
    for line in content.read().decode().split("\n"):
        if segment := re.search(r"<seg\b[^>]*>(.*)</seg>", line):
            yield (" ".join(html.unescape(segment[1]).split()) + "\n").encode()
