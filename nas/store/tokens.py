"""Who carries a valid token? Bearer tokens of the record, of which only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from nas.errors import DuplicateName, SpecError, TokenNotFound
from nas.store.schema import TOKENS
from nas.store.serving import SCOPES, Scope, Token
from nas.store.store import new_id, rfc3339

PREFIX = "etnas_"
"""How a secret begins, so that one that got somewhere by mistake is known for what it is."""
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def add_token(
    connection: sql.Connection,
    name: str,
    scopes: Sequence[Scope],
    expires: str | None,
    now: float,
) -> tuple[Token, str]:
    """A new token and its secret; raises `SpecError` and `DuplicateName`."""
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"token {name!r}: a name has 1 to 64 letters, digits or signs of '._@-', the first of "
            "them a letter or digit"
        )
    if not scopes or set(scopes) - set(SCOPES):
        raise SpecError(f"token {name}: scopes {list(scopes)}; allowed: {', '.join(SCOPES)}")
    secret = f"{PREFIX}{secrets.token_urlsafe(_SECRET_BYTES)}"
    token = Token(
        id=new_id(now, secrets.token_bytes(10)),
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=rfc3339(now),
        expires=None if expires is None else _expiry(name, expires, now),
    )
    row = {**vars(token), "scopes": list(token.scopes), "sha256": _sha256(secret)}
    try:
        with connection.begin_nested():
            connection.execute(sql.insert(TOKENS).values(row))
    except IntegrityError as error:
        raise DuplicateName(
            f"token {name}: there is one of this name; revoke it first, or take another name"
        ) from error
    return token, secret


def all_tokens(connection: sql.Connection) -> list[Token]:
    """Also those revoked, the oldest first."""
    rows = connection.execute(sql.select(TOKENS).order_by(TOKENS.c.created, TOKENS.c.id))
    return [_token(row) for row in rows]


def revoke_token(connection: sql.Connection, name_or_id: str, now: float) -> Token:
    """Revokes the token of an id, else the one of a name; raises `TokenNotFound`."""
    # Of a name, several may have been revoked before.
    found = (TOKENS.c.id == name_or_id) | (TOKENS.c.name == name_or_id)
    order = (TOKENS.c.id != name_or_id, TOKENS.c.revoked.is_not(None), TOKENS.c.created.desc())
    row = connection.execute(sql.select(TOKENS).where(found).order_by(*order).limit(1)).first()
    if row is None:
        names = connection.scalars(
            sql.select(TOKENS.c.name).where(TOKENS.c.revoked.is_(None)).order_by(TOKENS.c.name)
        )
        raise TokenNotFound(f"no token {name_or_id!r}; there are: {', '.join(names) or 'none'}")
    if row.revoked is None:
        change = sql.update(TOKENS).where(TOKENS.c.id == row.id)
        connection.execute(change.values(revoked=rfc3339(now)))
    return _token(connection.execute(sql.select(TOKENS).where(TOKENS.c.id == row.id)).one())


def find_token(connection: sql.Connection, secret: str, now: float) -> Token | None:
    """The token of a secret, None where it is not valid now."""
    given = _sha256(secret)
    row = connection.execute(sql.select(TOKENS).where(TOKENS.c.sha256 == given)).first()
    # Of a hash nobody can choose the beginning, but this comparison leaks no time at all.
    if row is None or not hmac.compare_digest(row.sha256, given):
        return None
    valid = row.revoked is None and (row.expires is None or row.expires > rfc3339(now))
    return _token(row) if valid else None


def _sha256(secret: str) -> str:
    # Whatever comes over the wire has a hash, also what is no valid text.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _expiry(name: str, given: str, now: float) -> str:
    try:
        when = datetime.fromisoformat(given)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise SpecError(
            f"token {name}: expires {given!r}; a time with its zone is allowed, as {rfc3339(now)}"
        )
    if when.timestamp() <= now:
        raise SpecError(f"token {name}: expires {given!r}, which is over; it is {rfc3339(now)}")
    return rfc3339(when.timestamp())


def _token(row: sql.Row[Any]) -> Token:
    named = {name: value for name, value in row._mapping.items() if name != "sha256"}
    return Token(**{**named, "scopes": tuple(row.scopes)})
