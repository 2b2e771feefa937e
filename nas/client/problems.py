"""What went wrong at the service? Its problem documents (RFC 9457) as the errors of this house."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

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

AWAY = frozenset({502, 503, 504})
"""What a service, or what stands before it, answers while it cannot be asked."""
SHOWN = 200
LONGEST_PROBLEM = 1 << 20

_PREFIX = "urn:etnas:problem:"
_KINDS: Mapping[str, type[EtnasError]] = {
    "data": DataError,
    "idempotency-conflict": IdempotencyConflict,
    "nothing-feasible": NothingFeasible,
    "operation-not-found": OperationNotFound,
    "part-not-installed": PartNotInstalled,
    "rate": ServiceUnavailable,
    "search-not-found": SearchNotFound,
    "state": SearchStateError,
}
_STATUSES: Mapping[int, type[EtnasError]] = {
    400: SpecError,
    401: NotAllowed,
    403: NotAllowed,
    413: SpecError,
    422: SpecError,
    **dict.fromkeys(AWAY, ServiceUnavailable),
}


def error_of(response: httpx.Response) -> EtnasError:
    """The error that an answer stands for; its body must have been read."""
    said = document_of(response)
    if said is None:
        message = f"{asked(response)} answered {response.status_code}{_seen(response)}"
        if response.has_redirect_location:
            message += f"; it leads to {response.headers['location']!r}: give that address"
        if response.status_code in AWAY:
            return ServiceUnavailable(message)
        kind = _STATUSES.get(response.status_code)
        if kind is NotAllowed:
            return NotAllowed(message)
        return ServiceError(message, status=response.status_code, title=response.reason_phrase)
    errors = _errors(said)
    title, detail = _text(said.get("title")), _text(said.get("detail"))
    message = _fields(errors) or detail or title or f"{asked(response)} failed"
    name = _text(said.get("type")).removeprefix(_PREFIX).removeprefix("about:blank")
    kind = _KINDS.get(name) or _STATUSES.get(response.status_code)
    if not name and response.status_code == 404 and "/searches/" in response.url.path:
        kind = SearchNotFound
    if kind is not None:
        return kind(message)
    return ServiceError(
        f"{asked(response)}: {message} (status {response.status_code})",
        status=response.status_code,
        title=title,
        detail=detail,
        errors=errors,
    )


def not_understood(response: httpx.Response, why: str) -> ServiceError:
    """An answer that is not what this address gives: not this service, or one of another age."""
    return ServiceError(
        f"{asked(response)} answered what this client does not understand: {why}",
        status=response.status_code,
    )


def asked(response: httpx.Response) -> str:
    """Method and address that were asked, without the query."""
    return f"{response.request.method} {response.url.copy_with(query=None)}"


def document_of(response: httpx.Response) -> dict[str, Any] | None:
    """An answer's JSON object; None where it has none."""
    if "json" not in response.headers.get("content-type", ""):
        return None
    if len(response.content) > LONGEST_PROBLEM:
        return None
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _errors(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = said.get("errors")
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _fields(errors: list[dict[str, Any]]) -> str:
    told = ((_text(each.get("pointer")), _text(each.get("message"))) for each in errors)
    return "; ".join(": ".join(filter(None, pair)) for pair in told if any(pair))


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _seen(response: httpx.Response) -> str:
    """The beginning of a body that is no problem document, on one line."""
    text = " ".join(response.text[: SHOWN * 4].split())
    return f": {text[:SHOWN]!r}" if text else ""
