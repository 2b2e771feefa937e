"""How does a file come whole though the line drops: in parts, checked, and then named?"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path, PurePosixPath, PureWindowsPath

import httpx

from nas.client.answers import Artifact
from nas.client.problems import not_understood
from nas.client.transport import Transport, pause
from nas.errors import DataError, EtnasError, OutputError, ServiceUnavailable, SpecError
from nas.space.reading import path_of


def download(transport: Transport, artifact: Artifact, to: str | Path) -> Path:
    """Writes an artifact's file and gives its path; `to` is that, or a folder that is there.

    What came before a line dropped is kept beside it under a name of its own, and is gone on with,
    also by a later call. Raises `DataError` where the bytes are not those of its SHA-256,
    `OutputError` where they cannot be written, and what the service refuses with.
    """
    path = path_of(to, "to")
    try:
        path = _target(artifact, path)
        part = path.with_name(f".{path.name}.{artifact.sha256[:16]}.part")
        begun = part.exists()
        _complete(transport, artifact, part)
        if begun and _digest(part) != artifact.sha256:
            # What an earlier call left may have been cut by whatever ended that one.
            part.unlink()
            _complete(transport, artifact, part)
        _check(artifact, part)
        os.replace(part, path)  # noqa: PTH105
    except EtnasError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _complete(transport: Transport, artifact: Artifact, part: Path) -> None:
    tries, held = 0, -1
    while True:
        before, held = held, _size(part)
        # A line that drops again and again comes to an end too, as long as something came.
        tries = 0 if held > before else tries + 1
        try:
            _fetch(transport, artifact, part)
            return
        except ServiceUnavailable:
            if tries > transport.retries:
                raise
        time.sleep(pause(tries))


def _target(artifact: Artifact, to: Path) -> Path:
    if not to.is_dir():
        return to
    name = artifact.name
    plain = {PurePosixPath(name).name, PureWindowsPath(name).name} == {name}
    if not plain or name in ("", ".", "..") or not name.isprintable():
        raise SpecError(f"artifact {name!r}: give the path of a file; its name can be none here")
    return to / name


def _fetch(transport: Transport, artifact: Artifact, part: Path) -> None:
    """Appends what is missing; begins anew where the service does not go on."""
    held = _size(part)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if held > 0 and artifact.size is not None and held >= artifact.size:
        return
    if held > 0:
        headers |= {"Range": f"bytes={held}-", "If-Range": f'"{artifact.sha256}"'}
    with transport.stream(f"/artifacts/{artifact.id}", headers) as response:
        whole = response.status_code != httpx.codes.PARTIAL_CONTENT
        given = response.headers.get("content-range", "")
        if not whole and not given.startswith(f"bytes {held}-"):
            raise not_understood(response, f"the part {given!r} instead of the one from {held}")
        with part.open("wb" if whole else "ab") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())


def _check(artifact: Artifact, part: Path) -> None:
    found = _digest(part)
    if found != artifact.sha256:
        part.unlink()
        raise DataError(
            f"artifact {artifact.name} of search {artifact.search}: its bytes have the SHA-256 "
            f"{found}, and {artifact.sha256} is that of the record; if it was written anew, a new "
            "list of artifacts says so"
        )


def _digest(part: Path) -> str:
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0
