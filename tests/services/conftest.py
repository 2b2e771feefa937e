"""A service with a home of its own, a launcher that starts nothing, and callers of each scope."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.run.workspace import workspace
from nas.store.serving import SCOPES
from nas_services.app import create_app
from nas_services.settings import Settings
from tests.services.launcher import StubLauncher

ADDRESS = "http://127.0.0.1:8080"
ELSEWHERE = ("NAS_DATABASE_URL", "MLFLOW_TRACKING_URI", "NAS_HOME")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of a service on loopback that requires no tokens."""
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    return Settings(place=workspace(tmp_path / "home"))


@pytest.fixture
def launcher() -> StubLauncher:
    """What the service starts jobs with."""
    return StubLauncher()


@pytest.fixture
def app(settings: Settings, launcher: StubLauncher) -> FastAPI:
    """The service; nothing reconciles but what a test calls for."""
    return create_app(settings, launcher=launcher, start_reconciler=False)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A caller on the service's own machine."""
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def one_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same for all tests of a file, which leave nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ELSEWHERE:
            patch.delenv(name, raising=False)
        given = Settings(place=workspace(tmp_path_factory.mktemp("service") / "home"))
    made = create_app(given, launcher=StubLauncher(), start_reconciler=False)
    with TestClient(made, base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def guarded_app(settings: Settings, launcher: StubLauncher) -> FastAPI:
    """The same service where tokens are required."""
    guarded = replace(settings, require_tokens=True)
    return create_app(guarded, launcher=launcher, start_reconciler=False)


@pytest.fixture
def guarded(guarded_app: FastAPI) -> Iterator[TestClient]:
    """A caller without a token where tokens are required."""
    with TestClient(guarded_app, base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def tokens(guarded_app: FastAPI) -> dict[str, dict[str, str]]:
    """Headers by scope, each of a token of its own with the scope's name: `tokens["read"]`."""
    serving = guarded_app.state.services.serving
    secrets = {scope: serving.add_token(scope, [scope])[1] for scope in SCOPES}
    return {scope: {"Authorization": f"Bearer {secret}"} for scope, secret in secrets.items()}
