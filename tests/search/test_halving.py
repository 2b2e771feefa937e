"""Who enters the first rung, who goes on from each, and do labels say which rung it is?"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from nas.errors import SpecError
from nas.search.halving import Rung, binding, going_on, ladder, room_after, shortlist, sizes
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Proposal, Trial, TrialRole
from nas.space.architecture import Architecture


def request(**changes: Any) -> SearchSpec:
    given = {"name": "halving", "task": "digits", "space": "digits_tiny"}
    return load_spec(given | {"standalone": {"steps": 1000}} | changes)


def architectures(count: int) -> list[Architecture]:
    rng, space = random.Random(0), request().search_space
    return list(dict.fromkeys(space.sample(rng) for _ in range(4 * count)))[:count]


def trials(
    rows: Sequence[Mapping[str, float] | str], role: TrialRole = "search", label: str = ""
) -> list[Trial]:
    """One trial a row: metrics, or the reason why there are none."""
    pairs = zip(architectures(len(rows)), rows, strict=True)
    return [
        Trial(
            role,
            index,
            architecture,
            Measurement.failed(row) if isinstance(row, str) else Measurement.of(row),
            label,
        )
        for index, (architecture, row) in enumerate(pairs)
    ]


def of_two(pairs: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    return [{"cross_entropy": loss, "flops": flops} for loss, flops in pairs]


def last(spec: SearchSpec, entrants: int) -> Rung:
    steps = ladder(spec)
    return Rung(len(steps), steps[-1], "scratch", entrants)


class TestLadder:
    @pytest.mark.parametrize(
        ("asked", "steps", "found"),
        [
            ({}, 1000, (250, 500, 1000)),
            ({"rungs": 4, "eta": 3}, 1000, (38, 112, 334, 1000)),
            ({"rungs": 2}, 999, (500, 999)),
            ({"rungs": 1}, 1000, ()),
            ({"rungs": 0}, 1000, ()),
            # No rung trains what the one before has trained.
            ({"rungs": 5}, 3, (1, 2, 3)),
        ],
    )
    def test_each_rung_has_eta_times_the_steps(
        self, asked: dict[str, int], steps: int, found: tuple[int, ...]
    ) -> None:
        spec = request(confirmation=asked, standalone={"steps": steps})
        assert ladder(spec) == found

    @pytest.mark.parametrize(
        ("asked", "entrants", "found"),
        [
            ({}, 12, [12, 6, 3]),
            ({"members": 1}, 12, [12, 6, 3]),
            ({"members": 5}, 12, [12, 6, 5]),
            ({"members": 2}, 7, [7, 4, 2]),
            ({"eta": 3}, 12, [12, 4, 3]),
        ],
    )
    def test_one_in_eta_goes_on_and_as_many_as_are_confirmed(
        self, asked: dict[str, int], entrants: int, found: list[int]
    ) -> None:
        spec = request(confirmation=asked)
        assert sizes(spec, entrants) == found
        assert sizes(spec, found[1], 2) == found[1:]
        assert room_after(spec, last(spec, found[-1])) == spec.confirmation.members

    @pytest.mark.parametrize("wrong", [{"eta": 1}, {"rungs": -1}, {"start": "supernet"}])
    def test_what_is_no_ladder_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SpecError, match=rf"confirmation\.{next(iter(wrong))}"):
            request(confirmation=wrong)


class TestLabel:
    def test_it_is_read_back(self) -> None:
        rung = Rung(2, 500, "inherited", 6)
        proposal = Proposal("rung", 9, architectures(1)[0], rung.label())
        assert Rung.of(proposal) == rung
        assert json.loads(rung.label()) == {
            "number": 2, "steps": 500, "start": "inherited", "entrants": 6,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "label",
        [
            "",
            "2",
            "[]",
            '{"number": 2}',
            '{"number": 2, "steps": 5, "start": "supernet", "entrants": 3}',
            '{"number": 2, "steps": 5.5, "start": "scratch", "entrants": 3}',
            '{"number": 2, "steps": 5, "start": "scratch", "entrants": 3, "more": 1}',
        ],
    )
    def test_another_form_is_named(self, label: str) -> None:
        with pytest.raises(ValueError, match=r"rung/9: label .* not a JSON object with number"):
            Rung.of(Proposal("rung", 9, architectures(1)[0], label))


class TestShortlist:
    def test_a_front_that_is_short_enough_is_taken_whole_and_in_its_order(self) -> None:
        found = trials(of_two([(3, 10), (1, 30), (2, 20), (2.5, 25)]))
        assert [trial.index for trial in shortlist(request(), found)] == [1, 2, 0]

    def test_of_a_longer_one_those_that_contribute_most_and_the_best_are_taken(self) -> None:
        # The second lies beside the first, the fourth beside the third.
        found = trials(of_two([(0, 10), (0.1, 9.9), (5, 5), (5.1, 4.9), (10, 0)]))
        spec = request(confirmation={"members": 1, "shortlist": 3})
        kept = shortlist(spec, found)
        assert [trial.index for trial in kept] == [0, 2, 4]
        # However few the best by the task's metric is one of them, and never fewer than members.
        assert [
            t.index for t in shortlist(request(confirmation={"members": 1, "shortlist": 1}), found)
        ] == [0]
        spec = request(confirmation={"members": 4, "shortlist": 1})
        assert len(shortlist(spec, found)) == 4

    def test_a_network_that_was_scored_twice_enters_once(self) -> None:
        one, other = trials(of_two([(1, 30), (3, 10)]))
        twin = Trial("search", 2, one.architecture, one.measurement)
        assert shortlist(request(), [one, other, twin]) == [one, other]


class TestGoingOn:
    def test_failed_networks_never_do(self) -> None:
        spec = request(confirmation={"members": 2})
        found = trials([*of_two([(1, 30), (2, 20)]), "diverged", "killed"], "rung")
        assert going_on(spec, Rung(1, 250, "scratch", 4), found) == found[:2]
        assert going_on(spec, Rung(1, 250, "scratch", 2), found[2:]) == []

    def test_a_lower_rank_goes_before_a_larger_contribution(self) -> None:
        spec = request(confirmation={"members": 2})
        # The last is far from all and dominated by the first.
        found = trials(of_two([(0, 10), (1, 9), (9, 1), (9.5, 40)]), "rung")
        assert going_on(spec, Rung(1, 250, "scratch", 4), found) == [found[0], found[2]]
        assert going_on(spec, Rung(1, 250, "scratch", 6), found) == found[:3]
        assert going_on(spec, Rung(1, 250, "scratch", 8), found) == found

    def test_what_is_maximised_is(self) -> None:
        spec = request(
            objectives=["flops", "accuracy", "params"], confirmation={"members": 1, "rungs": 2}
        )
        best = {"accuracy": 0.9, "flops": 5.0, "params": 5.0, "cross_entropy": 9.0}
        rows = [best | {"accuracy": 0.5}, best, best | {"flops": 6.0}, best | {"params": 4.0}]
        found = trials(rows, "rung")
        assert going_on(spec, Rung(1, 500, "scratch", 4), found) == [found[1], found[3]]
        # From the last rung one is confirmed: what is as accurate and smaller.
        assert going_on(spec, last(spec, 4), found) == [found[3]]

    def test_bounds_on_quality_wait_for_the_last_rung(self) -> None:
        spec = request(
            confirmation={"members": 1, "rungs": 2},
            constraints=["accuracy >= 0.8", "flops <= 1e6"],
        )
        rows = of_two([(0.1, 2e6), (0.5, 3e5), (0.6, 2e5)])
        accuracies = (0.9, 0.7, 0.85)
        found = trials(
            [{**row, "accuracy": a} for row, a in zip(rows, accuracies, strict=True)], "rung"
        )
        first = Rung(1, 500, "scratch", 3)
        assert [str(each) for each in binding(spec, first)] == ["flops <= 1000000"]
        # What breaks a bound on a cost comes after all that keep it, however good it is.
        assert going_on(spec, first, found) == found[1:]
        assert going_on(spec, last(spec, 3), found) == found[2:]
        # The least violation of all, where nobody keeps all.
        assert going_on(spec, last(spec, 2), found[:2]) == found[1:2]
