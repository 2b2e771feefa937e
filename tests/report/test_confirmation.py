"""Is mixing said to win only where stand-alone training shows it against every attention type?"""

import itertools
import math
from collections.abc import Sequence

import pytest
from scipy import stats

from nas.operators.declaration import Choice
from nas.report.evidence import Confirmation
from nas.report.statistics import STUDENT, interval_of_mean
from nas.report.summary import summarize
from nas.report.table import alone
from nas.report.words import words
from nas.search.rank_correlation import CONFIDENCE, kendall_interval
from nas.search.spec import SearchSpec
from nas.search.stages import Confirmation as ConfirmationRecipe
from nas.search.trial import Measurement, Standing, Trial
from nas.space.architecture import Architecture
from tests.report.samples import confirmed, request, searched, trial

CLEAR, UNCLEAR, WORSE = [-0.030, -0.031, -0.032], [-0.03, 0.02, -0.01], [0.04, 0.041, 0.042]


def loose(**changes: object) -> SearchSpec:
    """Any ratio of FLOPs counts as matched: these rivals only change the attention type."""
    return request(confirmation={"seeds": 3, "flops_tolerance": 0.5, **changes})


def mixed(spec: SearchSpec) -> Architecture:
    """Half softmax, half linear: of all types alone, the FLOPs are within half of its own."""
    return spec.search_space.extreme("smallest", Choice("softmax"), Choice("linear"))


def found(spec: SearchSpec, trials: Sequence[Trial]) -> Confirmation:
    confirmation = summarize(spec, trials).confirmation
    assert confirmation is not None
    return confirmation


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ({"softmax": CLEAR, "cosformer": CLEAR, "linear": CLEAR}, "mixing wins"),
        ({"softmax": CLEAR, "cosformer": CLEAR, "linear": UNCLEAR}, "not resolved"),
        ({"softmax": CLEAR, "cosformer": CLEAR}, "not resolved"),
        ({"softmax": WORSE, "cosformer": CLEAR, "linear": CLEAR}, "softmax wins here"),
        (
            {"softmax": WORSE, "cosformer": WORSE, "linear": UNCLEAR},
            "softmax and cosformer win here",
        ),
        ({"softmax": CLEAR[:1], "cosformer": CLEAR[:1], "linear": CLEAR[:1]}, "not resolved"),
    ],
    ids=["all beaten", "one unclear", "one missing", "one better", "two better", "one seed"],
)
def test_verdict_needs_every_type(gaps: dict[str, list[float]], verdict: str) -> None:
    spec = loose()
    trials = confirmed([mixed(spec)], gaps)
    assert all(each.matched for each in found(spec, trials).members[0].contrasts)
    (member,) = found(spec, trials).members
    assert member.verdict == verdict
    decided = {"mixing wins": "member", "not resolved": None}
    assert member.better == decided.get(verdict, "rival")


def test_a_homogeneous_member_is_no_win_of_mixing() -> None:
    spec = loose()
    member = spec.search_space.extreme("smallest", Choice("softmax"))
    gaps = {"softmax": CLEAR, "cosformer": CLEAR, "linear": CLEAR}
    trials = confirmed([member], gaps)
    judged = found(spec, trials).members[0]
    assert judged.attention == "softmax"
    assert {each.attention: each.verdict for each in judged.contrasts} == {
        "cosformer": "softmax wins here",
        "linear": "softmax wins here",
    }
    assert judged.verdict == "softmax wins here"
    said = [each for each in words(summarize(spec, trials)) if "never decide" not in each]
    assert not any("mixing wins" in each.lower() for each in said)


def test_unmatched_flops_decide_nothing() -> None:
    spec = loose(flops_tolerance=0.001)
    member = mixed(spec)
    trials = confirmed([member], {"softmax": CLEAR, "cosformer": CLEAR, "linear": CLEAR})
    judged = found(spec, trials).members[0]
    assert not any(each.matched for each in judged.contrasts)
    assert judged.verdict == "not resolved"
    assert any("FLOPs are not matched" in each for each in words(summarize(spec, trials)))


def test_differences_are_paired_by_seed_on_the_test_images() -> None:
    spec = loose()
    trials = confirmed([mixed(spec)], {"cosformer": [-0.01, -0.03, -0.02]})
    contrast = found(spec, trials).members[0].contrasts[0]
    first = contrast.differences[0]
    assert first.metric == "test_cross_entropy"
    # Student's 97.5% quantile with two degrees of freedom is 4.3026527.
    half = 4.302652729911275 * 0.01 / math.sqrt(3)
    assert first.estimate.mean == pytest.approx(-0.02, abs=1e-12)
    assert first.estimate.low == pytest.approx(-0.02 - half, abs=1e-9)
    assert first.estimate.high == pytest.approx(-0.02 + half, abs=1e-9)
    assert first.estimate.n == 3


def test_results_of_members_and_rivals_are_means_over_their_own_seeds() -> None:
    spec = loose()
    member = mixed(spec)
    # The member is trained with three seeds to test losses 1.00, 1.01 and 1.02, the rival with two.
    trials = confirmed([member], {"cosformer": [-0.01, -0.03], "linear": [0.4, 0.4, 0.4]})
    summary = summarize(spec, trials)
    judged = found(spec, trials).members[0]
    cosformer, _ = judged.contrasts
    own, rival = judged.values["test_cross_entropy"], cosformer.values["test_cross_entropy"]
    assert (own.n, rival.n) == (3, 2)
    assert own.mean == pytest.approx(1.01)
    assert rival.mean == pytest.approx((1.01 + 1.04) / 2)
    expected = stats.t.interval(CONFIDENCE, 2, loc=1.01, scale=stats.sem([1.0, 1.01, 1.02]))
    assert (own.low, own.high) == pytest.approx(expected)
    shown = alone(summary)
    assert shown.columns[-2:] == ("test_cross_entropy", "test_accuracy")
    assert [row[1] for row in shown.rows] == ["member, mixed", "all cosformer", "all linear"]
    assert [row[2] for row in shown.rows] == [
        judged.architecture_id,
        *(each.architecture_id for each in judged.contrasts),
    ]
    assert [row[4] for row in shown.rows] == ["3", "2", "3"]
    assert shown.rows[0][5] == f"1.0100 [{own.low:.4f}, {own.high:.4f}]"
    assert shown.rows[1][5].startswith("1.0250 [")


def test_intervals_are_student_s_for_every_count_of_seeds() -> None:
    most = ConfirmationRecipe.model_json_schema()["properties"]["seeds"]["maximum"]
    assert len(STUDENT) == most - 1
    for n in range(2, most + 1):
        values = [math.sin(place) for place in range(n)]
        mean, error = math.fsum(values) / n, stats.sem(values)
        estimate = interval_of_mean(values)
        expected = stats.t.interval(CONFIDENCE, n - 1, loc=mean, scale=error)
        assert (estimate.low, estimate.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_seed_of_one_side_only_is_left_out() -> None:
    spec = loose()
    trials = confirmed([mixed(spec)], {"cosformer": [-0.01, -0.03], "linear": CLEAR})
    estimates = {
        each.attention: each.differences[0].estimate
        for each in found(spec, trials).members[0].contrasts
    }
    assert estimates["cosformer"].n == 2
    assert estimates["linear"].n == 3


def test_validation_decides_where_no_test_result_is_there() -> None:
    spec = loose()
    trials = [
        Trial(
            each.role,
            each.index,
            each.architecture,
            Measurement.of({k: v for k, v in each.metrics.items() if not k.startswith("test_")}),
            each.label,
        )
        for each in confirmed([mixed(spec)], {"linear": CLEAR})
    ]
    assert found(spec, trials).metric == "cross_entropy"


def test_failed_trainings_are_no_result() -> None:
    spec = loose()
    member = mixed(spec)
    label = Standing(member.id, None, 0).label()
    trials = [Trial("confirmed", 0, member, Measurement.failed("killed"), label)]
    summary = summarize(spec, trials)
    assert summary.confirmation is None
    assert any("no front member was trained to the end" in each for each in words(summary))


@pytest.mark.parametrize("label", ["", "softmax seed 1", '{"kind": "member"}', "[]"])
def test_a_label_of_another_form_is_named(label: str) -> None:
    spec = loose()
    broken = trial("confirmed", 4, mixed(spec), label=label)
    with pytest.raises(ValueError, match="confirmed/4"):
        summarize(spec, [broken])


def test_fidelity_compares_supernet_with_stand_alone() -> None:
    spec = loose()
    found_trials = searched(spec, 6, improve=False)
    members = [each.architecture for each in found_trials]
    trials = [*found_trials, *confirmed(members, {"softmax": CLEAR})]
    # Rivals that no supernet scored take no part.
    fidelity = found(spec, trials).fidelity
    assert fidelity is not None
    alone = [1 + 0.1 * place for place in range(6)]
    scores = [each.metrics["cross_entropy"] for each in found_trials]
    pairs = sum(
        1 if (scores[i] - scores[j]) * (alone[i] - alone[j]) > 0 else -1
        for i in range(6)
        for j in range(i)
    )
    assert fidelity.n == 6
    assert fidelity.tau == pytest.approx(pairs / 15)
    assert fidelity.low is not None
    assert fidelity.high is not None
    assert -1 <= fidelity.low <= fidelity.high <= 1


def test_few_networks_give_no_tau() -> None:
    spec = loose()
    found_trials = searched(spec, 3, improve=False)
    members = [each.architecture for each in found_trials]
    trials = [*found_trials, *confirmed(members, {"softmax": CLEAR})]
    assert found(spec, trials).fidelity is None
    assert any("no tau" in each for each in words(summarize(spec, trials)))


def test_statistics_know_what_they_do_not_know() -> None:
    assert kendall_interval([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert interval_of_mean([0.5]).low is None
    assert interval_of_mean([0.5, 0.5]).low is None
    interval = kendall_interval(range(30), range(30))
    assert interval == pytest.approx((1.0, 1.0))


def test_what_networks_write_is_reported_beside_the_loss() -> None:
    spec = request(
        task="multi30k_en_de",
        space="multi30k_small",
        objectives=["loss", "flops"],
        confirmation={"seeds": 2, "flops_tolerance": 0.5},
    )
    linear = spec.search_space.extreme("smallest", Choice("linear"))
    member = linear.replace_attention(Choice("softmax"), Choice("linear"))
    trials = list[Trial]()
    for seed, (attention, network) in itertools.product(
        range(2), ((None, member), ("linear", linear))
    ):
        rival = attention is not None
        metrics = {
            "flops": 1e6,
            "loss": 2.0,
            "perplexity": 7.4,
            "test_loss": 1.5 + 0.5 * rival + 0.01 * seed,
            "test_perplexity": 4.5 + 3 * rival,
            "test_bleu": 31.0 - 10 * rival + 0.1 * seed,
            "test_chrf": 55.0 - 8 * rival,
        }
        label = Standing(member.id, attention, seed).label()
        trials.append(Trial("confirmed", len(trials), network, Measurement.of(metrics, 60), label))
    summary = summarize(spec, trials)
    (told,) = found(spec, trials).members
    assert list(told.values) == ["test_loss", "test_bleu", "test_chrf", "test_perplexity"]
    assert told.values["test_bleu"].mean == pytest.approx(31.05)
    (contrast,) = told.contrasts
    differences = {each.metric: each.estimate.mean for each in contrast.differences}
    assert differences == pytest.approx(
        {"test_loss": -0.5, "test_perplexity": -3.0, "test_bleu": 10.0, "test_chrf": 8.0}
    )
    # The loss decides, whatever the words.
    assert contrast.better == "member"
    assert alone(summary).columns[-4:] == tuple(told.values)
