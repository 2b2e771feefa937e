"""Do the reference and the schema of a request say what its models do, key by key?"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nas import catalog
from nas.search.section import Part, Section
from nas.search.spec import SearchSpec, load_spec, request_schema
from tests.space.spaces import FOLDER, GIVEN

REFERENCE = (FOLDER / "searches" / "README.md").read_text()
REQUESTS = sorted((FOLDER / "searches").glob("*.yaml"))
BASE = {"name": "demo", "task": "digits", "space": "digits_tiny"}
PARTS = [
    (key, name, registry)
    for key, registry in (("task", catalog.TASKS), ("strategy", catalog.STRATEGIES))
    for name in registry.names()
]


def told(heading: str) -> list[str]:
    """The rows of the table below a heading."""
    (text,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", REFERENCE, re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if line.startswith("| `")]


def rows(model: type[BaseModel], under: str, *first: str) -> Iterator[str]:
    """A row for every field of a model and of the sections in it."""
    described = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        section = section_of(field)
        meaning = field.description or (section.__doc__ if section else None)
        assert meaning, f"{under}{name} has no description"
        cells = (
            f"`{under}{name}`",
            *first,
            allowed(described[name]),
            default(field),
            short(meaning),
        )
        yield f"| {' | '.join(cells)} |"
        if section is not None:
            yield from rows(section, f"{under}{name}.", *first)


def section_of(field: FieldInfo) -> type[Section] | None:
    held = (field.annotation, *get_args(field.annotation))
    return next((t for t in held if isinstance(t, type) and issubclass(t, Section)), None)


def default(field: FieldInfo) -> str:
    """The default as YAML has it; that of a section stands with its keys."""
    if field.is_required():
        return "required"
    value = field.default.name if isinstance(field.default, Part) else field.default
    return (
        "" if isinstance(value, Section) else value if isinstance(value, str) else json.dumps(value)
    )


def short(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.split("\n\n")[0].split())


def allowed(schema: dict[str, Any]) -> str:
    """What a field's schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(allowed, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{name}`" for name in schema["enum"])
    if isinstance(schema.get("type"), list):
        return " or ".join(allowed({"type": each}) for each in schema["type"])
    named = {"object": "mapping", "string": "text", "array": "list", "boolean": "true, false"}
    kind = schema.get("type", "object")
    ends = (
        (">=", "minimum"), (">", "exclusiveMinimum"), (">=", "minItems"),
        ("<=", "maximum"), ("<", "exclusiveMaximum"), ("<=", "maxItems"),
    )  # fmt: skip
    bounds = ", ".join(f"{sign} {schema[key]}" for sign, key in ends if key in schema)
    closed = re.sub(r"^>= (\S+), <= (\S+)$", r"\1 to \2", bounds)
    return f"{named.get(kind, kind)} {closed}".strip().replace(str(2**63), "2^63")


def test_every_key_is_told_once_with_its_default() -> None:
    assert told("The keys") == list(rows(SearchSpec, ""))


def test_every_option_of_a_part_is_told_once_with_its_default() -> None:
    assert told("The options of parts") == [
        row
        for key, name, registry in PARTS
        for row in rows(registry.load(name).options_model, f"{key}.", f"`{name}`")
    ]


def test_every_shipped_request_is_described() -> None:
    named = re.findall(r"^\| `(\w+\.yaml)` \|", REFERENCE, flags=re.MULTILINE)
    assert named == [path.name for path in REQUESTS]


class TestSchema:
    VALIDATOR = jsonschema.Draft202012Validator(request_schema())

    def test_it_is_a_schema_and_describes_every_key(self) -> None:
        jsonschema.Draft202012Validator.check_schema(request_schema())
        assert json.loads(json.dumps(request_schema())) == request_schema()
        for name, field in SearchSpec.model_fields.items():
            assert request_schema()["properties"][name].get("description") or section_of(field)

    @pytest.mark.usefixtures("bert_table")
    @pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
    def test_it_takes_what_ships_as_written_and_as_recorded(self, path: Path) -> None:
        self.VALIDATOR.validate(yaml.safe_load(path.read_text()))
        self.VALIDATOR.validate(load_spec(path).to_json())

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"task": {"name": "image_folder", "path": "x", "flip_safe": True}},
            {"task": {"name": "digits", "options": {"side": 16}}, "space": GIVEN},
            {"task": {"name": "parallel_text", "path": "x", "source": "en", "target": "de"}},
            {"task": {"name": "numbers_en_de", "pairs": 500}, "supernet": {"dropout": 0.1}},
            {"evaluation": {"beam": 2, "length_penalty": -1}, "latency": {"source_length": 9}},
            {"strategy": {"initial": 8}, "executor": "local"},
            {"strategy": "random", "executor": {"workers": 2}, "supernet": {"stability": {}}},
        ],
    )
    def test_it_takes_every_form(self, changes: dict[str, Any]) -> None:
        self.VALIDATOR.validate(BASE | changes)

    @pytest.mark.parametrize(
        "changes",
        [
            {"bugdet": {}},
            {"task": "digts"},
            {"task": {"side": 8}},
            {"task": {"name": "digits", "sied": 8}},
            {"task": {"name": "image_folder"}},
            {"strategy": {"name": "random", "population": 8}},
            {"executor": "rai"},
            {"executor": {"name": "rai"}},
            {"space": 3},
            {"budget": {"trials": 0}},
            {"supernet": {"sampling": "fare"}},
            {"task": {"name": "numbers_en_de", "side": 8}},
            {"task": {"name": "parallel_text", "path": "x"}},
            {"supernet": {"dropout": 1}},
            {"evaluation": {"beam": 0}},
            {"latency": {"target_length": 0}},
        ],
    )
    def test_it_refuses_what_a_request_may_not_say(self, changes: dict[str, Any]) -> None:
        assert not self.VALIDATOR.is_valid(BASE | changes)
