"""What does a person see in a browser?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, RedirectResponse, Response

from nas.errors import EtnasError, LauncherUnavailable, StoreUnavailable
from nas.store.store import TERMINAL
from nas_services import schemas
from nas_services.authentication import LOCAL, csrf_token
from nas_services.bodies import PostDep
from nas_services.dependencies import (
    AnyCaller,
    ReadCaller,
    Services,
    ServicesDep,
    SubmitCaller,
    services_of,
)
from nas_services.errors import Problem, invalid, problem_of
from nas_services.faults import faults_of_validation
from nas_services.findings import Found
from nas_services.pages.mlflow import runs_address
from nas_services.pages.parts import front_part, history_part, verdict_part
from nas_services.pages.rendering import rendered, static_files
from nas_services.paging import PageToken
from nas_services.routes.artifacts import list_artifacts
from nas_services.routes.front import PAGE_FILE, reader
from nas_services.routes.searches import (
    SearchId,
    cancel_search,
    list_searches,
    pause_search,
    read_search,
    resume_search,
)

FOREVER = "public, max-age=31536000, immutable"
LOG_LINES = 500
_VERBS = {"pause": pause_search, "resume": resume_search, "cancel": cancel_search}
_TITLES = {
    "front": "Look at the front",
    "best": "Take the best architecture, for training or export",
    "cost": "What the best one costs",
    "warm_start": "Begin another search with what this one found",
    "confirm": "Train the front to the end, from several seeds",
}


class _PageRoute(APIRoute):
    """What goes wrong is said by a page, and who has to log in is sent to the form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, whose errors are pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as error:
                problem = error
            except EtnasError as error:
                problem = problem_of(error)
            except RequestValidationError as error:
                problem = invalid(faults_of_validation(error.errors()))
            if problem.status == 401 and "authorization" not in request.headers:
                return RedirectResponse(f"/login?next={_page_of(request)}", 303)
            back = _page_of(request)
            values = {"problem": problem, "back": back if problem.status != 404 else "/"}
            page = _page(request, await services_of(request), "problem.html", **values)
            page.status_code = problem.status
            page.headers.update(problem.headers)
            return page

        return answer


router = APIRouter(route_class=_PageRoute, include_in_schema=False)


def _page_of(request: Request) -> str:
    """The page that an address belongs to: that of a search, or the list."""
    id = request.path_params.get("id", "")
    return f"/searches/{id}" if id.isascii() and id.isalnum() else "/"


def _page(request: Request, services: Services, template: str, **values: Any) -> Response:
    """A page with what all of them have: who is logged in, and what forms need."""
    nobody = None if services.settings.require_tokens else LOCAL
    caller = getattr(request.state, "caller", nobody)
    content = rendered(
        template,
        **{
            "caller": caller,
            "csrf": csrf_token(request),
            "mlflow": bool(services.settings.mlflow_url),
            "owners": services.settings.require_tokens,
            **values,
        },
    )
    return HTMLResponse(content)


# -- searches --------------------------------------------------------------------------------------


@router.get("/")
def list_page(
    request: Request, services: ServicesDep, caller: ReadCaller, page_token: PageToken = None
) -> Response:
    """All searches, the newest first, and how to submit one."""
    answer = list_searches(services, caller, page_token=page_token)
    return _page(
        request,
        services,
        "searches.html",
        page=schemas.SearchPage.model_validate_json(bytes(answer.body)),
        older=page_token is not None,
        tokens=services.settings.require_tokens,
        base=_base(request),
    )


@router.get("/searches/{id}")
def search_page(
    request: Request, services: ServicesDep, caller: ReadCaller, id: SearchId
) -> Response:
    """A search as it stands; a script keeps it so by `front.html`."""
    # Asked first: what comes while the page is made is told to it again.
    after = services.serving.last_sequence()
    return _page(
        request, services, "search.html", **_shown(request, services, caller, id), after=after
    )


@router.get("/searches/{id}/front.html")
def live_part(
    request: Request, services: ServicesDep, caller: ReadCaller, id: SearchId
) -> Response:
    """The parts of a search's page that change, without what is around them."""
    return _page(request, services, "live.html", **_shown(request, services, caller, id))


def _shown(request: Request, services: Services, caller: ReadCaller, id: str) -> dict[str, Any]:
    """What a search's page shows: what the API answers of it, and pictures of that."""
    answer = read_search(services, caller, id)
    search = schemas.SearchDetail.model_validate_json(bytes(answer.body))
    answer = list_artifacts(services, caller, search.id)
    artifacts = schemas.ArtifactList.model_validate_json(bytes(answer.body)).items
    base = _base(request)
    return {
        "search": search,
        "ended": search.state in TERMINAL,
        "may_act": caller.acts_on(search.owner),
        "parts": _parts(services, search.id),
        "commands": _commands(services, search, base),
        "artifacts": artifacts,
        "report": any(each.name == PAGE_FILE and each.size is not None for each in artifacts),
        "request_text": json.dumps(
            {"request": search.spec, "facts": search.facts}, indent=1, ensure_ascii=False
        ),
    }


def _base(request: Request) -> str:
    """The service's address as the browser has it; its host is one of those allowed."""
    return str(request.base_url).rstrip("/")


def _commands(services: Services, search: schemas.SearchDetail, base: str) -> list[tuple[str, str]]:
    """Lines for a terminal that take up what was found, the same from another machine first."""
    header = ' -H "Authorization: Bearer $NAS_TOKEN"' if services.settings.require_tokens else ""
    server = shlex.quote(base)
    found = [
        (
            f"{_TITLES['best']}, from another machine",
            f"nas pareto {search.id} --best --server {server} > best.json",
        ),
        ("The front as JSON", f"curl{header} {server}{search.links['pareto']}"),
    ]
    here = (
        (f"{_TITLES[name]}, on the service's machine", command)
        for name, command in search.commands.items()
        if name in _TITLES
    )
    return [*found, *here]


def _parts(services: Services, id: str) -> dict[str, str]:
    """The drawn parts by name, each made once for what there is; why, where one cannot be made."""

    def front(found: Found) -> bytes:
        return front_part(found, reader(services, found))

    def verdict(found: Found) -> bytes:
        return verdict_part(found, services.store.trials(found.record.id, "fidelity"))

    return {
        "verdict": _part(services, id, "verdict", verdict, slow=True),
        "front": _part(services, id, "front", front),
        "history": _part(services, id, "history", history_part, slow=True),
    }


def _part(
    services: Services,
    id: str,
    name: str,
    make: Callable[[Found], bytes],
    *,
    slow: bool = False,
) -> str:
    try:
        return services.findings.answer(id, ("page", name), make, slow=slow).decode()
    except Problem:
        # There is no curve before the first trial.
        return ""
    except StoreUnavailable:
        raise
    except EtnasError as error:
        # Of one that names a part that is not installed here, the rest is shown; said once.
        return rendered("missing.html", error=str(error)) if name == "verdict" else ""


@router.get("/searches/{id}/log")
def log_page(request: Request, services: ServicesDep, caller: ReadCaller, id: SearchId) -> Response:
    """The last lines of what each of a search's jobs wrote, the newest job first."""
    answer = read_search(services, caller, id)
    search = schemas.SearchDetail.model_validate_json(bytes(answer.body))
    attempts = [
        {**each.model_dump(), **_log(services, each.job)} for each in reversed(search.attempts)
    ]
    return _page(request, services, "log.html", search=search, attempts=attempts)


def _log(services: Services, job: str) -> dict[str, Any]:
    try:
        lines = services.launcher.logs(job).removesuffix("\n").split("\n")
    except LauncherUnavailable as error:
        lines = [f"({error})"]
    # Of a line that a progress bar wrote over and over, what a terminal would show.
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines[-LOG_LINES:]]
    return {"lines": shown, "left_out": len(lines) - len(shown)}


@router.get("/searches/{id}/mlflow")
def mlflow_page(services: ServicesDep, _: ReadCaller, id: SearchId) -> Response:
    """Sends on to the search's run in MLflow's pages."""
    record = services.store.get(id)
    return RedirectResponse(runs_address(services.settings.mlflow_url, record), 303)


@router.post("/searches/{id}/{verb}")
def act(
    services: ServicesDep, caller: SubmitCaller, post: PostDep, id: SearchId, verb: schemas.Verb
) -> Response:
    """Pauses, resumes or cancels a search, and goes back to its page."""
    _VERBS[verb](services, caller, post, id)
    return RedirectResponse(f"/searches/{id}", 303)


# -- browsers --------------------------------------------------------------------------------------


@router.get("/login")
def login_page(
    request: Request,
    services: ServicesDep,
    caller: AnyCaller,
    next: Annotated[str, Query(max_length=500)] = "/",
    failed: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """The form that takes a token, or who is logged in."""
    scopes = ", ".join(sorted(caller.scopes)) if caller else ""
    values = {"caller": caller, "next": next, "failed": bool(failed), "scopes": scopes}
    return _page(request, services, "login.html", **values)


@router.get("/logout")
def logout_page() -> Response:
    """To log out changes something, so that it takes the form there."""
    return RedirectResponse("/login", 303)


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """A file of the pages, under a name that says what is in it; kept by browsers for good."""
    found = static_files().get(name)
    if found is None:
        raise Problem(404, "Not Found", "There is no file of this name.")
    headers = {"Cache-Control": FOREVER}
    return Response(found.content, headers=headers, media_type=found.media_type)
