"""Where are the ids of a corpus? In arrays on disk that are mapped, not read, into memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy
from numpy.typing import NDArray

from nas.errors import DataError
from nas.space.digest import digest
from nas.task.cache import built
from nas.task.parallel_text import Chunk, is_empty
from nas.task.subwords import Subwords

Ints = NDArray[Any]

SIDES = ("source", "target")
# Another layout of the arrays is another entry of the cache.
FORMAT = 1


@dataclass(frozen=True)
class TokenStore:
    """The pieces of every pair of a corpus, without BOS and EOS, in the files of one folder.

    A pickle names the folder only. Nothing is left out: an empty line has no pieces.
    """

    folder: Path

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    @cached_property
    def source(self) -> TokenLines:
        """The lines of the source."""
        return TokenLines.read(self.folder, SIDES[0])

    @cached_property
    def target(self) -> TokenLines:
        """The lines of the target."""
        return TokenLines.read(self.folder, SIDES[1])


@dataclass(frozen=True, eq=False)
class TokenLines:
    """`tokens` of all lines, one after the other, and `offsets` (N + 1,) int64 of their starts.

    `empty` (N,) bool are the lines without a character other than white space.
    """

    tokens: Ints
    offsets: NDArray[numpy.int64]
    empty: NDArray[numpy.bool_]

    @classmethod
    def read(cls, folder: Path, side: str) -> TokenLines:
        """One side of a store, mapped; raises `DataError` for a damaged one."""
        try:
            arrays = [
                numpy.load(folder / f"{side}.{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("tokens", "offsets", "empty")
            ]
            lines = cls(*arrays)
            if len(lines.offsets) != len(lines.empty) + 1 or lines.offsets[-1] != len(lines.tokens):
                raise ValueError(f"the arrays of the {side} do not belong together")
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{folder}: damaged ({error}); delete it, and it is made anew"
            ) from error
        return lines

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[numpy.int64]:
        """(N,) pieces of each line."""
        return numpy.diff(self.offsets)

    def line(self, position: int) -> list[int]:
        """The ids of one line."""
        found: list[int] = self.tokens[self.offsets[position] : self.offsets[position + 1]].tolist()
        return found

    def padded(self, positions: Ints, *, before: Sequence[int], after: int, pad: int) -> Ints:
        """Lines (B, L) int64: `before`, the pieces, `after`, then `pad` up to the longest."""
        lead = len(before)
        pieces = self.lengths[positions]
        ends = lead + pieces
        columns = numpy.arange(int(ends.max()) + 1)
        grid = numpy.full((len(positions), len(columns)), pad, numpy.int64)
        grid[:, :lead] = before
        inside = (columns >= lead) & (columns < ends[:, None])
        places = self.offsets[positions][:, None] + (columns - lead)
        grid[inside] = self.tokens[places[inside]]
        grid[numpy.arange(len(positions)), ends] = after
        return grid


@dataclass(frozen=True, eq=False)
class CutLines:
    """`tokens` of some lines, one after the other, `lengths` (N,) of them, and which are `empty`.

    A line is empty that has no character other than white space, even if it has pieces.
    """

    tokens: Ints
    lengths: Ints
    empty: NDArray[numpy.bool_]


CutChunk = tuple[CutLines, CutLines]


def stored(content: str, subwords: Subwords, chunks: Iterable[Chunk]) -> TokenStore:
    """The store of a corpus of texts, cut into these pieces; see `stored_ids`."""
    cut = ((_cut(subwords, source), _cut(subwords, target)) for source, target in chunks)
    return stored_ids([content, subwords.digest], subwords.vocabulary, cut)


def _cut(subwords: Subwords, sentences: Sequence[str]) -> CutLines:
    ids = subwords.encode(sentences)
    lengths = numpy.fromiter(map(len, ids), numpy.int64, len(ids))
    tokens = numpy.fromiter(chain.from_iterable(ids), numpy.int64, lengths.sum())
    return CutLines(tokens, lengths, numpy.fromiter(map(is_empty, sentences), bool, len(ids)))


def stored_ids(key: Sequence[str], vocabulary: int, chunks: Iterable[CutChunk]) -> TokenStore:
    """The store of a corpus, read from the cache or made of `chunks` and kept there.

    `key` are digests of what `chunks` will give, ids below `vocabulary`; what they raise goes
    through.
    """

    def build(folder: Path) -> None:
        _binarise(folder, vocabulary, chunks)

    return TokenStore(built("tokens", digest([FORMAT, *key]), build))


def _binarise(folder: Path, vocabulary: int, chunks: Iterable[CutChunk]) -> None:
    dtype = numpy.dtype(numpy.uint16 if vocabulary <= 1 << 16 else numpy.int32)
    lengths: tuple[list[Ints], list[Ints]] = ([], [])
    empty: tuple[list[Ints], list[Ints]] = ([], [])
    with (
        (folder / "source.tokens.npy").open("wb") as source,
        (folder / "target.tokens.npy").open("wb") as target,
    ):
        files = (source, target)
        for file in files:
            _head(file, dtype, 0)
        for chunk in chunks:
            for side, lines in enumerate(chunk):
                lines.tokens.astype(dtype).tofile(files[side])
                lengths[side].append(lines.lengths)
                empty[side].append(lines.empty)
        for file, counts in zip(files, lengths, strict=True):
            _head(file, dtype, sum(int(each.sum()) for each in counts))
    for side, name in enumerate(SIDES):
        offsets = numpy.cumsum(numpy.concatenate([[0], *lengths[side]]), dtype=numpy.int64)
        numpy.save(folder / f"{name}.offsets.npy", offsets)
        numpy.save(folder / f"{name}.empty.npy", numpy.concatenate(empty[side]))


def _head(file: BinaryIO, dtype: numpy.dtype[Any], count: int) -> None:
    """Writes the header; numpy leaves room in it, so that the count can be told at the end."""
    file.seek(0)
    described = {"descr": dtype.str, "fortran_order": False, "shape": (count,)}
    numpy.lib.format.write_array_header_1_0(file, described)
    file.flush()
