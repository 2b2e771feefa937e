"""Does a problem know which constraints it can check beforehand, and how far they are missed?"""

import math

import pytest

from nas.search.objective import Constraint
from nas.search.problem import Problem
from nas.space.loader import load_space
from tests.space.spaces import encoder

SPACE = load_space("digits_tiny")


def problem(*constraints: str) -> Problem:
    parsed = tuple(map(Constraint.parse, constraints))
    return Problem(SPACE, (), parsed, lambda a: {"flops": 100.0 * encoder(a).width, "params": 10.0})


def test_constraints_on_a_cost_are_analytic() -> None:
    asked = problem("flops <= 1000", "accuracy >= 0.9", "params >= 20")
    assert [each.metric for each in asked.analytic_constraints] == ["flops", "params"]
    assert problem().analytic_constraints == ()


def test_the_violation_is_the_sum_of_shares() -> None:
    asked = problem("flops <= 1000", "accuracy >= 0.9", "params >= 20")
    kept = {"flops": 1000, "accuracy": 0.9, "params": 20}
    assert asked.violation(kept) == 0
    broken = {"flops": 1500, "accuracy": 0.45, "params": 20}
    assert asked.violation(broken) == pytest.approx(0.5 + 0.5)
    assert asked.violation({"flops": 1, "params": 20}) == math.inf
    smallest = SPACE.extreme("smallest")
    assert encoder(smallest).width == 16
    assert asked.analytic_violation(smallest) == pytest.approx(0.6 + 0.5)
    assert problem("accuracy >= 0.9").analytic_violation(smallest) == 0
