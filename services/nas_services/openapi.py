"""How is the API described to machines, and to people: OpenAPI 3.1, and a page made from it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from nas_services.bodies import IDEMPOTENCY_HEADER, JSON_TYPE, LONGEST_KEY, YAML_TYPES
from nas_services.errors import MEDIA_TYPE
from nas_services.sessions import COOKIE

Schema = dict[str, Any]
PUBLIC: Schema = {"security": []}
"""`openapi_extra` of an address that anybody may ask."""

_METHODS = ("get", "post", "put", "patch", "delete")
# What guards and callers' checks may answer at any address.
_ALWAYS = ("400", "401", "403", "421", "422", "429", "500", "503")
_WITH_A_BODY = ("408", "409", "413", "415")
_SCHEMES: Schema = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `nas token create`. Where the service requires none, on "
        "loopback, it may be left out.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A browser's session by POST /login. Requests that change something need "
        "its CSRF token in the header X-CSRF-Token.",
    },
}
_FAULT: Schema = {
    "type": "object",
    "required": ["pointer", "code", "message"],
    "properties": {
        "pointer": {
            "type": "string",
            "description": "A JSON pointer into the body; what is wrong of a query, path or "
            "header is below /query, /path or /header.",
        },
        "code": {"type": "string"},
        "message": {"type": "string"},
        "allowed": {"type": "array", "items": {"type": "string"}},
    },
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
        "state": {"type": "string", "description": "Of a search that does not allow a verb."},
        "allowed": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": True,
}
_KEY: Schema = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "required": False,
    "description": "A request that comes again under its key is answered as it was first, for a "
    "day, with `Idempotent-Replayed: true`.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_KEY,
        "pattern": "^[ -~]+$",
    },
}


def request_body(schema: Schema, *, yaml: bool = False, required: bool = True) -> Schema:
    """`openapi_extra` of an address whose body is read by `nas_services.bodies.Post`."""
    types = (JSON_TYPE, *(YAML_TYPES if yaml else ()))
    content = {media: {"schema": schema} for media in types}
    return {"requestBody": {"required": required, "content": content}}


def document(app: FastAPI) -> Schema:
    """The OpenAPI document of an application's API; made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            openapi_version="3.1.0",
            description="Neural architecture search for efficient transformers.",
            routes=app.routes,
        )
        app.openapi_schema = _completed(made)
    return app.openapi_schema


def _completed(made: Schema) -> Schema:
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operation in _operations(made):
        _hoist(operation, schemas)
    schemas |= {"Problem": _PROBLEM, "Fault": _FAULT}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {"Problem": {"description": "A problem.", "content": content}}
    components["securitySchemes"] = _SCHEMES
    made["security"] = [{"token": []}, {"session": []}]
    for path, operations in made["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete(operations[method], method, path)
    return made


def _operations(made: Schema) -> Iterator[Schema]:
    for operations in made["paths"].values():
        yield from (operations[method] for method in _METHODS if method in operations)


def _complete(operation: Schema, method: str, path: str) -> None:
    answers = operation["responses"]
    # FastAPI's own form of it, which nobody is answered with.
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    statuses = [*_ALWAYS, "default"]
    statuses += ["404"] if "{" in path else []
    statuses += _WITH_A_BODY if method != "get" else ()
    for status in statuses:
        answers.setdefault(status, {"$ref": "#/components/responses/Problem"})
    if method == "post":
        operation.setdefault("parameters", []).append(_KEY)


def _hoist(node: Any, schemas: Schema) -> None:
    """Moves the definitions inside of schemas to where an OpenAPI document has them."""
    if isinstance(node, list):
        for each in node:
            _hoist(each, schemas)
    if not isinstance(node, dict):
        return
    # Copied, for what is there may be a module's own value.
    for key, each in list(node.items()):
        if key == "schema" and isinstance(each, Mapping) and "$defs" in each:
            own = dict(each)
            held = own.pop("$defs")
            schemas |= {name: _moved(schema) for name, schema in held.items()}
            node[key] = _moved(own)
        else:
            _hoist(each, schemas)


def _moved(node: Any) -> Any:
    if isinstance(node, list):
        return [_moved(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: each.replace("#/$defs/", "#/components/schemas/")
        if key == "$ref" and isinstance(each, str)
        else _moved(each)
        for key, each in node.items()
    }


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
section { border-top: 1px solid #8886; padding: .5rem 0; }
h2 { font-size: 1rem; margin: .5rem 0; }
dl { margin: .5rem 0; } dt { font-weight: 600; } dd { margin: 0 0 .25rem 1rem; }
"""
DOCS_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)


def page(described: Schema) -> str:
    """The document as a page for people: every address with what it takes and answers."""
    title = html.escape(f"{described['info']['title']} {described['info']['version']}")
    sections = [
        _section(method, path, operations[method])
        for path, operations in described["paths"].items()
        for method in _METHODS
        if method in operations
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>{html.escape(described['info'].get('description', ''))} The same for machines: "
        '<a href="/openapi.json">openapi.json</a>.</p>'
        f"{''.join(sections)}</main></body></html>"
    )


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    terms = [
        (f"{each['name']} ({each['in']})", each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody")
    if body:
        terms.append(("body", ", ".join(body["content"])))
    good = {status: each for status, each in operation["responses"].items() if status[0] in "123"}
    terms += [(status, each.get("description", "")) for status, each in good.items()]
    listed = "".join(
        f"<dt><code>{html.escape(term)}</code></dt><dd>{html.escape(text)}</dd>"
        for term, text in terms
    )
    said = operation.get("description") or operation.get("summary", "")
    paragraphs = "".join(f"<p>{html.escape(each)}</p>" for each in said.split("\n\n"))
    name = html.escape(f"{method.upper()} {path}")
    return f"<section><h2><code>{name}</code></h2>{paragraphs}<dl>{listed}</dl></section>"
