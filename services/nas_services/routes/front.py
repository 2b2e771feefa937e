"""Which trials are Pareto-optimal, how did they come to be, and is the ranking to be trusted?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from nas.errors import SpecError
from nas.search.objective import Constraint
from nas.search.trial import Trial
from nas_services import schemas
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.errors import Problem, invalid
from nas_services.faults import Fault
from nas_services.files import file_of, sent
from nas_services.findings import Found
from nas_services.fronts import fidelity_shown, front_shown, history_shown
from nas_services.routes.searches import SearchId

router = APIRouter(tags=["front"])

PAGE_FILE = "pareto.html"
MOST_CONSTRAINTS = 32
LONGEST_CONSTRAINT = 200


@router.get("/searches/{id}/pareto", response_model=schemas.FrontShown)
async def read_front(
    services: ServicesDep,
    _: ReadCaller,
    id: SearchId,
    constraint: Annotated[
        list[str] | None,
        Query(
            max_length=MOST_CONSTRAINTS,
            description="Only members that keep it: `flops<=2e7`. May be repeated.",
        ),
    ] = None,
) -> Response:
    """The Pareto front as it stands, also of a search that runs."""
    wanted = tuple(_constraints(constraint or []))

    def make(found: Found) -> bytes:
        try:
            shown = front_shown(found, wanted, reader(services, found))
        except SpecError as error:
            raise invalid([Fault("/query/constraint", "constraint", str(error))]) from error
        return shown.model_dump_json().encode()

    return await _answer(services, id, ("front", wanted), make)


def _constraints(given: list[str]) -> list[Constraint]:
    found, faults = [], []
    for place, text in enumerate(given):
        try:
            if len(text) > LONGEST_CONSTRAINT:
                raise SpecError(f"{len(text)} characters given, {LONGEST_CONSTRAINT} are allowed")
            found.append(Constraint.parse(text))
        except SpecError as error:
            where = f"/query/constraint/{place}"
            faults.append(Fault(where, "constraint", str(error).removeprefix("constraint: ")))
    if faults:
        raise invalid(faults)
    return found


def reader(services: Services, found: Found) -> Callable[[Trial], Mapping[str, Any]]:
    """Reads architectures of the front, most of which stay from one front to the next."""

    def read(trial: Trial) -> Mapping[str, Any]:
        held = found.architectures.get(trial.architecture.id)
        if held is None:
            row = services.serving.trial(found.record.id, trial.role, trial.index)
            # Only a search that was just deleted has none.
            held = {} if row is None else row.architecture
            found.architectures[trial.architecture.id] = held
        return held

    return read


@router.get("/searches/{id}/pareto/history", response_model=schemas.HistoryShown)
async def read_history(services: ServicesDep, _: ReadCaller, id: SearchId) -> Response:
    """How the front grew: hypervolume after each trial, beside that of the random control."""

    def make(found: Found) -> bytes:
        return history_shown(found).model_dump_json().encode()

    return await _answer(services, id, "history", make, slow=True)


@router.get("/searches/{id}/fidelity", response_model=schemas.FidelityShown)
async def read_fidelity(services: ServicesDep, _: ReadCaller, id: SearchId) -> Response:
    """How far the ranking and predicted costs can be trusted: tau, MAPE, baselines, a verdict."""

    def make(found: Found) -> bytes:
        alone = services.store.trials(found.record.id, "fidelity")
        return fidelity_shown(found, alone).model_dump_json().encode()

    return await _answer(services, id, "fidelity", make, slow=True)


async def _answer(
    services: Services,
    id: str,
    question: object,
    make: Callable[[Found], bytes],
    *,
    slow: bool = False,
) -> Response:
    findings = services.findings
    body = findings.ready(id, question)
    if body is None:
        body = await run_in_threadpool(findings.answer, id, question, make, slow=slow)
    return Response(body, media_type="application/json")


@router.get(
    "/searches/{id}/pareto.html",
    response_class=Response,
    responses={
        200: {"description": "The report's page.", "content": {"text/html": {}}},
        206: {"description": "A part of it.", "content": {"text/html": {}}},
        304: {"description": "As the caller has it."},
    },
)
def read_report(services: ServicesDep, _: ReadCaller, request: Request, id: SearchId) -> Response:
    """The report's page, a picture of the front with all its words; 404 until it is written."""
    record = services.store.get(id)
    artifact = services.store.artifacts(record.id).get(PAGE_FILE)
    if artifact is None:
        raise Problem(
            404,
            "Not Found",
            f"Search {record.id} is {record.state}; its report is written when it ends. Until "
            "then GET .../pareto has the front.",
            kind="no-report",
        )
    return sent(file_of(artifact, services.settings.place.root), artifact, request)
