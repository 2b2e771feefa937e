"""Does the service's README tell the truth? Its curl lines are run against a real server."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI

from nas.cost.span import spans
from nas.search.extent import EXTENT, fixed_extent
from nas.search.spec import load_spec
from nas_services.settings import Settings
from tests.client.live import serving
from tests.services.records import add_trials, held, services_of, trade_off

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "services" / "README.md").read_text()
FIRST = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(?:sh)?\n(.*?)^```$", FIRST + README, flags=re.MULTILINE | re.DOTALL)
CURLS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("curl ")]
STREAM_ENDED = 28


def begin(app: FastAPI, search: str) -> None:
    """What a driver notes first: in what hypervolumes are told."""
    services = services_of(app)
    spec = load_spec(services.store.get(search).spec)
    extent = fixed_extent(spec, spans(spec, {}))
    assert extent is not None
    with held(services, search) as lease:
        services.store.add_facts(lease, {EXTENT: extent.to_text()})
    add_trials(services, search, trade_off(3))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_line_is_answered(app: FastAPI) -> None:
    search, answers = "", {}
    _, token = app.state.services.serving.add_token("reader", ["read"])
    with serving(app) as address:
        for line in CURLS:
            given = line.replace("$NAS_TOKEN", token).replace("/ID", f"/{search}")
            words = [word.replace("http://127.0.0.1:8080", address) for word in shlex.split(given)]
            told = [*words, "--fail-with-body", "-w", "\n%{http_code}"]
            done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False)
            body, _, code = done.stdout.rpartition("\n")
            streams = "--max-time" in words
            assert done.returncode in ((0, STREAM_ENDED) if streams else (0,)), (line, done)
            answers[line] = body
            if code == "201":
                search = json.loads(body)["id"]
                begin(app, search)
    assert search
    (cancelled,) = (json.loads(body) for line, body in answers.items() if "/cancel" in line)
    assert cancelled["desired"] == "cancel"
    (events,) = (body for line, body in answers.items() if line.endswith("/events"))
    assert "event: search.desired" in events


def test_its_table_names_every_variable_of_the_settings() -> None:
    documented = set(re.findall(r"`((?:NAS|RAY|MLFLOW)_[A-Z_]+)`", README))
    source = (ROOT / "services" / "nas_services" / "settings.py").read_text()
    read = set(re.findall(r"\b((?:NAS|RAY|MLFLOW)_[A-Z_]+)\b", source)) - {"NAS_"}
    fields = ("port", "rate_per_minute", "most_searches", "running_at_once", "body_bytes")
    read |= {f"NAS_{field.upper()}" for field in fields if field in Settings.__dataclass_fields__}
    assert read - documented <= {"NAS_MLFLOW_URL", "RAY_AUTH_TOKEN_PATH"}
    assert documented - read <= {"NAS_HOME", "NAS_DATABASE_URL", "NAS_DATA_DIR", "NAS_TOKEN"}
