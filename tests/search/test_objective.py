"""Metrics know their direction; constraints say by how much they are missed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import SpecError
from nas.search.objective import Constraint, Metric, Objective

LOSS = Objective(Metric("cross_entropy", "minimize", "nats"))
ACCURACY = Objective(Metric("accuracy", "maximize", "fraction"))


def test_a_smaller_loss_is_always_better() -> None:
    metrics = {"cross_entropy": 0.5, "accuracy": 0.75}
    assert LOSS.loss(metrics) == 0.5
    assert ACCURACY.loss(metrics) == -0.75


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("flops <= 2e7", Constraint("flops", "<=", 2e7)),
        (" latency_ms<=3.5 ", Constraint("latency_ms", "<=", 3.5)),
        ("accuracy >= .9", Constraint("accuracy", ">=", 0.9)),
        ("params >= 0", Constraint("params", ">=", 0.0)),
    ],
)
def test_constraints_are_read(text: str, parsed: Constraint) -> None:
    assert Constraint.parse(text) == parsed


BAD = ["", "flops", "flops < 3", "flops = 3", "3 <= flops", "flops <= x", "flops <= 1 2"]
BAD += ["flops <= nan", "flops <= inf", "flops <= 1e999", "flops <= -1", "FLOPS <= 3", "a\n<= <= 3"]


@pytest.mark.parametrize("text", BAD)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^here: .* given; allowed: 'METRIC <= NUMBER'"):
        Constraint.parse(text, "here")


@given(st.integers(0, 10**14), st.sampled_from(["<=", ">="]))
def test_the_text_reads_back(bound: int, operator: str) -> None:
    constraint = Constraint.parse(f"flops {operator} {bound}")
    assert Constraint.parse(str(constraint)) == constraint


def test_the_text_is_short() -> None:
    assert str(Constraint("flops", "<=", 2e7)) == "flops <= 20000000"
    assert str(Constraint("accuracy", ">=", 0.9)) == "accuracy >= 0.9"


@pytest.mark.parametrize(
    ("constraint", "value", "excess"),
    [
        (Constraint("x", "<=", 10), 10, 0),
        (Constraint("x", "<=", 10), 3, -0.7),
        (Constraint("x", "<=", 10), 15, 0.5),
        (Constraint("x", ">=", 10), 10, 0),
        (Constraint("x", ">=", 10), 30, -2),
        (Constraint("x", ">=", 10), 7.5, 0.25),
        (Constraint("x", "<=", 0), 3, 3),
        (Constraint("x", ">=", 0), 3, -3),
    ],
)
def test_a_violation_is_relative_to_the_bound(
    constraint: Constraint, value: float, excess: float
) -> None:
    assert math.isclose(constraint.excess({"x": value}), excess)
    assert math.isclose(constraint.violation({"x": value}), max(excess, 0))
