"""Is the ranking trusted only where training alone and unseen networks bear it out?"""

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from nas.cost.analytic import PARAMS
from nas.errors import GateFailed, SearchStateError
from nas.report.architecture import share_efficient
from nas.report.evidence import Summary
from nas.report.fidelity import check, judge
from nas.report.files import write_report
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.trust import agreements, method, picture, sentences
from nas.report.words import brief, words
from nas.search.fidelity import (
    HOURS_SPENT,
    RANKER_TEST,
    Agreements,
    RankerTest,
    networks_to_train,
)
from nas.search.rank_correlation import RankAgreement
from nas.search.spec import SearchSpec
from nas.search.stages import Gate
from nas.search.trial import Measurement, Trial
from tests.report.samples import SHAPE, controls, request, searched
from tests.report.test_files import EVIL, own_scripts, refuse, tags
from tests.report.test_summary import plain_tau

SPEC = request()
GOOD = RankAgreement(0.8, 0.7, 0.9, 60)
WEAK = RankAgreement(0.2, 0.0, 0.4, 60)
RANKER = RankerTest("boosted", 50, Agreements(GOOD, WEAK, WEAK))
Alone = Callable[[Trial], float]


def facts_of(test: RankerTest | None) -> dict[str, str]:
    return {} if test is None else {RANKER_TEST: test.to_text()}


TRIED = facts_of(RANKER)


@pytest.fixture(scope="module")
def slices() -> list[Trial]:
    return searched(SPEC, 60) + controls(SPEC, 60, 4)


def faithful(trial: Trial) -> float:
    """What training alone gives, were the supernet always right."""
    return trial.metrics["cross_entropy"] / 2


def trained(spec: SearchSpec, trials: Sequence[Trial], alone: Alone) -> list[Trial]:
    """The networks of the check with these results."""
    return [
        Trial("fidelity", i, each.architecture, Measurement.of({"cross_entropy": alone(each)}, 9.0))
        for i, each in enumerate(networks_to_train(spec, trials))
    ]


def checked(trials: Sequence[Trial], alone: Alone, spec: SearchSpec = SPEC) -> Summary:
    return summarize(spec, [*trials, *trained(spec, trials, alone)], facts=TRIED)


@pytest.fixture(scope="module")
def sure(slices: list[Trial]) -> Summary:
    """Where training alone bears out the supernet."""
    return checked(slices, faithful)


class TestValues:
    def test_taus_are_those_of_the_same_networks(self, slices: list[Trial]) -> None:
        rng = random.Random(3)
        noise = {each.architecture.id: rng.gauss(0, 0.1) for each in slices}
        found = checked(slices, lambda t: faithful(t) + noise[t.architecture.id]).fidelity
        assert found is not None
        chosen = networks_to_train(SPEC, slices)
        assert {each.architecture_id for each in found.networks} == {
            each.architecture.id for each in chosen
        }
        assert (found.planned, found.open, found.lost, len(found.networks)) == (24, 0, 0, 24)
        alone = [-faithful(t) - noise[t.architecture.id] for t in chosen]
        ranked = {
            "score": [-t.metrics["cross_entropy"] for t in chosen],
            "params": [float(PARAMS.of(t.architecture, SHAPE)) for t in chosen],
            "depth": [float(t.architecture.depth) for t in chosen],
        }
        for name, values in ranked.items():
            given: RankAgreement = getattr(found.agreements, name)
            assert given.n == 24
            assert given.tau == pytest.approx(plain_tau(values, alone))
            assert (given.low or 0) < (given.tau or 0) < (given.high or 0)
        scored = {f"{each.role} {each.index}": each for each in slices}
        for each in found.networks:
            assert scored[each.trial].architecture.id == each.architecture_id
            assert scored[each.trial].metrics["cross_entropy"] == each.supernet

    def test_larger_is_better_where_the_task_ranks_so(self, slices: list[Trial]) -> None:
        spec = request(objectives=("accuracy", "flops"))
        assert checked(slices, faithful, spec).fidelity == checked(slices, faithful).fidelity

    def test_what_was_lost_is_counted_and_takes_no_part(self, slices: list[Trial]) -> None:
        whole = trained(SPEC, slices, faithful)
        gone = [replace(each, measurement=Measurement.failed("killed")) for each in whole[:2]]
        nan = replace(whole[2], measurement=Measurement.of({"cross_entropy": math.nan}))
        bare = replace(whole[3], measurement=Measurement.of({"accuracy": 0.5}))
        summary = summarize(SPEC, [*slices, *gone, nan, bare, *whole[4:]], facts=TRIED)
        assert summary.fidelity is not None
        assert (summary.fidelity.lost, len(summary.fidelity.networks)) == (4, 20)
        assert summary.fidelity.agreements.score == RankAgreement(1.0, 1.0, 1.0, 20)
        assert summary.gate.verdict == "passed"
        assert "over 20 of 24 networks" in summary.gate.sentence
        assert any("20 of 24 planned networks" in each for each in method(summary))
        assert any("4 have no result" in each for each in method(summary))

    def test_other_stages_are_left_as_they_were(self, slices: list[Trial]) -> None:
        before, after = summarize(SPEC, slices), checked(slices, faithful)
        told = {"counts", "fidelity", "ranker_test", "gate"}
        for name, value in vars(before).items():
            if name not in told:
                assert getattr(after, name) == value, name

    def test_the_recipe_is_stated(self, slices: list[Trial]) -> None:
        spec = request(
            standalone={"steps": 400, "learning_rate": 0.002},
            fidelity={"steps": 90},
            evaluation={"examples": 500},
        )
        summary = checked(slices, faithful, spec)
        assert summary.fidelity is not None
        recipe = summary.fidelity.recipe
        assert (recipe["steps"], recipe["learning_rate"], recipe["seed"]) == (90, 0.002, 0)
        assert recipe["validation_examples"] == 500
        assert not {"batch_tokens", "dropout", "checkpoint_every"} & set(recipe)
        assert any("alone for 90 steps each, with one seed" in said for said in words(summary))


def ranked(tau: float | None, low: float | None, n: int = 24) -> RankAgreement:
    return RankAgreement(tau, low, None if low is None else 0.99, n)


class TestGate:
    """Of the supernet's side and of the ranker's, the bars are the same two."""

    @pytest.mark.parametrize(
        ("score", "params", "against"),
        [
            (ranked(0.70, 0.41), 0.40, []),
            (ranked(0.60, 0.41), 0.40, []),
            (ranked(0.59, 0.41), 0.40, ["is +0.59 [+0.41, +0.99], below the 0.6 asked for"]),
            (ranked(0.70, 0.40), 0.40, ["not surely above the +0.40 of parameters alone"]),
            (ranked(0.70, 0.01), -0.40, []),
            (ranked(0.70, -0.1), -0.40, ["not surely above chance"]),
            (ranked(0.70, 0.01), None, []),
            (ranked(0.70, 0.00), None, ["not surely above chance"]),
            (ranked(0.30, -0.2), 0.50, ["below the 0.6 asked for and not surely above the +0.50"]),
            (ranked(0.70, None), 0.40, ["is +0.70 (no interval), not surely above the +0.40"]),
            (ranked(None, None), 0.40, ["scores of one side are all equal, or not finite"]),
        ],
    )
    @pytest.mark.parametrize("side", ["supernet", "ranker"])
    def test_both_bars_on_both_sides(
        self,
        side: str,
        score: RankAgreement,
        params: float | None,
        against: list[str],
        sure: Summary,
    ) -> None:
        asked = Gate(supernet_tau=0.6, ranker_tau=0.6)
        found = sure.fidelity
        assert found is not None
        given = Agreements(score, replace(score, tau=params), WEAK)
        if side == "supernet":
            networks = found.networks[: score.n]
            found = replace(found, agreements=given, networks=networks)
            verdict = judge(asked, found, RANKER)
        else:
            verdict = judge(asked, found, RankerTest("linear", 50, given))
        assert verdict.verdict == ("failed" if against else "passed")
        assert len(verdict.reasons) == len(against)
        for reason, part in zip(verdict.reasons, against, strict=True):
            assert part in reason
            assert reason in verdict.sentence
            assert ("the ranker" in reason) == (side == "ranker")
        beginning = (
            "The ranking is not to be trusted: " if against else "The ranking can be trusted"
        )
        assert verdict.sentence.startswith(beginning)
        assert verdict.sentence.endswith(".")

    def test_each_side_has_its_own_bar(self, sure: Summary) -> None:
        found = sure.fidelity
        for asked, verdict in (
            (Gate(supernet_tau=1.0, ranker_tau=0.8), "passed"),
            (Gate(supernet_tau=1.0, ranker_tau=0.81), "failed"),
        ):
            assert judge(asked, found, RANKER).verdict == verdict

    def test_reasons_of_both_sides_are_all_given(self, slices: list[Trial]) -> None:
        reversed_ = checked(slices, lambda t: -faithful(t)).fidelity
        guessing = Agreements(ranked(0.1, -0.1), WEAK, WEAK)
        verdict = judge(Gate(), reversed_, RankerTest("linear", 50, guessing))
        supernet, ranker = verdict.reasons
        assert "supernet scores with training alone over 24 networks is -1.00 [" in supernet
        assert "the ranker with the supernet over 24 random" in ranker

    def test_constant_scores_pass_nothing(self, slices: list[Trial]) -> None:
        summary = checked(slices, lambda _: 1.0)
        assert summary.fidelity is not None
        assert summary.fidelity.agreements.score.tau is None
        assert summary.gate.verdict == "failed"
        assert "all equal" in summary.gate.sentence
        assert [row[2:4] for row in agreements(summary).rows[:3]] == [("none", "none")] * 3

    def test_nothing_trained_is_not_known_and_says_how_to_know(self, slices: list[Trial]) -> None:
        for trials in ([], slices):
            for test in (None, RANKER):
                gate = summarize(SPEC, trials, facts=facts_of(test)).gate
                assert gate.verdict == "not known"
                assert "`nas fidelity ID` does that" in gate.sentence
                assert not gate.stops

    def test_a_check_that_goes_on_is_not_judged_before_its_end(self, slices: list[Trial]) -> None:
        half = trained(SPEC, slices, faithful)[:10]
        gate = summarize(SPEC, [*slices, *half], facts=TRIED).gate
        assert gate.verdict == "not known"
        assert "of 24 networks 10 were trained alone" in gate.sentence
        assert "`nas fidelity ID` goes on" in gate.sentence
        # A bound on the hours changes nothing until they are up; then what is there is judged.
        bounded, up = request(fidelity={"hours": 0.1}), {**TRIED, HOURS_SPENT: "0.1"}
        assert summarize(bounded, [*slices, *half], facts=TRIED).gate.verdict == "not known"
        summary = summarize(bounded, [*slices, *half], facts=up)
        assert summary.gate.verdict == "passed"
        assert "over 10 of 24 networks" in summary.gate.sentence

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_few_networks_neither_pass_nor_fail(self, count: int, slices: list[Trial]) -> None:
        # In perfect order every bootstrap sample is, too: the interval is a point.
        up = {**TRIED, HOURS_SPENT: "0.1"}
        for score in (faithful, lambda trial: -faithful(trial)):
            few = [*slices, *trained(SPEC, slices, score)[:count]]
            gate = summarize(request(fidelity={"hours": 0.1}), few, facts=up).gate
            assert gate.verdict == "not known"
            said = f"{count} of 24 networks were trained alone to check it, then its 0.1 hours were"
            assert said in gate.sentence
            assert "it takes 8" in gate.sentence

    def test_without_unseen_networks_a_bad_ranking_fails_and_a_good_one_is_not_known(
        self, sure: Summary, slices: list[Trial]
    ) -> None:
        untried = RankerTest("", 0, None, "no random control was scored")
        few = RankerTest("linear", 50, Agreements(ranked(1.0, 1.0, 7), WEAK, WEAK))
        bad = checked(slices, lambda t: -faithful(t)).fidelity
        for tried, n in ((untried, 0), (few, 7)):
            gate = judge(Gate(on_fail="stop"), sure.fidelity, tried)
            assert (gate.verdict, gate.stops) == ("not known", False)
            assert (
                f"tried on {n} random controls that it never saw, and it takes 8" in gate.sentence
            )
            assert judge(Gate(), bad, tried).verdict == "failed"

    def test_without_a_ranker_s_test_it_is_not_known(self, slices: list[Trial]) -> None:
        trials = [*slices, *trained(SPEC, slices, faithful)]
        assert summarize(SPEC, trials).gate.verdict == "not known"

    @pytest.mark.parametrize("on_fail", ["warn", "stop"])
    def test_it_stops_only_where_it_failed_and_was_asked_to(
        self, on_fail: Any, sure: Summary, slices: list[Trial]
    ) -> None:
        good, bad = sure.fidelity, checked(slices, lambda _: 1.0).fidelity
        asked = Gate(on_fail=on_fail)
        for found in (good, None):
            check(judge(asked, found, RANKER), "01J")
        check(judge(asked, good, RANKER), "01J", confirming=True)
        unchecked = judge(asked, None, RANKER)
        if on_fail == "stop":
            with pytest.raises(GateFailed, match="`nas fidelity ID` does that"):
                check(unchecked, "01J", confirming=True)
        else:
            check(unchecked, "01J", confirming=True)
        verdict = judge(asked, bad, RANKER)
        assert verdict.stops == (on_fail == "stop")
        if verdict.stops:
            with pytest.raises(GateFailed, match="nas confirm 01J --despite-gate") as caught:
                check(verdict, "01J")
            assert verdict.sentence in str(caught.value)
            assert isinstance(caught.value, SearchStateError)
        else:
            check(verdict, "01J")


class TestTold:
    def test_the_first_sentence_is_the_verdict_everywhere(
        self, sure: Summary, slices: list[Trial], tmp_path: Path
    ) -> None:
        for summary in (summarize(SPEC, slices), sure):
            assert words(summary)[0] == brief(summary)[0] == summary.gate.sentence
        trials = [*slices, *trained(SPEC, slices, faithful)]
        files = write_report(
            tmp_path, SPEC, trials, search_id="01J", facts={RANKER_TEST: RANKER.to_text()}
        )
        given = json.loads(files["pareto.json"].read_text())
        assert given["words"][0] == given["gate"]["sentence"]
        assert given["gate"]["verdict"] == "passed"
        html = own_scripts(files["pareto.html"].read_text())
        [below] = re.findall(r"<h1>sample</h1>\s*(<p .*?</p>)", html, re.DOTALL)
        assert below.startswith('<p class="verdict passed">The ranking can be trusted')

    def test_the_file_holds_networks_taus_recipe_and_verdict(
        self, sure: Summary, slices: list[Trial], tmp_path: Path
    ) -> None:
        trials = [*slices, *trained(SPEC, slices, faithful)]
        files = write_report(
            tmp_path, SPEC, trials, search_id="01J", facts={RANKER_TEST: RANKER.to_text()}
        )
        given = json.loads(files["fidelity.json"].read_text(), parse_constant=refuse)
        summary = sure
        assert summary.fidelity is not None
        assert given["search"] == "01J"
        assert given["fidelity"]["recipe"]["steps"] == 250
        for shown, network in zip(
            given["fidelity"]["networks"], summary.fidelity.networks, strict=True
        ):
            assert shown == vars(network)
        assert given["fidelity"]["agreements"]["score"] == {
            "tau": 1.0, "low": 1.0, "high": 1.0, "n": 24,
        }  # fmt: skip
        assert given["ranker_test"]["agreements"]["params"]["tau"] == WEAK.tau
        assert (given["gate"]["supernet_tau"], given["gate"]["ranker_tau"]) == (0.5, 0.6)
        assert given["gate"]["verdict"] == "passed"
        assert given["words"] == [summary.gate.sentence, *sentences(summary)]
        assert [each for each in words(summary) if each in given["words"]] == given["words"]

    def test_without_a_check_the_file_says_so(self, tmp_path: Path) -> None:
        for trials in ([], searched(SPEC, 5)):
            files = write_report(tmp_path, SPEC, trials, search_id="01J")
            given = json.loads(files["fidelity.json"].read_text())
            assert (given["fidelity"], given["ranker_test"]) == (None, None)
            assert given["gate"]["verdict"] == "not known"
            html = own_scripts(files["pareto.html"].read_text())
            section = html.partition("Can the ranking be trusted?")[2].partition("<h2>")[0]
            assert "<code>nas fidelity ID</code> does that" in section

    def test_every_tau_stands_beside_the_counts(self, sure: Summary, slices: list[Trial]) -> None:
        shown = agreements(sure)
        assert [row[0] for row in shown.rows] == [
            "supernet score", "number of parameters", "depth",
            "ranker", "number of parameters", "depth",
        ]  # fmt: skip
        on = ["24 trained alone"] * 3 + ["60 unseen networks"] * 3
        assert [row[1] for row in shown.rows] == on
        assert shown.rows[0][2:] == ("+1.00", "[+1.00, +1.00]", "0.5, low > 0.67")
        assert shown.rows[4][2:] == ("+0.20", "[+0.00, +0.40]", "")
        assert agreements(summarize(SPEC, slices)).rows == ()

    def test_the_error_of_chance_is_said_at_its_n(self, slices: list[Trial]) -> None:
        for networks, error in ((24, "0.15 over 24"), (8, "0.29 over 8")):
            summary = checked(slices, faithful, request(fidelity={"networks": networks}))
            assert any(f"standard error is {error} networks" in said for said in words(summary))


class TestPicture:
    def test_points_lie_at_both_scores_in_the_colour_of_their_share(
        self, sure: Summary, slices: list[Trial]
    ) -> None:
        summary, drawn = sure, picture(sure, slices)
        points = [trace for trace in drawn.data if trace.showlegend is False]
        assert [trace.name for trace in points] == [
            "random control", "search, below the front", "front",
        ]  # fmt: skip
        assert summary.fidelity is not None
        at = {(x, y) for trace in points for x, y in zip(trace.x, trace.y, strict=True)}
        assert at == {(each.supernet, each.alone) for each in summary.fidelity.networks}
        front = {each.architecture_id for each in summary.front}
        by_score = {each.metrics["cross_entropy"]: each for each in slices}
        for trace in points:
            built = [by_score[x].architecture for x in trace.x]
            assert list(trace.marker.color) == [share_efficient(each) for each in built]
            assert {each.id in front for each in built} == {trace.name == "front"}
            for text, each in zip(trace.hovertext, built, strict=True):
                assert each.id in text
        assert drawn.layout.xaxis.title.text == (
            "cross_entropy on the supernet<br>(nats), lower is better"
        )
        assert drawn.layout.yaxis.title.text == (
            "cross_entropy trained alone<br>(nats), lower is better"
        )

    def test_the_page_draws_it_with_one_library_and_fetches_nothing(
        self, sure: Summary, slices: list[Trial]
    ) -> None:
        trials = [*slices, *trained(SPEC, slices, faithful)]
        html = page(SPEC, sure, trials)
        assert html.count("* plotly.js v") == 1
        seen = tags(html)
        assert {a["id"] for t, a in seen if t == "div" and "id" in a} >= {"front", "fidelity"}
        assert not any("src" in attributes or "href" in attributes for _, attributes in seen)
        own = own_scripts(html)
        assert "http" not in own.replace("http-equiv", "")
        assert own.count('"showSendToCloud": false') == 2

    def test_words_from_outside_are_escaped(self, slices: list[Trial]) -> None:
        test = replace(RANKER, member=EVIL)
        trials = [*slices, *trained(SPEC, slices, faithful)]
        html = own_scripts(page(SPEC, summarize(SPEC, trials, facts=facts_of(test)), trials))
        assert EVIL in unescape(html)
        assert "<script>alert" not in html
        assert "<img" not in html
