"""YAML from outside: what is refused, and what numbers mean."""

import math
from pathlib import Path

import pytest

from nas.errors import SpecError
from nas.space.loader import load_space
from nas.space.reading import MAX_LEVELS, MAX_NODES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", r"aliases are not allowed \(line 2\)"),
        ("a: &a {b: *a}", "aliases are not allowed"),
        ("a: 1\nb: 2\na: 3", r"key 'a' appears twice \(line 3\)"),
        ("a: {b: 1, b: 2}", "key 'b' appears twice"),
        ("- a\n" * (MAX_NODES + 1), f"more than {MAX_NODES} nodes"),
        ("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1), f"or {MAX_LEVELS} levels"),
        ("[" * 100_000, f"or {MAX_LEVELS} levels"),
        ("{a: " * 1_000 + "1" + "}" * 1_000, f"or {MAX_LEVELS} levels"),
        ("a: [1", "line 1"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("a\0b", "special characters are not allowed"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: !!int ''", r"tags are not allowed \(line 1, tag:yaml.org,2002:int\)"),
        ("!!python/object/apply:os.system [ls]", "tags are not allowed"),
        ("1" * 5_000, "5000 digits"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=rf"^here: not usable YAML: [\s\S]*{message}"):
        parse_yaml(text, "here")


def test_what_is_just_allowed() -> None:
    assert len(parse_yaml("- a\n" * (MAX_NODES - 1), "here")) == MAX_NODES - 1
    assert parse_yaml("[" * MAX_LEVELS + "]" * MAX_LEVELS, "here")


@pytest.mark.parametrize(
    ("text", "value"), [("5e7", 5e7), ("1e-3", 1e-3), ("1.5e-3", 1.5e-3), ("2E+4", 2e4)]
)
def test_scientific_notation_is_a_number(text: str, value: float) -> None:
    assert parse_yaml(text, "here") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("1_000", 1000), ("0x1F", 31), ("0", 0), (".5", 0.5), ("2.", 2.0)]
    + [(text, text) for text in ("1:30", "017", "0b11", "10:00.5", "2024-01-02", "1e", "_1")],
)
def test_other_numbers_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (value, type(value))


def test_no_number_and_beyond_all_numbers() -> None:
    assert parse_yaml("[.inf, -.inf]", "here") == [float("inf"), float("-inf")]
    assert math.isnan(parse_yaml(".nan", "here"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read"):
        load_space(tmp_path / "none.yaml")


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"a\.yaml: cannot be read"):
        read_yaml(path)
