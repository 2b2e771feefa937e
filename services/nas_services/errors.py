"""How is said what went wrong? One form for all of it: application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nas.errors import (
    DataError,
    DuplicateName,
    DuplicateTrial,
    EtnasError,
    IdempotencyConflict,
    LauncherUnavailable,
    LeaseLost,
    NothingFeasible,
    OperationNotFound,
    PartNotInstalled,
    SearchNotFound,
    SearchStateError,
    SpecError,
    StoreUnavailable,
    TokenNotFound,
    writable,
)
from nas_services.faults import Fault, faults_of, faults_of_validation

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
LONGEST_DETAIL = 2000
MOST_FAULTS = 100

_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
# What is said where the framework says no more than the status.
_SAID = {
    404: "Nothing is found at this address.",
    405: "This address does not take the method; the header Allow lists those that it does.",
}

_LOG = logging.getLogger(__name__)

# The first that fits: status and the name that the problem's type ends with.
_KINDS: tuple[tuple[type[EtnasError], int, str], ...] = (
    (SearchNotFound, 404, "search-not-found"),
    (OperationNotFound, 404, "operation-not-found"),
    (TokenNotFound, 404, "token-not-found"),
    (SearchStateError, 409, "state"),
    (DuplicateName, 409, "duplicate-name"),
    (DuplicateTrial, 409, "duplicate-trial"),
    (LeaseLost, 409, "lease-lost"),
    (IdempotencyConflict, 422, "idempotency-conflict"),
    (SpecError, 422, "invalid-request"),
    (NothingFeasible, 422, "nothing-feasible"),
    (PartNotInstalled, 422, "part-not-installed"),
    (DataError, 422, "data"),
    (LauncherUnavailable, 503, "launcher-unavailable"),
    (StoreUnavailable, 503, "record-unavailable"),
)


class Problem(Exception):
    """An answer that is not what was asked for: a status, a short title, and what to do about it.

    `kind` is the name that the problem's type ends with, `about:blank` where there is none;
    `headers` go with the answer, `more` are further members of the document.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.more = more

    def document(self, instance: str) -> dict[str, Any]:
        """The problem as JSON; `instance` is the path that was asked for."""
        found: dict[str, Any] = {
            "type": f"urn:etnas:problem:{self.kind}" if self.kind else "about:blank",
            "title": self.title,
            "status": self.status,
            "instance": writable(instance),
        }
        if self.detail:
            found["detail"] = shortened(self.detail)
        return found | self.more

    def response(self, instance: str) -> Response:
        """The answer as it is sent."""
        # In ASCII, so that no text of a caller's can be one that cannot be sent.
        content = json.dumps(self.document(instance), default=str)
        return Response(content, self.status, self.headers, MEDIA_TYPE)


def shortened(text: str) -> str:
    """The text without what is too long to be read."""
    text = writable(text)
    return text if len(text) <= LONGEST_DETAIL else f"{text[:LONGEST_DETAIL]} ..."


def problem_of(error: EtnasError) -> Problem:
    """What one of our own errors is answered with; 500 for what a caller has no part in."""
    known = ((status, kind) for family, status, kind in _KINDS if isinstance(error, family))
    status, kind = next(known, (500, ""))
    if status == 500:
        _LOG.error("unexpected %s", type(error).__name__, exc_info=error)
        return unexpected()
    more: dict[str, Any] = {}
    if status == 422 and isinstance(error, SpecError):
        more["errors"] = _listed(faults_of(error))
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return Problem(status, _title(status), str(error), kind=kind, headers=headers, **more)


def unexpected() -> Problem:
    """What is said of a fault of ours: nothing that would help an attacker."""
    detail = "The service met an error of its own; its log has more."
    return Problem(500, _title(500), detail, kind="internal")


def invalid(faults: list[Fault], status: int = 422) -> Problem:
    """A request whose fields are wrong, one by one."""
    detail = "; ".join(f"{each.pointer}: {each.message}" for each in faults)
    return Problem(status, _title(status), detail, kind="invalid-request", errors=_listed(faults))


def _listed(faults: list[Fault]) -> list[dict[str, Any]]:
    return [each.to_json() for each in faults[:MOST_FAULTS]]


def _title(status: int) -> str:
    # Older Pythons have other words for some, by which a caller might tell them.
    if status in _TITLES:
        return _TITLES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def install(app: FastAPI) -> None:
    """Makes every error of an endpoint a problem; what none expects is caught by `guards`."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        return error.response(request.url.path)

    @app.exception_handler(EtnasError)
    async def _ours(request: Request, error: EtnasError) -> Response:
        return problem_of(error).response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return invalid(faults_of_validation(error.errors())).response(request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        title = _title(error.status_code)
        detail = _SAID.get(error.status_code, str(error.detail))
        problem = Problem(error.status_code, title, detail, headers=error.headers)
        return problem.response(request.url.path)
