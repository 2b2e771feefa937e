"""What is looked at before any endpoint: host, origin, path and size; and what every answer has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nas.errors import EtnasError
from nas_services.authentication import SAFE_METHODS
from nas_services.errors import Problem, problem_of, unexpected
from nas_services.measures import Measures
from nas_services.settings import Settings

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
# Not `no-referrer`, with which browsers send the origin `null` along with a page's own forms.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
BODY_SECONDS = 30.0
API_ROOT = "/api/v1"

_LOG = logging.getLogger(__name__)


class Answers:
    """The outermost: counts answers, gives them their headers, and catches what nobody expects."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self.app = app
        self.measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request in any case."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _complete(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            if status:
                raise
            await _problem(error).response(scope["path"])(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begun
            self.measures.answered(_method(scope), _route(scope), status, seconds)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, EtnasError):
        return problem_of(error)
    _LOG.error("unexpected %s", type(error).__name__, exc_info=error)
    return unexpected()


def _route(scope: Scope) -> str:
    """The pattern of the address; a router's own routes do not know where it was included."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "unmatched"
    return f"{API_ROOT}{path}" if scope["path"].startswith(f"{API_ROOT}/") else path


def _method(scope: Scope) -> str:
    # A caller's own words would make a new line of the measures each.
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


def _complete(headers: MutableHeaders, path: str) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    is_page = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else API_POLICY)
    if path.startswith(f"{API_ROOT}/") or is_page:
        headers.setdefault("Cache-Control", "no-store")


class Doorkeeper:
    """Lets in requests to a known host and, where they may change something, from a known origin.

    A page of another site that has its name resolved to this address (DNS rebinding) names another
    host; one that sends a form here names another origin.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {_bare(host.lower()) for host in settings.allowed_hosts}
        self.origins = {origin.lower() for origin in settings.origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses by a problem, else hands the request on."""
        if scope["type"] == "websocket":
            # There is none here; uvicorn answers 403.
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            self._check_host(headers.getlist("host"))
            _check_text(scope)
            if scope["method"] not in SAFE_METHODS:
                self._check_origin(headers, scope["scheme"])
        await self.app(scope, receive, send)

    def _check_host(self, given: list[str]) -> None:
        host = _host(given[0]) if len(given) == 1 else None
        if host is None:
            raise Problem(400, "Bad Request", "One header Host with a host's name is needed.")
        if host not in self.hosts:
            raise Problem(
                421,
                "Misdirected Request",
                f"This service does not answer for the host {host!r}; NAS_ALLOWED_HOSTS lists "
                "further ones.",
                kind="host",
            )

    def _check_origin(self, headers: Headers, scheme: str) -> None:
        origins = [each.lower() for each in headers.getlist("origin")]
        own = f"{scheme}://{headers['host'].lower()}"
        known = all(origin == own or origin in self.origins for origin in origins)
        # Browsers tell it where a page of another site sends a request, origin or not.
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not origins
        if not known or foreign or len(origins) > 1:
            raise Problem(
                403,
                "Forbidden",
                "Pages of another origin may change nothing here; NAS_ORIGINS lists those that "
                "may.",
                kind="origin",
            )


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _host(given: str) -> str | None:
    """The host of a header, without its port and in lower case; None where it has none."""
    try:
        parts = urlsplit(f"//{given}")
        if parts.port == 0 or parts.netloc != given or "@" in given:
            return None
        return parts.hostname
    except ValueError:
        return None


def _check_text(scope: Scope) -> None:
    """A path that no address of ours can have, and that databases and logs would stumble over."""
    query = scope.get("query_string", b"").lower()
    path = scope["path"]
    try:
        path.encode()
        control = any(ord(sign) < 32 or ord(sign) == 127 for sign in path) or "\ufffd" in path
    except UnicodeEncodeError:
        control = True
    if control or b"%00" in query:
        raise Problem(400, "Bad Request", "The address has signs in it that no text may have.")


class BodyLimit:
    """Takes a request's body in before anything else does, up to a size and within a time."""

    def __init__(self, app: ASGIApp, limit: int, seconds: float = BODY_SECONDS) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a body that is too large, whether it says so or not; else hands it on whole."""
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Problem(400, "Bad Request", "Content-Length is a whole number.")
        if int(length[:20]) > self.limit:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.seconds):
                messages = await self._taken(receive)
        except TimeoutError:
            raise Problem(408, "Request Timeout", "The body did not come in time.") from None
        waiting = iter(messages)

        async def replay() -> Message:
            return next(waiting, None) or await receive()

        await self.app(scope, replay, send)

    async def _taken(self, receive: Receive) -> Iterable[Message]:
        parts, size = bytearray(), 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                # The caller has gone away; who is next finds that out by this message.
                return [message]
            size += len(message.get("body", b""))
            if size > self.limit:
                raise self._too_large()
            parts += message.get("body", b"")
            if not message.get("more_body", False):
                return [{"type": "http.request", "body": bytes(parts), "more_body": False}]

    def _too_large(self) -> Problem:
        detail = f"A body has at most {self.limit} bytes here."
        # What is left of the body is not read: the connection is of no more use.
        headers = {"Connection": "close"}
        return Problem(413, "Content Too Large", detail, kind="size", headers=headers)


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
