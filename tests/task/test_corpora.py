"""Are the public corpora put together as they are known, and is what a failed try leaves whole?"""

import gzip
import io
import tarfile
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nas.errors import DataError
from nas.task.corpora import MULTI30K, WMT14, Corpus, fetch
from nas.task.parallel_text import SPLITS

Opener = Callable[[str], object]

NAMES = [f"{split}.{language}" for split in SPLITS for language in ("en", "de")]


def tar(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def sgm(*texts: str) -> bytes:
    rows = (f'<seg id="{number}">{text}</seg>' for number, text in enumerate(texts, 1))
    return lines('<srcset setid="newstest" srclang="any">', "<doc>", *rows, "</doc>", "</srcset>")


MADE_OF_WMT14 = {
    "training-parallel-europarl-v7.tgz": tar(
        {
            "training/europarl-v7.de-en.de": lines("Wiederaufnahme", ""),
            "training/europarl-v7.de-en.en": lines("Resumption", "An empty one"),
            "training/europarl-v7.fr-en.en": lines("of no use"),
        }
    ),
    "training-parallel-commoncrawl.tgz": tar(
        {
            "commoncrawl.de-en.de": lines("Iron", "\u2028"),
            "commoncrawl.de-en.en": lines("Iron", "x"),
        }
    ),
    "training-parallel-nc-v9.tgz": tar(
        {
            "training/news-commentary-v9.de-en.de": lines("Gold zu 10.000 Dollar?"),
            "training/news-commentary-v9.de-en.en": lines("$10,000 Gold?"),
        }
    ),
    "test.tgz": tar(
        {
            "test/newstest2013-src.en.sgm": sgm("A  strategy ", "Two"),
            "test/newstest2013-src.de.sgm": sgm("Eine Strategie", "Zwei"),
        }
    ),
    "test-full.tgz": tar(
        {
            "test-full/newstest2014-deen-src.en.sgm": sgm("Standard &amp; Poor's"),
            "test-full/newstest2014-deen-ref.de.sgm": sgm("Standard & Poor's"),
            "test-full/newstest2014-deen-src.de.sgm": sgm("not this one"),
        }
    ),
}
SMALL_WMT14 = replace(WMT14, pairs={"train": 5, "valid": 2, "test": 1})
MADE_OF_MULTI30K = {
    f"{name}.{language}.gz": gzip.compress(lines(f"{name} {language}"))
    for name in ("train", "val", "test_2016_flickr")
    for language in ("en", "de")
}
SMALL_MULTI30K = replace(MULTI30K, pairs=dict.fromkeys(SPLITS, 1))


class Web:
    """Gives what it has under the last word of a URL, and keeps the URLs asked for."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content, self.asked = dict(content), []  # type: tuple[dict[str, bytes], list[str]]

    @contextmanager
    def __call__(self, url: str) -> Iterator[io.BytesIO]:
        self.asked.append(url)
        name = url.rpartition("/")[2]
        if name not in self.content:
            raise urllib.error.URLError("no route to host")
        yield io.BytesIO(self.content[name])


def test_wmt14_is_its_three_corpora_in_order_and_two_test_sets(tmp_path: Path) -> None:
    web, folder = Web(MADE_OF_WMT14), tmp_path / "wmt14_en_de"
    assert fetch(SMALL_WMT14, folder, web) == SPLITS
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    read = {name: (folder / name).read_bytes() for name in NAMES}
    assert read["train.en"] == lines("Resumption", "An empty one", "Iron", "x", "$10,000 Gold?")
    german = ("Wiederaufnahme", "", "Iron", "\u2028", "Gold zu 10.000 Dollar?")
    assert read["train.de"] == lines(*german)
    assert (read["valid.en"], read["valid.de"]) == (
        lines("A strategy", "Two"),
        lines("Eine Strategie", "Zwei"),
    )
    assert read["test.en"] == read["test.de"] == lines("Standard & Poor's")
    # Each archive once, although both languages are in it.
    assert len(web.asked) == len(set(web.asked)) == 5
    assert all(url.startswith("https://www.statmt.org/wmt1") for url in web.asked)
    assert fetch(SMALL_WMT14, folder, Web({})) == ()


def test_multi30k_is_six_packed_files(tmp_path: Path) -> None:
    web = Web(MADE_OF_MULTI30K)
    assert fetch(SMALL_MULTI30K, tmp_path, web) == SPLITS
    assert {name: (tmp_path / name).read_text() for name in NAMES} == {
        "train.en": "train en\n",
        "train.de": "train de\n",
        "valid.en": "val en\n",
        "valid.de": "val de\n",
        "test.en": "test_2016_flickr en\n",
        "test.de": "test_2016_flickr de\n",
    }
    assert len(web.asked) == 6


def test_files_that_are_there_are_left_alone(tmp_path: Path) -> None:
    for name in ("train.en", "train.de", "valid.en"):
        (tmp_path / name).write_text("mine\n")
    said = (
        rf"{tmp_path}/valid\.en is there without its other language and is not what is downloaded"
    )
    with pytest.raises(DataError, match=said):
        fetch(SMALL_MULTI30K, tmp_path, Web(MADE_OF_MULTI30K))
    assert {path.name for path in tmp_path.iterdir()} == {"train.en", "train.de", "valid.en"}
    # As a download leaves it that was killed between two files.
    (tmp_path / "valid.en").write_text("val en\n")
    assert fetch(SMALL_MULTI30K, tmp_path, Web(MADE_OF_MULTI30K)) == ("valid", "test")
    assert (tmp_path / "train.de").read_text() == "mine\n"
    assert (tmp_path / "valid.de").read_text() == "val de\n"


def test_what_a_killed_download_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".download-killed"
    left.mkdir()
    (left / "train-0-en").write_text("half")
    assert fetch(SMALL_MULTI30K, tmp_path, Web(MADE_OF_MULTI30K)) == SPLITS
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbage(_: bytes) -> bytes:
    return b"<html>moved</html>"


def other(_: bytes) -> bytes:
    return tar({"training/README": b"nothing"})


FAULTS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("training-parallel-nc-v9.tgz", cut, "could not be downloaded"),
    ("training-parallel-nc-v9.tgz", garbage, "not a gzip file"),
    ("training-parallel-nc-v9.tgz", other, "news-commentary-v9"),
    ("test-full.tgz", lambda _: MADE_OF_WMT14["test.tgz"], "newstest2014"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), FAULTS)
def test_a_broken_archive_leaves_whole_splits_alone(
    tmp_path: Path, name: str, spoil: Callable[[bytes], bytes], said: str
) -> None:
    web = Web(MADE_OF_WMT14)
    web.content[name] = spoil(web.content[name])
    with pytest.raises(DataError, match=said):
        fetch(SMALL_WMT14, tmp_path, web)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == (set(NAMES[:4]) if name == "test-full.tgz" else set())
    assert fetch(SMALL_WMT14, tmp_path, Web(MADE_OF_WMT14))[-1] == "test"
    assert (tmp_path / "test.de").read_text() == "Standard & Poor's\n"


@pytest.mark.parametrize(
    ("corpus", "content", "url"),
    [
        (SMALL_WMT14, MADE_OF_WMT14, "https://www.statmt.org/wmt14/test-full.tgz"),
        (SMALL_MULTI30K, MADE_OF_MULTI30K, "data/task1/raw/test_2016_flickr.de.gz"),
    ],
)
def test_without_a_network_it_says_what_it_wants_where(
    tmp_path: Path, corpus: Corpus, content: dict[str, bytes], url: str
) -> None:
    web = Web({name: packed for name, packed in content.items() if "test" not in name})
    folder = tmp_path / corpus.name
    with pytest.raises(DataError) as caught:
        fetch(corpus, folder, web)
    text = str(caught.value)
    assert f"{corpus.name} could not be downloaded (<urlopen error no route to host>)" in text
    missing = [name for name in NAMES if not (folder / name).exists()]
    assert missing[-2:] == ["test.en", "test.de"]
    assert "train.en" not in missing
    assert f"wanted in {folder} (or where NAS_DATA_DIR says): {', '.join(missing)}, one" in text
    assert url in text


def test_a_download_of_nothing_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "multi30k_en_de"
    with pytest.raises(DataError, match=f"wanted in {folder} .*: {', '.join(NAMES)}, one"):
        fetch(SMALL_MULTI30K, folder, Web({}))
    assert not folder.exists()


def test_another_number_of_pairs_than_is_known_is_refused(tmp_path: Path) -> None:
    corpus = replace(SMALL_WMT14, pairs={"train": 6, "valid": 2, "test": 1})
    with pytest.raises(DataError, match="5 pairs in train, 6 are known"):
        fetch(corpus, tmp_path, Web(MADE_OF_WMT14))
    content = dict(MADE_OF_MULTI30K, **{"val.de.gz": gzip.compress(lines("one", "two"))})
    with pytest.raises(DataError, match=r"has 1 lines and .* has 2"):
        fetch(SMALL_MULTI30K, tmp_path, Web(content))
    assert {path.name for path in tmp_path.iterdir()} == {"train.en", "train.de"}


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(SMALL_MULTI30K, tmp_path / "file", Web(MADE_OF_MULTI30K))
