"""How far is work that was asked for beside a search?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from nas.errors import SearchStateError
from nas.store.serving import Operation, Reply
from nas_services import schemas
from nas_services.authentication import require_owner
from nas_services.bodies import PostDep
from nas_services.dependencies import ReadCaller, Services, ServicesDep, SubmitCaller
from nas_services.errors import Problem
from nas_services.idempotency import answered, replayed

router = APIRouter(tags=["operations"])

OperationId = Annotated[str, Path(pattern="^[0-9A-Za-z]{1,32}$", description="An operation's id.")]


@router.get("/operations/{id}", response_model=schemas.OperationShown)
def read_operation(services: ServicesDep, _: ReadCaller, id: OperationId) -> Response:
    """Shows an operation."""
    shown = _shown(services.serving.operation(id))
    return Response(shown.model_dump_json(), media_type="application/json")


@router.post(
    "/operations/{id}/cancel",
    status_code=202,
    response_model=schemas.OperationShown,
    responses={
        200: {"model": schemas.OperationShown, "description": "It was cancelled before."},
        202: {"description": "Cancelled."},
    },
)
def cancel_operation(
    services: ServicesDep, caller: SubmitCaller, post: PostDep, id: OperationId
) -> Response:
    """Cancels an operation that has not ended."""
    if (earlier := replayed(services, caller, post)) is not None:
        return earlier
    require_owner(caller, services.serving.operation(id).owner)
    reply = _cancelled(services, id)
    return answered(services, caller, post, lambda _: reply)


def _cancelled(services: Services, id: str) -> Reply:
    held = services.serving.operation(id)
    status = 200 if held.state == "cancelled" else 202
    if status == 202:
        try:
            held = services.serving.change_operation(id, "cancelled")
        except SearchStateError:
            raise _ended(services.serving.operation(id)) from None
    return Reply(status, {}, _shown(held).model_dump(mode="json"))


def _ended(held: Operation) -> Problem:
    return Problem(
        409,
        "Conflict",
        f"Operation {held.id} has {held.state}, which never changes.",
        kind="state",
        state=held.state,
        allowed=[],
    )


def _shown(operation: Operation) -> schemas.OperationShown:
    return schemas.OperationShown(**asdict(operation))
