"""Is every text its pieces and back again, and are the pieces the same wherever they are learnt?"""

import os
import pickle
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import DataError, SpecError
from nas.task.cache import cache_root
from nas.task.parallel_text import ParallelFiles
from nas.task.subwords import LEAST_VOCABULARY, SPECIALS, Subwords, learn, learnt
from tests.task.small_corpus import real_text, sentence_pairs

LINES = list(chain.from_iterable(sentence_pairs(300, 0)))
SMALL = learn(LINES, 325)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    (ids,) = SMALL.encode([text])
    assert SMALL.decode(ids) == text
    assert all(len(SPECIALS) <= each < SMALL.vocabulary for each in ids)


@pytest.mark.parametrize("text", ["", " ", "  two", "</s>", "a <s><pad> b </s>", "<unk>", "\x00\n"])
def test_texts_that_look_like_marks_come_back(text: str) -> None:
    (ids,) = SMALL.encode([text])
    assert SMALL.decode([0, *ids, 2, 1, 1]) == text
    assert min(ids, default=4) >= 4
    assert (ids == []) == (text == "")


def test_a_word_is_the_same_piece_wherever_it_stands() -> None:
    alone, twice = SMALL.encode(["Haus", "Haus Haus"])
    assert twice == alone * 2


def test_a_broken_character_is_shown_as_one() -> None:
    (ids,) = SMALL.encode(["🙂"])
    assert "\ufffd" in SMALL.decode(ids[:-1])


def test_the_vocabulary_is_as_asked() -> None:
    assert SMALL.vocabulary == 325
    assert learn(LINES, LEAST_VOCABULARY).vocabulary == LEAST_VOCABULARY
    with pytest.raises(SpecError, match=r"task\.vocabulary: 5000 given.* 260 to \d+ allowed"):
        learn(LINES, 5000)


@pytest.mark.parametrize("left", [0, 3000, -3])
def test_damaged_pieces_are_named(left: int) -> None:
    def chunks() -> list[tuple[list[str], list[str]]]:
        return [(["one two three"] * 30, ["eins zwei drei"] * 30)]

    first = learnt(f"damaged {left}", chunks(), 270)
    (file,) = (
        each
        for each in cache_root().glob("subwords/*/tokenizer.json")
        if each.read_text(encoding="utf-8") == first.text
    )
    os.truncate(file, left % file.stat().st_size)
    with pytest.raises(DataError, match=rf"{file.parent}: damaged .*delete it"):
        learnt(f"damaged {left}", chunks(), 270)
    shutil.rmtree(file.parent)
    assert learnt(f"damaged {left}", chunks(), 270).text == first.text
    shutil.rmtree(file.parent)


def test_a_line_without_end_holds_nobody_up() -> None:
    # Three million times one letter took minutes.
    endless = learn([*LINES, "x" * 3_000_000], 310)
    assert endless.text == learn([*LINES, "x" * 4096], 310).text
    assert endless.decode(endless.encode(["x" * 5000])[0]) == "x" * 5000


def test_pieces_are_learnt_from_the_lines() -> None:
    (ids,) = SMALL.encode(["Straße nicht"])
    assert len(ids) == 2
    assert len(learn(["abc"], 260).encode(["Straße nicht"])[0]) == len(" Straße nicht".encode())


def test_the_text_is_all_there_is() -> None:
    sent: Subwords = pickle.loads(pickle.dumps(SMALL))
    for again in (sent, Subwords(SMALL.text)):
        assert again.digest == SMALL.digest
        assert again.encode(LINES) == SMALL.encode(LINES)
    assert learn(LINES, 320).digest != SMALL.digest


@pytest.mark.parametrize("threads", ["1", "3"])
def test_learning_again_gives_the_same(threads: str) -> None:
    code = "from tests.task import test_subwords as here; print(here.learn(here.LINES, 325).digest)"
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == SMALL.digest, done.stderr


def test_every_line_of_newstest2013_comes_back() -> None:
    folder = real_text("wmt14_en_de") / "wmt14_en_de"
    files = ParallelFiles.of(folder, "valid", "en", "de")
    lines = [line for pair in files.chunks() for side in pair for line in side]
    assert len(lines) == 6_000
    subwords = learn(lines, 1_000)
    for line, ids, foreign in zip(lines, subwords.encode(lines), SMALL.encode(lines), strict=True):
        assert subwords.decode(ids) == line
        assert SMALL.decode(foreign) == line


def test_real_data_are_missed_only_where_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="wmt14_en_de is not there"):
        real_text("wmt14_en_de")
    monkeypatch.delenv("NAS_DATA_DIR")
    with pytest.raises(pytest.skip.Exception):
        real_text("wmt14_en_de")
