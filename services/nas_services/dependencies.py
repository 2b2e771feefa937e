"""What does an endpoint work with: the service's parts, and who calls?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from nas_services.authentication import (
    Caller,
    administering,
    find_caller,
    reading,
    submitting,
)
from nas_services.measures import Measures
from nas_services.rates import Rates
from nas_services.sessions import Sessions
from nas_services.settings import Settings

if TYPE_CHECKING:
    from nas.store.serving_sql import ServingSqlStore
    from nas.store.sql import SqlStore
    from nas_services.findings import Findings
    from nas_services.hub import Hub
    from nas_services.jobs import Launcher
    from nas_services.reconciler import ReconcilerThread


@dataclass(frozen=True, eq=False)
class Services:
    """The parts of one service; made by `nas_services.app.create_app`."""

    settings: Settings
    store: SqlStore
    serving: ServingSqlStore
    launcher: Launcher
    findings: Findings
    hub: Hub
    reconciler: ReconcilerThread
    sessions: Sessions
    rates: Rates
    measures: Measures


async def services_of(request: Request) -> Services:
    """The service's parts."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services_of)]
ReadCaller = Annotated[Caller, Depends(reading)]
SubmitCaller = Annotated[Caller, Depends(submitting)]
AdminCaller = Annotated[Caller, Depends(administering)]
AnyCaller = Annotated[Caller | None, Depends(find_caller)]
"""None where nobody is logged in: for pages, which then send to the login."""
