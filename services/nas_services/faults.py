"""Which field of a request is wrong, and how? What errors tell in words, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nas.errors import EtnasError, UnknownName, writable
from nas.search.spec import SearchSpec

LONGEST_MESSAGE = 500
# What messages call the place of a request, beside its keys.
_SOURCES = ("spec", "body")
_KEYS = frozenset(SearchSpec.model_fields)
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*): ")
_QUOTED = re.compile(r"'([^']*)'")
_ALLOWED = re.compile(r"allowed: (.+?)(?: is allowed)?$", re.DOTALL)
# `layers.3` is one key of a space, a dot elsewhere leads into what is below.
_PART = re.compile(r"layers\.\d+|[^.]+")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where (a JSON pointer), a word for machines, one for people.

    Of a query, path or header the pointer begins with that word: `/query/page_size`.
    """

    pointer: str
    code: str
    message: str
    allowed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a problem lists it; `allowed` is left out where nobody can list it."""
        message = writable(self.message)
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]} ..."
        found: dict[str, Any] = {
            "pointer": writable(self.pointer),
            "code": self.code,
            "message": message,
        }
        return found | ({"allowed": list(self.allowed)} if self.allowed else {})


def pointer(steps: Iterable[Any]) -> str:
    """The JSON pointer (RFC 6901) of these steps."""
    escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return "".join(f"/{step}" for step in escaped)


def faults_of(error: EtnasError, under: tuple[Any, ...] = ()) -> list[Fault]:
    """What an error tells of single fields: those that a model found, else its message's.

    `under` is where in the request the error's subject stands.
    """
    cause, text = error.__cause__, str(error)
    steps, message = _place(text)
    if not isinstance(cause, ValidationError):
        code = "unknown_name" if isinstance(error, UnknownName) else "invalid"
        return [Fault(pointer(_below(under, steps)), code, message, _allowed(message))]
    found = cause.errors()
    # The message begins with the first field's path: what stands before it is where the model is.
    first = tuple(str(step) for step in found[0]["loc"])
    above = steps[: len(steps) - len(first)] if first and steps[-len(first) :] == first else ()
    faults: list[Fault] = []
    for each, said in zip(found, _lines(text, found), strict=True):
        inner = each.get("ctx", {}).get("error")
        # What is wrong of a model as a whole is wrong where the message says that it stands.
        whole = not each["loc"] and not isinstance(inner, EtnasError)
        place = _below(under, steps if whole else (*above, *each["loc"]))
        if isinstance(inner, EtnasError):
            faults += faults_of(inner, place)
        else:
            allowed = _expected(each) or _allowed(said)
            faults.append(Fault(pointer(place), each["type"], said, allowed))
    return faults


def _below(under: tuple[Any, ...], steps: tuple[Any, ...]) -> tuple[Any, ...]:
    # A message that names its place from the request's top says again what is known.
    inside = [str(step) for step in steps[: len(under)]] == [str(step) for step in under]
    return steps if inside else (*under, *steps)


def _lines(text: str, found: Sequence[Any]) -> list[str]:
    """What `nas.space.loader.explain` says of each fault; pydantic's own words where it is lost."""
    starts, at = [], 0
    for each in found:
        path = ".".join(str(step) for step in each["loc"])
        place = text.find(f"{path}: ", at) if path else -1
        starts.append((place, place + len(path) + 2))
        at = max(at, place)
    lines = []
    for number, (place, begin) in enumerate(starts):
        following = next((start for start, _ in starts[number + 1 :] if start > place), None)
        # Lines are joined by "; ", and the next may begin with a path above the field's own.
        said = text[begin:following].rpartition("; ")[0] if following else text[begin:]
        lines.append(said if place >= 0 else found[number]["msg"])
    return lines


def faults_of_validation(found: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """What FastAPI found of parameters and bodies."""
    faults = []
    for each in found:
        where, *rest = each["loc"] or ("body",)
        steps = rest if where == "body" else [where, *rest]
        faults.append(Fault(pointer(steps), str(each["type"]), str(each["msg"]), _expected(each)))
    return faults


def _expected(found: Mapping[str, Any]) -> tuple[str, ...]:
    expected = str(found.get("ctx", {}).get("expected", ""))
    return tuple(_QUOTED.findall(expected)) or ((expected,) if expected else ())


def _place(text: str) -> tuple[tuple[str, ...], str]:
    """The key path that a message begins with, and the rest of it."""
    steps: list[str] = []
    while found := _STEP.match(text):
        parts = _PART.findall(found[1])
        if not steps and parts[0] not in (*_KEYS, *_SOURCES):
            break
        text = text[found.end() :]
        steps += parts if steps or parts[0] not in _SOURCES else parts[1:]
    return tuple(steps), text


def _allowed(message: str) -> tuple[str, ...]:
    found = _ALLOWED.search(message)
    if found is None:
        return ()
    words = tuple(found[1].split(", "))
    # A list of names is one; a sentence is left whole.
    return words if all(" " not in word for word in words) else (found[1],)
