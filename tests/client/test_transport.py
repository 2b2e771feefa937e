"""Does an answer come though the line drops, and is what went wrong told as what it is?"""

import email.utils
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from nas.client import Client
from nas.errors import (
    DataError,
    EtnasError,
    IdempotencyConflict,
    NotAllowed,
    NothingFeasible,
    OperationNotFound,
    PartNotInstalled,
    SearchNotFound,
    SearchStateError,
    ServiceError,
    ServiceUnavailable,
    SpecError,
)
from tests.client.flaky import Play, flaky, hang_up, problem, raw

ID = "01JD0000000000000000000000"
LISTED = {
    "id": ID,
    "name": "one",
    "owner": "local",
    "state": "queued",
    "desired": "run",
    "phase": "",
    "task": "digits",
    "space": "digits_tiny",
    "objectives": ["cross_entropy", "flops"],
    "created": "2026-01-01T00:00:00Z",
    "updated": "2026-01-01T00:00:00Z",
    "progress": {},
    "links": {},
}
SEARCH = {**LISTED, "spec": {}}
VERSION = {"etnas": "1.0", "api": "v1"}


# -- tried again -----------------------------------------------------------------------------------


def test_a_submission_is_sent_again_under_its_key(naps: list[float]) -> None:
    away = problem(503, headers={"Retry_After": "5"})
    with flaky(hang_up, away, raw(502, b"<html>"), raw(201, LISTED)) as server:
        assert Client(server.url).submit({"name": "one"}).id == ID
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
    assert len(server.asked) == 4
    assert {asked.body for asked in server.asked} == {b'{"name": "one"}'}
    assert {asked.path for asked in server.asked} == {"/api/v1/searches"}
    # As long as is asked for; else longer each time.
    assert naps == [0.25, 5.0, 1.0]


def test_each_submission_has_a_key_of_its_own() -> None:
    with flaky(raw(201, LISTED)) as server:
        client = Client(server.url)
        for key in (None, None, "mine"):
            client.submit({}, key=key)
    keys = [asked.headers["Idempotency-Key"] for asked in server.asked]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_whoever_asks_too_often_waits_as_long_as_is_said(naps: list[float]) -> None:
    when = email.utils.formatdate(time.time() + 20, usegmt=True)
    plays = [
        problem(429, "rate", headers={"Retry_After": "3"}),
        problem(429, "rate", headers={"Retry_After": when}),
        problem(429, "rate", headers={"Retry_After": "soon"}),
    ]
    with flaky(*plays, raw(200, VERSION)) as server:
        assert Client(server.url).version().etnas == "1.0"
    assert naps[0] == 3.0
    assert 15 < naps[1] <= 20
    assert naps[2] == 1.0


def test_nobody_waits_a_minute_for_nothing(naps: list[float]) -> None:
    full = problem(429, "most-searches", detail="cancel one or wait", headers={"Retry_After": "60"})
    with flaky(full) as server, pytest.raises(ServiceError, match="cancel one") as caught:
        Client(server.url).submit({})
    assert caught.value.status == 429
    assert naps == []


def test_what_stays_away_is_given_up(naps: list[float]) -> None:
    with flaky(hang_up) as server, pytest.raises(ServiceUnavailable, match=server.url):
        Client(server.url, retries=3).get(ID)
    assert len(server.asked) == 4
    assert naps == [0.25, 0.5, 1.0]
    with flaky(raw(503, b"", Retry_After="1")) as server, pytest.raises(ServiceUnavailable):
        Client(server.url, retries=1).get(ID)
    assert len(server.asked) == 2


def test_nobody_there_is_said(naps: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ServiceUnavailable, match=f"service {url} does not answer: ") as caught:
        Client(url).version()
    assert isinstance(caught.value, ConnectionError)
    assert len(naps) == 6


def test_an_answer_that_is_cut_off_is_asked_for_again(naps: list[float]) -> None:
    with flaky(raw(200, b'{"etnas"', length=100), raw(200, VERSION)) as server:
        assert Client(server.url).version().api == "v1"
    assert naps == [0.25]


def test_a_slow_answer_is_none(naps: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServiceUnavailable, match="timed out"):
            Client(url, timeout=0.05, retries=1).version()
    assert len(naps) == 1


@pytest.mark.usefixtures("naps")
def test_what_was_deleted_before_the_line_dropped_is_deleted() -> None:
    gone = problem(404, "search-not-found", detail="no search")
    with flaky(hang_up, gone) as server:
        Client(server.url).delete(ID)
    with flaky(gone) as server, pytest.raises(SearchNotFound):
        Client(server.url).delete(ID)
    assert [(each.method, each.path) for each in server.asked] == [
        ("DELETE", f"/api/v1/searches/{ID}")
    ]


# -- told ------------------------------------------------------------------------------------------

KINDS: list[tuple[int, str, type[EtnasError], type[Exception]]] = [
    (400, "malformed", SpecError, ValueError),
    (401, "unauthorized", NotAllowed, PermissionError),
    (403, "owner", NotAllowed, PermissionError),
    (404, "search-not-found", SearchNotFound, KeyError),
    (404, "", SearchNotFound, KeyError),
    (404, "operation-not-found", OperationNotFound, KeyError),
    (409, "state", SearchStateError, RuntimeError),
    (413, "", SpecError, ValueError),
    (421, "host", ServiceError, RuntimeError),
    (422, "invalid-request", SpecError, ValueError),
    (422, "idempotency-conflict", IdempotencyConflict, ValueError),
    (422, "nothing-feasible", NothingFeasible, ValueError),
    (422, "part-not-installed", PartNotInstalled, ImportError),
    (422, "data", DataError, FileNotFoundError),
    (500, "internal", ServiceError, RuntimeError),
    (503, "record-unavailable", ServiceUnavailable, ConnectionError),
]


@pytest.mark.parametrize(("status", "kind", "ours", "builtin"), KINDS)
def test_problems_are_our_errors(
    status: int, kind: str, ours: type[EtnasError], builtin: type[Exception]
) -> None:
    play = problem(status, kind, detail="what is wrong")
    with flaky(play) as server, pytest.raises(ours, match="what is wrong") as caught:
        Client(server.url, retries=0).get(ID)
    assert type(caught.value) is ours
    assert isinstance(caught.value, builtin)


def test_a_bad_request_is_told_field_by_field() -> None:
    errors = [
        {"pointer": "/budget/trials", "code": "x", "message": "0 given, allowed: 1 or more"},
        {"pointer": "/tsk", "code": "extra_forbidden", "message": "unknown key"},
    ]
    play = problem(422, "invalid-request", detail="long", errors=errors)
    with flaky(play) as server, pytest.raises(SpecError) as caught:
        Client(server.url).submit({})
    assert str(caught.value) == ("/budget/trials: 0 given, allowed: 1 or more; /tsk: unknown key")


def test_an_error_has_what_its_problem_says() -> None:
    errors = [{"pointer": "/a", "message": "b"}]
    play = problem(418, detail="short and stout", errors=errors)
    with flaky(play) as server, pytest.raises(ServiceError) as caught:
        Client(server.url).get(ID)
    error = caught.value
    assert (error.status, error.title, error.detail) == (418, "As Told", "short and stout")
    assert error.errors == ({"pointer": "/a", "message": "b"},)
    assert f"GET {server.url}/api/v1/searches/{ID}" in str(error)


NONSENSE: dict[str, tuple[Play, str]] = {
    "html": (raw(500, b"<h1>\noh no</h1>", media="text/html"), "answered 500: '<h1> oh no</h1>'"),
    "nothing": (raw(500, b""), "answered 500"),
    "a list": (raw(500, b"[1]"), "answered 500: '\\[1\\]'"),
    "half": (raw(500, b'{"type": '), "answered 500"),
    "deep": (raw(500, b"[" * 100_000), "answered 500"),
    "odd members": (
        raw(500, {"title": 3, "detail": [], "errors": {"a": 1}, "type": None}),
        "failed",
    ),
    "odd errors": (raw(500, {"detail": "so", "errors": [1, {"pointer": 2}]}), "so"),
    "elsewhere": (
        raw(302, b"", Location="http://example.org/"),
        "302; it leads to 'http://example.org/'",
    ),
    "not ours": (raw(200, b"<html>hello</html>", media="text/html"), "does not understand"),
    "empty": (raw(200, b""), "does not understand"),
    "another document": (raw(200, {"id": ID}), "does not understand: name: Field required"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_told_in_a_line(what: str) -> None:
    play, said = NONSENSE[what]
    with flaky(play) as server, pytest.raises(ServiceError, match=said) as caught:
        Client(server.url).get(ID)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_newer_service_may_say_more() -> None:
    more = {**SEARCH, "state": "dreaming", "mood": "good", "progress": {"odd": {"done": 1, "x": 2}}}
    with flaky(raw(200, more)) as server:
        found = Client(server.url).get(ID)
    assert (found.state, found.ended, found.progress["odd"].done) == ("dreaming", False, 1)


# -- given -----------------------------------------------------------------------------------------

WRONG_URLS: list[Any] = [
    "", "127.0.0.1:8080", "ftp://host", "http://", "http://host?x=1", "http://host#x", None, 3,
    "http://[", "http://host:port", "http://host:99999999",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG_URLS)
def test_an_address_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(SpecError, match=r"^url: .*allowed: http://HOST:PORT"):
        Client(url)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        Client("http://someone:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["", " ", "a b", "süß", "a\nb", 3])
def test_a_token_that_is_none_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(NotAllowed, match="printable ASCII") as caught:
        Client("http://host", token)
    assert str(token).strip() not in str(caught.value) or not str(token).strip()


def test_the_token_goes_with_every_request_and_is_never_shown() -> None:
    with flaky(raw(200, VERSION)) as server:
        # As a file's last line, or another address of the same service, has it.
        client = Client(f"{server.url}/api/v1/", "etnas_secret\n")
        client.version()
    assert server.asked[0].headers["Authorization"] == "Bearer etnas_secret"
    assert server.asked[0].path == "/api/v1/version"
    assert "secret" not in repr(client)
    assert client.url == server.url


def test_a_name_leads_to_no_other_address() -> None:
    with flaky(raw(200, SEARCH)) as server:
        Client(server.url).get("../version?x=#\0ö")
    assert server.asked[0].path == "/api/v1/searches/..%2Fversion%3Fx%3D%23%00%C3%B6"
    for wrong in ("", ".", "..", None, 3):
        with pytest.raises(SpecError, match="given"):
            Client(server.url).get(wrong)  # type: ignore[arg-type]
    assert len(server.asked) == 1


CALLS: list[Callable[[Client], Any]] = [
    lambda client: client.submit({"seed": float("nan")}),
    lambda client: client.submit({"seed": object()}),
    lambda client: client.submit([1]),  # type: ignore[arg-type]
    lambda client: client.submit("no/such/file.yaml"),
    lambda client: client.submit({"space": "no/such/file.yaml"}),
    lambda client: client.validate_space({"width": {1, 2}}),
    lambda client: client.front(ID, "flops <= 1"),
    lambda client: client.submit({}, key="a\nb"),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_sent_is_told_before_it_is(call: Callable[[Client], Any]) -> None:
    with flaky(raw(200, {})) as server, pytest.raises(SpecError):
        call(Client(server.url))
    assert server.asked == []
