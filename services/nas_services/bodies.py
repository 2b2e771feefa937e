"""What does a request's body say? Plain values within bounds, before anything else sees them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from nas.errors import SpecError
from nas.space.reading import MAX_LEVELS, MAX_NODES, parse_yaml
from nas_services.errors import Problem
from nas_services.faults import Fault, pointer
from nas_services.forms import media_type

JSON_TYPE = "application/json"
YAML_TYPES = ("application/yaml", "text/yaml")
IDEMPOTENCY_HEADER = "Idempotency-Key"
LONGEST_KEY = 255
LONGEST_TEXT = 10_000
MOST_DIGITS = 20
LEAST, MOST = -(2**63), 2**63 - 1
# A key is not shown itself: an integer may have more digits than Python writes.
_KINDS = {int: "an integer", float: "a number", bool: "a truth value", type(None): "null"}


@dataclass(frozen=True)
class Post:
    """A request that may change something: its body unread, its idempotency key, its digest.

    The digest tells it from any other: method, address, content type and body.
    """

    body: bytes
    media: str
    charset: str
    key: str | None
    digest: str

    def document(self, *, yaml: bool = False) -> dict[str, Any]:
        """The body as a mapping; JSON, or where `yaml` YAML too.

        Raises `Problem`: 415 for another content type, 400 for what is no such document or not
        within bounds.
        """
        allowed = (JSON_TYPE, *(YAML_TYPES if yaml else ()))
        if self.media not in allowed:
            given = f"{self.media!r} given" if self.media else "none given"
            detail = f"Content-Type: {given}; allowed: {', '.join(allowed)}"
            headers = {"Accept": ", ".join(allowed)}
            raise Problem(415, "Unsupported Media Type", detail, kind="media-type", headers=headers)
        if self.charset not in ("", "utf-8", "utf8"):
            raise Problem(415, "Unsupported Media Type", "The charset is utf-8.", kind="media-type")
        text = _decoded(self.body)
        found = _json(text) if self.media == JSON_TYPE else _yaml(text)
        check_values(found)
        if not isinstance(found, dict):
            raise malformed("", "a mapping is required", "dict_type")
        return found

    def empty_document(self) -> dict[str, Any]:
        """The same where a body may be left out: then no keys."""
        return self.document() if self.body else {}


async def post_of(request: Request) -> Post:
    """The request; raises `Problem` (400) for an idempotency key that can be none."""
    keys = request.headers.getlist(IDEMPOTENCY_HEADER)
    key = keys[0] if keys else None
    if len(keys) > 1 or (key is not None and not _is_key(key)):
        detail = f"{IDEMPOTENCY_HEADER}: 1 to {LONGEST_KEY} printable ASCII signs are allowed, once"
        raise Problem(400, "Bad Request", detail, kind="idempotency-key")
    body = await request.body()
    media = media_type(request)
    parts = (request.method, request.url.path, request.url.query, media)
    digest = hashlib.sha256("\n".join(parts).encode(errors="backslashreplace") + b"\n" + body)
    return Post(body, media, _charset(request), key, digest.hexdigest())


PostDep = Annotated[Post, Depends(post_of)]


def only_keys(given: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raises `Problem` (422) where a mapping has other keys than these."""
    others = [key for key in given if key not in allowed]
    if others:
        faults = [
            Fault(pointer([key]), "extra_forbidden", "unknown key", tuple(sorted(allowed)))
            for key in others
        ]
        detail = f"unknown keys; allowed: {', '.join(sorted(allowed))}"
        listed = [fault.to_json() for fault in faults]
        raise Problem(422, "Unprocessable Content", detail, kind="invalid-request", errors=listed)


def malformed(place: str, message: str, code: str = "malformed") -> Problem:
    """A body that is no document, or beyond the bounds of one."""
    fault = Fault(place, code, message)
    detail = f"{place}: {message}" if place else message
    return Problem(400, "Bad Request", detail, kind="malformed", errors=[fault.to_json()])


def check_values(given: Any) -> None:
    """Raises `Problem` (400) for values that JSON has none of, or that go beyond the bounds.

    At most `MAX_NODES` values, `MAX_LEVELS` deep, texts of `LONGEST_TEXT` signs, integers of 64
    bits, finite numbers, text that is Unicode without NUL.
    """
    nodes = 0
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(given, ())]
    while waiting:
        value, path = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES or len(path) >= MAX_LEVELS:
            raise malformed("", f"more than {MAX_NODES} nodes or {MAX_LEVELS} levels", "too_large")
        if isinstance(value, dict):
            for key, each in value.items():
                _check_key(key, path)
                waiting.append((each, (*path, key)))
        elif isinstance(value, list):
            waiting += [(each, (*path, index)) for index, each in enumerate(value)]
        else:
            _check_one(value, path)


def _check_key(key: Any, path: tuple[Any, ...]) -> None:
    if not isinstance(key, str):
        raise malformed(
            pointer(path),
            f"keys are texts, {_KINDS.get(type(key), 'another value')} given",
            "key_type",
        )
    _check_one(key, path)


def _check_one(value: Any, path: tuple[Any, ...]) -> None:
    match value:
        case None | bool():
            return
        case int() if not LEAST <= value <= MOST:
            raise malformed(pointer(path), "integers have at most 64 bits here", "int_too_large")
        case float() if not math.isfinite(value):
            raise malformed(pointer(path), "numbers are finite here", "finite_number")
        case str() if len(value) > LONGEST_TEXT:
            message = f"texts have at most {LONGEST_TEXT} signs here"
            raise malformed(pointer(path), message, "string_too_long")
        case str() if "\0" in value or value != value.encode(errors="replace").decode():
            raise malformed(pointer(path), "not Unicode text, or with NUL in it", "string_unicode")
        case int() | float() | str():
            return
        case _:
            raise malformed(pointer(path), f"{type(value).__name__} is no plain value", "type")


def _decoded(body: bytes) -> str:
    if not body.strip():
        raise malformed("", "a body is required", "missing")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise malformed("", f"the body is not UTF-8 at byte {error.start}", "utf8") from None


def _json(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_int,
        )
    except RecursionError:
        raise malformed("", f"more than {MAX_LEVELS} levels", "too_large") from None
    except ValueError as error:
        raise malformed("", f"not usable JSON: {error}", "json") from None


def _yaml(text: str) -> Any:
    try:
        return parse_yaml(text, "body")
    except (RecursionError, SpecError) as error:
        said = str(error) or f"more than {MAX_LEVELS} levels"
        raise malformed("", said.removeprefix("body: "), "yaml") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _int(digits: str) -> int:
    # Reading millions of digits takes long, and no field has more than these.
    if len(digits) > MOST_DIGITS:
        raise ValueError("integers have at most 64 bits here")
    return int(digits)


def _is_key(key: str) -> bool:
    return 0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()


def _charset(request: Request) -> str:
    _, _, parameters = request.headers.get("content-type", "").partition(";")
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""
