"""How are the files of a search read?"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from starlette.responses import Response

from nas.errors import SearchNotFound
from nas.store.store import ID_LENGTH, Artifact
from nas_services import schemas
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.errors import Problem
from nas_services.files import file_of, media_type, sent, size_of
from nas_services.routes.searches import SearchId
from nas_services.shown import API

router = APIRouter(tags=["artifacts"])

ArtifactId = Annotated[
    str,
    InPath(
        pattern="^[A-Za-z0-9_-]{1,500}$", description="An artifact's id, as a list of them has it."
    ),
]


@router.get("/searches/{id}/artifacts", response_model=schemas.ArtifactList)
def list_artifacts(services: ServicesDep, _: ReadCaller, id: SearchId) -> Response:
    """Lists a search's files by name."""
    record = services.store.get(id)
    root = services.settings.place.root
    held = services.store.artifacts(record.id).values()
    shown = schemas.ArtifactList(items=[_shown(record.id, each, root) for each in held])
    return Response(shown.model_dump_json(), media_type="application/json")


@router.get(
    "/artifacts/{id}",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        206: {"description": "A part of it.", "content": {"application/octet-stream": {}}},
        304: {"description": "As the caller has it."},
    },
)
def read_artifact(
    services: ServicesDep, _: ReadCaller, request: Request, id: ArtifactId
) -> Response:
    """A file's bytes, whole or by the header Range; ETag and Repr-Digest are its SHA-256."""
    artifact = _found(services, id)
    return sent(file_of(artifact, services.settings.place.root), artifact, request)


def _shown(search: str, artifact: Artifact, root: Path) -> schemas.ArtifactShown:
    id = artifact_id(search, artifact.name)
    return schemas.ArtifactShown(
        id=id,
        search=search,
        name=artifact.name,
        sha256=artifact.digest,
        media_type=media_type(artifact.name),
        size=size_of(artifact, root),
        links={"self": f"{API}/artifacts/{id}", "search": f"{API}/searches/{search}"},
    )


def artifact_id(search: str, name: str) -> str:
    """An artifact's id: its search and name in signs that an address may have."""
    return base64.urlsafe_b64encode(f"{search}{name}".encode()).decode().rstrip("=")


def _found(services: Services, id: str) -> Artifact:
    """What an id stands for, looked up in the record: it is never a path itself."""
    try:
        text = base64.urlsafe_b64decode(f"{id}{'=' * (-len(id) % 4)}").decode()
        search, name = text[:ID_LENGTH], text[ID_LENGTH:]
        if search.isascii() and search.isalnum() and artifact_id(search, name) == id:
            return services.store.artifacts(search)[name]
    except (binascii.Error, ValueError, SearchNotFound, KeyError):
        pass
    raise Problem(404, "Not Found", "There is no artifact of this id.", kind="artifact-not-found")
