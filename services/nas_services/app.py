"""How is the service put together: its parts, its guards, its addresses?"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool

from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore
from nas_services import errors
from nas_services.dependencies import Services
from nas_services.findings import Findings
from nas_services.guards import API_ROOT, Answers, BodyLimit, Doorkeeper
from nas_services.hub import Hub
from nas_services.jobs import ray_jobs
from nas_services.measures import Measures
from nas_services.rates import Rates
from nas_services.reconciler import Reconciler, ReconcilerThread
from nas_services.routes import (
    artifacts,
    catalog,
    configs,
    events,
    front,
    mlflow,
    operations,
    pages,
    searches,
    sessions,
    spaces,
    system,
    trials,
)
from nas_services.sessions import Sessions
from nas_services.settings import Settings

if TYPE_CHECKING:
    from nas_services.jobs import Launcher

_RESOURCES: tuple[APIRouter, ...] = (
    system.router,
    spaces.router,
    catalog.router,
    searches.router,
    trials.router,
    front.router,
    configs.router,
    operations.router,
    artifacts.router,
    events.router,
)
_AT_THE_ROOT: tuple[APIRouter, ...] = (system.router, sessions.router, pages.router, mlflow.router)


def create_app(
    settings: Settings, *, launcher: Launcher | None = None, start_reconciler: bool = True
) -> FastAPI:
    """The service as an ASGI application; its threads run from its start to its end.

    `launcher` runs searches, Ray's jobs where None is given. Without `start_reconciler` nothing
    begins a search here: another process's reconciler may.
    """
    services = _services(settings, launcher)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if start_reconciler:
            services.reconciler.start()
        try:
            yield
        finally:
            await services.hub.close()
            # It waits for the step at hand.
            await run_in_threadpool(services.reconciler.stop)
            services.store.close()
            services.serving.close()

    app = FastAPI(
        title="etnas",
        version=importlib.metadata.version("etnas"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Clients that are made from the document have these names.
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.services = services
    errors.install(app)
    for router in _RESOURCES:
        app.include_router(router, prefix=API_ROOT)
    for router in _AT_THE_ROOT:
        # Described once, at the address of the API.
        app.include_router(router, include_in_schema=False)
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, limit=settings.body_bytes)
    app.add_middleware(Doorkeeper, settings=settings)
    app.add_middleware(Answers, measures=services.measures)
    return app


class _CountedReconciler(Reconciler):
    """A reconciler whose steps the measures know of."""

    measures: Measures

    def step(self) -> None:
        super().step()
        self.measures.stepped(self.now())


def _services(settings: Settings, launcher: Launcher | None) -> Services:
    url = settings.place.record_url
    store, serving, measures = SqlStore(url), ServingSqlStore(url), Measures()
    launcher = launcher or ray_jobs(settings)
    reconciler = _CountedReconciler(serving, store, launcher, limit=settings.running_at_once)
    reconciler.measures = measures
    findings = Findings(store, serving)
    return Services(
        settings=settings,
        store=store,
        serving=serving,
        launcher=launcher,
        findings=findings,
        hub=Hub(store, serving, launcher, heard=findings.told),
        reconciler=ReconcilerThread(reconciler),
        sessions=Sessions(settings.session_key),
        rates=Rates(settings.rate_per_minute),
        measures=measures,
    )
