"""Who may do what: tokens, scopes, browsers' sessions, and where a request comes from."""

import base64
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.errors import SpecError, StoreUnavailable
from nas.store.serving import SCOPES
from nas.store.serving_sql import ServingSqlStore
from nas.store.store import rfc3339
from nas_services.app import create_app
from nas_services.authentication import Caller
from nas_services.dependencies import AdminCaller, AnyCaller, ReadCaller, SubmitCaller
from nas_services.sessions import COOKIE, LIFETIME, Sessions
from nas_services.settings import Settings, from_environment
from tests.services.conftest import ADDRESS
from tests.services.launcher import StubLauncher
from tests.services.problems import problem

Tokens = dict[str, dict[str, str]]
READ = "/api/v1/spaces"


def _with_endpoints(app: FastAPI) -> FastAPI:
    @app.get("/may/read")
    def reads(caller: ReadCaller) -> str:
        return caller.owner

    @app.post("/may/submit")
    def submits(caller: SubmitCaller) -> str:
        return caller.owner

    @app.delete("/may/admin")
    def administers(caller: AdminCaller) -> str:
        return caller.owner

    @app.get("/may/anybody")
    def anybody(caller: AnyCaller) -> str | None:
        return caller.owner if caller else None

    return app


@pytest.fixture
def guarded(guarded_app: FastAPI) -> Iterator[TestClient]:
    """Tokens are required; there is an endpoint for each scope."""
    app = _with_endpoints(guarded_app)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


def _tries(client: TestClient, headers: dict[str, str]) -> tuple[int, int, int]:
    return (
        client.get("/may/read", headers=headers).status_code,
        client.post("/may/submit", headers=headers).status_code,
        client.delete("/may/admin", headers=headers).status_code,
    )


def test_on_loopback_without_tokens_everybody_is_local(app: FastAPI) -> None:
    client = TestClient(_with_endpoints(app), base_url=ADDRESS)
    assert _tries(client, {}) == (200, 200, 200)
    assert client.get("/may/read").json() == "local"


def test_scopes_hold_each_other(guarded: TestClient, tokens: Tokens) -> None:
    assert _tries(guarded, tokens["read"]) == (200, 403, 403)
    assert _tries(guarded, tokens["submit"]) == (200, 200, 403)
    assert _tries(guarded, tokens["admin"]) == (200, 200, 200)
    assert guarded.get("/may/read", headers=tokens["submit"]).json() == "submit"
    problem(guarded.post("/may/submit", headers=tokens["read"]), 403)


def test_without_a_token_nothing_is_told(guarded: TestClient) -> None:
    answer = guarded.get("/may/read")
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert _tries(guarded, {}) == (401, 401, 401)
    assert guarded.get("/may/anybody").json() is None
    for address in ("/api/v1/metrics", READ, "/api/v1/tasks"):
        problem(guarded.get(address), 401)
    for address in ("/healthz", "/readyz", "/version", "/openapi.json", "/docs"):
        assert guarded.get(address).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "bearer\t", "Bearer " + "x" * 5000,
     "Token x", "Bearer a b", "Bearer ' OR 1=1 --", "Bearer \x7f"],
)  # fmt: skip
def test_what_is_no_token_is_401(guarded: TestClient, tokens: Tokens, header: str) -> None:
    assert tokens
    problem(guarded.get("/may/read", headers={"Authorization": header}), 401)


def test_a_token_with_a_letter_changed_or_twice_is_401(guarded: TestClient, tokens: Tokens) -> None:
    header = tokens["admin"]["Authorization"]
    other = header[:-1] + ("a" if header[-1] != "a" else "b")
    problem(guarded.get("/may/read", headers={"Authorization": other}), 401)
    twice = [("Authorization", header), ("Authorization", header)]
    problem(guarded.get("/may/read", headers=twice), 401)


def test_a_bad_token_is_refused_where_none_is_required(app: FastAPI) -> None:
    client = TestClient(_with_endpoints(app), base_url=ADDRESS)
    problem(client.get("/may/read", headers={"Authorization": "Bearer x"}), 401)


def test_a_token_ends_when_it_is_revoked_or_expires(
    guarded: TestClient, guarded_app: FastAPI, tokens: Tokens
) -> None:
    serving = guarded_app.state.services.serving
    serving.revoke_token("read")
    assert _tries(guarded, tokens["read"]) == (401, 401, 401)
    past = ServingSqlStore(guarded_app.state.services.settings.place.record_url, clock=lambda: 0.0)
    _, secret = past.add_token("old", ["read"], expires=rfc3339(1.0))
    assert _tries(guarded, {"Authorization": f"Bearer {secret}"}) == (401, 401, 401)


def test_a_caller_acts_on_its_own_and_an_admin_on_all() -> None:
    mine = Caller("me", frozenset({"submit"}))
    assert mine.acts_on("me")
    assert not mine.acts_on("you")
    assert not mine.acts_on("")
    assert not Caller("me", frozenset({"read"})).acts_on("me")
    assert Caller("root", frozenset({"admin"})).acts_on("you")


# -- browsers --------------------------------------------------------------------------------------


@pytest.fixture
def log_in(guarded: TestClient, tokens: Tokens) -> Callable[[str], str]:
    """Logs a browser in with a scope's token; gives the session's CSRF token."""

    def logged_in(scope: str) -> str:
        secret = tokens[scope]["Authorization"].removeprefix("Bearer ")
        answer = guarded.post("/login", data={"token": secret})
        assert answer.status_code == 200, answer.text
        assert secret not in answer.text
        found: str = answer.json()["csrf_token"]
        return found

    return logged_in


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_see(
    guarded: TestClient, tokens: Tokens
) -> None:
    secret = tokens["submit"]["Authorization"].removeprefix("Bearer ")
    answer = guarded.post("/login", data={"token": secret})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert secret not in cookie
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["owner"] == "submit"


def test_over_https_the_cookie_is_for_https_alone(guarded_app: FastAPI, tokens: Tokens) -> None:
    secret = tokens["read"]["Authorization"].removeprefix("Bearer ")
    client = TestClient(guarded_app, base_url=ADDRESS.replace("http:", "https:"))
    assert "Secure" in client.post("/login", data={"token": secret}).headers["set-cookie"]


def test_a_session_reads_and_changes_only_with_its_csrf_token(
    guarded: TestClient, log_in: Callable[[str], str]
) -> None:
    token = log_in("submit")
    assert guarded.get("/may/read").json() == "submit"
    problem(guarded.post("/may/submit"), 403)
    problem(guarded.post("/may/submit", headers={"X-CSRF-Token": "x"}), 403)
    problem(guarded.post("/may/submit", headers={"X-CSRF-Token": token[:-1]}), 403)
    problem(guarded.post("/may/submit", data={"csrf_token": "x"}), 403)
    problem(guarded.post("/may/submit", params={"csrf_token": token}), 403)
    assert guarded.post("/may/submit", headers={"X-CSRF-Token": token}).status_code == 200
    assert guarded.post("/may/submit", data={"csrf_token": token}).status_code == 200
    # The scopes are the token's.
    problem(guarded.delete("/may/admin", headers={"X-CSRF-Token": token}), 403)


def test_a_csrf_token_of_another_session_is_none(
    guarded: TestClient, log_in: Callable[[str], str]
) -> None:
    first = log_in("submit")
    second = log_in("submit")
    assert first != second
    problem(guarded.post("/may/submit", headers={"X-CSRF-Token": first}), 403)


def test_a_bearer_token_needs_no_csrf_token_beside_a_session(
    guarded: TestClient, log_in: Callable[[str], str], tokens: Tokens
) -> None:
    log_in("read")
    assert guarded.post("/may/submit", headers=tokens["submit"]).json() == "submit"


def test_a_session_ends_with_its_token(
    guarded: TestClient, guarded_app: FastAPI, log_in: Callable[[str], str]
) -> None:
    log_in("read")
    assert guarded.get("/may/read").status_code == 200
    guarded_app.state.services.serving.revoke_token("read")
    problem(guarded.get("/may/read"), 401)


def test_a_logout_needs_the_csrf_token_and_ends_copies_of_the_cookie(
    guarded: TestClient, guarded_app: FastAPI, log_in: Callable[[str], str]
) -> None:
    token = log_in("read")
    cookie = guarded.cookies[COOKIE]
    problem(guarded.post("/logout"), 403)
    answer = guarded.post("/logout", headers={"X-CSRF-Token": token})
    assert answer.status_code == 204
    assert COOKIE not in guarded.cookies
    thief = TestClient(guarded_app, base_url=ADDRESS, cookies={COOKIE: cookie})
    problem(thief.get("/may/read"), 401)
    # Nobody to log out.
    assert guarded.post("/logout").status_code == 204


def test_a_page_is_sent_on_inside_the_service_only(guarded: TestClient, tokens: Tokens) -> None:
    secret = tokens["read"]["Authorization"].removeprefix("Bearer ")

    def sent_to(address: str) -> str:
        answer = guarded.post(
            "/login",
            data={"token": secret, "next": address},
            headers={"Accept": "text/html"},
            follow_redirects=False,
        )
        assert answer.status_code == 303
        found: str = answer.headers["location"]
        return found

    assert sent_to("/searches/X?a=b") == "/searches/X?a=b"
    for bad in ("//evil.example", "/\\evil.example", "https://evil.example", "", "evil",
                "javascript:alert(1)", "/\t/evil.example", "/\r\nSet-Cookie: a=b",
                "\u2215evil"):  # fmt: skip
        assert sent_to(bad) == "/"


def test_a_wrong_login_is_401_and_a_page_goes_back_to_the_form(
    guarded: TestClient, tokens: Tokens
) -> None:
    assert tokens
    for data in ({"token": "x"}, {"token": ""}, {}, {"token": "x" * 10_000}, {"token": "\u0430"}):
        answer = guarded.post("/login", data=data)
        assert answer.status_code in (401, 415)
        problem(answer, answer.status_code)
    answer = guarded.post(
        "/login", data={"token": "x"}, headers={"Accept": "text/html"}, follow_redirects=False
    )
    assert answer.headers["location"].startswith("/login")
    assert COOKIE not in guarded.cookies
    problem(guarded.post("/login", json={"token": "x"}), 415)
    problem(guarded.post("/login", files={"token": b"x"}), 415)


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_lasts_a_working_day(tmp_path: Path) -> None:
    clock = _Clock()
    sessions = Sessions(tmp_path / "key", clock)
    session, cookie = sessions.begin("T")
    clock.now += LIFETIME - 1
    assert sessions.read(cookie) == session
    clock.now += 1
    assert sessions.read(cookie) is None


def test_processes_share_the_key_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "service" / "key"
    session, cookie = Sessions(file).begin("T")
    assert Sessions(file).read(cookie) == session
    assert Sessions(tmp_path / "other").read(cookie) is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["key"]
    file.write_bytes(b"short")
    with pytest.raises(StoreUnavailable, match="32 bytes"):
        Sessions(file).begin("T")


def test_what_is_signed_for_a_form_is_no_cookie(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "key")
    session, cookie = sessions.begin("T")
    assert sessions.read(cookie) == session
    signature = sessions.csrf_token(session)
    for content in (session.id, f"csrf:{session.id}", f"form:{session.id}"):
        text = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")
        assert sessions.read(f"{text}.{signature}") is None


@pytest.mark.parametrize("part", range(3))
def test_a_changed_cookie_is_none(tmp_path: Path, part: int) -> None:
    sessions = Sessions(tmp_path / "key")
    _, cookie = sessions.begin("T")
    place = (len(cookie) - 1) * part // 2
    place -= cookie[place] == "."
    for letter in "Aa0-_.=\u00e9 \0":
        if letter != cookie[place]:
            changed = cookie[:place] + letter + cookie[place + 1 :]
            # The last letter of base 64 has bits that mean nothing.
            assert sessions.read(changed) is None or part == 2
    for bad in ("", ".", "a.b", "." * 600, cookie * 3, cookie.partition(".")[0]):
        assert sessions.read(bad) is None


# -- where requests come from ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("2130706433", 421),
        ("127.0.0.1@evil.example", 400),
        ("127.0.0.1/evil", 400),
        ("127.0.0.1:0", 400),
        ("127.0.0.1:x", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_only_known_hosts_are_answered_for(client: TestClient, host: str, status: int) -> None:
    answer = client.get("/healthz", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        problem(answer, status)


def test_hosts_can_be_allowed(settings: Settings, launcher: StubLauncher) -> None:
    settings = replace(settings, allowed_hosts=("nas.example",), origins=("https://ui.example",))
    client = TestClient(
        create_app(settings, launcher=launcher, start_reconciler=False),
        base_url="http://nas.example",
    )
    assert client.get("/healthz").status_code == 200
    body = {"space": "digits_tiny"}
    for origin, status in (("https://ui.example", 200), ("http://ui.example", 403)):
        answer = client.post(f"{READ}/validate", json=body, headers={"Origin": origin})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": ADDRESS}, 200),
        ({"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "https://127.0.0.1:8080"}, 403),
        ({"Origin": f"{ADDRESS}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages_of_other_origins_change_nothing_even_on_loopback(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post(f"{READ}/validate", json={"space": "digits_tiny"}, headers=headers)
    assert answer.status_code == status
    # What changes nothing is answered; a browser keeps it from the page.
    assert client.get(READ, headers=headers).status_code == 200


def test_answers_tell_browsers_to_be_careful(client: TestClient) -> None:
    for address in (READ, "/healthz", "/nowhere", "/docs"):
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors" in policy
        assert "unsafe" not in policy
    assert client.get(READ).headers["cache-control"] == "no-store"
    # No other origin is let in, whatever it asks.
    answer = client.options(READ, headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "nas.example", ""])
def test_no_address_beyond_loopback_without_tokens(settings: Settings, host: str) -> None:
    with pytest.raises(SpecError, match="no tokens are required"):
        replace(settings, host=host)
    assert replace(settings, host=host, require_tokens=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "::1"])
def test_loopback_needs_none(settings: Settings, host: str) -> None:
    assert replace(settings, host=host).host == host


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("most_searches", 0),
        ("rate_per_minute", -1),
        ("body_bytes", 0),
        ("ray_jobs_url", "ray://head:10001"),
        ("ray_jobs_url", "http://head:8265/"),
        ("mlflow_url", "file:///etc"),
        ("mlflow_url", "http://"),
        ("origins", ("https://ui.example/",)),
        ("origins", ("*",)),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Settings, field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=re.escape(field)):
        replace(settings, **{field: value})


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("  very secret\n")
    found = from_environment(
        {
            "NAS_HOST": "0.0.0.0",
            "NAS_PORT": "9000",
            "NAS_REQUIRE_TOKENS": "Yes",
            "NAS_ALLOWED_HOSTS": "nas.example, api",
            "NAS_ORIGINS": "https://ui.example",
            "NAS_RATE_PER_MINUTE": "0",
            "RAY_ADDRESS": "http://head:8265/",
            "RAY_AUTH_TOKEN_PATH": str(secret),
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        },
        tmp_path,
        most_searches=7,
    )
    assert (found.host, found.port, found.require_tokens) == ("0.0.0.0", 9000, True)
    assert found.allowed_hosts[-2:] == ("nas.example", "api")
    assert "127.0.0.1" in found.allowed_hosts
    assert found.origins == ("https://ui.example",)
    assert (found.ray_jobs_url, found.ray_token) == ("http://head:8265", "very secret")
    assert found.mlflow_url == "http://mlflow:5000"
    assert (found.most_searches, found.rate_per_minute) == (7, 0)
    assert "very secret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAS_PORT", "http"),
        ("NAS_REQUIRE_TOKENS", "maybe"),
        ("NAS_HOST", "0.0.0.0"),
        ("RAY_AUTH_TOKEN_PATH", "/not/there"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SpecError):
        from_environment({name: value}, tmp_path)


def test_a_bare_environment_is_a_service_on_loopback(tmp_path: Path) -> None:
    found = from_environment(
        {"RAY_ADDRESS": "auto", "MLFLOW_TRACKING_URI": "sqlite:///x"}, tmp_path
    )
    assert (found.host, found.port, found.require_tokens) == ("127.0.0.1", 8080, False)
    assert (found.ray_jobs_url, found.mlflow_url) == ("http://127.0.0.1:8265", "")
    assert set(SCOPES) == {"read", "submit", "admin"}
