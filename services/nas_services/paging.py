"""How is a long list handed out in pages? By tokens that fit the question that they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated

from fastapi import Query

from nas_services.errors import invalid
from nas_services.faults import Fault

PAGE_SIZE, MOST = 50, 1000

PageSize = Annotated[int, Query(ge=1, le=MOST, description="Items in a page.")]
PageToken = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=100,
        pattern="^[A-Za-z0-9_-]+$",
        description="`next_page_token` of the page before, with the same filters.",
    ),
]


def page_token(last: str, *question: object) -> str:
    """The token of the page behind the item `last`, for a question: address and filters."""
    text = f"{_check(last, question)}{last}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def last_seen(token: str | None, *question: object) -> str | None:
    """The item that a token stands for; None without one.

    Raises `Problem` (422) for a token that the same question never gave.
    """
    if token is None:
        return None
    try:
        text = base64.urlsafe_b64decode(f"{token}{'=' * (-len(token) % 4)}").decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    check, last = text[:_LENGTH], text[_LENGTH:]
    if not last or check != _check(last, question):
        message = "no token of this list with these filters; leave it out to begin anew"
        raise invalid([Fault("/query/page_token", "page_token", message)])
    return last


_LENGTH = 12


def _check(last: str, question: tuple[object, ...]) -> str:
    digest = hashlib.sha256(repr((last, *question)).encode(errors="backslashreplace"))
    return digest.hexdigest()[:_LENGTH]
