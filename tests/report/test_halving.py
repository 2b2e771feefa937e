"""Do the rungs show what the record shows, and is the front of trained networks that of means?"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from nas.operators.declaration import Choice
from nas.report.evidence import Summary
from nas.report.files import pareto_json
from nas.report.halving import TrueFront
from nas.report.halving_shown import halving_tables, rungs, true_front
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.words import brief, words
from nas.search.halving import Rung, going_on, shortlist
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Standing, Trial
from nas.space.architecture import Architecture
from tests.report.samples import COST, request, searched, trial

ASKED = {"seeds": 2, "flops_tolerance": 0.5, "members": 2, "shortlist": 5}


def asked(**changes: Any) -> SearchSpec:
    return request(confirmation=ASKED, standalone={"steps": 400}, **changes)


def climbing(spec: SearchSpec, found: list[Trial], *, failing: int = 0) -> list[Trial]:
    """The rungs that a search's shortlist would climb; the last `failing` of the first fail."""
    trials: list[Trial] = []
    entrants = [each.architecture for each in shortlist(spec, found)]
    for number, steps in enumerate((100, 200, 400), 1):
        rung = Rung(number, steps, "scratch", len(entrants))
        own = []
        for place, architecture in enumerate(entrants):
            index = len(trials) + place
            # The order by true metrics is another one at each rung.
            noise = 0.05 * ((place * number) % 3)
            scored = trial("rung", index, architecture, noise=noise, label=rung.label())
            if number == 1 and place >= len(entrants) - failing:
                why = Measurement({}, "infeasible", "at step 7 of training the loss is nan")
                scored = Trial("rung", index, architecture, why, rung.label())
            own.append(scored)
        trials += own
        entrants = [each.architecture for each in going_on(spec, rung, own)]
    return trials


def alone(
    member: Architecture, rows: Sequence[tuple[Architecture, float, float]], first: int = 0
) -> list[Trial]:
    """Networks trained for a member with two seeds: test loss and validation loss of the first."""
    found: list[Trial] = []
    for (network, tested, validation), seed in itertools.product(rows, range(2)):
        attention = None if network == member else network.single_attention
        metrics = {
            **COST(network),
            "cross_entropy": validation + seed,
            "accuracy": 0.5,
            "test_cross_entropy": tested + 0.2 * seed,
            "test_accuracy": 0.9 - 0.2 * seed,
        }
        label = Standing(member.id, attention, seed).label()
        index = first + len(found)
        found.append(Trial("confirmed", index, network, Measurement.of(metrics, 60.0), label))
    return found


def matched(index: int, architecture: Architecture, member: Architecture) -> Trial:
    label = Standing(member.id, architecture.single_attention).label()
    return trial("matched", index, architecture, label=label)


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    trials = searched(asked(), 60)
    assert len(front_of(asked(), trials).members) > ASKED["shortlist"]
    return trials


def members_of(spec: SearchSpec, climbed: Sequence[Trial]) -> list[Architecture]:
    last = [each for each in climbed if Rung.of(each).steps == 400]
    return [each.architecture for each in going_on(spec, Rung.of(last[0]), last)]


class TestRungs:
    def test_without_any_there_is_nothing_to_show(self, found: list[Trial]) -> None:
        summary = summarize(asked(), found)
        assert summary.rungs == ()
        assert halving_tables(summary) == ()
        assert not any("halving" in each for each in words(summary))

    def test_they_say_who_entered_who_went_on_and_why_the_others_did_not(
        self, found: list[Trial]
    ) -> None:
        spec = asked()
        climbed = climbing(spec, found, failing=1)
        members = members_of(spec, climbed)
        trained = [
            each
            for place, member in enumerate(members)
            for each in alone(member, [(member, 1.0, 1.0)], 2 * place)
        ]
        summary = summarize(spec, [*found, *climbed, *trained])
        assert [(each.number, each.steps, each.expected) for each in summary.rungs] == [
            (1, 100, 5),
            (2, 200, 3),
            (3, 400, 2),
        ]
        for rung, following in itertools.pairwise(summary.rungs):
            after = {each.architecture_id for each in following.entrants}
            assert {each.architecture_id for each in rung.entrants if each.goes_on} == after
        assert {e.architecture_id for e in summary.rungs[-1].entrants} == {m.id for m in members}
        for rung in summary.rungs:
            pool = [each for each in rung.entrants if each.metrics]
            assert rung.reference is not None
            for name, at in rung.reference.items():
                values = [each.metrics[name] for each in pool]
                assert at == pytest.approx(2 * max(values) - min(values))
            for each in pool:
                assert set(each.dominated_by) == {
                    other.architecture_id
                    for other in pool
                    if other.metrics != each.metrics
                    and all(other.metrics[name] <= each.metrics[name] for name in each.metrics)
                }
        table = rungs(summary)
        assert table.columns == (
            "rung", "steps", "network", "architecture", "cross_entropy", "flops", "goes on",
        )  # fmt: skip
        failed = next(row for row in table.rows if "nan" in row[-1])
        assert failed[4:] == ("none", "none", "no: at step 7 of training the loss is nan")
        fates = {row[-1].split(" #")[0] for row in table.rows if row[0] == "1"} - {failed[-1]}
        assert fates <= {"yes", "no: dominated by", "no: contributes least"}
        said = " ".join(words(summary))
        assert "5 members of the front were trained alone, with weights drawn at random: " in said
        assert "5 to step 100, 3 to step 200, 2 to step 400 of 400." in said
        assert "1 of these trainings has no score and dropped out" in said
        assert "in it they are favoured" in said

    def test_what_is_not_settled_is_not_told(self, found: list[Trial]) -> None:
        spec = asked()
        climbed = climbing(spec, found)
        sizes = [3, 5, 6, len(climbed)]
        fates = []
        for size in sizes:
            shown = summarize(spec, [*found, *climbed[:size]]).rungs
            fates.append([[each.goes_on for each in rung.entrants] for rung in shown])
        assert fates[0] == [[None] * 3]
        assert fates[1] == [[None] * 5]
        # One of the second rung's is there: it went on, and of the others nothing is known.
        first, second = fates[2]
        assert sorted(first, key=str) == [None] * 4 + [True]
        assert second == [None]
        *before, last = fates[3]
        assert all(fate is not None for rung in before for fate in rung)
        assert set(last) == {None}
        member = members_of(spec, climbed)[0]
        rival = member.replace_attention(Choice("linear"))
        shown = summarize(spec, [*found, *climbed, matched(0, rival, member)]).rungs
        assert [each.goes_on for each in shown[-1].entrants].count(True) == 1
        assert False not in [each.goes_on for each in shown[-1].entrants]

    def test_a_bound_that_is_broken_is_named(self, found: list[Trial]) -> None:
        spec = asked(constraints=["accuracy >= 0.01"])
        climbed = climbing(spec, found)
        last = max(each.metrics["accuracy"] for each in climbed)
        bounded = asked(constraints=[f"accuracy >= {last:.6f}"])
        shown = summarize(bounded, [*found, *climbed]).rungs
        assert not any(each.reason for rung in shown[:-1] for each in rung.entrants)
        assert {each.reason for each in shown[-1].entrants} >= {f"breaks accuracy >= {last:.6f}"}

    def test_a_limit_that_is_chosen_later_changes_nobody_s_way(self, found: list[Trial]) -> None:
        spec = asked()
        climbed = climbing(spec, found)
        middle = sorted(each.metrics["flops"] for each in found)[30]
        limited = asked(constraints=[f"flops <= {middle}"])
        before = summarize(spec, [*found, *climbed])
        later = tuple(map(str, limited.parsed_constraints))
        after = summarize(limited, [*found, *climbed], later)
        assert len(after.front) != len(before.front)
        assert after.rungs == before.rungs

    def test_a_label_that_cannot_be_read_is_named(self, found: list[Trial]) -> None:
        broken = trial("rung", 3, found[0].architecture, label="softmax")
        with pytest.raises(ValueError, match="rung/3"):
            summarize(asked(), [*found, broken])


class TestTrueFront:
    def networks(self) -> tuple[Architecture, Architecture, Architecture]:
        """All of one attention type, and of growing FLOPs."""
        space = request().search_space
        small = space.extreme("smallest", Choice("softmax"))
        large = space.extreme("largest", Choice("softmax"))
        mixed = space.extreme("smallest", Choice("softmax"), Choice("linear"))
        return mixed, small, large

    def front(self, spec: SearchSpec, trials: Sequence[Trial]) -> tuple[Summary, TrueFront]:
        summary = summarize(spec, trials)
        assert summary.confirmation is not None
        assert summary.confirmation.front is not None
        return summary, summary.confirmation.front

    def test_it_is_that_of_the_means_on_test_examples(self) -> None:
        mixed, small, large = self.networks()
        # By validation the member would be the best of all.
        rows = [(mixed, 1.3, 0.1), (small, 1.2, 0.5), (large, 0.9, 0.6)]
        summary, found = self.front(asked(), alone(mixed, rows))
        assert found.judged_by == {"cross_entropy": "test_cross_entropy", "flops": "flops"}
        assert [each.architecture_id for each in found.networks] == [large.id, small.id, mixed.id]
        assert [each.values["cross_entropy"] for each in found.networks] == pytest.approx(
            [1.0, 1.3, 1.4]
        )
        assert {each.seeds for each in found.networks} == {2}
        cheaper = COST(small)["flops"] <= COST(mixed)["flops"]
        assert [each.on_front for each in found.networks] == [True, True, not cheaper]
        assert [each.member for each in found.networks] == [False, False, True]
        assert found.networks[2].dominated_by == ((small.id,) if cheaper else ())
        table = true_front(summary)
        assert [row[-1] for row in table.rows][:2] == ["on it", "on it"]
        assert table.columns[2:4] == ("test_cross_entropy", "flops")
        said = " ".join(brief(summary))
        assert f"the front of the 3 networks trained to the end is all softmax ({large.id})" in said

    def test_every_objective_counts_in_its_own_direction(self) -> None:
        mixed, _, large = self.networks()
        spec = request(objectives=["accuracy", "params", "flops"], confirmation=ASKED)
        trials = alone(mixed, [(mixed, 1.0, 1.0), (large, 1.0, 1.0)])
        better = [
            Trial(
                each.role,
                each.index,
                each.architecture,
                Measurement.of({**each.metrics, "test_accuracy": 0.95}),
                each.label,
            )
            if each.architecture == large
            else each
            for each in trials
        ]
        _, found = self.front(spec, better)
        assert [each.values["accuracy"] for each in found.networks] == pytest.approx([0.95, 0.8])
        assert [each.on_front for each in found.networks] == [True, True]
        _, found = self.front(spec, trials)
        assert {each.architecture_id: each.on_front for each in found.networks} == {
            mixed.id: True,
            large.id: False,
        }

    def test_what_breaks_a_constraint_is_not_on_it(self) -> None:
        mixed, _, large = self.networks()
        spec = asked(constraints=[f"flops <= {COST(large)['flops'] - 1}", "accuracy >= 0.79"])
        trials = alone(mixed, [(mixed, 1.0, 1.0), (large, 0.5, 0.5)])
        summary, found = self.front(spec, trials)
        by_id = {each.architecture_id: each for each in found.networks}
        assert by_id[large.id].breaks == (str(spec.parsed_constraints[0]),)
        assert not by_id[large.id].on_front
        assert by_id[mixed.id].on_front
        assert true_front(summary).rows[0][-1] == f"breaks {spec.parsed_constraints[0]}"
        # The bound on accuracy is one on its mean on test examples: 0.8.
        summary, found = self.front(asked(constraints=["accuracy >= 0.81"]), trials)
        assert not any(each.on_front for each in found.networks)
        assert "trained to the end is empty: all break a constraint" in " ".join(words(summary))

    def test_a_rival_of_two_members_is_one_network(self) -> None:
        mixed, small, large = self.networks()
        other = alone(large, [(large, 0.8, 0.8), (small, 1.2, 0.5)], 4)
        trials = [*alone(mixed, [(mixed, 1.3, 0.1), (small, 1.2, 0.5)]), *other]
        _, found = self.front(asked(), trials)
        ids = [each.architecture_id for each in found.networks]
        assert sorted(ids) == sorted({mixed.id, small.id, large.id})
        assert {each.seeds for each in found.networks} == {2}

    def test_a_cost_that_was_not_measured_of_the_network_is_its_slice_s(self) -> None:
        mixed, small, _ = self.networks()
        spec = request(objectives=["cross_entropy", "latency_ms"], confirmation=ASKED)
        trials = alone(mixed, [(mixed, 1.0, 1.0), (small, 1.2, 0.5)])
        _slice = trial("search", 0, mixed)
        timed = Measurement.of({**_slice.metrics, "latency_ms": 3.0})
        known = Trial("search", 0, mixed, timed)
        _, found = self.front(spec, [known, *trials])
        # Of the rival nothing is known.
        assert [(e.architecture_id, dict(e.values)) for e in found.networks] == [
            (mixed.id, {"cross_entropy": pytest.approx(1.1), "latency_ms": 3.0})
        ]
        summary = summarize(spec, trials)
        assert summary.confirmation is not None
        assert summary.confirmation.front is None


def test_page_and_json_carry_both(found: list[Trial]) -> None:
    spec = asked()
    climbed = climbing(spec, found)
    member, *_ = members_of(spec, climbed)
    trials = [*found, *climbed, *alone(member, [(member, 1.0, 1.0)])]
    summary = summarize(spec, trials)
    html = page(spec, summary, trials)
    for table in halving_tables(summary):
        assert table.title in html
    assert "<h2>Trained alone</h2>" in html
    shown = json.loads(pareto_json(summary, "01J", {}))
    assert [rung["steps"] for rung in shown["rungs"]] == [100, 200, 400]
    (network,) = shown["confirmation"]["front"]["networks"]
    assert network["architecture_id"] == member.id
    assert network["on_front"] is True
    assert "<h2>Trained alone</h2>" not in page(spec, summarize(spec, found), found)
