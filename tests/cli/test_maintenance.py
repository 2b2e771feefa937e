"""Do `nas data`, `nas store` and `nas doctor` look after what a search stands on?"""

import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cli.conftest import Finished
from tests.cli.terminal import nas, refused, rows, written


def test_prepare_without_a_network_says_what_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> NoReturn:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", away)
    folder = tmp_path / "data" / "cifar10" / "cifar-10-batches-py"
    said = nas("data", "prepare", "cifar10")
    refused(said, str(folder), "data_batch_1", "data_batch_5", "test_batch", "batches.meta")
    assert not folder.exists()
    assert not [path for path in (tmp_path / "data").glob("**/*") if path.is_file()]


def test_prepare_what_needs_nothing(tmp_path: Path) -> None:
    assert nas("data", "prepare", "digits").out.startswith("digits: nothing to prepare")
    said = nas("data", "prepare", "image_folder", "--option", "path=photos")
    refused(said, str(tmp_path / "data" / "photos"), "CLASS/IMAGE")
    refused(nas("data", "prepare", "image_folder"), "--option.path", "is required")
    refused(nas("data", "prepare", "digits", "--option", "sid=8"), "--option.sid", "'side'")
    for name in ("cat", "dog"):
        (tmp_path / "data" / "photos" / name).mkdir(parents=True)
    said = nas("data", "prepare", "image_folder", "--option", "path=photos")
    assert "2 classes" in said.out


def test_mlflow_and_the_record_are_restored_from_each_other(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Not a copy of the file: what was committed may still stand in the log beside it.
    with (
        closing(sqlite3.connect(finished.home / "record.db")) as source,
        closing(sqlite3.connect(home / "record.db")) as target,
    ):
        source.backup(target)
    shown = nas("pareto", finished.id, "--json", "--home", home).json
    of_it = f"trials WHERE search = '{finished.id}'"
    trials = sorted(rows(home, of_it, 'role, "index", architecture, metrics, state'))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    said = nas("store", "rebuild", finished.id[:9], "--home", home)
    assert said.code == 0, said.err
    assert said.out == f"MLflow at sqlite:///{home / 'mlflow.db'} has search {finished.id}\n"
    (home / "record.db").unlink()
    said = nas("store", "rebuild", finished.id, "--record", "--home", home)
    assert said.code == 0, said.err
    assert said.out.endswith(f"search {finished.id} has {len(trials)} trials\n")
    assert sorted(rows(home, "trials", 'role, "index", architecture, metrics, state')) == trials
    assert nas("pareto", finished.id, "--json", "--home", home).json == shown
    assert (
        nas("doctor", "--json", "--home", home)
        .json["mlflow"]["text"]
        .startswith("2 experiments in ")
    )


def test_to_rebuild_from_nothing_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = tmp_path / "home"
    said = nas("store", "rebuild", "01JABCDEFG", "--record", "--home", home)
    refused(said, str(home / "mlflow.db"), "no such database")
    assert not home.exists()


def test_doctor(tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = tmp_path / "home"
    found = nas("doctor", "--json", "--home", home)
    assert found.code == 0
    assert list(found.json) == ["packages", "record", "mlflow", "work folder", "data", "devices"]
    assert all(each["ok"] for each in found.json.values())
    assert found.json["record"]["text"] == f"none yet, will be sqlite:///{home / 'record.db'}"
    assert not home.exists()
    shown = nas("doctor", "--home", finished.home)
    assert f"sqlite:///{finished.home / 'record.db'}" in shown.out
    assert "none yet" not in shown.out.splitlines()[1]
    assert all(line.startswith("ok   ") for line in shown.out.splitlines())


def test_doctor_fails_where_a_part_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "NAS_DATABASE_URL", f"sqlite:///{written(tmp_path / 'no.db', 'no database' * 99)}"
    )
    said = nas("doctor", "--home", tmp_path)
    assert said.code == 1
    verdicts = {line[5:17].strip(): line[:4].strip() for line in said.out.splitlines()}
    # MLflow is the one of these tests, which nobody answers for.
    assert verdicts.pop("record") == verdicts.pop("mlflow") == "FAIL"
    assert set(verdicts.values()) == {"ok"}


def test_version() -> None:
    said = nas("--version")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("etnas ")
