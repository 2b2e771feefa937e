"""Does the shared network learn its subnets, each by its own gradient and nothing else?"""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.model.supernet import Supernet
from nas.operators.declaration import Choice
from nas.search.recipe import TrainingRecipe
from nas.search.spec import SearchSpec
from nas.search.stages import Evaluation
from nas.space.architecture import Architecture
from nas.task.task import ImageData
from nas.train import checkpoint, precision
from nas.train.distillation import distillation, first_step
from nas.train.sampling import Schedule
from nas.train.scoring import score
from nas.train.supernet import (
    Subnets,
    load_supernet,
    supernet_file,
    train_supernet,
)
from tests.train.cases import SPACE, finish, leave_at_save, request


def built(spec: SearchSpec) -> Supernet:
    return Supernet(spec.search_space, spec.task_shape, spec.supernet.sharing, spec.seed)


def gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("distilling", [False, True])
def test_a_sandwich_s_gradient_is_the_sum_of_its_nets_own(
    distilling: bool, data: ImageData
) -> None:
    spec = request({"sampling": "sandwich", "distill_after": 0 if distilling else 10})
    supernet, batch = built(spec), data.training_batch(0, spec.supernet, spec.seed)
    images, labels = batch.inputs, batch.labels
    schedule = Schedule(spec.search_space, spec.supernet, spec.seed)
    losses = Subnets(schedule, spec.supernet)
    for loss in losses(0, supernet, batch):
        loss.backward()  # type: ignore[no-untyped-call]
    together = gradients(supernet)

    apart: dict[str, Tensor] = {}
    nets = schedule.at(0)
    with torch.no_grad():
        target = supernet(images, nets[0].architecture).softmax(-1)
    for net in nets:
        supernet.zero_grad()
        scores = supernet(images, net.architecture)
        if distilling and net.role != "largest":
            # The soft-label cross-entropy has the gradient of the KL divergence.
            own = functional.cross_entropy(scores, target)
        else:
            own = functional.cross_entropy(scores, labels, label_smoothing=0.1)
        own.backward()  # type: ignore[no-untyped-call]
        for name, each in gradients(supernet).items():
            apart[name] = apart[name] + each if name in apart else each
    assert together.keys() == apart.keys()
    for name, each in together.items():
        torch.testing.assert_close(each, apart[name], rtol=1e-4, atol=1e-6)


def test_distillation_is_the_divergence_and_leaves_the_teacher_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(6, 4, generator=generator, requires_grad=True) for _ in range(2)
    )
    loss = distillation(student, teacher)
    p, q = teacher.detach().double().softmax(-1), student.detach().double().softmax(-1)
    assert loss.item() == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, ((q - p) / 6).float())
    assert distillation(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_distillation_starts_after_the_warm_up_unless_said_otherwise() -> None:
    assert first_step(request({"warmup_steps": 7}).supernet) == 7
    assert first_step(request({"warmup_steps": 7, "distill_after": 0}).supernet) == 0


def test_what_is_not_sampled_is_not_changed(data: ImageData, tmp_path: Path) -> None:
    # A balanced block of two types: after the first step of each layer, only one has been trained.
    spec = request({"steps": 1, "weight_decay": 0.5, "warmup_steps": 0, "learning_rate": 0.01})
    before = dict(built(spec).named_parameters())
    finish(train_supernet(spec, data, tmp_path, "cpu"))
    after = dict(load_supernet(spec, tmp_path, "cpu").named_parameters())
    drawn = Schedule(spec.search_space, spec.supernet, spec.seed).at(0)[0].architecture
    own = {f"layers.{i}.attention." + str(x.attention) for i, x in enumerate(drawn.layers)}
    sites = [name for name in after if ".attention." in name]
    assert sites
    for name in sites:
        path, _, rest = name.rpartition(".")
        trained = f"{path}.{rest.split('@')[1]}" in own
        if not trained:
            assert torch.equal(before[name], after[name]), name
        elif "_weight" in rest:
            assert not torch.equal(before[name], after[name]), name


def test_moments_do_not_move_what_a_later_step_leaves_out(data: ImageData, tmp_path: Path) -> None:
    saved: list[dict[str, Tensor]] = []
    spec = request({"steps": 40, "checkpoint_every": 1, "weight_decay": 0.5})
    space = spec.search_space
    for report in train_supernet(spec, data, tmp_path, "cpu"):
        if report.step < 40:
            saved.append(checkpoint.read(supernet_file(tmp_path), {})[0])
    schedule = Schedule(space, spec.supernet, spec.seed)
    left_out = 0
    for step in range(1, 39):
        first = schedule.at(step)[0].architecture.layers[0].attention
        (other,) = set(space.sites[0][0]) - {first}
        key = f"layers.0.attention.q_weight@{other}"
        assert torch.equal(saved[step - 1][f"weight/{key}"], saved[step][f"weight/{key}"])
        if f"exp_avg/{key}" in saved[step - 1]:
            left_out += 1
            assert torch.equal(saved[step - 1][f"exp_avg/{key}"], saved[step][f"exp_avg/{key}"])
    assert left_out > 10


@pytest.mark.parametrize(
    ("sampling", "steps"),
    [("uniform", 500), ("fair", 250), pytest.param("sandwich", 250, marks=pytest.mark.slow)],
)
def test_random_subnets_learn(sampling: str, steps: int, data: ImageData, tmp_path: Path) -> None:
    recipe = {"sampling": sampling, "steps": steps, "batch_size": 32, "learning_rate": 1e-2}
    timing = {"warmup_steps": 40, "distill_after": 150, "checkpoint_every": 1000}
    spec = request({**recipe, **timing}, space={**SPACE, "patch_size": [2]})
    finish(train_supernet(spec, data, tmp_path, "cpu"))
    supernet = load_supernet(spec, tmp_path, "cpu")
    rng = random.Random(1)
    accuracies = [accuracy(supernet, spec.search_space.sample(rng), data) for _ in range(8)]
    # Ten classes: chance is 0.1; an accuracy on 360 images has a standard error of 0.025.
    assert min(accuracies) > 0.6, accuracies


def accuracy(supernet: Supernet, architecture: Architecture, data: ImageData) -> float:
    task = catalog.TASKS.load("digits")
    scores = score(
        task,
        lambda images: supernet(images, architecture),
        data,
        data.validation(),
        Evaluation(),
    )
    return float(task.summary(scores)["accuracy"])


# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "native", "params", "expected"),
    [
        ("auto", True, 500_000, "bfloat16"),
        ("auto", True, 499_999, "float32"),
        ("auto", False, 10**8, "float32"),
        ("float32", True, 10**8, "float32"),
        ("bfloat16", False, 10, "bfloat16"),
    ],
)
def test_precision_goes_by_the_rule(
    asked: str, native: bool, params: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: native)
    recipe = TrainingRecipe.model_validate({"precision": asked})
    assert precision.precision_for(recipe, params, "cpu") == expected


def test_the_recorded_precision_is_kept_on_another_machine(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, explicit = request(), request({"precision": "bfloat16"})
    monkeypatch.setattr(precision, "LEAST_CPU_PARAMS", 1)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    leave_at_save(train_supernet(asked, data, tmp_path / "auto", "cpu"))
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    finish(train_supernet(asked, data, tmp_path / "auto", "cpu"))
    finish(train_supernet(explicit, data, tmp_path / "explicit", "cpu"))
    state = checkpoint.read_state(supernet_file(tmp_path / "auto"), {})
    assert (state.precision, state.complete) == ("bfloat16", True)
    weights = [load_supernet(asked, tmp_path / "auto", "cpu").state_dict()]
    weights.append(load_supernet(explicit, tmp_path / "explicit", "cpu").state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # And it is bfloat16 indeed: float32 learns other weights.
    plain = request({"precision": "float32"})
    finish(train_supernet(plain, data, tmp_path / "plain", "cpu"))
    other = load_supernet(plain, tmp_path / "plain", "cpu").state_dict()
    assert not all(torch.equal(weights[0][name], other[name]) for name in other)


# -- stopping --------------------------------------------------------------------------------------


def test_training_stops_when_the_ranking_stays(data: ImageData, tmp_path: Path) -> None:
    # Next to no learning: every scoring finds the same order.
    stability = {"every": 10, "subnets": 6, "threshold": 0.9, "patience": 2}
    spec = request({"steps": 200, "learning_rate": 1e-9, "stability": stability})
    reports = finish(train_supernet(spec, data, tmp_path, "cpu"))
    assert reports[-1].step == 30
    assert "ranking is stable: Kendall tau 1.000, 1.000 >= 0.9" in reports[-1].stopped
    assert not any(report.stopped for report in reports[:-1])
    state = checkpoint.read_state(supernet_file(tmp_path), {})
    assert [each["tau"] for each in state.history] == [None, 1.0, 1.0]
    assert state.complete
    assert finish(train_supernet(spec, data, tmp_path, "cpu")) == reports[-1:]
    load_supernet(spec, tmp_path, "cpu")


def test_the_history_of_rankings_survives_a_resume(data: ImageData, tmp_path: Path) -> None:
    stability = {"every": 5, "subnets": 8, "threshold": 1.0, "patience": 6}
    spec = request({"learning_rate": 0.01, "stability": stability})
    finish(train_supernet(spec, data, tmp_path / "whole", "cpu"))
    leave_at_save(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    finish(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    whole, cut = (
        checkpoint.read_state(supernet_file(tmp_path / each), {}) for each in ("whole", "cut")
    )
    assert len(whole.history) == 6
    assert whole.history == cut.history
    # Looking changes nothing of what is learnt.
    blind = request({"learning_rate": 0.01})
    finish(train_supernet(blind, data, tmp_path / "blind", "cpu"))
    one = load_supernet(spec, tmp_path / "whole", "cpu").state_dict()
    other = load_supernet(blind, tmp_path / "blind", "cpu").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_type_s_slice_is_trained_wherever_it_stands(data: ImageData, tmp_path: Path) -> None:
    spec = request({"sampling": "fair", "steps": 4})
    before = dict(built(spec).named_parameters())
    finish(train_supernet(spec, data, tmp_path, "cpu"))
    after = dict(load_supernet(spec, tmp_path, "cpu").named_parameters())
    for attention in (Choice("softmax"), Choice("cosformer")):
        name = f"layers.0.attention.v_weight@{attention}"
        assert not torch.equal(before[name], after[name])
