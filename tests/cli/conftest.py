"""One finished search that the tests of reading commands share, and a quiet environment."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import NO_MLFLOW, SMALL, nas, written


@dataclass(frozen=True)
class Finished:
    """A finished search: its folder, its id and the JSON that it printed."""

    home: Path
    id: str
    json: dict[str, Any]
    progress: str


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        *("NAS_HOME", "NAS_DATABASE_URL", "NAS_SEARCH_SPACES", "RAY_ADDRESS"),
        *("NAS_SERVER", "NAS_TOKEN"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_MLFLOW)
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")
    # A process of its own that would only find out, seconds later, that MLflow is away.
    monkeypatch.setattr("nas.run.running.Projector", lambda *_: nullcontext())


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The small request, run to its report by the command itself."""
    home = tmp_path_factory.mktemp("finished") / "home"
    spec = written(home.parent / "spec.yaml", SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", NO_MLFLOW)
        patch.delenv("NAS_DATABASE_URL", raising=False)
        said = nas("search", spec, "--home", home, "--json")
    assert said.code == 0, said.err
    return Finished(home, said.json["id"], said.json, said.err)
