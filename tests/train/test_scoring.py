"""Are scores those of each example, and is the error of a paired difference what it should be?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas.model.supernet import Supernet
from nas.search.stages import Evaluation
from nas.task.image_classification import DIGITS, DigitsOptions
from nas.task.task import Batch, ImageData, Scores
from nas.train.scoring import paired_error, score
from nas.train.supernet import RankStability
from tests.task.digit_sentences import DIGIT_SENTENCES, SentenceData, plug
from tests.train.cases import request


@pytest.fixture(scope="module")
def sentences() -> SentenceData:
    return DIGIT_SENTENCES.load(DigitsOptions(), Path("nowhere"))


def answer(inputs: Tensor) -> Tensor:
    """Class scores of images, by no network: sums over the rows of pixels, and over columns."""
    return torch.cat([inputs.sum(2)[:, 0], inputs.sum(3)[:, 0, :2]], dim=1)


@pytest.mark.parametrize("batch_size", [360, 32, 1])
def test_scores_of_images_are_one_label_each(data: ImageData, batch_size: int) -> None:
    chosen = data.validation(90)
    found = score(DIGITS, answer, data, chosen, Evaluation(batch_size=batch_size))
    outputs = answer(data.normalise(chosen.images))
    want = functional.cross_entropy(outputs, chosen.labels, reduction="none")
    assert torch.equal(found.losses, want.double())
    assert torch.equal(found.correct, (outputs.argmax(1) == chosen.labels).long())
    assert torch.equal(found.labels, torch.ones(90, dtype=torch.int64))
    assert found.mean_loss == want.double().mean().item()


@pytest.mark.parametrize("batch_tokens", [8000, 40, 1])
def test_scores_of_sentences_are_sums_in_the_order_of_the_set(
    sentences: SentenceData, batch_tokens: int
) -> None:
    chosen = sentences.validation(50)
    evaluation = Evaluation(batch_tokens=batch_tokens)
    found = score(DIGIT_SENTENCES, answer, sentences, chosen, evaluation)
    for each, (row, length) in enumerate(zip(chosen.rows, chosen.lengths.tolist(), strict=True)):
        images, labels = chosen.images.images[row[:length]], chosen.images.labels[row[:length]]
        outputs = answer(sentences.digits.normalise(images))
        want = functional.cross_entropy(outputs.double(), labels, reduction="sum").item()
        assert found.losses[each].item() == pytest.approx(want, rel=1e-5)
        assert found.correct[each] == (outputs.argmax(1) == labels).sum()
        assert found.labels[each] == length
    assert (found.losses.dtype, found.correct.dtype) == (torch.float64, torch.int64)
    total = int(chosen.lengths.sum())
    assert found.mean_loss == pytest.approx(found.losses.sum().item() / total)
    assert DIGIT_SENTENCES.summary(found) == {
        "cross_entropy": found.mean_loss,
        "accuracy": found.correct.sum().item() / total,
    }


@pytest.mark.parametrize("fault", ["left out", "twice"])
def test_a_set_that_is_not_read_once_is_no_score(sentences: SentenceData, fault: str) -> None:
    @dataclass(frozen=True, eq=False)
    class Odd(SentenceData):
        def batches(self, *given: object) -> Iterator[Batch]:
            first, *rest = super().batches(*given)  # type: ignore[arg-type]
            yield from rest if fault == "left out" else (first, first, *rest)

    odd, evaluation = Odd(sentences.digits), Evaluation(batch_tokens=40)
    with pytest.raises(AssertionError, match="every example once"):
        score(DIGIT_SENTENCES, answer, odd, odd.validation(50), evaluation)


def test_the_ranking_that_stops_a_training_is_of_losses_a_label(
    sentences: SentenceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch)
    spec = request(
        {"batch_size": 64, "stability": {"subnets": 5}},
        {"batch_size": 64},
        task="digit_sentences",
        evaluation={"examples": 20},
    )
    supernet = Supernet(spec.search_space, spec.task_shape, "per_type", 3)
    watch, chosen = RankStability(spec, sentences), sentences.validation(20)
    seen, _ = watch.look(supernet, ())
    whole = chosen.batch(sentences.digits, torch.arange(20))
    for subnet, loss in zip(watch.subnets, seen["losses"], strict=True):
        outputs = supernet(whole.inputs, subnet)
        want = functional.cross_entropy(outputs, whole.labels).item()
        assert loss == pytest.approx(want, rel=1e-5)


# -- paired errors ---------------------------------------------------------------------------------


def scores(losses: np.ndarray, labels: np.ndarray) -> Scores:
    counts = torch.from_numpy(labels)
    return Scores(torch.from_numpy(losses), torch.zeros_like(counts), counts)


@pytest.mark.parametrize("count", [2, 3, 97, 5000])
def test_of_one_label_each_it_is_the_standard_error_of_a_mean(count: int) -> None:
    rng, ones = np.random.default_rng(count), np.ones(count, np.int64)
    one, other = rng.gamma(2, 1, count), rng.gamma(2, 1, count)
    found = paired_error(scores(one, ones), scores(other, ones))
    want = np.std(one - other, ddof=1) / math.sqrt(count)
    assert found == pytest.approx(want, rel=1e-12, abs=0)


@pytest.mark.parametrize("length", [2, 7])
def test_of_as_many_labels_each_it_is_that_over_their_number(length: int) -> None:
    rng, labels = np.random.default_rng(length), np.full(300, length)
    one, other = rng.gamma(2, 1, 300), rng.gamma(2, 1, 300)
    found = paired_error(scores(one, labels), scores(other, labels))
    want = np.std((one - other) / length, ddof=1) / math.sqrt(300)
    assert found == pytest.approx(want, rel=1e-12, abs=0)


def test_it_is_the_ratio_estimator_and_what_a_bootstrap_of_sentences_finds() -> None:
    rng, count = np.random.default_rng(0), 600
    labels = rng.integers(1, 41, count)
    # A sentence is hard as a whole, and long ones are harder: its labels are no draws of their own.
    hard = rng.normal(0.3 + 0.01 * labels, 0.4)
    difference = labels * hard + rng.normal(0, np.sqrt(labels))
    reference = rng.gamma(2.0, labels)
    found = paired_error(scores(reference + difference, labels), scores(reference, labels))

    mean = difference.sum() / labels.sum()
    residual = difference - mean * labels
    exact = math.sqrt((residual**2).sum() * count / (count - 1)) / labels.sum()
    assert found == pytest.approx(exact, rel=1e-12)

    draws = rng.integers(0, count, (20_000, count))
    means = difference[draws].sum(1) / labels[draws].sum(1)
    # 20,000 draws know it to half a percent; the linearisation is off by one part in `count`.
    assert found == pytest.approx(means.std(), rel=0.02)
    # The mean of each sentence's mean has another error, and so has the sum over sentences.
    for other in (difference / labels, difference / labels.mean()):
        assert abs(np.std(other, ddof=1) / math.sqrt(count) / found - 1) > 0.05


def test_of_a_single_example_nothing_is_known() -> None:
    one = scores(np.ones(1), np.ones(1, np.int64))
    assert math.isnan(paired_error(one, one))


def test_a_network_has_no_difference_from_itself() -> None:
    found = partial(scores, np.arange(5.0), np.arange(1, 6))
    assert paired_error(found(), found()) == 0
