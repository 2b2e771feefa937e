"""A finished trial has all its metrics, and what is no number is never one."""

import json

import pytest

from nas.search.trial import (
    ROLES,
    SLICES,
    Measurement,
    Proposal,
    Standing,
    Trial,
    TrialRole,
)
from nas.space.architecture import Architecture
from tests.space.spaces import small

ARCHITECTURE: Architecture = small().extreme("smallest")


def test_finite_metrics_succeed() -> None:
    found = Measurement.of({"accuracy": 1, "flops": 10**15}, seconds=2.5)
    assert (found.state, found.reason, found.seconds) == ("succeeded", "", 2.5)
    assert found.metrics == {"accuracy": 1.0, "flops": 1e15}
    assert all(type(value) is float for value in found.metrics.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_infeasible(value: float) -> None:
    found = Measurement.of({"b": value, "flops": 3.0, "a": value})
    assert found.state == "infeasible"
    assert found.reason == "not finite: a, b"
    assert found.metrics == {"flops": 3.0}


def test_a_failure_has_a_reason_and_no_metrics() -> None:
    found = Measurement.failed("out of memory", seconds=1.0)
    assert (found.state, found.reason, found.metrics) == ("failed", "out of memory", {})


@pytest.mark.parametrize(
    ("measurement", "succeeded"),
    [
        (Measurement.of({"accuracy": 0.5}), True),
        (Measurement.of({"accuracy": float("nan")}), False),
        (Measurement.failed("killed"), False),
    ],
)
def test_only_whole_trials_succeeded(measurement: Measurement, succeeded: bool) -> None:
    trial = Trial("search", 3, ARCHITECTURE, measurement)
    assert trial.succeeded is succeeded
    assert trial.metrics is measurement.metrics


def test_trials_are_values() -> None:
    one, other = (Trial("random", 1, ARCHITECTURE, Measurement.of({"a": 1.0})) for _ in range(2))
    assert one == other
    assert Proposal("random", 1, ARCHITECTURE) == Proposal("random", 1, ARCHITECTURE, label="")


def test_the_roles_are_frozen() -> None:
    # The record and the reports order by them.
    assert (
        *("search", "random", "homogeneous"),
        *("timed", "remeasured", "matched", "fidelity", "rung", "confirmed"),
    ) == ROLES
    assert set(ROLES) >= SLICES


# As records hold them; these texts never change.
LABELS: list[tuple[TrialRole, str, Standing]] = [
    ("matched", "softmax@ab12", Standing("ab12", "softmax")),
    ("matched", "odd(at=a@b)@ab12", Standing("ab12", "odd(at=a@b)")),
    (
        "confirmed",
        '{"attention": "", "for": "ab12", "kind": "member", "seed": 0}',
        Standing("ab12", None, 0),
    ),
    (
        "confirmed",
        '{"attention": "softmax", "for": "ab12", "kind": "homogeneous", "seed": 3}',
        Standing("ab12", "softmax", 3),
    ),
]


@pytest.mark.parametrize(("role", "label", "standing"), LABELS)
def test_a_standing_is_read_as_it_is_written(
    role: TrialRole, label: str, standing: Standing
) -> None:
    assert standing.label() == label
    assert Standing.of(Proposal(role, 2, ARCHITECTURE, label)) == standing
    assert Standing.of(Trial(role, 2, ARCHITECTURE, Measurement(), label)) == standing


def test_the_order_in_a_label_does_not_matter() -> None:
    text = json.dumps({"kind": "member", "attention": "", "for": "ab12", "seed": 1})
    assert Standing.of(Proposal("confirmed", 0, ARCHITECTURE, text)) == Standing("ab12", None, 1)


@pytest.mark.parametrize(
    ("role", "label"),
    [
        ("matched", ""),
        ("matched", "softmax"),
        ("matched", "@ab12"),
        ("matched", "softmax@"),
        ("confirmed", "softmax@ab12"),
        ("confirmed", "[]"),
        ("confirmed", '{"attention": "", "for": "ab12", "kind": "other", "seed": 0}'),
        ("confirmed", '{"attention": "", "for": "ab12", "kind": "member", "seed": "0"}'),
    ],
)
def test_a_label_of_another_form_is_named_with_its_trial(role: TrialRole, label: str) -> None:
    with pytest.raises(ValueError, match=f"trial {role}/4: label ") as raised:
        Standing.of(Proposal(role, 4, ARCHITECTURE, label))
    assert ("TYPE@MEMBER" in str(raised.value)) == (role == "matched")
