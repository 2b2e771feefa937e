"""How does a page become HTML, and which files does it bring along?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_FOLDER = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class StaticFile:
    """A file that pages bring along. Its name has its digest in it, so it never changes."""

    content: bytes
    media_type: str


def rendered(template: str, **values: Any) -> str:
    """A template with these values; whatever is not marked safe in it is escaped."""
    return _environment().get_template(template).render(values)


@cache
def static_files() -> Mapping[str, StaticFile]:
    """All of them by the names under which they are served."""
    found = {}
    for path in sorted((_FOLDER / "static").iterdir()):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:12]
        name = f"{path.stem}.{digest}{path.suffix}"
        found[name] = StaticFile(content, _TYPES[path.suffix])
    return found


def static_address(name: str) -> str:
    """Where a page finds one of its files: `page.css`."""
    stem, _, suffix = name.rpartition(".")
    return next(
        f"/static/{each}"
        for each in static_files()
        if each.startswith(f"{stem}.") and each.endswith(f".{suffix}")
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = static_address
    made.filters |= {"prose": _prose, "moment": _moment, "size": _size, "seconds": _seconds}
    return made


def _prose(text: str) -> str:
    """A sentence as HTML: what stands in `backticks` is code, the rest is escaped."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _moment(time: str) -> str:
    """`2027-01-15 08:00:00 UTC`."""
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S} UTC"


def _size(count: int | None) -> str:
    """`1.5 MiB`."""
    if count is None:
        return "not kept here"
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def _seconds(count: float) -> str:
    """`1 h 02 min`, `3 min 20 s`, `12.5 s`."""
    if count < 60:
        return f"{count:.1f} s"
    minutes, seconds = divmod(round(count), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
