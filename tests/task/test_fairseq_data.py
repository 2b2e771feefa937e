"""Is a folder of fairseq-preprocess learnt from id for id, and searched like any other text?"""

import io
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
from pydantic import ValidationError

from nas.cli.app import run
from nas.errors import DataError
from nas.search.spec import load_spec
from nas.task.fairseq_data import FAIRSEQ_DATA, FairseqDataOptions
from nas.task.token_store import TokenLines
from tests.cli.terminal import nas, written
from tests.task.small_corpus import sentence_pairs, write
from tests.task.small_numbers import SPACE
from tests.task.text_conformance import TextTaskConformance

MARKS = ("<s>", "<pad>", "</s>", "<unk>")
SIDES = ("en", "de")
SIZES = {"train": 200, "train1": 60, "valid": 40, "test": 30}


def cut(line: str) -> str:
    """Words in pieces of three letters, as subword-nmt writes them."""
    words = ([word[at : at + 3] for at in range(0, len(word), 3)] for word in line.split())
    return " ".join("@@ ".join(pieces) for pieces in words)


def texts() -> dict[str, list[tuple[str, str]]]:
    """Pairs of each split; one training pair has an empty side, and `new` no dictionary knows."""
    found = {split: sentence_pairs(size, seed) for seed, (split, size) in enumerate(SIZES.items())}
    found["train"][7] = (found["train"][7][0], "")
    found["test"][3] = (f"{found['test'][3][0]} new", f"new {found['test'][3][1]}")
    return found


def preprocess(raw: Path, out: Path, *options: str) -> None:
    """fairseq's own command on SPLIT.{en,de}; a second training shard is cut by the same words."""
    names = [f"--{split}pref={raw / split}" for split in ("train", "valid", "test")]
    command = [sys.executable, "-m", "fairseq_cli.preprocess", *names, f"--destdir={out}"]
    languages = ["--source-lang=en", "--target-lang=de", *options]
    done = subprocess.run([*command, *languages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts in pieces, one file a split and side."""
    folder = tmp_path_factory.mktemp("raw")
    for split, pairs in texts().items():
        for side, lines in zip(SIDES, zip(*pairs, strict=True), strict=True):
            write(folder / f"{split}.{side}", [cut(line) for line in lines])
    return folder


@pytest.fixture(scope="session")
def joined(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dictionary, and a second shard of training pairs."""
    folder = tmp_path_factory.mktemp("joined")
    preprocess(raw, folder / "data-bin", "--joined-dictionary")
    known = [f"--{side}dict={folder / 'data-bin' / 'dict.en.txt'}" for side in ("src", "tgt")]
    again = [sys.executable, "-m", "fairseq_cli.preprocess", f"--trainpref={raw / 'train1'}"]
    again += ["--source-lang=en", "--target-lang=de", f"--destdir={folder / 'more'}", *known]
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for file in (folder / "more").glob("train.*"):
        shutil.copy(file, folder / "data-bin" / file.name.replace("train.", "train1.", 1))
    return folder / "data-bin"


@pytest.fixture(scope="session")
def separate(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dictionary a side, words of one sentence left out, in fairseq's older format."""
    folder = tmp_path_factory.mktemp("separate") / "data-bin"
    preprocess(raw, folder, "--dataset-impl=lazy", "--nwordstgt=20")
    return folder


def options_for(folder: Path, source: str = "en", target: str = "de", **given: Any) -> Any:
    return FairseqDataOptions(path=str(folder), source=source, target=target, **given)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.fairseq
class TestFairseqData(TextTaskConformance):
    name = "fairseq_data"

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, joined: Path) -> Path:
        return joined.parent

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, joined: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
        # Without the sentence that has unknown words: their ids are no text's.
        folder = tmp_path_factory.mktemp("known") / "data-bin"
        shutil.copytree(joined, folder)
        for side in SIDES:
            for suffix in ("bin", "idx"):
                name = f"en-de.{side}.{suffix}"
                shutil.copy(folder / f"valid.{name}", folder / f"test.{name}")
        return options_for(folder)


# -- ids -------------------------------------------------------------------------------------------


def ids_of(lines: Sequence[str], dictionary: Path) -> list[list[int]]:
    """What the dictionary's file says, read past fairseq's code and ours."""
    words = [line.rpartition(" ")[0] for line in dictionary.read_text().splitlines()]
    places = {word: place for place, word in enumerate([*MARKS, *words])}
    return [[places.get(word, 3) for word in line.split()] for line in lines]


def lines_of(found: TokenLines) -> list[list[int]]:
    return [found.line(place) for place in range(len(found))]


@pytest.mark.fairseq
@pytest.mark.parametrize("direction", [SIDES, SIDES[::-1]])
@pytest.mark.parametrize("kind", ["joined", "separate"])
def test_every_token_is_the_one_of_the_text(
    raw: Path, kind: str, direction: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    data = FAIRSEQ_DATA.load(options_for(folder, *direction), Path("nowhere"))
    stores = {"train": data.train.store, "valid": data.valid.store, "test": data.test().store}
    shards = {"train": ["train", "train1"] if kind == "joined" else ["train"]}
    unknown = 0
    for split, store in stores.items():
        for side, found in zip(direction, (store.source, store.target), strict=True):
            text = [
                line
                for shard in shards.get(split, [split])
                for line in (raw / f"{shard}.{side}").read_text().split("\n")[:-1]
            ]
            wanted = ids_of(text, folder / f"dict.{side}.txt")
            assert lines_of(found) == wanted
            unknown += sum(ids.count(3) for ids in wanted)
            assert found.tokens.dtype == numpy.uint16
    assert unknown > (0 if kind == "joined" else 20)
    # The pair with an empty side is not learnt from, and is counted.
    assert data.skipped["empty line"] == 1


@pytest.mark.fairseq
def test_references_are_the_texts(joined: Path) -> None:
    data = FAIRSEQ_DATA.load(options_for(joined), Path("nowhere"))
    pairs = texts()["test"]
    assert data.references(data.test()) == [german.replace("new", "<unk>") for _, german in pairs]
    # A text to translate is cut as the corpus is.
    cut_lines = [cut(english).replace("new", "<unk>") for english, _ in pairs]
    assert data.sources(data.test()) == cut_lines
    plain = FAIRSEQ_DATA.load(options_for(joined, joined="none"), Path("nowhere"))
    german = [cut(german).replace("new", "<unk>") for _, german in pairs]
    assert plain.references(plain.test()) == german
    assert plain.digest != data.digest


@pytest.mark.fairseq
def test_shared_embeddings_want_one_dictionary(joined: Path, separate: Path) -> None:
    assert FAIRSEQ_DATA.resolved(options_for(joined)).one_dictionary
    known = FAIRSEQ_DATA.resolved(options_for(separate))
    assert not known.one_dictionary
    shape = FAIRSEQ_DATA.shape(known)
    assert (shape.source_vocabulary, shape.target_vocabulary) == (
        4 + len((separate / "dict.en.txt").read_text().splitlines()),
        4 + len((separate / "dict.de.txt").read_text().splitlines()),
    )
    assert not shape.one_vocabulary


@pytest.mark.fairseq
def test_fairseq_leaves_the_logging_alone(joined: Path) -> None:
    code = (
        "import logging; from pathlib import Path; from nas.task.fairseq_data import *; "
        f"o = FairseqDataOptions(path={str(joined)!r}, source='en', target='de'); "
        "print(FAIRSEQ_DATA.held_out(o, Path()), logging.getLogger().level, logging.root.handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{SIZES['valid']} {logging.WARNING} []\n"
    assert done.stderr == ""


# -- faults ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(joined: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return shutil.copytree(joined, tmp_path / "data-bin")


def refused(folder: Path, message: str, **given: Any) -> None:
    with pytest.raises(DataError, match=message):
        FAIRSEQ_DATA.load(options_for(folder, **given), Path("nowhere"))


@pytest.mark.fairseq
# fairseq's data set is half made when it fails, and its __del__ trips over that.
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", ["bin", "idx"])
def test_files_cut_short_are_named(folder: Path, suffix: str) -> None:
    file = folder / f"valid.en-de.de.{suffix}"
    file.write_bytes(file.read_bytes()[:-40])
    refused(folder, r"valid\.en-de\.de: cannot be read \(.+\); wanted: dict\.LANGUAGE\.txt")
    file.write_bytes(b"")
    refused(folder, r"valid\.en-de\.de: cannot be read")


@pytest.mark.fairseq
def test_a_dictionary_of_another_corpus_is_named(folder: Path) -> None:
    file = folder / "dict.de.txt"
    file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines()[:9]))
    refused(folder, r"train\.en-de\.de: ids from \d+ to \d+, and its dictionary has 13; ")
    file.write_text("no count\n")
    refused(folder, r"dict\.de\.txt: cannot be read \(Incorrect dictionary format")


@pytest.mark.fairseq
def test_options_that_the_dictionaries_contradict_are_refused(folder: Path) -> None:
    refused(
        folder, r"dict\.en\.txt: \d+ symbols, its 4 marks included; 50 given", **given_sizes(50)
    )


@pytest.mark.fairseq
def test_one_dictionary_where_there_are_two_is_refused(separate: Path) -> None:
    sizes = FAIRSEQ_DATA.resolved(options_for(separate)).model_dump()
    given = {**sizes, "one_dictionary": True}
    with pytest.raises(DataError, match=r"dict\.en\.txt and .*dict\.de\.txt differ; .* true is"):
        FAIRSEQ_DATA.load(FairseqDataOptions(**given), Path("nowhere"))


@pytest.mark.fairseq
def test_a_relative_path_is_under_the_data_root(joined: Path) -> None:
    found = FAIRSEQ_DATA.load(options_for(Path(joined.name)), joined.parent)
    assert found.digest == FAIRSEQ_DATA.load(options_for(joined), Path("nowhere")).digest


def given_sizes(size: int) -> dict[str, Any]:
    return {"source_vocabulary": size, "target_vocabulary": size, "one_dictionary": True}


@pytest.mark.fairseq
def test_sides_of_other_lengths_are_refused(folder: Path) -> None:
    for suffix in ("bin", "idx"):
        shutil.copy(folder / f"test.en-de.en.{suffix}", folder / f"valid.en-de.en.{suffix}")
    refused(folder, r"valid\.en-de\.en has 30 sentences and .*valid\.en-de\.de has 40; as many")


@pytest.mark.fairseq
def test_an_empty_sentence_to_choose_by_is_refused(folder: Path) -> None:
    for side in SIDES:
        for suffix in ("bin", "idx"):
            shutil.copy(
                folder / f"train.en-de.{side}.{suffix}", folder / f"valid.en-de.{side}.{suffix}"
            )
    refused(folder, r"valid\.en-de\.de: sentence 8 is empty; validation and test pairs are never")


# -- a whole search --------------------------------------------------------------------------------


@pytest.mark.fairseq
def test_a_search_learns_from_it_and_its_network_translates(
    joined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_DATA_DIR", str(joined.parent))
    spec = {
        "name": "theirs",
        "task": {"name": "fairseq_data", "path": joined.name, "source": "en", "target": "de"},
        "space": SPACE,
        "supernet": {"steps": 20, "batch_tokens": 400},
        "standalone": {"steps": 20, "batch_tokens": 400},
        "strategy": {"name": "evolution", "population": 4},
        "batch": 4,
        "budget": {"trials": 4},
        "evaluation": {"examples": 30, "beam": 2},
        "controls": {"random": 2, "homogeneous": 1},
        "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.5},
        "executor": "local",
    }
    words = (joined / "dict.en.txt").read_text().splitlines()
    assert load_spec(spec).task.options["source_vocabulary"] == 4 + len(words)
    home = tmp_path / "home"
    file = written(tmp_path / "theirs.yaml", spec)
    found = nas("search", file, "--home", home, "--json")
    assert found.code == 0, found.err
    confirmed = nas("confirm", found.json["id"], "--home", home)
    assert confirmed.code == 0, confirmed.err
    model = next((home / "standalone").rglob("*.safetensors"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"das Hau@@ s\n\n")))
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    assert run(["translate", str(model)]) == 0
    written_lines = out.buffer
    assert isinstance(written_lines, io.BytesIO)
    lines = written_lines.getvalue().decode().split("\n")
    assert len(lines) == 3
    assert lines[1:] == ["", ""]
    assert "@@" not in lines[0]


# -- without fairseq -------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder that looks complete, with a dictionary of five words and one of six."""
    for split in ("train", "valid", "test"):
        for side in SIDES:
            for suffix in ("bin", "idx"):
                (tmp_path / f"{split}.en-de.{side}.{suffix}").touch()
    write(tmp_path / "dict.en.txt", [f"{word} 3" for word in "abcde"])
    # The last line may lack its end.
    (tmp_path / "dict.de.txt").write_text("\n".join(f"{word} 3" for word in "abcdef"))
    return tmp_path


def test_sizes_are_known_without_fairseq(bare: Path) -> None:
    known = FAIRSEQ_DATA.resolved(options_for(bare))
    assert (known.source_vocabulary, known.target_vocabulary) == (9, 10)
    assert known.one_dictionary is False
    shutil.copy(bare / "dict.en.txt", bare / "dict.de.txt")
    assert FAIRSEQ_DATA.resolved(options_for(bare)).one_dictionary is True
    # What is given is not read.
    given = FAIRSEQ_DATA.resolved(options_for(Path("nowhere"), **given_sizes(40)))
    assert FAIRSEQ_DATA.shape(given).target_vocabulary == 40


def test_what_is_missing_is_named(bare: Path) -> None:
    (bare / "dict.de.txt").unlink()
    (bare / "valid.en-de.en.idx").unlink()
    message = r"no valid\.en-de\.\{en,de\}\.\{bin,idx\} and no dict\.de\.txt; wanted there: dict"
    for call in (FAIRSEQ_DATA.load, FAIRSEQ_DATA.held_out, FAIRSEQ_DATA.prepare):
        with pytest.raises(DataError, match=message):
            call(options_for(bare), Path("nowhere"))
    with pytest.raises(DataError, match=message):
        FAIRSEQ_DATA.resolved(options_for(bare))


def test_without_fairseq_the_extra_is_named(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fairseq", None)
    with pytest.raises(DataError, match=r"\(fairseq.*\): pip install -e '\.\[engine,fairseq\]'"):
        FAIRSEQ_DATA.load(options_for(bare), Path("nowhere"))


@pytest.mark.parametrize(
    "given", [{"target": "en"}, {"joined": "letter"}, {"vocabulary": 400}, {"source": "../en"}]
)
def test_options_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        FairseqDataOptions.model_validate({"path": "x", "source": "en", "target": "de", **given})
