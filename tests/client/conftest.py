"""A service with a home of its own and a client of it; nothing is started by it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from nas.client import Client
from nas.run.workspace import workspace
from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.settings import Settings
from tests.client.live import serving
from tests.services.launcher import StubLauncher

ELSEWHERE = ("NAS_DATABASE_URL", "MLFLOW_TRACKING_URI", "NAS_HOME", "NAS_SEARCH_SPACES")


@pytest.fixture
def launcher() -> StubLauncher:
    """What the service starts jobs with."""
    return StubLauncher()


@pytest.fixture
def app(tmp_path: Path, launcher: StubLauncher, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The service; nothing reconciles but what a test calls for."""
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    settings = Settings(place=workspace(tmp_path / "home"))
    return create_app(settings, launcher=launcher, start_reconciler=False)


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    found: Services = app.state.services
    return found


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """Where the service listens."""
    with serving(app) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Asks the service."""
    with Client(url) as found:
        yield found


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, in turn; nobody really does."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found
