"""Which spaces are there, and what would one hold and cost?"""

from __future__ import annotations

import logging
from typing import Any, Literal

from fastapi import APIRouter
from starlette.responses import Response

from nas import catalog
from nas.errors import SpecError
from nas.search.objective import Constraint
from nas.space.loader import space_names, space_schema
from nas.space.task_shape import can_tell
from nas.store.serving import Reply
from nas_services import outlook
from nas_services.admission import admitted_space, check_task
from nas_services.bodies import PostDep, only_keys
from nas_services.dependencies import ReadCaller, ServicesDep
from nas_services.errors import Problem, invalid
from nas_services.faults import Fault
from nas_services.idempotency import answered, replayed
from nas_services.openapi import request_body
from nas_services.schemas import CostRange, FeasibleShare, Wire

router = APIRouter(tags=["spaces"])


class SpaceShown(Wire):
    """A known space; all but its name is null where its file is no space."""

    name: str
    kind: str | None = None
    size: str | None = None
    """The exact number of architectures, a text, as no number of JSON holds it."""
    digest: str | None = None
    attentions: list[str] | None = None
    error: str | None = None


class SpacePage(Wire):
    """All known spaces by name, on one page."""

    items: list[SpaceShown]
    next_page_token: None = None


class SpaceDetail(SpaceShown):
    """A space with all of its choices."""

    choices: dict[str, Any]
    """The space itself, as a request may say it."""


class TaskShown(Wire):
    """A task with all of its options."""

    name: str
    options: dict[str, Any]


class SpaceOutlook(SpaceShown):
    """What a valid space holds and costs; the last three are null where they were not asked for."""

    valid: Literal[True] = True
    task: TaskShown | None = None
    costs: dict[str, CostRange] | None = None
    feasible: FeasibleShare | None = None


MOST_CONSTRAINTS = 32
_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["space"],
    "additionalProperties": False,
    "properties": {
        "space": {
            "description": "A known space's name, or a space itself: see GET /spaces/{name}.",
            "anyOf": [{"type": "string"}, {"type": "object"}],
        },
        "task": {
            "description": "A task's name, or a mapping with its name and options.",
            "anyOf": [{"type": "string"}, {"type": "object"}],
        },
        "constraints": {
            "description": "Bounds `METRIC <= NUMBER` or `METRIC >= NUMBER`; they need a task.",
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MOST_CONSTRAINTS,
        },
    },
}

_LOG = logging.getLogger(__name__)


@router.get("/spaces")
def list_spaces(_: ReadCaller) -> SpacePage:
    """All known spaces with their exact sizes, by name; one whose file is no space says why."""
    items = []
    for name in space_names():
        try:
            # A file may say another name than its own; it is found by its own.
            found = outlook.facts(outlook.named_space(name)) | {"name": name}
            items.append(SpaceShown.model_validate(found))
        except SpecError as error:
            _LOG.warning("space %s cannot be used: %s", name, error)
            items.append(SpaceShown(name=name, error="Its file is no space; the log says why."))
    return SpacePage(items=items)


@router.get("/spaces/schema")
def schema(_: ReadCaller) -> dict[str, Any]:
    """The JSON Schema of a space."""
    return space_schema()


@router.get("/spaces/{name}")
def show_space(name: str, _: ReadCaller) -> SpaceDetail:
    """A space with all of its choices, which can be sent as a search's `space`."""
    if name not in space_names():
        known = ", ".join(space_names())
        raise Problem(404, "Not Found", f"No space is called {name!r}; known: {known}.")
    space = outlook.named_space(name)
    found = outlook.facts(space) | {"name": name, "choices": space.to_json()}
    return SpaceDetail.model_validate(found)


@router.post(
    "/spaces/validate",
    response_model=SpaceOutlook,
    openapi_extra=request_body(_REQUEST, yaml=True),
)
def validate(services: ServicesDep, caller: ReadCaller, post: PostDep) -> Response:
    """A space's exact size and, on a task's shapes, its smallest and largest costs.

    Under constraints on costs that are known beforehand also the share of architectures that keep
    them, of those that a random search would draw. What is wrong is told field by field.
    """
    given = post.document(yaml=True)
    earlier = replayed(services, caller, post)
    if earlier is not None:
        return earlier
    with outlook.turn():
        found = _validated(given)
    body = found.model_dump(mode="json")
    return answered(services, caller, post, lambda _: Reply(200, body=body))


def _validated(given: dict[str, Any]) -> SpaceOutlook:
    only_keys(given, _REQUEST["properties"])
    if given.get("space") is None:
        raise invalid([Fault("/space", "missing", "is required")])
    space = admitted_space(given["space"])
    found = outlook.facts(space)
    constraints = _constraints(given.get("constraints"))
    if given.get("task") is None:
        if constraints:
            raise invalid([Fault("/task", "missing", "is required where there are constraints")])
        return SpaceOutlook.model_validate(found)
    check_task(given["task"])
    part, options = outlook.task_of(given["task"])
    declared = catalog.TASKS.load(part.name)
    shape = declared.shape(options)
    costs = [name for name in catalog.COSTS.names() if can_tell(shape, name)]
    outlook.check_known(constraints, [*(metric.name for metric in declared.metrics), *costs])
    task = {"name": part.name, "options": options.model_dump(mode="json")}
    found |= {"task": task, **outlook.outlook(space, shape, constraints)}
    return SpaceOutlook.model_validate(found)


def _constraints(given: Any) -> list[Constraint]:
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MOST_CONSTRAINTS:
        message = f"a list of up to {MOST_CONSTRAINTS} texts is allowed"
        raise invalid([Fault("/constraints", "list_type", message)])
    for index, each in enumerate(given):
        if not isinstance(each, str):
            raise invalid([Fault(f"/constraints/{index}", "string_type", "a text is required")])
    return [Constraint.parse(each, f"constraints.{i}") for i, each in enumerate(given)]
