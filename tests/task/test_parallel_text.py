"""Are two parallel files read as they are, and is what is wrong with them named?"""

from pathlib import Path

import pytest

from nas.errors import DataError
from nas.task import parallel_text
from nas.task.parallel_text import ParallelFiles

# Other line ends than LF are text, and so is white space at either end.
ODD = [
    "plain",
    "",
    " lead and trail ",
    "\u2028para\u2029graph",
    "next\x85line",
    "a\rb\tc\x0b",
    "ß🙂",
]


def pair(folder: Path, source: bytes, target: bytes) -> ParallelFiles:
    (folder / "train.en").write_bytes(source)
    (folder / "train.de").write_bytes(target)
    return ParallelFiles.of(folder, "train", "en", "de")


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("ended", [True, False])
def test_lines_are_read_in_order_and_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, ended: bool
) -> None:
    monkeypatch.setattr(parallel_text, "CHUNK_LINES", chunk)
    others = [*reversed(ODD[1:]), "end"]
    source, target = text(ODD), text(others)
    files = pair(tmp_path, *((source, target) if ended else (source[:-1], target[:-1])))
    chunks = list(files.chunks())
    assert [line for one, _ in chunks for line in one] == ODD
    assert [line for _, other in chunks for line in other] == others
    assert files.survey()[0] == len(ODD)


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.en").touch()
    with pytest.raises(DataError) as caught:
        ParallelFiles.of(tmp_path, "train", "en", "de")
    wanted = "train.{en,de}, valid.{en,de}, test.{en,de}"
    assert str(caught.value) == f"{tmp_path}: no train.de; wanted there: {wanted}"
    with pytest.raises(DataError, match=r"no valid\.en and no valid\.de"):
        ParallelFiles.of(tmp_path, "valid", "en", "de")


def test_unequal_line_counts_are_told(tmp_path: Path) -> None:
    files = pair(tmp_path, b"one\n" * 1200, b"eins\n" * 1199)
    with pytest.raises(DataError, match=r"train\.en has 1,200 lines and .*train\.de has 1,199"):
        files.survey()
    # A last line without its end is a line.
    assert pair(tmp_path, b"one\n" * 3, b"eins\n" * 2 + b"zwei").survey()[0] == 3
    with pytest.raises(DataError, match=r"train\.de are empty"):
        pair(tmp_path, b"", b"").survey()


@pytest.mark.parametrize("chunk", [2, 100])
def test_the_line_that_is_no_utf8_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(parallel_text, "CHUNK_LINES", chunk)
    files = pair(tmp_path, b"a\nb\nc\nd\n", b"a\nb\nc\nStra\xdfe\n")
    with pytest.raises(DataError, match=rf"{tmp_path}/train\.de:4: not UTF-8"):
        list(files.chunks())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbfa\n", r"train\.en: starts with a byte-order mark"),
        (b"a\nb\r\n", r"train\.en:2: the line end is CRLF"),
    ],
)
def test_other_kinds_of_text_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=f"{said}.*LF line ends"):
        list(pair(tmp_path, content, b"b\n").chunks())


@pytest.mark.parametrize("blank", [b"", b" \t", "\u2003".encode()])
def test_an_empty_line_is_named_where_none_may_be(tmp_path: Path, blank: bytes) -> None:
    files = pair(tmp_path, b"a\nb\nc\n", b"a\nb\n" + blank + b"\n")
    assert len(list(files.chunks())) == 1
    with pytest.raises(DataError, match=r"train\.de:3: an empty line"):
        list(files.chunks(allow_empty=False))


def test_the_digest_is_of_both_contents_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, same = pair(tmp_path, b"a\n", b"b\n"), pair(tmp_path / "other", b"a\n", b"b\n")
    assert one.survey() == same.survey()
    digests = {one.survey()[1]}
    for source, target in ((b"a\n", b"c\n"), (b"b\n", b"b\n"), (b"b\n", b"a\n")):
        digests.add(pair(tmp_path, source, target).survey()[1])
    assert len(digests) == 4
