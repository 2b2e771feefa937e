"""Who calls? A token, a browser's session or, where no tokens are required, anybody here."""

from __future__ import annotations

import hmac
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from nas.store.serving import SCOPES, Scope, Token
from nas.store.store import rfc3339
from nas_services.errors import Problem
from nas_services.forms import form_of
from nas_services.sessions import COOKIE, Session

if TYPE_CHECKING:
    from nas_services.dependencies import Services

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LONGEST_SECRET = 200


@dataclass(frozen=True)
class Caller:
    """Who asks: the owner of what they submit, and their scopes.

    `token` is the token's id, empty where none was needed; `session` that of a browser's session.
    """

    owner: str
    scopes: frozenset[Scope]
    token: str = ""
    session: str = ""

    def may(self, scope: Scope) -> bool:
        """Whether a scope is theirs: `admin` has `submit` in it, and that has `read`."""
        return any(held in self.scopes for held in SCOPES[SCOPES.index(scope) :])

    def acts_on(self, owner: str) -> bool:
        """Whether they may change what is an owner's: their own, with `admin` everybody's."""
        return self.may("admin") or (self.may("submit") and owner == self.owner)


LOCAL = Caller("local", frozenset(SCOPES))
"""Everybody, where no tokens are required."""


async def find_caller(request: Request) -> Caller | None:
    """The caller; None where tokens are required and there is neither token nor session.

    Raises `Problem`: 401 for a token that is not valid, 403 for a session's request to change
    something without its CSRF token, 429 beyond the rate.
    """
    services: Services = request.app.state.services
    given = request.headers.getlist("authorization")
    if given:
        caller = _of_token(await _bearer(services, given))
    else:
        session = await _session(request, services)
        if session is None:
            return None if services.settings.require_tokens else LOCAL
        caller = session
    seconds = services.rates.take(caller.token)
    if seconds:
        wait = math.ceil(seconds)
        raise Problem(
            429,
            "Too Many Requests",
            f"{services.settings.rate_per_minute} requests a minute are allowed; next in {wait} s.",
            kind="rate",
            headers={"Retry-After": str(wait)},
        )
    request.state.caller = caller
    return caller


async def caller_of(request: Request) -> Caller:
    """The caller; raises `Problem` (401) where there is none."""
    found = await find_caller(request)
    if found is None:
        raise unauthorized("A token is needed: Authorization: Bearer TOKEN, or POST /login.")
    return found


async def reading(request: Request) -> Caller:
    """A caller with the scope `read`."""
    return _with(await caller_of(request), "read")


async def submitting(request: Request) -> Caller:
    """A caller with the scope `submit`."""
    return _with(await caller_of(request), "submit")


async def administering(request: Request) -> Caller:
    """A caller with the scope `admin`."""
    return _with(await caller_of(request), "admin")


def unauthorized(detail: str) -> Problem:
    """What is answered without a valid token."""
    headers = {"WWW-Authenticate": 'Bearer realm="etnas"'}
    return Problem(401, "Unauthorized", detail, kind="unauthorized", headers=headers)


def require_owner(caller: Caller, owner: str) -> None:
    """Raises `Problem` (403) where the caller may not change what is this owner's."""
    if not caller.acts_on(owner):
        raise Problem(
            403,
            "Forbidden",
            f"It belongs to {owner or 'nobody'}; {caller.owner} may act on its own only.",
            kind="owner",
        )


def is_valid(token: Token, now: float) -> bool:
    """Whether a token has been neither revoked nor expires before `now`, seconds since 1970."""
    return token.revoked is None and (token.expires is None or token.expires > rfc3339(now))


def find_secret(services: Services, secret: str) -> Token | None:
    """The valid token of a secret; what can be none is not looked up."""
    if not secret or len(secret) > LONGEST_SECRET or not secret.isascii():
        return None
    return services.serving.find_token(secret)


def csrf_token(request: Request) -> str:
    """What a page puts into its forms as `csrf_token`; empty where nobody is logged in."""
    services: Services = request.app.state.services
    session = _readable_session(request, services)
    return services.sessions.csrf_token(session) if session else ""


def _with(caller: Caller, scope: Scope) -> Caller:
    if not caller.may(scope):
        held = ", ".join(sorted(caller.scopes)) or "none"
        raise Problem(
            403,
            "Forbidden",
            f"The scope {scope} is needed; the token has: {held}.",
            kind="scope",
        )
    return caller


def _of_token(token: Token, session: str = "") -> Caller:
    return Caller(token.name, frozenset(token.scopes), token.id, session)


async def _bearer(services: Services, given: list[str]) -> Token:
    scheme, _, secret = given[0].partition(" ")
    token = None
    if len(given) == 1 and scheme.lower() == "bearer":
        token = await run_in_threadpool(find_secret, services, secret.strip())
    if token is None:
        raise unauthorized("The token is not valid: it is unknown, has expired or was revoked.")
    return token


def _readable_session(request: Request, services: Services) -> Session | None:
    cookie = request.cookies.get(COOKIE)
    return services.sessions.read(cookie) if cookie else None


async def _session(request: Request, services: Services) -> Caller | None:
    session = _readable_session(request, services)
    if session is None:
        return None
    tokens = await run_in_threadpool(services.serving.tokens)
    token = next((each for each in tokens if hmac.compare_digest(each.id, session.token)), None)
    if token is None or not is_valid(token, time.time()):
        return None
    if request.method not in SAFE_METHODS:
        given = request.headers.get(CSRF_HEADER) or (await form_of(request)).get(CSRF_FIELD, "")
        if not services.sessions.is_csrf_token(session, given):
            raise Problem(
                403,
                "Forbidden",
                f"A request of a browser's session that changes something needs its CSRF token in "
                f"the header {CSRF_HEADER} or in the form field {CSRF_FIELD}.",
                kind="csrf",
            )
    return _of_token(token, session.id)
