"""Do the report's figures agree with a plain recomputation, and does it keep quiet when it must?"""

import itertools
import math
import random
from dataclasses import replace

import pytest

from nas.cost.analytic import FLOPS, PARAMS
from nas.report.evidence import Comparison, Summary
from nas.report.summary import summarize
from nas.report.table import hypervolumes, table
from nas.report.words import brief, words
from nas.search.trial import Measurement, Trial
from tests.report.samples import SHAPE, confirmed, controls, full, request, searched, trial


def scored(trials: list[Trial], role: str) -> list[Trial]:
    return [each for each in trials if each.role == role and each.succeeded]


def point(each: Trial) -> tuple[float, float]:
    return each.metrics["cross_entropy"], each.metrics["flops"]


def dominates(left: tuple[float, float], right: tuple[float, float]) -> bool:
    return left != right and all(a <= b for a, b in zip(left, right, strict=True))


def area(points: list[tuple[float, float]], summary: Summary) -> float:
    """Normalised hypervolume by counting the cells of the grid that the points span."""
    assert summary.reference is not None
    assert summary.ideal is not None
    names = ("cross_entropy", "flops")
    low = [summary.ideal[name] for name in names]
    span = [summary.reference[name] - summary.ideal[name] for name in names]
    unit = [((x - low[0]) / span[0], (y - low[1]) / span[1]) for x, y in points]
    xs, ys = (sorted({each[axis] for each in unit} | {1.0}) for axis in (0, 1))
    return math.fsum(
        (right - left) * (top - bottom)
        for left, right in itertools.pairwise(xs)
        for bottom, top in itertools.pairwise(ys)
        if any(x <= left and y <= bottom for x, y in unit)
    )


def plain_tau(left: list[float], right: list[float]) -> float:
    """Tau-b by counting pairs."""

    def sign(value: float) -> int:
        return (value > 0) - (value < 0)

    pairs = list(itertools.combinations(range(len(left)), 2))
    one = [sign(left[i] - left[j]) for i, j in pairs]
    two = [sign(right[i] - right[j]) for i, j in pairs]
    norm = math.sqrt(sum(map(abs, one)) * sum(map(abs, two)))
    return sum(a * b for a, b in zip(one, two, strict=True)) / norm


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return full(request())


@pytest.fixture(scope="module")
def summary(trials: list[Trial]) -> Summary:
    return summarize(request(), trials)


def against(summary: Summary, control: str) -> Comparison:
    return next(each for each in summary.comparisons if each.control == control)


def test_front_is_the_brute_force_front_of_search_trials(
    trials: list[Trial], summary: Summary
) -> None:
    pool = scored(trials, "search")
    best = {each.index for each in pool if not any(dominates(point(o), point(each)) for o in pool)}
    assert {member.index for member in summary.front} == best
    losses = [member.metrics["cross_entropy"] for member in summary.front]
    assert losses == sorted(losses)


def test_dominated_members_are_counted(trials: list[Trial], summary: Summary) -> None:
    rivals = [point(each) for each in scored(trials, "random") + scored(trials, "homogeneous")]
    hit = sum(
        any(dominates(o, (m.metrics["cross_entropy"], m.metrics["flops"])) for o in rivals)
        for m in summary.front
    )
    assert summary.dominated_by_controls == hit


def test_a_dominated_member_names_the_controls_that_dominate_it(
    trials: list[Trial], summary: Summary
) -> None:
    for member in summary.front:
        own = member.metrics["cross_entropy"], member.metrics["flops"]
        assert member.dominated_by == tuple(
            f"{role} {each.index}"
            for role in ("random", "homogeneous")
            for each in scored(trials, role)
            if dominates(point(each), own)
        )


def test_dominated_members_are_marked_in_the_table() -> None:
    spec = request()
    pool = searched(spec, 30)
    worst = summarize(spec, pool).front[0]
    better = trial("random", 5, worst.architecture, noise=-0.2)
    found = summarize(spec, [*pool, better])
    assert found.front[0].dominated_by == ("random 5",)
    shown = table(found)
    marks = [row[0] for row in shown.rows]
    assert marks == [f"{i}{' *' * bool(m.dominated_by)}" for i, m in enumerate(found.front, 1)]
    assert "* a control dominates it" in shown.title
    assert "*" not in table(summarize(spec, pool)).title


def test_the_task_s_other_metrics_stand_beside_the_objectives(summary: Summary) -> None:
    assert [metric.name for metric in summary.further] == ["accuracy"]
    shown = table(summary)
    place = shown.columns.index("accuracy")
    for row, member in zip(shown.rows, summary.front, strict=True):
        assert float(row[place]) == pytest.approx(member.metrics["accuracy"], rel=1e-3)
    asked = request(objectives=("accuracy", "flops"))
    assert [metric.name for metric in summarize(asked, full(asked)).further] == ["cross_entropy"]
    pool = searched(request(), 30)
    last = summarize(request(), pool).front[-1].index
    metrics = {name: value for name, value in pool[last].metrics.items() if name != "accuracy"}
    pool[last] = replace(pool[last], measurement=Measurement.of(metrics))
    assert summarize(request(), pool).further == ()


def test_reference_is_the_worst_value_and_one_percent(
    trials: list[Trial], summary: Summary
) -> None:
    points = [point(each) for each in trials if each.succeeded]
    for axis, name in enumerate(("cross_entropy", "flops")):
        values = [each[axis] for each in points]
        assert summary.reference is not None
        worst = max(values) + 0.01 * (max(values) - min(values))
        assert summary.reference[name] == pytest.approx(worst, rel=1e-12)


def test_hypervolumes_are_compared_at_equal_n(trials: list[Trial], summary: Summary) -> None:
    found = scored(trials, "search")
    expected = {
        "random": min(len(found), len(scored(trials, "random"))),
        "homogeneous softmax": 24,
        "homogeneous cosformer": 24,
        "homogeneous linear": 24,
        "homogeneous, all types": 72,
    }
    assert {each.control: each.n for each in summary.comparisons} == expected
    for each in summary.comparisons:
        assert each.n <= min(each.search.scored, each.other.scored)
        for side in (each.search, each.other):
            assert (side.deviation is None) == (each.n == side.scored)


def test_whole_pools_have_the_brute_force_hypervolume(
    trials: list[Trial], summary: Summary
) -> None:
    softmax = [
        point(each)
        for each in scored(trials, "homogeneous")
        if each.architecture.single_attention == "softmax"
    ]
    mean = against(summary, "homogeneous softmax").other.mean
    assert mean == pytest.approx(area(softmax, summary), abs=1e-12)
    whole = [point(each) for each in scored(trials, "search")]
    at_all = against(summary, "random").search
    assert at_all.mean == pytest.approx(area(whole, summary), abs=1e-12)


def test_subsampled_mean_agrees_with_subsamples_drawn_here(
    trials: list[Trial], summary: Summary
) -> None:
    pool = [point(each) for each in scored(trials, "search")]
    rng = random.Random(5)
    drawn = [area(rng.sample(pool, 24), summary) for _ in range(150)]
    side = against(summary, "homogeneous linear").search
    assert side.deviation is not None
    # Five standard errors of the difference of the two averages.
    bound = 5 * side.deviation * math.sqrt(1 / 100 + 1 / 150)
    assert abs(side.mean - sum(drawn) / len(drawn)) < bound


def test_more_of_the_same_networks_do_not_cover_more() -> None:
    """The trap of unequal n: 200 random networks beat 24 of the same kind unless n is equal."""
    spec = request()
    pool = searched(spec, 200, improve=False)
    few = [replace(each, role="random") for each in searched(spec, 24, seed=1, improve=False)]
    found = against(summarize(spec, [*pool, *few]), "random")
    assert found.n == 24
    assert found.verdict == "not resolved"


def test_a_clear_gain_is_said() -> None:
    spec = request()
    few = [trial("random", i, each.architecture) for i, each in enumerate(searched(spec, 40))]
    better = [
        trial("search", i, each.architecture, noise=-0.3)
        for i, each in enumerate(searched(spec, 40, seed=3, improve=False))
    ]
    found = summarize(spec, [*better, *few])
    assert against(found, "random").verdict == "covers more"
    assert any(each.startswith("Against random the search covers more") for each in words(found))


def test_nothing_is_resolved_where_random_scores_are_noise() -> None:
    spec = request()
    noisy = summarize(spec, full(spec, error=0.05))
    assert noisy.resolution.resolved is False
    assert {each.verdict for each in noisy.comparisons} == {"not resolved"}
    assert any(each.startswith("Not resolved: the cross_entropy") for each in words(noisy))


@pytest.mark.parametrize(("spread", "resolved"), [(2.99, False), (3.0, True), (3.5, True)])
def test_resolution_needs_three_standard_errors(spread: float, resolved: bool) -> None:
    spec = request()
    architecture = spec.search_space.extreme("largest")
    # Two values a distance of sqrt(2) apart have a standard deviation of 1.
    pair = [
        Trial(
            "random",
            i,
            architecture,
            Measurement.of(
                {
                    "cross_entropy": i * math.sqrt(2) * spread,
                    "flops": 1.0,
                    "cross_entropy_paired_se": 1.0 - 1e-9,
                }
            ),
        )
        for i in range(2)
    ]
    found = summarize(spec, pair).resolution
    assert found.spread == pytest.approx(spread, rel=1e-9)
    assert found.resolved is resolved


def test_without_standard_errors_nothing_is_resolved() -> None:
    spec = request()
    bare = [
        replace(
            each,
            measurement=Measurement.of(
                {k: v for k, v in each.metrics.items() if not k.endswith("_paired_se")}
            ),
        )
        for each in searched(spec, 40) + controls(spec, 40, 8)
    ]
    found = summarize(spec, bare)
    assert found.resolution.resolved is None
    assert {each.verdict for each in found.comparisons} == {"not resolved"}


def test_rankers_are_taus_among_random_controls(trials: list[Trial], summary: Summary) -> None:
    held = scored(trials, "random")
    quality = [-each.metrics["cross_entropy"] for each in held]
    params = [float(PARAMS.of(each.architecture, SHAPE)) for each in held]
    depth = [float(each.architecture.depth) for each in held]
    expected = {
        "number of parameters": plain_tau(params, quality),
        "depth": plain_tau(depth, quality),
    }
    for ranker in summary.rankers:
        assert ranker.tau == pytest.approx(expected[ranker.name], abs=1e-12)


def test_matched_controls_are_the_best_at_no_more_flops(
    trials: list[Trial], summary: Summary
) -> None:
    pool = scored(trials, "homogeneous")
    assert any(member.matched for member in summary.front)
    for member in summary.front:
        for attention in ("softmax", "cosformer", "linear"):
            values = [
                each.metrics["cross_entropy"]
                for each in pool
                if each.architecture.single_attention == attention
                and FLOPS.of(each.architecture, SHAPE) <= (member.flops or 0)
            ]
            given = [each.value for each in member.matched if each.attention == attention]
            assert given == ([min(values)] if values else [])


def test_failures_are_counted_with_their_reasons(summary: Summary) -> None:
    search = summary.count("search")
    assert (search.succeeded, search.infeasible, search.failed) == (197, 2, 1)
    assert search.reasons == {"not finite": 2, "RuntimeError at loop.py:9: out of memory": 1}


def test_constraints_hold_on_the_front_and_breaches_are_counted(trials: list[Trial]) -> None:
    found = summarize(request(constraints=("flops <= 6e7",)), trials)
    assert found.front
    assert all(0 < (member.flops or 0) <= 6e7 for member in found.front)
    count = sum(each.metrics["flops"] > 6e7 for each in scored(trials, "search"))
    assert found.count("search").breaking_constraints == count > 0


def test_limits_chosen_after_the_run_leave_no_verdict() -> None:
    asked = request(constraints=("flops <= 6e7",))
    few = [trial("random", i, each.architecture) for i, each in enumerate(searched(asked, 40))]
    better = [
        trial("search", i, each.architecture, noise=-0.3)
        for i, each in enumerate(searched(asked, 40, seed=3, improve=False))
    ]
    before, after = (summarize(asked, [*better, *few], later) for later in ((), ["flops <= 6e7"]))
    assert against(before, "random").verdict == "covers more"
    assert {each.verdict for each in after.comparisons} == {"exploratory"}
    assert [replace(each, verdict="not resolved") for each in after.comparisons] == [
        replace(each, verdict="not resolved") for each in before.comparisons
    ]
    assert {row[-1] for row in hypervolumes(after.comparisons).rows} == {"exploratory"}
    said = words(after)
    assert any(
        each.startswith("Exploratory, as chosen after the run: flops <= 6e7") for each in said
    )
    assert any(each.startswith("Against random, exploratory: at n = ") for each in said)
    assert not any("covers more" in each or "covers less" in each for each in said)
    assert any("chosen after the run" in each for each in brief(after))
    assert not any("xploratory" in each for each in words(before))


def test_rivals_drawn_for_a_confirmation_change_no_comparison(
    trials: list[Trial], summary: Summary
) -> None:
    member = summary.front[0]
    rival = trial(
        "matched", 72, member.architecture, noise=-1, label=f"softmax@{member.architecture_id}"
    )
    after = summarize(request(), [*trials, rival])
    assert after.comparisons == summary.comparisons
    assert after.reference == summary.reference


def test_the_order_of_the_record_changes_nothing(trials: list[Trial], summary: Summary) -> None:
    shuffled = list(trials)
    random.Random(3).shuffle(shuffled)
    by_index = sorted(shuffled, key=lambda each: (each.role, each.index))
    assert summarize(request(), by_index).front == summary.front
    assert summarize(request(), shuffled).front == summary.front


def test_stand_alone_results_never_reach_the_front(trials: list[Trial], summary: Summary) -> None:
    member = summary.front[0].architecture
    more = confirmed([member], {"softmax": [0.1, 0.2], "linear": [0.1, 0.3]})
    after = summarize(request(), [*trials, *more])
    assert after.front == summary.front
    assert after.reference == summary.reference


@pytest.mark.parametrize("kept", ["none", "failed", "one", "no controls", "controls only"])
def test_little_is_said_plainly(kept: str) -> None:
    spec = request()
    failed = Trial("search", 0, spec.search_space.extreme("smallest"), Measurement.failed("broken"))
    given = {
        "none": [],
        "failed": [failed],
        "one": searched(spec, 1),
        "no controls": searched(spec, 30),
        "controls only": controls(spec, 10, 2),
    }[kept]
    found = summarize(spec, given)
    said = " ".join(words(found))
    assert bool(found.front) == (kept in ("one", "no controls"))
    assert ("There is no front" in said) == (not found.front)
    assert "Not resolved" in said


def test_a_supernet_at_chance_is_said_and_resolves_nothing() -> None:
    spec = request()
    blind = [
        replace(each, measurement=replace(each.measurement, metrics={**each.metrics, **worse}))
        for each in searched(spec, 60) + controls(spec, 60, 0)
        for worse in [{"cross_entropy": each.metrics["cross_entropy"] + math.log(10)}]
    ]
    found = summarize(spec, blind)
    assert found.learnt is False
    assert found.resolution.resolved is False
    assert {each.verdict for each in found.comparisons} == {"not resolved"}
    assert any("has not learnt" in sentence for sentence in brief(found))
    assert not any("can be told apart" in sentence for sentence in words(found))
    assert summarize(spec, searched(spec, 60)).learnt is True
    assert summarize(spec, []).learnt is None
