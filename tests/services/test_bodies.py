"""A body is plain values within bounds, or it is refused before anything else sees it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from nas_services.bodies import LONGEST_TEXT, MOST, Post, check_values
from nas_services.errors import Problem
from tests.services.problems import problem

VALIDATE = "/api/v1/spaces/validate"


def _post(body: bytes, media: str = "application/json", charset: str = "") -> Post:
    return Post(body, media, charset, None, "")


def _send(one_client: TestClient, body: bytes | str, media: str | None = "application/json") -> Any:
    headers = {"Content-Type": media} if media is not None else {}
    return one_client.post(VALIDATE, content=body, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param("   ", id="blanks"),
        pytest.param("{", id="cut"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param('"x"', id="text"),
        pytest.param('{"space": NaN}', id="nan"),
        pytest.param('{"space": -Infinity}', id="infinity"),
        pytest.param('{"space": 1e999}', id="beyond floats"),
        pytest.param(f'{{"space": {MOST + 1}}}', id="65 bits"),
        pytest.param('{"space": -' + "9" * 100_000 + "}", id="endless digits"),
        pytest.param('{"space": ' + "[" * 40 + "]" * 40 + "}", id="deep"),
        pytest.param("[" * 500_000, id="deeper than the stack"),
        pytest.param('{"a":' * 100_000, id="deep objects"),
        pytest.param('{"space": [' + "0," * 20_000 + "0]}", id="many values"),
        pytest.param('{"space": "a", "space": "b"}', id="a key twice"),
        pytest.param('{"space": "\\ud800"}', id="half a surrogate"),
        pytest.param('{"\\udfff": "a"}', id="half a surrogate as key"),
        pytest.param('{"space": "a\\u0000b"}', id="NUL"),
        pytest.param('{"space": "' + "x" * (LONGEST_TEXT + 1) + '"}', id="long text"),
        pytest.param(b'{"space": "\xff\xfe"}', id="not UTF-8"),
        pytest.param('\ufeff{"space": "digits_tiny"}', id="byte order mark"),
        pytest.param('{"space": "digits_tiny"} {}', id="two documents"),
    ],
)
def test_json_that_is_none_or_beyond_the_bounds_is_malformed(
    one_client: TestClient, body: bytes | str
) -> None:
    problem(_send(one_client, body), 400)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("a: &x [1]\nb: *x", id="alias"),
        pytest.param("&a {a: *a}", id="a loop"),
        pytest.param("space: !!python/object/apply:os.system ['true']", id="python tag"),
        pytest.param("space: !!binary aGk=", id="tag"),
        pytest.param("space: .nan", id="nan"),
        pytest.param("space: .inf", id="infinity"),
        pytest.param("space: 1e999", id="beyond floats"),
        pytest.param(f"space: {MOST + 1}", id="65 bits"),
        pytest.param("space: " + "9" * 10_000, id="endless digits"),
        pytest.param("space: 0x" + "f" * 10_000, id="endless hexadecimal digits"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("space: [" + "0," * 20_000 + "0]", id="many values"),
        pytest.param("a: 1\na: 2", id="a key twice"),
        pytest.param("1: 2", id="a number as key"),
        pytest.param("? 0x" + "f" * 5_000 + "\n: 1", id="endless digits as key"),
        pytest.param("? [a, b]\n: c", id="a list as key"),
        pytest.param("? {a: b}\n: c", id="a mapping as key"),
        pytest.param("space: 'a\\0b'\nb: \"\\0\"", id="NUL"),
        pytest.param('space: "\\ud800"', id="half a surrogate"),
        pytest.param("a: b: c", id="no YAML"),
        pytest.param("--- a\n--- b", id="two documents"),
        pytest.param("just text", id="text"),
        pytest.param("<<: 3", id="merge of a number"),
        pytest.param("=: 3", id="value key"),
        pytest.param("space: 2001-01-01\x07", id="a bell"),
    ],
)
def test_yaml_that_is_none_or_beyond_the_bounds_is_malformed(
    one_client: TestClient, body: bytes | str
) -> None:
    answer = _send(one_client, body, "application/yaml")
    assert answer.status_code in (400, 422), answer.text
    problem(answer, answer.status_code)


def test_yaml_and_json_say_the_same(one_client: TestClient) -> None:
    answers = [
        _send(
            one_client, "space: digits_tiny\ntask: {name: digits, side: 8}\n", "application/yaml"
        ),
        _send(one_client, "space: digits_tiny\ntask: {name: digits}\n", "text/yaml; charset=UTF-8"),
        _send(one_client, '{"space": "digits_tiny", "task": "digits"}'),
    ]
    assert [each.status_code for each in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()


@pytest.mark.parametrize(
    "media",
    [
        None,
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json-patch+json",
        "*/*",
        ";;;",
    ],
)
def test_other_content_types_are_415(one_client: TestClient, media: str | None) -> None:
    problem(_send(one_client, '{"space": "digits_tiny"}', media), 415)


def test_where_no_yaml_is_read_it_is_415() -> None:
    with pytest.raises(Problem) as raised:
        _post(b"a: 1", "application/yaml").document()
    assert raised.value.status == 415
    assert _post(b"a: 1", "application/yaml").document(yaml=True) == {"a": 1}


def test_a_body_may_be_left_out_where_that_is_said() -> None:
    assert _post(b"", "").empty_document() == {}
    assert _post(b'{"a": 1}').empty_document() == {"a": 1}


def test_the_place_is_named() -> None:
    with pytest.raises(Problem) as raised:
        check_values({"a": [{"b/c": float("nan")}]})
    assert raised.value.more["errors"][0]["pointer"] == "/a/0/b~1c"


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


def _read(body: bytes, media: str) -> dict[str, Any] | Problem:
    try:
        return _post(body, media).document(yaml=True)
    except Problem as refused:
        return refused


@given(_plain)
def test_any_json_is_read_as_it_is_or_refused(value: Any) -> None:
    found = _read(json.dumps({"value": value}).encode(), "application/json")
    if isinstance(found, Problem):
        assert found.status == 400
        json.dumps(found.document("/"), allow_nan=False)
    else:
        # What was let through can be written as JSON and as UTF-8 again.
        text = json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
        assert json.loads(text) == {"value": value}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for media in ("application/json", "application/yaml"):
        found = _read(body, media)
        assert isinstance(found, dict) or found.status == 400
