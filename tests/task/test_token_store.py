"""Are ids kept on disk whole, once, and as they were, whatever happens while they are written?"""

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from nas.errors import DataError
from nas.task.cache import built, cache_root
from nas.task.parallel_text import Chunk
from nas.task.subwords import learn
from nas.task.token_store import TokenLines, stored
from tests.task.small_corpus import sentence_pairs

PAIRS = sentence_pairs(200, 0)
SUBWORDS = learn([line for pair in PAIRS for line in pair], 300)


def chunks(size: int = 64) -> list[Chunk]:
    parts = [PAIRS[start : start + size] for start in range(0, len(PAIRS), size)]
    return [([one for one, _ in part], [other for _, other in part]) for part in parts]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("NAS_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "etnas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "etnas"


@pytest.mark.parametrize("size", [1, 64, 200])
def test_lines_are_the_ids_of_the_sentences(size: int) -> None:
    store = stored("content", SUBWORDS, chunks(size))
    for side, lines in enumerate((store.source, store.target)):
        ids = SUBWORDS.encode([pair[side] for pair in PAIRS])
        assert len(lines) == len(PAIRS)
        assert [lines.line(position) for position in range(len(lines))] == ids
        assert lines.lengths.tolist() == list(map(len, ids))
        assert lines.tokens.dtype == numpy.uint16
        assert isinstance(lines.tokens, numpy.memmap)


def test_large_vocabularies_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SUBWORDS), "vocabulary", 1 << 17)
    monkeypatch.setattr(SUBWORDS, "encode", lambda lines: [[70_000, 5]] * len(lines))
    store = stored("large", SUBWORDS, chunks())
    assert store.target.tokens.dtype == numpy.int32
    assert store.target.line(3) == [70_000, 5]


def test_empty_lines_are_marked_and_kept() -> None:
    store = stored("empty", SUBWORDS, [(["a", "", " \t"], ["b", "c", "d"])])
    assert store.source.empty.tolist() == [False, True, True]
    assert store.target.empty.tolist() == [False, False, False]
    assert store.source.line(1) == []


def test_padded_lines_have_their_marks() -> None:
    lines = TokenLines(
        numpy.array([7, 8, 9, 5], numpy.uint16), numpy.array([0, 3, 3, 4]), numpy.zeros(3, bool)
    )
    grid = lines.padded(numpy.array([2, 0, 1]), before=(0,), after=2, pad=1)
    assert grid.dtype == numpy.int64
    assert grid.tolist() == [[0, 5, 2, 1, 1], [0, 7, 8, 9, 2], [0, 2, 1, 1, 1]]
    assert lines.padded(numpy.array([1]), before=(), after=2, pad=1).tolist() == [[2]]


def test_a_store_is_made_once_for_the_same_content(cache: Path) -> None:
    made: list[int] = []

    def counted() -> Iterator[Chunk]:
        made.append(1)
        yield from chunks()

    one, again = stored("content", SUBWORDS, counted()), stored("content", SUBWORDS, counted())
    assert one.folder == again.folder
    assert len(made) == 1
    others = [stored("other", SUBWORDS, counted()), stored("content", learn(["ab"], 260), chunks())]
    assert len({one.folder, *(other.folder for other in others)}) == 3
    sent = pickle.loads(pickle.dumps(one))
    assert sent.source.line(5) == one.source.line(5)
    assert cache in one.folder.parents


@pytest.mark.parametrize("spoil", ["cut", "missing", "other"])
def test_a_damaged_store_is_named(spoil: str) -> None:
    store = stored("content", SUBWORDS, chunks())
    file = store.folder / "source.tokens.npy"
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif spoil == "missing":
        file.unlink()
    else:
        numpy.save(file, numpy.zeros(3, numpy.uint16))
    with pytest.raises(DataError, match=rf"{store.folder}: damaged .*delete it"):
        _ = store.source


def test_what_fails_half_way_leaves_nothing(cache: Path) -> None:
    def broken() -> Iterator[Chunk]:
        yield chunks()[0]
        raise DataError("line 65 is no UTF-8")

    with pytest.raises(DataError, match=r"^line 65 is no UTF-8$"):
        stored("content", SUBWORDS, broken())
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".lock"]
    assert len(stored("content", SUBWORDS, chunks()).source) == len(PAIRS)


# Says when it starts and when it has written one file, and goes on when it is told to.
SLOW = """
import sys
from pathlib import Path
from nas.task.cache import built
def build(folder):
    (folder / "one").write_text("1")
    print("half", flush=True)
    sys.stdin.readline()
    (folder / "two").write_text("2")
print("start", flush=True)
print(built("kind", "digest", build))
"""


def slow_builder() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{SLOW}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_builder_that_is_killed_leaves_no_entry_and_no_rubbish(cache: Path) -> None:
    with slow_builder() as builder:
        assert builder.stdout is not None
        assert [builder.stdout.readline() for _ in range(2)] == ["start\n", "half\n"]
        builder.send_signal(signal.SIGKILL)
    assert len(list((cache / "kind").glob(".digest.*"))) == 1
    assert not (cache / "kind" / "digest").exists()
    folder = built("kind", "digest", lambda made: (made / "new").touch())
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["digest", "digest.lock"]


def test_of_two_processes_one_builds_and_both_have_it(cache: Path) -> None:
    with slow_builder() as one, slow_builder() as other:
        for builder in (one, other):
            assert builder.stdout is not None
            assert builder.stdout.readline() == "start\n"
        said = []
        for builder in (one, other):
            assert builder.stdin is not None
            builder.stdin.write("\n")
            builder.stdin.flush()
        for builder in (one, other):
            assert builder.stdout is not None
            said += builder.stdout.read().splitlines()
    folder = cache / "kind" / "digest"
    assert sorted(said) == [str(folder), str(folder), "half"]
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be built .*set NAS_CACHE_DIR"):
        stored("content", SUBWORDS, chunks())
