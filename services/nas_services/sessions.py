"""How does a browser stay logged in? A signed cookie that names a token, for a working day."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nas.errors import StoreUnavailable

COOKIE = "nas_session"
LIFETIME = 8 * 3600
KEY_BYTES = 32
LONGEST_COOKIE = 512
# What is signed begins with its use, so that one signature never serves as another.
_COOKIE, _FORM = b"cookie:", b"form:"


@dataclass(frozen=True)
class Session:
    """A browser that has shown a token: its id, the token's id, its end in seconds since 1970."""

    id: str
    token: str
    expires: int


class Sessions:
    """Makes and reads sessions; their key is kept in a file that the service's processes share.

    Nothing else is kept: a session ends by its time, with its token, or by `end`, which this
    process remembers.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._key = b""
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, token: str) -> tuple[Session, str]:
        """A new session of a token's id, and its cookie; may raise `StoreUnavailable`."""
        session = Session(secrets.token_urlsafe(18), token, int(self._clock()) + LIFETIME)
        content = json.dumps([session.id, session.token, session.expires]).encode()
        return session, f"{_text(content)}.{_text(self._sign(_COOKIE + content))}"

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None where it is none of ours or has ended."""
        content, _, signature = cookie.partition(".")
        if len(cookie) > LONGEST_COOKIE or not cookie.isascii():
            return None
        try:
            given, signed = _bytes(content), _bytes(signature)
        except binascii.Error:
            return None
        if not hmac.compare_digest(signed, self._sign(_COOKIE + given)):
            return None
        session = Session(*json.loads(given))
        if session.expires <= self._clock() or session.id in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """Ends a session before its time."""
        now = self._clock()
        with self._lock:
            self._ended = {id: end for id, end in self._ended.items() if end > now}
            self._ended[session.id] = session.expires

    def csrf_token(self, session: Session) -> str:
        """What a page of this session puts into its forms, and no other site can know."""
        return _text(self._sign(_FORM + session.id.encode()))

    def is_csrf_token(self, session: Session, given: str) -> bool:
        """Whether this is the session's, compared in constant time."""
        return hmac.compare_digest(self.csrf_token(session).encode(), given.encode())

    def _sign(self, content: bytes) -> bytes:
        with self._lock:
            if not self._key:
                self._key = _shared_key(self._file)
        return hmac.digest(self._key, content, hashlib.sha256)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _shared_key(file: Path) -> bytes:
    """The key in the file; whoever comes first makes it, readable by its user alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            # Written whole before it has its name; mkstemp's file is its user's alone.
            descriptor, made = tempfile.mkstemp(dir=file.parent)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(made, file)
            finally:
                Path(made).unlink()
        key = file.read_bytes()
    except OSError as error:
        raise StoreUnavailable(f"session key {file}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(f"session key {file}: {KEY_BYTES} bytes are needed; remove it")
    return key
