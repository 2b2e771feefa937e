"""How are files of searches handed out: none from elsewhere, by their digest, in parts too."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nas.store.store import Artifact
from nas_services.errors import RETRY_SECONDS, Problem

CHUNK = 256 * 1024
# A report brings its script along. It runs without an origin: it sees no cookie and calls nobody.
HTML_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".yaml": "application/yaml",
    ".txt": "text/plain; charset=utf-8",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def media_type(name: str) -> str:
    """What a file of this name is; nothing that a browser would run but for reports."""
    return _TYPES.get(Path(name).suffix, "application/octet-stream")


def file_of(artifact: Artifact, root: Path) -> Path:
    """An artifact's file; raises `Problem` (404) where it is none within the folder `root`."""
    found = _within(artifact.uri, root)
    if found is None:
        raise Problem(
            404,
            "Not Found",
            f"The bytes of {artifact.name} are not kept where this service could hand them out.",
            kind="not-kept-here",
        )
    return found


def size_of(artifact: Artifact, root: Path) -> int | None:
    """How many bytes an artifact has; None where its file is none within the folder `root`."""
    found = _within(artifact.uri, root)
    return None if found is None else found.stat().st_size


def _within(uri: str, root: Path) -> Path | None:
    try:
        # Links are followed before it is asked where the file lies.
        path, folder = Path(uri).resolve(strict=True), root.resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):
        pass
    return None


def sent(path: Path, artifact: Artifact, request: Request) -> Response:
    """The file, or the part that the request's header Range names.

    Raises `Problem`: 416 for a part that is beyond its end, 503 where its bytes are not those of
    the artifact's digest, as while it is written anew.
    """
    etag = f'"{artifact.digest}"'
    headers = _headers(artifact, etag)
    if etag in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    file = _opened(path, artifact)
    size = os.fstat(file.fileno()).st_size
    first, last, status = 0, size - 1, 200
    part = _part(request.headers.get("range", ""), size)
    if part is not None and request.headers.get("if-range", etag) == etag:
        first, last = part
        if first > last:
            file.close()
            detail = f"{artifact.name} has {size} bytes."
            beyond = {"Content-Range": f"bytes */{size}"}
            raise Problem(416, "Range Not Satisfiable", detail, kind="range", headers=beyond)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        status = 206
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_parts(file, first, last - first + 1), status, headers)


def _headers(artifact: Artifact, etag: str) -> dict[str, str]:
    kind = media_type(artifact.name)
    digest = base64.b64encode(bytes.fromhex(artifact.digest)).decode()
    shown = "inline" if kind.startswith(("text/", "application/json")) else "attachment"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", artifact.name)
    headers = {
        "Content-Type": kind,
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'{shown}; filename="{name}"',
        "Cache-Control": "private, no-cache",
    }
    if kind.startswith("text/html"):
        headers["Content-Security-Policy"] = HTML_POLICY
    return headers


def _opened(path: Path, artifact: Artifact) -> BinaryIO:
    """The file, opened once: what is sent is what was looked at."""
    try:
        file = path.open("rb")
    except OSError:
        raise _changing(artifact) from None
    told = os.fstat(file.fileno())
    if stat.S_ISREG(told.st_mode):
        identity = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns)
        if _digest(str(path), identity) == artifact.digest:
            return file
    file.close()
    raise _changing(artifact)


def _changing(artifact: Artifact) -> Problem:
    return Problem(
        503,
        "Service Unavailable",
        f"{artifact.name} is not what the record says of it: it is being written anew, or it is "
        "damaged.",
        kind="artifact-changed",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


@lru_cache(maxsize=1024)
def _digest(path: str, _identity: tuple[int, ...]) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """The first and last byte of `bytes=FIRST-LAST`, `FIRST-` or `-COUNT` (RFC 9110, section 14).

    None for anything else, several parts too: then all is sent. The first is above the last where
    there are none of these bytes.
    """
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size - 1 if int(last) else -1
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last), size - 1) if last else size - 1


def _parts(file: BinaryIO, first: int, count: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while count > 0 and (part := file.read(min(CHUNK, count))):
            count -= len(part)
            yield part
