"""Whatever goes wrong, it is told as a problem, field by field where fields are wrong."""

import logging

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from nas import errors as ours
from nas.errors import EtnasError, SpecError
from nas.search.spec import load_spec
from nas.space.loader import load_space
from nas_services.errors import Problem, problem_of, shortened
from nas_services.faults import Fault, faults_of, pointer
from tests.services.conftest import ADDRESS
from tests.services.problems import problem


class _Body(BaseModel):
    count: int


@pytest.fixture
def failing(app: FastAPI) -> TestClient:
    """A service with endpoints that fail in every way."""

    @app.get("/fails/{kind}")
    def fails(kind: str, times: int = 1) -> None:
        if kind == "bug":
            raise ValueError("a secret of the house")
        if kind == "late":
            raise Problem(429, "Too Many Requests", "wait", headers={"Retry-After": "7"}, state="x")
        raise getattr(ours, kind)(f"of {kind}, {times} times")

    @app.post("/takes")
    def takes(body: _Body) -> int:
        return body.count

    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("SpecError", 422),
        ("UnknownName", 422),
        ("NothingFeasible", 422),
        ("IdempotencyConflict", 422),
        ("DataError", 422),
        ("SearchNotFound", 404),
        ("OperationNotFound", 404),
        ("TokenNotFound", 404),
        ("SearchStateError", 409),
        ("DuplicateName", 409),
        ("LeaseLost", 409),
        ("StoreUnavailable", 503),
        ("LauncherUnavailable", 503),
        ("CheckpointError", 500),
    ],
)
def test_our_errors_have_a_status_and_only_what_is_meant_for_callers(
    failing: TestClient, kind: str, status: int
) -> None:
    answer = failing.get(f"/fails/{kind}")
    found = problem(answer, status)
    assert found["instance"] == f"/fails/{kind}"
    if status == 500:
        assert kind not in found["detail"]
    else:
        assert found["detail"] == f"of {kind}, 1 times"
    assert ("retry-after" in answer.headers) == (status == 503)


def test_every_error_of_ours_can_be_answered() -> None:
    kinds = [each for each in vars(ours).values() if isinstance(each, type)]
    found = [problem_of(each("said")) for each in kinds if issubclass(each, EtnasError)]
    assert len(found) > 15
    assert {each.status for each in found} <= {404, 409, 422, 500, 503}


def test_a_bug_is_500_without_its_text_and_stands_in_the_log(
    failing: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = failing.get("/fails/bug")
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "a secret of the house" in caplog.text
    # It has the headers of all answers too.
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_problem_carries_headers_and_further_members(failing: TestClient) -> None:
    answer = failing.get("/fails/late")
    assert problem(answer, 429)["state"] == "x"
    assert answer.headers["retry-after"] == "7"


def test_what_the_framework_finds_is_a_problem_too(failing: TestClient) -> None:
    found = problem(failing.get("/fails/SpecError", params={"times": "many"}), 422)
    assert found["errors"][0]["pointer"] == "/query/times"
    found = problem(failing.post("/takes", json={"count": "x"}), 422)
    assert [fault["pointer"] for fault in found["errors"]] == ["/count"]
    problem(failing.get("/nowhere"), 404)
    answer = failing.delete("/takes")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"
    answer = failing.post("/takes", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_text_that_is_no_text_can_be_told() -> None:
    answer = Problem(400, "Bad Request", "given: \ud800").response("/\udcff")
    assert b"\\\\ud800" in bytes(answer.body)


def test_long_details_are_cut() -> None:
    assert len(shortened("x" * 10_000_000)) < 3000
    fault = Fault("/a", "invalid", "y" * 1_000_000).to_json()
    assert len(fault["message"]) < 1000


def test_pointers_are_escaped() -> None:
    assert pointer(["a/b", "c~d", 0, ""]) == "/a~1b/c~0d/0/"


def _faults(given: dict[str, object]) -> dict[str, Fault]:
    with pytest.raises(SpecError) as raised:
        load_spec(given)
    return {each.pointer: each for each in faults_of(raised.value)}


REQUEST = {"name": "small", "task": "digits", "space": "digits_tiny"}


def test_each_wrong_field_of_a_request_has_its_pointer() -> None:
    given = {**REQUEST, "batch": 0, "budget": {"trails": 3}, "seed": "x", "stategy": "random"}
    found = _faults(given)
    assert set(found) == {"/batch", "/budget/trails", "/seed", "/stategy"}
    assert "trials" in found["/budget/trails"].allowed
    assert found["/stategy"].code == "extra_forbidden"
    assert "strategy" in found["/stategy"].message


def test_missing_fields_have_theirs() -> None:
    found = _faults({"name": "small", "task": "digits"})
    assert found["/space"].code == "missing"
    assert found["/space"].message == "is required"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"strategy": "randm"}, "/strategy"),
        ({"strategy": {"name": "evolution", "population": 0}}, "/strategy/population"),
        ({"task": {"name": "digits", "side": "x"}}, "/task/side"),
        ({"objectives": ["cross_entropy", "flps"]}, "/objectives"),
        ({"constraints": ["flops <= 1e7", "nonsense"]}, "/constraints/1"),
        ({"constraints": ["flops <= 1"]}, "/constraints"),
        ({"space": "digits_tinny"}, "/space"),
        ({"name": "Not A Name"}, "/name"),
        ({"executor": {"name": "cloud"}}, "/executor/name"),
    ],
)
def test_a_wrong_value_is_found_wherever_it_stands(change: dict[str, object], place: str) -> None:
    assert place in _faults({**REQUEST, **change})


def test_an_inline_space_is_told_layer_by_layer() -> None:
    space = load_space("digits_tiny").to_json()
    space["layers.1"] = {"attention": ["softmax"], "heads": [0], "hats": [1]}
    found = _faults({**REQUEST, "space": space})
    assert set(found) == {"/space/layers.1/heads", "/space/layers.1/hats"}


def test_a_name_nobody_knows_comes_with_those_that_are_known() -> None:
    found = _faults({**REQUEST, "space": "digits_tinny"})["/space"]
    assert found.code == "unknown_name"
    assert "digits_tiny" in found.allowed
