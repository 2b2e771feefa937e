"""Are files of searches handed out whole or in parts, by their digest, and no others ever?"""

import base64
import hashlib
import os
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas_services.dependencies import Services
from nas_services.routes.artifacts import artifact_id
from tests.services.records import held, new_search, services_of

SEARCHES = "/api/v1/searches"
CONTENT = bytes(range(256)) * 5000


def enter(services: Services, search: str, path: Path, content: bytes | None = CONTENT) -> str:
    """A file as an artifact of the search; its id."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    digest = hashlib.sha256(content or b"").hexdigest()
    with held(services, search) as lease:
        services.store.set_artifact(lease, path.name, str(path), digest)
    return artifact_id(search, path.name)


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


@pytest.fixture
def search(services: Services) -> str:
    """A search without files."""
    return new_search(services)


@pytest.fixture
def folder(services: Services, search: str) -> Path:
    """The folder of its report."""
    return services.settings.place.report(search)


def test_files_are_listed_with_size_and_digest(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    assert client.get(f"{SEARCHES}/{search}/artifacts").json() == {"items": []}
    enter(services, search, folder / "trials.parquet")
    enter(services, search, folder / "fidelity.json", b"{}")
    found = client.get(f"{SEARCHES}/{search}/artifacts").json()["items"]
    assert [each["name"] for each in found] == ["fidelity.json", "trials.parquet"]
    assert found[1]["size"] == len(CONTENT)
    assert found[1]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    for each in found:
        answer = client.get(each["links"]["self"])
        assert hashlib.sha256(answer.content).hexdigest() == each["sha256"]
        assert answer.headers["content-type"] == each["media_type"]


def test_a_file_comes_with_its_digest(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    id = enter(services, search, folder / "supernet.safetensors")
    answer = client.get(f"/api/v1/artifacts/{id}")
    digest = hashlib.sha256(CONTENT)
    assert answer.content == CONTENT
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == (
        f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    )
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    unchanged = client.get(
        f"/api/v1/artifacts/{id}", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-99", 10, 99),
        ("bytes=1279000-", 1_279_000, 1_279_999),
        ("bytes=-5", 1_279_995, 1_279_999),
        ("bytes=5-99999999", 5, 1_279_999),
        ("bytes=-99999999", 0, 1_279_999),
    ],
)
def test_a_part_is_sent_where_one_is_asked_for(
    client: TestClient,
    services: Services,
    search: str,
    folder: Path,
    asked: str,
    first: int,
    last: int,
) -> None:
    id = enter(services, search, folder / "weights")
    answer = client.get(f"/api/v1/artifacts/{id}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert answer.content == CONTENT[first : last + 1]
    assert int(answer.headers["Content-Length"]) == last - first + 1
    # Of what has changed meanwhile the whole is sent.
    headers = {"Range": asked, "If-Range": '"other"'}
    assert client.get(f"/api/v1/artifacts/{id}", headers=headers).content == CONTENT


def test_parts_beyond_the_end_and_ranges_that_are_none(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    id = enter(services, search, folder / "weights")
    empty = enter(services, search, folder / "empty", b"")
    for asked in ("bytes=1280000-", "bytes=1280000-1280009", "bytes=-0"):
        answer = client.get(f"/api/v1/artifacts/{id}", headers={"Range": asked})
        assert answer.status_code == 416, asked
        assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        assert answer.headers["content-type"] == "application/problem+json"
    for asked in (
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=9-3",
        "lines=1-2",
        "bytes=0-1,4-5",
        "x" * 999,
    ):
        answer = client.get(f"/api/v1/artifacts/{id}", headers={"Range": asked})
        assert (answer.status_code, len(answer.content)) == (200, len(CONTENT)), asked
    assert client.get(f"/api/v1/artifacts/{empty}").content == b""
    assert (
        client.get(f"/api/v1/artifacts/{empty}", headers={"Range": "bytes=0-"}).status_code == 416
    )


def test_nothing_outside_of_the_workspace_is_handed_out(
    client: TestClient, services: Services, search: str, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(secret)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    outside = [
        secret,
        folder / "link",
        folder / ".." / ".." / ".." / "secret",
        folder / "folder",
        folder / "pipe",
        folder / "missing",
    ]
    for number, path in enumerate(outside):
        with held(services, search) as lease:
            services.store.set_artifact(
                lease, f"file{number}", str(path), hashlib.sha256(CONTENT).hexdigest()
            )
        answer = client.get(f"/api/v1/artifacts/{artifact_id(search, f'file{number}')}")
        assert answer.status_code == 404, path
        assert str(tmp_path) not in answer.text
    listed = client.get(f"{SEARCHES}/{search}/artifacts").json()["items"]
    assert [each["size"] for each in listed] == [None] * len(outside)


def test_an_id_is_never_a_path(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    good = enter(services, search, folder / "weights")

    def coded(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    wrong = [
        coded(f"{search}../../record.db"),
        coded(f"{search}/etc/passwd"),
        coded("../../etc/passwd"),
        coded(f"{search.lower()}weights"),
        good[:-1],
        good + "A",
        "A",
        "_" * 400,
    ]
    for id in wrong:
        answer = client.get(f"/api/v1/artifacts/{id}")
        assert answer.status_code == 404, id
    for id in ("..", "%2e%2e%2frecord.db", "a" * 501):
        assert client.get(f"/api/v1/artifacts/{id}").status_code in (404, 422)


def test_a_page_runs_without_an_origin(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    answer = client.get(f"{SEARCHES}/{search}/pareto.html")
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("no-report")
    id = enter(services, search, folder / "pareto.html", b"<!doctype html><p>front")
    for address in (f"{SEARCHES}/{search}/pareto.html", f"/api/v1/artifacts/{id}"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "sandbox allow-scripts allow-downloads"
        assert "allow-same-origin" not in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert not any(each.startswith("connect-src") for each in policy)


def test_a_file_that_is_not_what_the_record_says_is_not_sent(
    client: TestClient, services: Services, search: str, folder: Path
) -> None:
    id = enter(services, search, folder / "weights")
    assert client.get(f"/api/v1/artifacts/{id}").status_code == 200
    (folder / "new").write_bytes(CONTENT[::-1])
    (folder / "new").replace(folder / "weights")
    answer = client.get(f"/api/v1/artifacts/{id}")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    enter(services, search, folder / "weights", CONTENT[::-1])
    assert client.get(f"/api/v1/artifacts/{id}").content == CONTENT[::-1]
