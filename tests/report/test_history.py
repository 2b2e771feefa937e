"""Does the report draw and say how fast the search went, and claim no more than it can?"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.cost.span import spans
from nas.report.evidence import Comparison, Coverage, Summary, Verdict
from nas.report.files import write_report
from nas.report.history import MOST_POINTS, extent_of, figure, history_of, section, told
from nas.report.page import page
from nas.report.result import SearchResult, provenance
from nas.report.summary import summarize
from nas.run.workspace import workspace
from nas.search.extent import EXTENT, Axis, FixedExtent, fixed_extent
from nas.search.history import ControlCurve, History
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Trial
from nas.store.store import SearchRecord
from tests.report.samples import controls, request, searched

SPEC = request()
FIXED = FixedExtent(
    (
        Axis("cross_entropy", 2.0, 0.0, "an uninformed guess", "the best there can be"),
        Axis("flops", 4e8, 1e7, "the exact largest", "the exact smallest"),
    )
)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return searched(SPEC, 40) + controls(SPEC, 60, 4)


@pytest.fixture(scope="module")
def summary(trials: list[Trial]) -> Summary:
    return summarize(SPEC, trials)


@pytest.fixture(scope="module")
def history(trials: list[Trial]) -> History:
    return History.of(SPEC, trials, FIXED)


def curves(search: Sequence[float], random: Sequence[float], spread: float = 0.0) -> History:
    deviation = (*[spread] * (len(random) - 1), 0.0)
    control = ControlCurve(tuple(random), tuple(random), deviation, 100) if random else None
    return History(FIXED, tuple(search), control)


def judged(summary: Summary, verdict: Verdict) -> Summary:
    side = Coverage(0.5, None, 3)
    return replace(summary, comparisons=(Comparison("random", 3, side, side, 0, 0, verdict),))


class TestTheExtent:
    def test_is_the_record_s_and_of_an_older_record_that_of_its_request(self) -> None:
        assert extent_of(SPEC, FIXED.to_text()) == FIXED
        assert extent_of(SPEC, "") == fixed_extent(SPEC, spans(SPEC)) is not None

    def test_is_not_known_of_an_older_record_with_measured_costs(
        self, trials: list[Trial], tmp_path: Path
    ) -> None:
        spec = request(objectives=("cross_entropy", "latency_ms"))
        timed = [
            replace(each, measurement=Measurement.of({**each.metrics, "latency_ms": 1.0}))
            for each in trials
        ]
        assert history_of(spec, timed, "") is None
        files = write_report(tmp_path, spec, timed, search_id="x")
        assert "history.json" not in files
        assert json.loads(files["pareto.json"].read_text())["history"] is None
        assert "There is no curve: the search has no trial" in files["pareto.html"].read_text()

    def test_without_a_searched_trial_there_is_no_history(self, trials: list[Trial]) -> None:
        assert history_of(SPEC, trials[40:], FIXED.to_text()) is None

    def test_a_limit_that_comes_later_moves_nothing_but_the_trials(
        self, trials: list[Trial]
    ) -> None:
        place = workspace("nowhere")
        for fact, fixed in ((FIXED.to_text(), FIXED), ("", extent_of(SPEC, ""))):
            facts = {EXTENT: fact}
            whole = SearchResult(
                "x", "succeeded", SPEC, tuple(trials), {}, place, {}, recorded=facts
            )
            limited = whole.constrained(["flops <= 6e7"])
            assert whole.history is not None
            assert limited.history is not None
            assert limited.history.extent == whole.history.extent == fixed
            assert 0 < limited.history.search[-1] < whole.history.search[-1]
            assert any(each.endswith("This is exploratory.") for each in limited.words)

    def test_stands_with_the_curve_and_not_among_the_facts(self) -> None:
        facts = {EXTENT: FIXED.to_text(), "commit": "abc"}
        record = SearchRecord("x", "n", {}, "succeeded", "then", "now", facts=facts)
        assert provenance(record) == {"submitted": "then", "runs": "0", "commit": "abc"}


class TestThePicture:
    def traces(self, history: History) -> dict[str, Any]:
        return {trace.name: trace for trace in figure(history).data}

    def test_has_the_search_beside_the_control_s_mean_band_and_order(
        self, history: History
    ) -> None:
        assert history.random is not None
        found = self.traces(history)
        assert list(found) == ["random, ± 1 sd", "random, mean", "random, as run", "search"]
        mean, deviation = np.array(history.random.mean), np.array(history.random.deviation)
        assert list(found["random, mean"].x) == list(range(1, 61))
        assert list(found["random, mean"].y) == list(mean)
        band = found["random, ± 1 sd"]
        assert list(band.x) == [*range(1, 61), *range(60, 0, -1)]
        edges = np.clip([*(mean + deviation), *(mean - deviation)[::-1]], 0, 1)
        assert list(band.y) == pytest.approx(list(edges))
        assert found["search"].line.shape == found["random, as run"].line.shape == "hv"

    @pytest.mark.parametrize("name", ["search", "random, as run"])
    def test_its_steps_are_the_whole_curve(self, history: History, name: str) -> None:
        assert history.random is not None
        curve = history.search if name == "search" else history.random.as_run
        trace = self.traces(history)[name]
        steps = dict(zip(trace.x, trace.y, strict=True))
        drawn, level = [], 0.0
        for n in range(1, len(curve) + 1):
            level = steps.get(n, level)
            drawn.append(level)
        assert drawn == list(curve)
        assert len(steps) < len(curve)
        assert trace.x[-1] == len(curve)

    def test_of_many_trials_it_has_no_more_points_than_a_screen(self) -> None:
        long = np.sqrt(np.arange(10_000) / 1e4)
        found = self.traces(curves([0.1, 0.2], list(long)))["random, mean"]
        assert (len(found.x), found.x[0], found.x[-1]) == (MOST_POINTS, 1, 10_000)
        assert list(found.y) == [long[x - 1] for x in found.x]

    def test_its_range_leaves_out_the_first_climb_alone(self, history: History) -> None:
        assert history.random is not None
        low, high = figure(history).layout.yaxis.range
        assert history.search[0] < low
        assert low < min(history.search[2], history.random.as_run[3])
        assert high > max(history.search[-1], history.random.mean[-1])
        low, high = figure(curves([0.5], [])).layout.yaxis.range
        assert low < 0.5 < high

    def test_needs_no_second_copy_of_the_script(
        self, summary: Summary, trials: list[Trial], history: History
    ) -> None:
        html = page(SPEC, summary, trials, history=history)
        assert len(re.findall(r"\* plotly\.js v", html)) == 1
        assert html.index('id="front"') < html.index('id="history"')
        assert 'id="history"' not in page(SPEC, summary, trials)
        assert len(section(summary, history)) < 50_000

    def test_of_nothing_covered_is_not_drawn(self, summary: Summary) -> None:
        html = section(summary, curves([0.0, 0.0], [0.0]))
        assert "plotly" not in html
        assert "Neither the search nor the random control covers anything" in html

    def test_says_between_which_values_and_by_which_rules(
        self, summary: Summary, history: History
    ) -> None:
        html = section(summary, history)
        assert (
            "cross_entropy from 0 nats (the best there can be) to 2.000 nats (an uninformed guess),"
            " flops from 10.00 MFLOPs (the exact smallest) to 400.0 MFLOPs (the exact largest)."
        ) in html
        assert "over 100 random orders of its own trials" in html
        evil = FixedExtent((replace(FIXED.axes[0], worst_rule="<img src=x>"), FIXED.axes[1]))
        assert "<img" not in section(summary, replace(history, extent=evil))


class TestTheWords:
    REFERENCE = "(cross_entropy 2.000 nats, flops 400.0 MFLOPs)"

    def second(self, summary: Summary, verdict: Verdict, history: History) -> str:
        _, said = told(judged(summary, verdict), history)
        return said

    def test_give_both_sides_at_one_number_and_the_reference(self, summary: Summary) -> None:
        first, _ = told(summary, curves([0.1, 0.3], [0.2, 0.25, 0.4], spread=0.01))
        assert first == (
            "After 2 trials each, the search covers 0.3000 and random search 0.2500 ± 0.0100 of "
            f"the hypervolume to the reference point that was fixed beforehand {self.REFERENCE}: "
            "a difference of +0.0500."
        )
        first, _ = told(summary, curves([0.1, 0.3], [0.2, 0.35], spread=0.01))
        assert "random search 0.3500 of the" in first
        assert "-0.0500" in first

    def test_say_how_much_sooner_where_that_is_resolved(self, summary: Summary) -> None:
        said = self.second(summary, "covers more", curves([0.1, 0.5, 0.6], [0.2, 0.3, 0.4, 0.5]))
        assert said.startswith(
            "After 2 trials the search covered what random search covered after 4. This is one run"
        )
        assert "one run" in said

    def test_say_when_it_was_never_reached(self, summary: Summary) -> None:
        said = self.second(summary, "covers less", curves([0.1, 0.25], [0.2, 0.3, 0.4]))
        assert said.startswith(
            "After all its 2 trials the search had not covered what random search covered after 3, "
            "but what that covered after 2."
        )
        none = self.second(summary, "covers less", curves([0.0, 0.0], [0.2, 0.3]))
        assert none.startswith(
            "After all its 2 trials the search had not covered what random search covered after 2."
        )

    def test_say_when_random_search_covered_nothing(self, summary: Summary) -> None:
        said = self.second(summary, "covers more", curves([0.0, 0.2], [0.0, 0.0]))
        assert said.startswith("Random search covered nothing with its 2 trials.")

    @pytest.mark.parametrize(
        ("verdict", "ends"),
        [
            (
                "not resolved",
                "Not resolved: at equal numbers of networks the two are not told apart.",
            ),
            ("exploratory", "This is exploratory."),
        ],
    )
    def test_decide_nothing_where_the_comparison_does_not(
        self, summary: Summary, verdict: Verdict, ends: str
    ) -> None:
        said = self.second(summary, verdict, curves([0.1, 0.5], [0.2, 0.3]))
        fact = "After 2 trials the search covered what random search covered after 2."
        assert said == f"{fact} {ends}"

    def test_say_nothing_without_a_control(self, summary: Summary) -> None:
        assert told(summary, curves([0.1], [])) == []
        assert told(summary, None) == []


def written(folder: Path, spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, Any]:
    files = write_report(folder, spec, trials, search_id="01J", facts={EXTENT: FIXED.to_text()})
    whole = json.loads(files["history.json"].read_text())
    assert json.loads(files["pareto.json"].read_text())["history"] == {
        name: value for name, value in whole.items() if name not in ("format", "search_id")
    }
    found: dict[str, Any] = whole
    return found


def test_the_file_holds_curves_figures_and_words(
    tmp_path: Path, trials: list[Trial], summary: Summary, history: History
) -> None:
    found = written(tmp_path, SPEC, trials)
    assert history.random is not None
    assert (found["format"], found["search_id"]) == (1, "01J")
    assert found["search"] == list(history.search)
    assert found["random"] == {
        "as_run": list(history.random.as_run),
        "mean": list(history.random.mean),
        "deviation": list(history.random.deviation),
        "orders": 100,
    }
    ours, theirs = history.search[39], history.random.mean[39]
    assert found["at_equal_trials"] == {
        "n": 40,
        "search": ours,
        "random": theirs,
        "difference": ours - theirs,
    }
    reached = next((n for n, v in enumerate(history.search, 1) if v >= history.random.mean[-1]), 0)
    assert found["trials_to_reach_random"] == {
        "level": history.random.mean[-1],
        "search": reached or None,
        "random": 60,
    }
    assert found["words"] == told(summary, history)


def test_a_search_that_still_goes_on_has_the_curve_so_far(
    tmp_path: Path, trials: list[Trial], history: History
) -> None:
    found = written(tmp_path, SPEC, trials[:10])
    assert found["search"] == list(history.search[:10])
    assert found["random"] is found["at_equal_trials"] is found["trials_to_reach_random"] is None
    assert found["words"] == []
