"""Is the service well, which version is it, and what does it count?"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from nas.errors import LauncherUnavailable, StoreUnavailable
from nas.run.workspace import Workspace
from nas.search.trial import ROLES
from nas.store.store import STATES
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.errors import RETRY_SECONDS, Problem
from nas_services.measures import metric
from nas_services.openapi import DOCS_POLICY, PUBLIC, document, page

router = APIRouter(tags=["system"])

# A job that no search can have: whether anybody answers is all that is asked.
NO_JOB = "readiness"
PAGE = 1000
METRICS_TYPE = "text/plain; version=0.0.4"

_LOG = logging.getLogger(__name__)
_making = threading.Lock()


@router.get("/healthz", openapi_extra=PUBLIC)
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", openapi_extra=PUBLIC)
def readyz(services: ServicesDep) -> dict[str, Any]:
    """Whether the record and who runs the jobs can be reached; 503 with what cannot."""
    checks = {"record": _reached(services), "jobs": _jobs_reached(services)}
    if not all(checks.values()):
        away = ", ".join(name for name, well in checks.items() if not well)
        raise Problem(
            503,
            "Service Unavailable",
            f"Not reachable: {away}.",
            kind="not-ready",
            headers={"Retry-After": str(RETRY_SECONDS)},
            checks=checks,
        )
    return {"status": "ready", "checks": checks}


@router.get("/version", openapi_extra=PUBLIC)
def version(request: Request) -> dict[str, str]:
    """The version of the package, the commit where there is one, and that of the API."""
    with _making:
        found: dict[str, str] | None = getattr(request.app.state, "versions", None)
        if found is None:
            found = request.app.state.versions = {**Workspace.versions(), "api": "v1"}
    return found


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(services: ServicesDep, _: ReadCaller) -> Response:
    """Answers, searches, trials and the reconciler, as Prometheus reads them."""
    lines = [*services.measures.lines(), *_searches(services), *_reconciler(services)]
    return PlainTextResponse("\n".join(lines) + "\n", media_type=METRICS_TYPE)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """The API for machines."""
    with _making:
        return JSONResponse(document(request.app))


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The API for people; nothing on the page comes from elsewhere."""
    with _making:
        content = page(document(request.app))
    return HTMLResponse(content, headers={"Content-Security-Policy": DOCS_POLICY})


def _reached(services: Services) -> bool:
    try:
        services.serving.last_sequence()
    except StoreUnavailable as error:
        _LOG.warning("not ready: %s", error)
        return False
    return True


def _jobs_reached(services: Services) -> bool:
    try:
        services.launcher.status(NO_JOB)
    except LauncherUnavailable as error:
        _LOG.warning("not ready: %s", error)
        return False
    return True


def _searches(services: Services) -> list[str]:
    states, trials = Counter[str](), Counter[str]()
    before: str | None = None
    while rows := services.serving.search_page(size=PAGE, before=before):
        before = rows[-1][0].id
        states.update(record.state for record, _ in rows)
        for counts in services.serving.progress([record.id for record, _ in rows]).values():
            trials.update(counts)
    return [
        *metric(
            "nas_searches",
            "gauge",
            "Searches in the record by state.",
            (({"state": state}, states[state]) for state in STATES),
        ),
        *metric(
            "nas_trials",
            "gauge",
            "Trials in the record by role.",
            (({"role": role}, trials[role]) for role in ROLES),
        ),
    ]


def _reconciler(services: Services) -> list[str]:
    thread = services.reconciler
    return [
        *metric(
            "nas_reconciler_up",
            "gauge",
            "Whether the reconciler of this process is at work and its last step met no trouble.",
            [({}, int(thread.alive and not thread.trouble))],
        ),
        *metric(
            "nas_reconciler_last_step_timestamp_seconds",
            "gauge",
            "When its last step ended, in seconds since 1970; 0 before the first.",
            [({}, services.measures.last_step)],
        ),
    ]
