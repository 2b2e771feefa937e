"""Spaces over HTTP: which there are, and what one would hold, cost and leave."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nas import catalog
from nas.cost.analytic import FLOPS, PARAMS
from nas.search.section import Part
from nas.space.loader import load_space, space_names
from nas.space.task_shape import TaskShape
from nas_services import admission, extremes, outlook
from nas_services.errors import Problem
from tests.services.problems import problem

SPACES = "/api/v1/spaces"
VALIDATE = f"{SPACES}/validate"


def _validated(one_client: TestClient, **body: Any) -> dict[str, Any]:
    answer = one_client.post(VALIDATE, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _shape(task: str) -> TaskShape:
    found: TaskShape = catalog.TASKS.load(task).shape(
        Part(name=task).configured(catalog.TASKS, "task")
    )
    return found


def test_all_spaces_are_listed_with_their_exact_size(one_client: TestClient) -> None:
    found = one_client.get(SPACES).json()
    assert [each["name"] for each in found["items"]] == list(space_names())
    assert found["next_page_token"] is None
    for each in found["items"]:
        assert each["size"] == str(load_space(each["name"]).size)


def test_a_space_can_be_sent_back_as_it_is_shown(one_client: TestClient) -> None:
    shown = one_client.get(f"{SPACES}/cifar10_small").json()
    again = _validated(one_client, space=shown["choices"])
    assert again["digest"] == shown["digest"]
    assert again["size"] == shown["size"]


@pytest.mark.parametrize(
    "name",
    ["nothing", "..", "..%2f..%2fetc%2fpasswd", "%2e%2e%2fdigits_tiny", "digits_tiny.yaml",
     "DIGITS_TINY", "d\u0456gits_tiny", "%F0%9F%98%80", "a" * 5000],
)  # fmt: skip
def test_other_names_are_not_found(one_client: TestClient, name: str) -> None:
    problem(one_client.get(f"{SPACES}/{name}"), 404)


@pytest.mark.parametrize("name", ["a%00b", "a%0Ab", "%ff%fe", "%7f"])
def test_names_with_signs_of_no_text_are_refused(one_client: TestClient, name: str) -> None:
    problem(one_client.get(f"{SPACES}/{name}"), 400)


def test_a_file_that_is_no_space_is_told_and_leaves_the_others(
    one_client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_SEARCH_SPACES", str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\n")
    found = {each["name"]: each for each in one_client.get(SPACES).json()["items"]}
    assert found["mine"]["error"]
    assert found["digits_tiny"]["size"]
    answer = one_client.get(f"{SPACES}/mine")
    problem(answer, 422)
    # Mended, it is read anew.
    mended = {**load_space("digits_tiny").to_json(), "name": "mine"}
    file.write_text(json.dumps(mended))
    assert one_client.get(f"{SPACES}/mine").json()["size"] == str(load_space("digits_tiny").size)


def test_costs_are_the_exact_extremes(one_client: TestClient) -> None:
    space = load_space("digits_tiny")
    shape = _shape("digits")
    found = _validated(one_client, space="digits_tiny", task="digits")["costs"]
    for name, cost in (("params", PARAMS), ("flops", FLOPS)):
        assert found[name]["smallest"] == cost.bound(space, shape, "smallest")
        assert found[name]["largest"] == cost.bound(space, shape, "largest")
        rng = random.Random(0)
        drawn = [cost.of(space.sample(rng), shape) for _ in range(200)]
        assert found[name]["smallest"] <= min(drawn)
        assert max(drawn) <= found[name]["largest"]


def test_a_task_of_a_table_has_the_costs_that_are_known(one_client: TestClient) -> None:
    found = _validated(one_client, space="nas_bench_bert", task="nas_bench_bert")
    assert set(found["costs"]) == {"params"}


def test_the_feasible_share_is_that_of_what_a_random_search_draws(one_client: TestClient) -> None:
    space = load_space("cifar10_small")
    shape = _shape("cifar10")
    rng = random.Random(1)
    drawn = sorted(FLOPS.of(space.sample(rng), shape) for _ in range(2000))
    bound = drawn[600]
    asked = {
        "space": "cifar10_small",
        "task": "cifar10",
        "constraints": [f"flops <= {bound}", "accuracy >= 0.5"],
    }
    found = _validated(one_client, **asked)["feasible"]
    # Two samples of 2000: five standard deviations of the difference.
    assert found["share"] == pytest.approx(0.3, abs=5 * (2 * 0.3 * 0.7 / 2000) ** 0.5)
    assert found["not_counted"] == ["accuracy >= 0.5"]
    assert _validated(one_client, **asked)["feasible"] == found
    asked["constraints"] = ["flops <= 1"]
    assert _validated(one_client, **asked)["feasible"]["share"] == 0.0


SPACE = load_space("digits_tiny").to_json()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/space"),
        ({"space": None}, "/space"),
        ({"space": "digits_tinny"}, "/space"),
        ({"space": "/etc/passwd"}, "/space"),
        ({"space": "../digits_tiny"}, "/space"),
        ({"space": "digits_tiny.yaml"}, "/space"),
        ({"space": "\u202edigits_tiny"}, "/space"),
        ({"space": 3}, "/space"),
        ({"space": True}, "/space"),
        ({"space": []}, "/space"),
        ({"space": {}}, "/space/name"),
        ({"space": {**SPACE, "width": []}}, "/space/width"),
        ({"space": {**SPACE, "width": [2**62]}}, "/space/width"),
        ({"space": {**SPACE, "depth": "deep"}}, "/space/depth"),
        ({"space": {**SPACE, "kind": "gnn"}}, "/space/kind"),
        ({"space": {**SPACE, "listed": [[0]]}}, "/space/listed"),
        ({"space": SPACE, "extra": 1}, "/extra"),
        ({"space": SPACE, "task": "digit"}, "/task"),
        ({"space": SPACE, "task": 3}, "/task"),
        ({"space": SPACE, "task": {"name": 3}}, "/task/name"),
        ({"space": SPACE, "task": {"name": "digits", "side": []}}, "/task/side"),
        ({"space": SPACE, "task": {"name": "image_folder", "path": "/etc"}}, "/task/path"),
        ({"space": SPACE, "task": {"name": "image_folder", "path": "a/../../b"}}, "/task/path"),
        ({"space": SPACE, "task": {"name": "image_folder", "path": "..\\b"}}, "/task/path"),
        (
            {"space": SPACE, "task": {"name": "nas_bench_bert", "options": {"path": "/x"}}},
            "/task/path",
        ),
        ({"space": SPACE, "constraints": ["flops <= 1"]}, "/task"),
        ({"space": SPACE, "task": "digits", "constraints": "flops <= 1"}, "/constraints"),
        ({"space": SPACE, "task": "digits", "constraints": [1]}, "/constraints/0"),
        ({"space": SPACE, "task": "digits", "constraints": ["flops <= nan"]}, "/constraints/0"),
        ({"space": SPACE, "task": "digits", "constraints": ["x <= 1"]}, "/constraints/0"),
        ({"space": SPACE, "task": "digits", "constraints": ["flops <= 1"] * 33}, "/constraints"),
    ],
)
def test_each_mistake_is_a_problem_at_its_place(
    one_client: TestClient, body: dict[str, Any], place: str
) -> None:
    found = problem(one_client.post(VALIDATE, json=body), 422)
    assert place in [fault["pointer"] for fault in found["errors"]]


def test_a_task_of_another_kind_is_refused(one_client: TestClient) -> None:
    problem(one_client.post(VALIDATE, json={"space": "digits_tiny", "task": "wmt14_en_de"}), 422)


def test_a_folder_that_is_not_there_is_the_callers_mistake(one_client: TestClient) -> None:
    task = {"name": "image_folder", "path": "not_there"}
    problem(one_client.post(VALIDATE, json={"space": "digits_tiny", "task": task}), 422)


def test_a_space_that_would_take_hours_is_refused_at_once(one_client: TestClient) -> None:
    widths = [8 * step for step in range(1, 200)]
    huge = {**SPACE, "width": widths, "depth": list(range(1, 257))}
    huge["layers"] = {
        "attention": ["softmax", "linear"],
        "heads": list(range(1, 60)),
        "head_width": [8, 16],
        "ffn_width": list(range(8, 480, 8)),
    }
    found = problem(one_client.post(VALIDATE, json={"space": huge, "task": "digits"}), 422)
    assert found["errors"][0]["pointer"] == "/space"


def test_a_large_space_is_looked_through_by_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = load_space("digits_tiny")
    shape = _shape("digits")
    here = extremes.ranges(space, shape)
    monkeypatch.setattr(extremes, "SETTINGS_HERE", 0)
    extremes._kept.cache_clear()
    assert extremes.ranges(space, shape) == here
    # Asked again, it is known.
    monkeypatch.setattr(extremes, "SECONDS", 0)
    assert extremes.ranges(space, shape) == here
    extremes._kept.cache_clear()
    with pytest.raises(Problem) as raised:
        extremes.ranges(space, shape)
    assert raised.value.status == 422
    extremes._kept.cache_clear()


@pytest.mark.parametrize("name", space_names())
def test_all_shipped_spaces_are_within_the_bounds(name: str) -> None:
    space = load_space(name)
    assert admission.settings_of(space) <= admission.MOST_SETTINGS
    assert admission.admitted_space(name).digest == space.digest


def test_only_so_many_are_checked_at_once(
    one_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(outlook, "_TURNS", threading.BoundedSemaphore(1))
    with outlook.turn():
        answer = one_client.post(VALIDATE, json={"space": "digits_tiny"})
    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    _validated(one_client, space="digits_tiny")
