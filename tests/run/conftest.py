"""A finished search for all who only look at one, and no MLflow unless a test asks for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nas.run import running, search
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.store.sql import SqlStore
from tests.run.cases import full_report, no_projector, place_in, request


@dataclass(frozen=True)
class Finished:
    """A search that ran undisturbed, and what its listener heard."""

    id: str
    spec: SearchSpec
    place: Workspace
    updates: tuple[Update, ...]

    @property
    def store(self) -> SqlStore:
        return SqlStore(self.place.record_url)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    place, spec = place_in(tmp_path_factory.mktemp("finished")), request()
    updates: list[Update] = []
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        record = submit(spec, place)
        search.run(record.id, place, reporter=full_report, listener=updates.append)
    torch.set_num_threads(before)
    return Finished(record.id, spec, place, tuple(updates))


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Projector", no_projector)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return place_in(tmp_path / "home")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """An evaluator takes the threads that its request says; they are given back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
