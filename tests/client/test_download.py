"""Does a file come whole or not at all, though the line drops?"""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from nas.client import Client
from nas.client.answers import Artifact
from nas.errors import DataError, NotAllowed, OutputError, ServiceUnavailable, SpecError
from tests.client.flaky import Asked, flaky, hang_up, problem, raw

DATA = bytes(range(256)) * 40
SHA = hashlib.sha256(DATA).hexdigest()


def artifact(name: str = "trials.parquet", **changes: Any) -> Artifact:
    known = {"id": "abc", "search": "01JD", "sha256": SHA, "media_type": "x/y", "size": len(DATA)}
    return Artifact(name=name, **{**known, **changes})


def part(name: str = "trials.parquet") -> str:
    return f".{name}.{SHA[:16]}.part"


def rest(asked: Asked) -> bytes:
    """What is asked for, all of it."""
    first = int((asked.headers["Range"] or "bytes=0-")[6:-1])
    if not first:
        return raw(200, DATA)(asked)
    given = f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"
    return raw(206, DATA[first:], Content_Range=given)(asked)


def test_a_file_comes_into_a_folder_under_its_name(tmp_path: Path) -> None:
    with flaky(rest) as server:
        path = Client(server.url).download(artifact(), tmp_path)
    assert path == tmp_path / "trials.parquet"
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]
    assert server.asked[0].path == "/api/v1/artifacts/abc"
    assert server.asked[0].headers["Range"] is None


@pytest.mark.usefixtures("naps")
def test_a_line_that_drops_is_taken_up_where_it_was(tmp_path: Path) -> None:
    def some(asked: Asked) -> bytes:
        return rest(asked)[:-6000]

    with flaky(hang_up, some, raw(503, b""), rest) as server:
        path = Client(server.url).download(artifact(), tmp_path / "mine")
    assert path.read_bytes() == DATA
    ranges = [asked.headers["Range"] for asked in server.asked]
    assert ranges == [None, None, "bytes=4240-", "bytes=4240-"]
    assert server.asked[2].headers["If-Range"] == f'"{SHA}"'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("naps")
def test_a_later_call_goes_on_with_what_came(tmp_path: Path) -> None:
    def some(asked: Asked) -> bytes:
        return rest(asked)[:-6000]

    with flaky(some, hang_up) as server, pytest.raises(ServiceUnavailable):
        Client(server.url, retries=1).download(artifact(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [part()]
    with flaky(rest) as server:
        path = Client(server.url).download(artifact(), tmp_path)
    assert server.asked[0].headers["Range"] == "bytes=4240-"
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_left_wrong_is_asked_for_anew(tmp_path: Path) -> None:
    for left in (b"wrong", b"x" * len(DATA), b"x" * (len(DATA) + 9)):
        (tmp_path / part()).write_bytes(left)
        with flaky(rest) as server:
            path = Client(server.url).download(artifact(), tmp_path)
        assert path.read_bytes() == DATA
        assert list(tmp_path.iterdir()) == [path]


def test_a_service_that_begins_anew_is_followed(tmp_path: Path) -> None:
    (tmp_path / part()).write_bytes(DATA[:100])
    with flaky(raw(200, DATA)) as server:
        assert Client(server.url).download(artifact(), tmp_path).read_bytes() == DATA
    assert len(server.asked) == 1


def test_other_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_text("as it was")
    with flaky(raw(200, DATA[:-1] + b"!")) as server, pytest.raises(DataError, match=SHA):
        Client(server.url).download(artifact(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["trials.parquet"]
    assert (tmp_path / "trials.parquet").read_text() == "as it was"


def test_another_part_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / part()).write_bytes(DATA[:100])
    play = raw(206, DATA[50:], Content_Range="bytes 50-9/10240")
    with flaky(play) as server, pytest.raises(RuntimeError, match="instead of the one from 100"):
        Client(server.url).download(artifact(), tmp_path)


def test_a_refusal_is_told(tmp_path: Path) -> None:
    play = problem(403, "scope", detail="the scope read is needed")
    with flaky(play) as server, pytest.raises(NotAllowed, match="scope read"):
        Client(server.url).download(artifact(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_one(tmp_path: Path) -> None:
    empty = artifact(sha256=hashlib.sha256().hexdigest(), size=0)
    with flaky(raw(200, b"")) as server:
        assert Client(server.url).download(empty, tmp_path).read_bytes() == b""


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "..", ".", "", "a\\b", "a\nb"])
def test_a_name_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    with flaky(rest) as server:
        client = Client(server.url)
        with pytest.raises(SpecError, match="give the path of a file"):
            client.download(artifact(name), tmp_path)
        assert client.download(artifact(name), tmp_path / "mine").read_bytes() == DATA
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with flaky(rest) as server:
        for to in (tmp_path / "file" / "x", tmp_path / "missing" / "x"):
            with pytest.raises(OutputError, match="cannot be written"):
                Client(server.url).download(artifact(), to)
        with pytest.raises(SpecError):
            Client(server.url).download(artifact(), 3)  # type: ignore[arg-type]
