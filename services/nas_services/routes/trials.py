"""What was tried?"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nas.search.trial import ROLES, TrialRole, TrialState
from nas_services import schemas
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.errors import Problem, invalid
from nas_services.faults import Fault
from nas_services.findings import Found
from nas_services.paging import PageSize, PageToken, last_seen, page_token
from nas_services.routes.searches import SearchId
from nas_services.shown import trial_shown

router = APIRouter(tags=["trials"])

_PAGE: TypeAdapter[schemas.TrialPage] = TypeAdapter(schemas.TrialPage)


@router.get("/searches/{id}/trials", response_model=schemas.TrialPage)
async def list_trials(
    services: ServicesDep,
    _: ReadCaller,
    id: SearchId,
    role: Annotated[TrialRole | None, Query(description="Only those of this role.")] = None,
    state: Annotated[TrialState | None, Query(description="Only those in this state.")] = None,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> Response:
    """Lists a search's trials in the order in which they came."""
    question = ("trials", role, state)
    last = last_seen(page_token, id, *question) or "0"
    if not last.isdigit():
        raise invalid([Fault("/query/page_token", "page_token", "no token of this list")])
    after = int(last)
    asked = (*question, page_size, after, id)
    body = services.findings.ready(id, asked)
    if body is None:
        body = await run_in_threadpool(
            services.findings.answer,
            id,
            asked,
            lambda found: _page(services, found, asked),
        )
    return Response(body, media_type="application/json")


def _page(services: Services, found: Found, asked: tuple[Any, ...]) -> bytes:
    name, role, state, size, after, id = asked
    search = found.record.id
    rows = services.serving.trial_page(search, size=size + 1, after=after, role=role, state=state)
    more, rows = len(rows) > size, rows[:size]
    # The token is for the search as it was named: `last` may be another one by then.
    token = page_token(str(rows[-1].place), id, name, role, state) if more else None
    page = schemas.TrialPage(
        items=[trial_shown(search, row) for row in rows], next_page_token=token
    )
    return _PAGE.dump_json(page)


@router.get("/trials/{id}", response_model=schemas.TrialShown)
def read_trial(
    services: ServicesDep,
    _: ReadCaller,
    id: Annotated[
        str,
        Path(
            pattern=r"^[0-9A-Za-z]{1,26}\.[a-z]{1,16}\.[0-9]{1,9}$",
            description="`SEARCH.ROLE.INDEX`, as a list of trials has it.",
        ),
    ],
) -> Response:
    """Shows one trial."""
    search, name, index = id.split(".")
    record = services.store.get(search)
    role = next((each for each in ROLES if each == name), None)
    row = None if role is None else services.serving.trial(record.id, role, int(index))
    if row is None:
        detail = f"Search {record.id} has no trial {name}/{int(index)}."
        raise Problem(404, "Not Found", detail, kind="trial-not-found")
    return Response(trial_shown(record.id, row).model_dump_json(), media_type="application/json")
