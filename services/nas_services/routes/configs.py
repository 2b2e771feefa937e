"""What is known of an architecture?"""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from nas.cost.cost import exact_costs
from nas.errors import PartNotInstalled, SpecError
from nas.report.result import check_installed
from nas.search.spec import load_spec
from nas.space.architecture import Architecture
from nas.store.parameters import part_name
from nas.store.serving import TrialRow
from nas_services import schemas
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.errors import Problem
from nas_services.shown import trial_shown

router = APIRouter(tags=["configs"])

MOST_TRIALS = 200


@router.get("/configs/{architecture_id}", response_model=schemas.ConfigShown)
def read_config(
    services: ServicesDep,
    _: ReadCaller,
    architecture_id: Annotated[
        str, Path(pattern="^[0-9a-f]{16}$", description="As trials and fronts have it.")
    ],
) -> Response:
    """Shows an architecture, its exact costs for each search that tried it, and those trials."""
    found = services.serving.trials_of_architecture(architecture_id, MOST_TRIALS)
    if not found:
        detail = f"No trial is of the architecture {architecture_id}."
        raise Problem(404, "Not Found", detail, kind="architecture-not-found")
    by_search = groupby(found, key=lambda each: each[0])
    shown = schemas.ConfigShown(
        id=architecture_id,
        architecture=dict(found[0][1].architecture),
        searches=[
            _of_search(services, search, [row for _, row in rows]) for search, rows in by_search
        ],
    )
    return Response(shown.model_dump_json(), media_type="application/json")


def _of_search(services: Services, search: str, rows: list[TrialRow]) -> schemas.ConfigSearch:
    record = services.store.get(search)
    costs: dict[str, float] | None
    try:
        check_installed(record)
        spec = load_spec(record.spec)
        architecture = Architecture.from_json(dict(rows[0].architecture))
        costs = dict(exact_costs(spec.task_shape, spec.latency)(architecture))
    except (SpecError, PartNotInstalled):
        # A part of it is not installed here; what the record has is shown all the same.
        costs = None
    return schemas.ConfigSearch(
        search=search,
        name=record.name,
        task=part_name(record.spec, "task"),
        costs=costs,
        trials=[trial_shown(search, row) for row in rows],
    )
