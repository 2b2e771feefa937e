"""Can a home be looked at wherever it lies: under any name, and where nothing can be written?"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nas.store.sql import SqlStore
from tests.cli.conftest import Finished
from tests.cli.terminal import SMALL, nas, refused, rows, written

ODD = "a?mode=ro b%20c#d&é"


def copied(finished: Finished, home: Path) -> Path:
    """The finished search's folder in another place, its record whole in one file."""
    shutil.copytree(finished.home, home, ignore=shutil.ignore_patterns("record.db*"))
    with (
        closing(sqlite3.connect(finished.home / "record.db")) as source,
        closing(sqlite3.connect(home / "record.db")) as target,
    ):
        source.backup(target)
    return home


def contents(folder: Path) -> dict[str, int]:
    """Everything below a folder with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_a_search_in_a_folder_of_any_name(tmp_path: Path, finished: Finished) -> None:
    home = tmp_path / ODD
    home.mkdir()
    (home / "supernets").symlink_to(finished.home / "supernets")
    spec = written(tmp_path / "spec.yaml", SMALL)
    found = nas("search", spec, "--home", home, "--json").json
    assert found["front"] == finished.json["front"]
    assert rows(home, "searches", "id") == [(found["id"],)]
    assert nas("pareto", found["id"], "--json", "--home", home).json == found
    record = nas("doctor", "--json", "--home", home).json["record"]
    assert record["ok"]
    assert record["text"].startswith("1 searches in ")
    # The text is the URL of the same record.
    url = record["text"].removeprefix("1 searches in ")
    assert [each.id for each in SqlStore(url).searches()] == [found["id"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ODD, "spec.yaml"])


def test_mlflow_in_a_folder_of_any_name(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    home = copied(finished, tmp_path / ODD)
    of_it = f"trials WHERE search = '{finished.id}'"
    trials = sorted(rows(home, of_it, 'role, "index", architecture, metrics, state'))
    said = nas("store", "rebuild", finished.id, "--home", home)
    assert said.code == 0, said.err
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] > len(trials)
    (home / "record.db").unlink()
    said = nas("store", "rebuild", finished.id, "--record", "--home", home)
    assert said.code == 0, said.err
    assert sorted(rows(home, "trials", 'role, "index", architecture, metrics, state')) == trials
    assert "experiments in " in nas("doctor", "--json", "--home", home).json["mlflow"]["text"]


def test_a_home_that_cannot_be_written_is_still_shown(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(finished, tmp_path / "a?b")
    before = contents(home)

    def read_only(path: Path, mode: int, **_: object) -> bool:
        return mode != os.W_OK or home not in (Path(path), *Path(path).parents)

    # As of a medium that cannot be written: permissions would not stop an administrator.
    monkeypatch.setattr(os, "access", read_only)
    assert (
        nas("pareto", finished.id, "--json", "--home", home).json["front"]
        == (finished.json["front"])
    )
    assert nas("pareto", finished.id, "--home", home).code == 0
    assert nas("compare", finished.id, finished.id, "--home", home).code == 0
    assert nas("doctor", "--json", "--home", home).json["record"]["ok"]
    refused(nas("store", "rebuild", finished.id, "--home", home), "MLflow http://127.0.0.1:1")
    said = nas("confirm", finished.id, "--home", home)
    assert said.code == 2
    assert "readonly database; check that the file and its folder may be written to" in said.err
    assert contents(home) == before


def test_what_another_process_has_not_yet_moved_into_the_file_is_shown(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(finished, tmp_path / "home")
    writer = SqlStore(f"sqlite:///{home / 'record.db'}")
    added = writer.create_search({**SMALL, "name": "added"}).id
    assert (home / "record.db-wal").stat().st_size > 0
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    reader = SqlStore(f"sqlite:///{home / 'record.db'}")
    assert {added, finished.id} <= {each.id for each in reader.searches()}
    writer.close()
    reader.close()


def test_doctor_says_where_nothing_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_DATABASE_URL", "sqlite:////proc/nas/record.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nas/mlflow.db")
    said = nas("doctor", "--json", "--home", "/proc/nas/home")
    assert said.code == 1
    for part in ("record", "mlflow", "work folder"):
        assert not said.json[part]["ok"]
        assert "/proc/nas" in said.json[part]["text"]
        assert "cannot be written" in said.json[part]["text"]
    # The home itself is a place where everything can be made, and nothing is.
    monkeypatch.delenv("NAS_DATABASE_URL")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert nas("doctor", "--home", tmp_path / "home").code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["http://[bad", "sqlite://", "sqlite:///:memory:", "sqlite:///%00"])
def test_an_mlflow_that_cannot_be(
    uri: str, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    refused(nas("store", "rebuild", finished.id, "--home", finished.home), f"MLflow {uri}: ")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("sqlite://", "in memory is gone"),
        ("sqlite:///", "in memory is gone"),
        ("sqlite:///:memory:", "in memory is gone"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory is gone"),
        ("sqlite:///{home}.db?timeout=x", "no usable database URL"),
        ("postgresql+psycopg://u:secret@127.0.0.1:port/db", "no usable database URL"),
    ],
)
def test_a_record_that_cannot_be(
    url: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_DATABASE_URL", url.format(home=tmp_path / "home"))
    spec = written(tmp_path / "spec.yaml", SMALL)
    refused(nas("search", spec, "--home", tmp_path / "home"), word)
    refused(nas("pareto", "01JABCDEFG", "--home", tmp_path / "home"), "record")
    assert nas("doctor", "--home", tmp_path / "home").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]
