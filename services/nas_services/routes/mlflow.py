"""How does MLflow's own interface stand behind ours: to look at, and to change nothing by?"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.background import BackgroundTask
from starlette.responses import RedirectResponse, Response, StreamingResponse

from nas_services.authentication import Caller, find_caller, reading
from nas_services.dependencies import ServicesDep
from nas_services.errors import Problem

# Big artifacts come slowly; each part of an answer has so long.
ANSWER_SECONDS = httpx.Timeout(60.0, connect=5.0)
RETRY_SECONDS = 5

_NAME = r"[\w.-]+"
_API = r"(?:ajax-)?api/2\.0/mlflow"
_API_3 = r"(?:ajax-)?api/3\.0/mlflow"
# What MLflow 3 answers without changing anything, by method.
_LOOKED_AT = {
    "GET": (
        r"|static-files/[\w./~-]+|version|get-artifact|model-versions/get-artifact",
        rf"{_API}/experiments/(?:get|get-by-name|search)",
        rf"{_API}/(?:runs/get|artifacts/list|metrics/get-history(?:-bulk(?:-interval)?)?)",
        rf"{_API}/registered-models/(?:get|search|alias|get-latest-versions)",
        rf"{_API}/model-versions/(?:get|search|get-download-uri)",
        rf"{_API}/logged-models/{_NAME}(?:/artifacts/(?:directories|files))?",
        rf"{_API}/(?:traces|unified-traces|traces/{_NAME}/info|get-trace-artifact)",
        r"(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts(?:/.+)?",
        rf"{_API_3}/(?:server-info|workspaces|get-trace-artifact|scorers/list)",
        rf"{_API_3}/(?:traces/{_NAME}|datasets/(?:search|{_NAME}))",
    ),
    # To search is a reading, though MLflow asks for it by POST.
    "POST": (
        rf"{_API}/(?:experiments/search|runs/search|logged-models/search)",
        r"(?:ajax-)?api/2\.0/?mlflow/experiments/search-datasets",
        rf"{_API}/registered-models/get-latest-versions",
        rf"{_API_3}/(?:traces/(?:search|metrics|batchGetInfos)|datasets/search)",
        "graphql",
    ),
}
_ALLOWED = {method: re.compile("|".join(each)) for method, each in _LOOKED_AT.items()}
_ALLOWED["HEAD"] = _ALLOWED["GET"]
# Where what a search wrote is sent as it is, pages with scripts among it.
_ARTIFACT = re.compile(
    r"(?:model-versions/)?get-artifact|.*/get-trace-artifact|.*/artifacts/files"
    r"|(?:ajax-)?api/2\.0/mlflow-artifacts/.*"
)
_WRITES = re.compile(r"\b(?:mutation|subscription)\b")

ASKED = ("accept", "content-type", "range", "if-range", "if-none-match", "if-modified-since")
ANSWERED = (
    *("content-type", "content-length", "content-encoding", "content-disposition"),
    *("cache-control", "etag", "last-modified", "accept-ranges", "content-range", "vary"),
)
# An artifact's page has an origin of its own, so that its scripts reach nothing of the service.
ARTIFACT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; frame-ancestors 'self'"
)
# What MLflow's pages are built of; artifacts are shown there in a sandboxed frame of a blob, which
# inherits this.
UI_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)


@contextlib.asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[None]:
    yield
    client: httpx.AsyncClient | None = getattr(app.state, "mlflow", None)
    if client is not None:
        app.state.mlflow = None
        await client.aclose()


router = APIRouter(lifespan=_closing)


async def _looking(request: Request) -> Caller | None:
    """A caller with the scope `read`; None for a browser that should log in first.

    What may be asked for here changes nothing, whatever its method. So a browser's session needs no
    CSRF token, which MLflow's pages could not send.
    """
    looking = Request({**request.scope, "method": "GET"}, request.receive)
    at_the_door = request.method == "GET" and not request.path_params["path"]
    by_a_person = at_the_door and "text/html" in request.headers.get("accept", "")
    if by_a_person and await find_caller(looking) is None:
        return None
    return await reading(looking)


@router.get("/mlflow", include_in_schema=False)
async def mlflow_without_slash() -> Response:
    """MLflow's pages name what they need from their own folder on."""
    return RedirectResponse("/mlflow/", 308)


@router.api_route(
    "/mlflow/{path:path}",
    methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def mlflow(
    path: str,
    request: Request,
    services: ServicesDep,
    caller: Annotated[Caller | None, Depends(_looking)],
) -> Response:
    """Hands on to MLflow what only looks, and gives its answer as it comes."""
    if caller is None:
        return RedirectResponse("/login?next=/mlflow/", 303)
    base = services.settings.mlflow_url
    if not base:
        raise Problem(404, "Not Found", "This service shows no MLflow.", kind="no-mlflow")
    _check(request.method, path)
    body = await request.body()
    if path == "graphql":
        _check_query(body)
    client = _client(request.app)
    url = httpx.URL(f"{base}/{quote(path)}", query=request.scope["query_string"] or None)
    headers = {name: request.headers[name] for name in ASKED if name in request.headers}
    # A compressed answer is handed on as it is, so only what the caller can read is asked for.
    headers["accept-encoding"] = request.headers.get("accept-encoding", "identity")
    try:
        asked = client.build_request(request.method, url, headers=headers, content=body or None)
        answer = await client.send(asked, stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Problem(
            503,
            "Service Unavailable",
            "MLflow does not answer; searches go on, and it is kept complete when it is back.",
            kind="mlflow-unavailable",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from error
    if answer.has_redirect_location:
        await answer.aclose()
        detail = "MLflow sends elsewhere, to where this service does not lead."
        raise Problem(502, "Bad Gateway", detail, kind="mlflow-redirect")
    return _handed_on(path, answer)


def _check(method: str, path: str) -> None:
    allowed = _ALLOWED.get(method)
    steps = path.split("/")
    if allowed and allowed.fullmatch(path) and ".." not in steps and "." not in steps:
        return
    if method in ("GET", "HEAD"):
        raise Problem(404, "Not Found", f"/mlflow/{path} is not shown here.", kind="mlflow-path")
    raise Problem(
        403,
        "Forbidden",
        f"{method} /mlflow/{path}: MLflow is for looking at here; its runs follow the record, "
        "which the REST API changes.",
        kind="mlflow-read-only",
    )


def _check_query(body: bytes) -> None:
    """GraphQL has one address for looking and changing: the query tells them apart."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    query = given.get("query") if isinstance(given, dict) else None
    if not isinstance(query, str):
        raise Problem(400, "Bad Request", "A GraphQL request is an object with a text `query`.")
    if _WRITES.search(query):
        raise Problem(
            403,
            "Forbidden",
            "MLflow is for looking at here: queries only.",
            kind="mlflow-read-only",
        )


def _client(app: FastAPI) -> httpx.AsyncClient:
    if getattr(app.state, "mlflow", None) is None:
        app.state.mlflow = httpx.AsyncClient(
            timeout=ANSWER_SECONDS, trust_env=False, follow_redirects=False
        )
    client: httpx.AsyncClient = app.state.mlflow
    return client


def _handed_on(path: str, answer: httpx.Response) -> Response:
    headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
    if _ARTIFACT.fullmatch(path):
        headers["content-security-policy"] = ARTIFACT_POLICY
    elif headers.get("content-type", "").startswith("text/html"):
        headers["content-security-policy"] = UI_POLICY
    # Closed by whichever comes: the end of the answer, or of a caller who goes away before.
    return StreamingResponse(
        _parts(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose)
    )


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()
