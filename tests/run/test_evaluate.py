"""One proposal's measurement against direct computations, and what becomes of everything wrong."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.cost.cost import exact_costs
from nas.cost.machine import machine
from nas.cost.span import spans
from nas.run.evaluate import Evaluator, Setup, train
from nas.search.extent import EXTENT, fixed_extent
from nas.search.spec import SearchSpec
from nas.search.trial import Proposal, Standing
from nas.task.image_classification import DigitsOptions
from nas.task.task import ImageData
from nas.train.standalone import load_standalone
from nas.train.supernet import load_supernet
from tests.run.cases import request
from tests.task.digit_sentences import DIGIT_SENTENCES, SentenceData, Sentences, plug

SPEC = request()
SPACE = SPEC.search_space
COST = exact_costs(SPEC.task_shape)
LARGEST = SPACE.extreme("largest")
SMALLEST = SPACE.extreme("smallest")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("evaluate")
    made = Setup.of(SPEC, folder / "supernet", folder / "standalone", folder / "data")
    assert list(train(made))[-1].step == SPEC.supernet.steps
    return made


def test_what_histories_are_normalised_in_is_fixed_once_and_never_by_a_confirmation(
    setup: Setup,
) -> None:
    def told(**changes: Any) -> str | None:
        return next(train(replace(setup, **changes))).facts.get(EXTENT)

    fixed = fixed_extent(SPEC, spans(SPEC))
    assert fixed is not None
    assert told() == fixed.to_text()
    assert told(extent="as it was") == told(extent="as it was", testing=True) == "as it was"
    assert told(testing=True) is None


@pytest.fixture
def evaluator(setup: Setup) -> Evaluator:
    return Evaluator(setup)


@pytest.fixture(scope="module")
def data() -> ImageData:
    task = catalog.TASKS.load("digits")
    loaded: ImageData = task.load(task.options_model(), Path("nowhere"))
    return loaded


@pytest.mark.parametrize("architecture", [SMALLEST, LARGEST], ids=["smallest", "largest"])
def test_a_slice_is_scored_as_a_direct_computation_does(
    setup: Setup, evaluator: Evaluator, data: ImageData, architecture: object
) -> None:
    assert isinstance(architecture, type(SMALLEST))
    found = evaluator(Proposal("search", 0, architecture))
    supernet = load_supernet(SPEC, setup.supernet_on(data.digest), "cpu")
    chosen = data.validation(60)
    images, labels = chosen.images, chosen.labels
    losses = []
    with torch.inference_mode():
        for each in (architecture, LARGEST):
            scores = supernet(data.normalise(images), each).double()
            losses.append(functional.cross_entropy(scores, labels, reduction="none").numpy())
            if each == architecture:
                accuracy = float((scores.argmax(1) == labels).double().mean())
    difference = losses[0] - losses[1]
    expected = {
        **COST(architecture),
        "cross_entropy": losses[0].mean(),
        "accuracy": accuracy,
        "cross_entropy_paired_se": np.std(difference, ddof=1) / math.sqrt(60),
    }
    assert found.state == "succeeded"
    # As many digits as float32 scores have.
    assert dict(found.metrics) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert found.seconds > 0


def test_the_same_proposal_gives_the_same_metrics_bit_by_bit(setup: Setup) -> None:
    wanted = [Proposal("search", i, each) for i, each in enumerate((LARGEST, SMALLEST))]
    one, other = Evaluator(setup), Evaluator(setup)
    forward = [one(each).metrics for each in wanted]
    assert forward == [other(each).metrics for each in wanted[::-1]][::-1]


def test_torch_has_the_threads_of_the_cores_that_are_asked_for(tmp_path: Path) -> None:
    spec = request(executor={"name": "local", "cores": 2, "training_cores": 3})
    training = train(Setup.of(spec, tmp_path, tmp_path, tmp_path))
    next(training)
    assert torch.get_num_threads() == 3
    training.close()
    Evaluator(Setup.of(spec, tmp_path, tmp_path, tmp_path))
    assert torch.get_num_threads() == 2


def test_what_raises_is_a_failure_with_its_place(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_architecture: object) -> dict[str, float]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(evaluator, "_sliced", broken)
    found = evaluator(Proposal("search", 0, SMALLEST))
    assert (found.state, dict(found.metrics)) == ("failed", {})
    assert found.reason.startswith("RuntimeError at test_evaluate.py:")
    assert found.reason.endswith(": out of memory")


def test_a_loss_that_is_not_a_number_is_infeasible(evaluator: Evaluator) -> None:
    with torch.no_grad():
        for parameter in evaluator.supernet.parameters():
            parameter.fill_(math.nan)
    found = evaluator(Proposal("search", 0, SMALLEST))
    assert found.state == "infeasible"
    assert found.reason.startswith("not finite: ")
    assert "cross_entropy" in found.reason
    assert found.metrics["flops"] == COST(SMALLEST)["flops"]
    assert "cross_entropy" not in found.metrics


def test_a_broken_analytic_constraint_is_found_before_any_forward_pass(tmp_path: Path) -> None:
    least = COST(SMALLEST)["flops"]
    spec = request(constraints=[f"flops <= {least}", "accuracy >= 0.1"])
    # There is no supernet that could be asked.
    evaluator = Evaluator(Setup.of(spec, tmp_path / "none", tmp_path / "none", tmp_path))
    found = evaluator(Proposal("search", 0, LARGEST))
    assert (found.state, found.reason) == (
        "infeasible",
        f"constraint not met: {spec.parsed_constraints[0]}",
    )
    assert dict(found.metrics) == COST(LARGEST)
    assert evaluator(Proposal("search", 1, SMALLEST)).state == "failed"


def test_latency_is_measured_where_it_is_asked_for(setup: Setup, evaluator: Evaluator) -> None:
    plain = evaluator(Proposal("search", 0, SMALLEST))
    assert "latency_ms" not in plain.metrics
    assert set(plain.provenance) == {"evaluation"}
    spec = request(
        objectives=["cross_entropy", "latency_ms"], latency={"repetitions": 3, "warmup": 1}
    )
    timing = Evaluator(replace(setup, spec=json.dumps(spec.to_json())))
    found = timing(Proposal("search", 0, SMALLEST))
    assert found.metrics["latency_ms"] > 0
    assert found.metrics["latency_spread_ms"] >= 0
    assert found.provenance == dict.fromkeys(
        ("latency_ms", "evaluation"), machine(torch.device("cpu"))
    )
    bounded = request(constraints=["latency_ms <= 1e-9"], latency={"repetitions": 1})
    timing = Evaluator(replace(setup, spec=json.dumps(bounded.to_json())))
    # Measured, so that it is known how far away it is; the front leaves it out.
    assert timing(Proposal("search", 0, SMALLEST)).metrics["latency_ms"] > 1e-9


def test_a_network_trained_alone(setup: Setup, evaluator: Evaluator, data: ImageData) -> None:
    label = Standing(SMALLEST.id, None, 1).label()
    found = evaluator(Proposal("confirmed", 0, SMALLEST, label))
    assert found.state == "succeeded", found.reason
    network = load_standalone(SMALLEST, SPEC, seed=1, folder=setup.standalone, device="cpu")
    for prefix, chosen in (("", data.validation()), ("test_", data.test())):
        with torch.inference_mode():
            scores = network(data.normalise(chosen.images)).double()
        loss = float(functional.cross_entropy(scores, chosen.labels))
        assert found.metrics[f"{prefix}cross_entropy"] == pytest.approx(loss, rel=1e-5)
        hits = float((scores.argmax(1) == chosen.labels).double().mean())
        assert found.metrics[f"{prefix}accuracy"] == pytest.approx(hits)
    assert evaluator(Proposal("confirmed", 0, SMALLEST, label)).metrics == found.metrics
    other = label.replace('"seed": 1', '"seed": 2')
    assert evaluator(Proposal("confirmed", 1, SMALLEST, other)).metrics != found.metrics


def test_training_that_diverges_is_infeasible(setup: Setup, tmp_path: Path) -> None:
    recipe = {"steps": 20, "batch_size": 16, "warmup_steps": 0, "learning_rate": 1e30}
    spec = request(standalone={**recipe, "precision": "float32"})
    given = replace(setup, spec=json.dumps(spec.to_json()), standalone=tmp_path)
    label = Standing(SMALLEST.id, None, 0).label()
    found = Evaluator(given)(Proposal("confirmed", 0, SMALLEST, label))
    assert found.state == "infeasible"
    assert "learning_rate" in found.reason


# -- examples of several labels --------------------------------------------------------------------


def sentences(**changes: Any) -> SearchSpec:
    recipe = {"steps": 20, "batch_tokens": 200, "warmup_steps": 5, "checkpoint_every": 10}
    return request(
        task="digit_sentences",
        supernet=recipe,
        standalone=recipe,
        evaluation={"examples": 40, "batch_tokens": 50},
        **changes,
    )


def losses_of(network: Callable[[Tensor], Tensor], data: SentenceData, chosen: Sentences) -> Tensor:
    """Summed losses (E,) in nats, one sentence after the other."""
    found = []
    for each in range(len(chosen)):
        batch = chosen.batch(data.digits, torch.tensor([each]))
        scores = network(batch.inputs).double()
        found.append(functional.cross_entropy(scores, batch.labels, reduction="sum"))
    return torch.stack(found)


def test_sentences_are_scored_by_their_labels_and_paired_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch)
    spec = sentences()
    made = Setup.of(spec, tmp_path / "supernet", tmp_path / "standalone", tmp_path)
    assert list(train(made))[-1].step == 20
    found = Evaluator(made)(Proposal("search", 0, SMALLEST))
    assert found.state == "succeeded", found.reason
    data = DIGIT_SENTENCES.load(DigitsOptions(), tmp_path)
    supernet = load_supernet(spec, made.supernet_on(data.digest), "cpu")
    chosen = data.validation(40)
    with torch.inference_mode():
        one, largest = (
            losses_of(partial(supernet, architecture=each), data, chosen)
            for each in (SMALLEST, LARGEST)
        )
    labels = chosen.lengths.double()
    assert len(set(labels.tolist())) > 3
    difference = one - largest
    residual = difference - difference.sum() / labels.sum() * labels
    error = (residual.square().sum() * 40 / 39).sqrt() / labels.sum()
    assert found.metrics["cross_entropy"] == pytest.approx(float(one.sum() / labels.sum()))
    assert found.metrics["cross_entropy_paired_se"] == pytest.approx(float(error), rel=1e-4)

    alone = Evaluator(made)(
        Proposal("confirmed", 0, SMALLEST, Standing(SMALLEST.id, None, 1).label())
    )
    assert alone.state == "succeeded", alone.reason
    network = load_standalone(SMALLEST, spec, seed=1, folder=made.standalone, device="cpu")
    for prefix, examples in (("", data.validation()), ("test_", data.test())):
        with torch.inference_mode():
            loss = losses_of(network, data, examples).sum() / examples.lengths.sum()
        assert alone.metrics[f"{prefix}cross_entropy"] == pytest.approx(float(loss), rel=1e-5)
