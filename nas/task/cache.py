"""Where is kept what can be computed again? In a folder by digest, built once and whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from nas.errors import DataError


def cache_root() -> Path:
    """`NAS_CACHE_DIR`, else `etnas` under `XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("NAS_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etnas"


def built(kind: str, digest: str, build: Callable[[Path], None]) -> Path:
    """The folder of `kind` and `digest`; where there is none yet, `build` fills an empty one.

    The folder appears whole or not at all, and of several processes one builds it while the
    others wait for it.

    Raises:
        DataError: where a file cannot be read or written; what else `build` raises goes through.
    """
    folder = cache_root() / kind / digest
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder) as locked:
            for leftover in folder.parent.glob(f".{folder.name}.*") if locked else ():
                shutil.rmtree(leftover, ignore_errors=True)
            if not folder.is_dir():
                _build(folder, build)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be built ({error}); if it cannot be written there, set NAS_CACHE_DIR"
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        build(temporary)
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            # Where locks do nothing another process may have been first, with the same content.
            if not folder.is_dir():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Waits for the only right to build a folder; it ends with the process, however that dies.

    It is a lock on `folder`.lock; raises `OSError` where that cannot be made, and gives false where
    locks do nothing: two processes then double the work.
    """
    handle = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        locked = False
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
            locked = True
        yield locked
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
