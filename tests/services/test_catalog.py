"""The parts of the catalog over HTTP, each with the JSON Schema of its options."""

import jsonschema
import pytest
from starlette.testclient import TestClient

from nas import catalog
from nas.registry import Registry


@pytest.mark.parametrize(
    ("address", "registry"),
    [
        ("tasks", catalog.TASKS),
        ("attentions", catalog.ATTENTIONS),
        ("strategies", catalog.STRATEGIES),
    ],
)
def test_all_parts_are_listed_with_a_schema(
    one_client: TestClient, address: str, registry: Registry
) -> None:
    found = one_client.get(f"/api/v1/{address}").json()
    assert [each["name"] for each in found["items"]] == list(registry.names())
    for each in found["items"]:
        jsonschema.Draft202012Validator.check_schema(each["options_schema"])


def test_a_schema_takes_what_the_part_takes(one_client: TestClient) -> None:
    tasks = {each["name"]: each for each in one_client.get("/api/v1/tasks").json()["items"]}
    schema = jsonschema.Draft202012Validator(tasks["digits"]["options_schema"])
    assert schema.is_valid({"side": 8})
    assert not schema.is_valid({"side": "x"})
    assert not schema.is_valid({"sied": 8})
    assert tasks["digits"]["primary"] == "cross_entropy"
    directions = {each["name"]: each["direction"] for each in tasks["digits"]["metrics"]}
    assert directions == {"cross_entropy": "minimize", "accuracy": "maximize"}


def test_options_of_attention_types_are_described(one_client: TestClient) -> None:
    found = {each["name"]: each for each in one_client.get("/api/v1/attentions").json()["items"]}
    assert found["linear"]["efficient"]
    assert not found["softmax"]["efficient"]
    for name, each in found.items():
        declared = catalog.ATTENTIONS.load(name)
        assert set(each["options_schema"]["properties"]) == set(declared.options)
        assert each["sites"] == sorted(declared.sites)


def test_exporters_are_a_list(one_client: TestClient) -> None:
    registry = getattr(catalog, "EXPORTERS", None)
    names = list(registry.names()) if registry is not None else []
    found = one_client.get("/api/v1/exporters").json()
    assert [each["name"] for each in found["items"]] == names
