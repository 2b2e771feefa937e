"""How is a corpus of two languages read? Line by line of both files, which must agree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from nas.errors import DataError

LAYOUT = "one sentence a line in UTF-8 with LF line ends; line i of both files is one pair"
SPLITS = ("train", "valid", "test")
# Enough for all threads of the tokeniser, and little memory.
CHUNK_LINES = 16_384

Chunk = tuple[list[str], list[str]]


@dataclass(frozen=True)
class ParallelFiles:
    """Two files of which line i of one is the translation of line i of the other."""

    source: Path
    target: Path

    @classmethod
    def of(cls, folder: Path, split: str, source: str, target: str) -> ParallelFiles:
        """`folder`/`split`.`source` and .`target`; raises `DataError` naming what is missing."""
        files = cls(folder / f"{split}.{source}", folder / f"{split}.{target}")
        missing = [path.name for path in (files.source, files.target) if not path.is_file()]
        if missing:
            wanted = ", ".join(f"{each}.{{{source},{target}}}" for each in SPLITS)
            raise DataError(f"{folder}: no {' and no '.join(missing)}; wanted there: {wanted}")
        return files

    def survey(self) -> tuple[int, str]:
        """The number of pairs and the SHA-256 of both files' content.

        Raises:
            DataError: naming both files, if their line counts differ or there are none.
        """
        found = [_survey(path) for path in (self.source, self.target)]
        (lines, one), (others, other) = found
        if lines != others:
            raise DataError(
                f"{self.source} has {lines:,} lines and {self.target} has {others:,}; as many in "
                f"both are wanted: {LAYOUT}"
            )
        if not lines:
            raise DataError(f"{self.source} and {self.target} are empty; wanted: {LAYOUT}")
        return lines, hashlib.sha256(f"{one}/{other}".encode()).hexdigest()

    def chunks(self, allow_empty: bool = True) -> Iterator[Chunk]:
        """All pairs in order, some at a time: lines of the source, lines of the target.

        Raises:
            DataError: naming file and line for what is no UTF-8, a byte-order mark or CRLF line
                ends; and for a line of white space, unless `allow_empty`.
        """
        with _opened(self.source) as sources, _opened(self.target) as targets:
            first = 1
            while True:
                pair = (
                    _decoded(self.source, list(islice(sources, CHUNK_LINES)), first),
                    _decoded(self.target, list(islice(targets, CHUNK_LINES)), first),
                )
                if not pair[0]:
                    return
                if not allow_empty:
                    _refuse_empty(self.source, pair[0], first)
                    _refuse_empty(self.target, pair[1], first)
                yield pair
                first += CHUNK_LINES


def is_empty(line: str) -> bool:
    """Whether a line says nothing: no characters, or white space alone."""
    return not line or line.isspace()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _survey(path: Path) -> tuple[int, str]:
    """Lines and SHA-256 of a file; a last line without its end counts too."""
    lines, last, digest = 0, b"\n", hashlib.sha256()
    with _opened(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n"), digest.hexdigest()


def _decoded(path: Path, lines: list[bytes], first: int) -> list[str]:
    """The lines as text without their ends; `first` is the number of the first of them."""
    if not lines:
        return []
    if first == 1 and lines[0].startswith(b"\xef\xbb\xbf"):
        raise DataError(f"{path}: starts with a byte-order mark; wanted: {LAYOUT}")
    whole = b"".join(lines)
    if b"\r\n" in whole:
        number = next(n for n, line in enumerate(lines, first) if line.endswith(b"\r\n"))
        raise DataError(f"{path}:{number}: the line end is CRLF; wanted: {LAYOUT}")
    try:
        text = whole.decode()
    except UnicodeDecodeError:
        for number, line in enumerate(lines, first):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 ({error}); wanted: {LAYOUT}"
                ) from error
        raise
    return text.removesuffix("\n").split("\n")


def _refuse_empty(path: Path, lines: list[str], first: int) -> None:
    for number, line in enumerate(lines, first):
        if is_empty(line):
            raise DataError(
                f"{path}:{number}: an empty line; validation and test pairs are never left out, so "
                "each needs a sentence: complete it, or take the line out of both files"
            )
