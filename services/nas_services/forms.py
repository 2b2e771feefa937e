"""What does a browser's form say?"""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

FORM_TYPE = "application/x-www-form-urlencoded"
MOST_FIELDS = 50


async def form_of(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form, each once; empty where the body is none or too many."""
    if media_type(request) != FORM_TYPE:
        return {}
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        return {}
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
