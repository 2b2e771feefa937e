"""How are searches submitted, listed, paused, resumed, cancelled and deleted?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import JSONResponse, Response

from nas.errors import DataError
from nas.report.result import check_installed
from nas.run.submission import check, facts_of, make_folder
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec, load_spec, request_schema
from nas.store.serving import Once, Reply, Wish
from nas.store.store import STATES, TERMINAL, SearchRecord, SearchState
from nas_services import schemas
from nas_services.admission import admitted
from nas_services.authentication import Caller, require_owner
from nas_services.bodies import Post, PostDep
from nas_services.dependencies import ReadCaller, Services, ServicesDep, SubmitCaller
from nas_services.errors import Problem
from nas_services.idempotency import answered, replayed
from nas_services.openapi import request_body
from nas_services.outlook import outlook, turn
from nas_services.paging import PageSize, PageToken, last_seen, page_token
from nas_services.schemas import Verb
from nas_services.shown import (
    API,
    CONDITION_KINDS,
    WANTED,
    allowed_verbs,
    search_detail,
    search_shown,
    shown_state,
)

router = APIRouter(tags=["searches"])

SearchId = Annotated[
    str,
    Path(
        pattern="^[0-9A-Za-z]{1,26}$",
        description="A search's id, its first six characters or more, or `last`: the newest.",
    ),
]
LIMIT_SECONDS = 60
# Searches that are looked at for a page at once, where states are told by more than the record.
LOOKED_AT = 200
_NAME = "^[a-z0-9][a-z0-9_-]{0,62}$"


# -- submission ------------------------------------------------------------------------------------


@router.post(
    "/searches",
    status_code=201,
    response_model=schemas.SearchShown,
    responses={
        200: {"model": schemas.DryRun, "description": "With `dry_run`: it could be submitted."},
        201: {
            "description": "Submitted: queued, and wanted to run.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
    },
    openapi_extra=request_body(request_schema(), yaml=True),
)
def submit_search(
    services: ServicesDep,
    caller: SubmitCaller,
    post: PostDep,
    dry_run: Annotated[bool, Query(description="Checks the request and stores nothing.")] = False,
    warm_start: Annotated[
        str | None,
        Query(pattern="^[0-9A-Za-z]{1,26}$", description="A search to begin with the front of."),
    ] = None,
) -> Response:
    """Submits a request: the body, in JSON or YAML, is a search's request as `nas search` takes it.

    Its space is a known name or the space itself; what a task reads lies under NAS_DATA_DIR.
    """
    if not dry_run and (earlier := replayed(services, caller, post)) is not None:
        return earlier
    spec, shown = _checked(post, outlooked=dry_run)
    begins_with = _earlier(services, warm_start)
    if dry_run:
        return JSONResponse(shown)
    facts = facts_of(spec, services.store, _versions(), begins_with)
    make_folder(services.settings.place)

    def create(once: Once) -> Reply:
        _check_limit(services, caller, once)
        record = once.create_search(
            spec.to_json(), owner=caller.owner, warm_start=begins_with, facts=facts
        )
        body = search_shown(record, Wish(record.id, caller.owner), begun=False, counts={})
        headers = {"Location": f"{API}/searches/{record.id}"}
        return Reply(201, headers, body.model_dump(mode="json"))

    answer = answered(services, caller, post, create)
    _poke(services)
    return answer


def _checked(post: Post, *, outlooked: bool) -> tuple[SearchSpec, dict[str, Any]]:
    """The request, and where it is to be `outlooked` what it would look through."""
    given = post.document(yaml=True)
    try:
        with turn():
            spec = load_spec(admitted(given))
            check(spec)
            if not outlooked:
                return spec, {}
            found = outlook(spec.search_space, spec.task_shape, spec.parsed_constraints)
    except DataError as error:
        raise Problem(422, "Unprocessable Content", str(error), kind="data") from error
    shown = schemas.DryRun(
        spec=spec.to_json(),
        size=str(spec.search_space.size),
        costs=found["costs"],
        feasible=found.get("feasible"),
    )
    return spec, shown.model_dump(mode="json")


def _earlier(services: Services, warm_start: str | None) -> str | None:
    if warm_start is None:
        return None
    record = services.store.get(warm_start)
    check_installed(record, architectures_alone=True)
    return record.id


@cache
def _versions() -> dict[str, str]:
    # A subprocess asks git for the commit, which does not change while this process runs.
    return Workspace.versions()


def _check_limit(services: Services, caller: Caller, once: Once) -> None:
    most = services.settings.most_searches
    if once.unfinished(caller.owner) >= most:
        raise Problem(
            429,
            "Too Many Requests",
            f"{caller.owner} has {most} unfinished searches, and more are not allowed at once; "
            "cancel one or wait for its end.",
            kind="most-searches",
            headers={"Retry-After": str(LIMIT_SECONDS)},
        )


# -- reading ---------------------------------------------------------------------------------------


@router.get("/searches", response_model=schemas.SearchPage)
def list_searches(
    services: ServicesDep,
    _: ReadCaller,
    state: Annotated[
        list[SearchState] | None,
        Query(max_length=len(STATES), description="Only those in one of these states."),
    ] = None,
    name: Annotated[
        str | None, Query(pattern=_NAME, description="Only those of this name.")
    ] = None,
    owner: Annotated[
        str | None, Query(max_length=100, description="Only those that belong to this owner.")
    ] = None,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> Response:
    """Lists searches, the newest first."""
    question = ("searches", *sorted(set(state or ())), name, owner)
    before = last_seen(page_token, *question)
    rows = _rows(services, frozenset(state or ()), name, owner, before)
    page = list(islice(rows, page_size + 1))
    more, page = len(page) > page_size, page[:page_size]
    counts = services.serving.progress([record.id for record, _, _ in page])
    items = [
        search_shown(record, wish, begun=begun, counts=counts.get(record.id, {}))
        for record, wish, begun in page
    ]
    token = _token(page[-1][0].id, question) if more else None
    return _json(schemas.SearchPage(items=items, next_page_token=token))


def _token(last: str, question: tuple[object, ...]) -> str:
    return page_token(last, *question)


def _rows(
    services: Services,
    states: frozenset[SearchState],
    name: str | None,
    owner: str | None,
    before: str | None,
) -> Iterator[tuple[SearchRecord, Wish, bool]]:
    """Searches in these states as they are shown, each with whether an attempt is open."""
    asked = set(states)
    # Shown by a wish or an attempt: in the record they stand in another state.
    if "provisioning" in asked:
        asked.add("queued")
    if "cancelling" in asked:
        asked |= set(STATES) - TERMINAL
    while True:
        rows = services.serving.search_page(
            size=LOOKED_AT, before=before, owner=owner, states=sorted(asked), name=name
        )
        for record, wish in rows:
            begun = _begun(services, record)
            if not states or shown_state(record, wish, begun=begun) in states:
                yield record, wish, begun
        if len(rows) < LOOKED_AT:
            return
        before = rows[-1][0].id


def _begun(services: Services, record: SearchRecord) -> bool:
    if record.state != "queued":
        return False
    attempts = services.serving.attempts(record.id)
    return bool(attempts) and attempts[-1].ended is None


@router.get("/searches/{id}", response_model=schemas.SearchDetail)
def read_search(services: ServicesDep, _: ReadCaller, id: SearchId) -> Response:
    """Shows a search: its request, state and progress, its history, and how to go on with it."""
    record = services.store.get(id)
    serving = services.serving
    detail = search_detail(
        record,
        serving.wish(record.id),
        attempts=serving.attempts(record.id),
        counts=serving.progress([record.id]).get(record.id, {}),
        events=serving.events_of(record.id, CONDITION_KINDS),
        spent=services.store.spent(record.id),
        home=str(services.settings.place.root),
    )
    return _json(detail)


def _json(shown: schemas.Wire) -> Response:
    return Response(shown.model_dump_json(), media_type="application/json")


# -- changing --------------------------------------------------------------------------------------


@router.delete("/searches/{id}", status_code=204, response_class=Response)
def delete_search(services: ServicesDep, caller: SubmitCaller, id: SearchId) -> Response:
    """Deletes a search that has ended, with its trials and its files; nothing brings it back."""
    record = services.store.get(id)
    with services.serving.once(caller.owner, None, "") as once:
        record, wish = once.wish(record.id)
        require_owner(caller, wish.owner)
        if record.state not in TERMINAL:
            raise _wrong(record, wish, "delete", begun=False)
        once.delete_search(record.id)
    services.findings.forget(record.id)
    place = services.settings.place
    for folder in (place.report(record.id), place.standalone(record.id)):
        # What is left of them is nothing that anything refers to.
        shutil.rmtree(folder, ignore_errors=True)
    return Response(status_code=204)


_VERB_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.SearchShown, "description": "It was asked for before: no change."},
    202: {"description": "Asked for; the state follows."},
}


@router.post(
    "/searches/{id}/pause",
    status_code=202,
    response_model=schemas.SearchShown,
    responses=_VERB_ANSWERS,
)
def pause_search(
    services: ServicesDep, caller: SubmitCaller, post: PostDep, id: SearchId
) -> Response:
    """Pauses a search: what it has done is kept, its machines are given back."""
    return _ask(services, caller, post, id, "pause")


@router.post(
    "/searches/{id}/resume",
    status_code=202,
    response_model=schemas.SearchShown,
    responses=_VERB_ANSWERS,
)
def resume_search(
    services: ServicesDep, caller: SubmitCaller, post: PostDep, id: SearchId
) -> Response:
    """Goes on with a paused search from where it stands."""
    return _ask(services, caller, post, id, "resume")


@router.post(
    "/searches/{id}/cancel",
    status_code=202,
    response_model=schemas.SearchShown,
    responses=_VERB_ANSWERS,
)
def cancel_search(
    services: ServicesDep, caller: SubmitCaller, post: PostDep, id: SearchId
) -> Response:
    """Cancels a search for good; its trials are kept, and another may begin with them."""
    return _ask(services, caller, post, id, "cancel")


def _ask(services: Services, caller: Caller, post: Post, id: str, verb: Verb) -> Response:
    found = services.store.get(id)
    begun = _begun(services, found)
    counts = services.serving.progress([found.id]).get(found.id, {})

    def change(once: Once) -> Reply:
        record, wish = once.wish(found.id)
        require_owner(caller, wish.owner)
        status = 202
        if verb in allowed_verbs(record, wish):
            wish = once.set_desired(record.id, WANTED[verb])
        elif wish.desired == WANTED[verb] and _stands(record):
            status = 200
        else:
            raise _wrong(record, wish, verb, begun=begun)
        body = search_shown(record, wish, begun=begun, counts=counts)
        return Reply(status, {}, body.model_dump(mode="json"))

    answer = answered(services, caller, post, change)
    _poke(services)
    return answer


def _stands(record: SearchRecord) -> bool:
    """Whether what is wanted may still come to be, or has."""
    return record.state not in TERMINAL or record.state == "cancelled"


def _wrong(record: SearchRecord, wish: Wish, verb: str, *, begun: bool) -> Problem:
    state, allowed = shown_state(record, wish, begun=begun), allowed_verbs(record, wish)
    said = f"allowed: {', '.join(allowed)}" if allowed else "no verb is allowed"
    if record.state in TERMINAL and verb != "delete":
        said = "that never changes; a new search can begin with its trials (warm_start)"
    return Problem(
        409,
        "Conflict",
        f"Search {record.id} is {state}, so {verb} is not possible; {said}.",
        kind="state",
        state=state,
        allowed=list(allowed),
    )


def _poke(services: Services) -> None:
    services.reconciler.poke()
    services.hub.poke()
