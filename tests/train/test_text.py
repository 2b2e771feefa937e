"""Do networks of sentence pairs learn, resume and come back from disk as those of images do?"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nas import catalog
from nas.errors import CheckpointError, SpecError
from nas.model.supernet import Supernet
from nas.search.spec import SearchSpec
from nas.search.stages import Evaluation
from nas.task.numbers import NUMBERS_EN_DE
from nas.task.task import Batch, ImageData
from nas.task.text_data import TextData
from nas.train import distillation, loop
from nas.train.loop import Progress
from nas.train.sampling import Schedule
from nas.train.scoring import score
from nas.train.standalone import load_model, standalone_file, train_standalone
from nas.train.supernet import Subnets, supernet_file, train_supernet
from tests.task.small_numbers import request, small_data, smallest
from tests.train import cases
from tests.train.cases import finish, leave_at_save

DROPPED = {"dropout": 0.2}
SPEC = request(
    {**DROPPED, "sampling": "sandwich", "random_subnets": 1, "distill_after": 3}, DROPPED
)


@pytest.fixture(scope="module")
def data() -> TextData:
    return small_data(SPEC)


def run_of(kind: str, spec: SearchSpec, data: TextData, folder: Path) -> Iterator[Progress]:
    if kind == "supernet":
        return train_supernet(spec, data, folder, "cpu")
    return train_standalone(smallest(spec), spec, data, seed=3, folder=folder, device="cpu")


def file_of(kind: str, spec: SearchSpec, folder: Path) -> Path:
    name = standalone_file(folder, smallest(spec), 3)
    return supernet_file(folder) if kind == "supernet" else name


def curve(reports: list[Progress]) -> dict[int, float]:
    return {report.step: report.loss for report in reports}


# -- dropout and resuming --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["supernet", "standalone"])
def test_a_run_left_between_checkpoints_goes_on_bit_by_bit(
    kind: str, data: TextData, tmp_path: Path
) -> None:
    whole = finish(run_of(kind, SPEC, data, tmp_path / "whole"))
    cut = run_of(kind, SPEC, data, tmp_path / "cut")
    left = next(report for report in cut if report.step == 20)
    assert not left.saved
    cut.close()  # type: ignore[attr-defined]
    # Another draw than the first attempt's would follow from the global generator.
    torch.manual_seed(99)
    rest = finish(run_of(kind, SPEC, small_data(SPEC), tmp_path / "cut"))
    assert curve(rest) == {step: curve(whole)[step] for step in (20, 30)}
    one, other = (load_file(file_of(kind, SPEC, tmp_path / each)) for each in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_nobody_else_s_random_numbers_change(
    data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a CPU no GPU's generator is anybody's business.
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("a GPU's"))
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state(legacy=True)
    finish(run_of("standalone", SPEC, data, tmp_path))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(numpy.random.get_state(legacy=True)) == str(before[2])


def still(
    data: TextData, monkeypatch: pytest.MonkeyPatch, folder: Path, **recipe: Any
) -> list[float]:
    """Losses step by step of one batch and weights that hardly move."""
    spec = request(standalone={"steps": 6, "learning_rate": 1e-30, **recipe})
    batch = data.training_batch(0, spec.standalone, 0)
    monkeypatch.setattr(TextData, "training_batch", lambda *_: batch)
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    reports = finish(run_of("standalone", spec, data, folder))
    return [report.loss for report in reports]


def test_each_step_draws_its_own_dropout(
    data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = still(data, monkeypatch, tmp_path / "without")
    assert len(without) == 6
    assert len(set(without)) == 1
    assert len({*still(data, monkeypatch, tmp_path / "with", dropout=0.3), *without}) == 7


# -- batches and scores ----------------------------------------------------------------------------


def test_a_step_takes_so_many_tokens(data: TextData, tmp_path: Path) -> None:
    seen: list[tuple[torch.Size, torch.Size]] = []

    class Watching(TextData):
        def training_batch(self, *given: Any) -> Batch:
            batch = super().training_batch(*given)
            seen.append((batch.inputs.source.shape, batch.inputs.target.shape))
            return batch

        def to(self, _device: Any) -> "Watching":
            return self

    fields = {name: getattr(data, name) for name in TextData.__dataclass_fields__}
    watching = Watching(**{**fields, "_buckets": {}})
    for tokens in (300, 600):
        seen.clear()
        spec = request(standalone={"steps": 12, "batch_tokens": tokens})
        finish(run_of("standalone", spec, watching, tmp_path / str(tokens)))
        most = [max(source.numel(), target.numel()) for source, target in seen]
        assert len(seen) == 12
        assert max(most) <= tokens
        assert sum(most) > 0.6 * 12 * tokens
    short = request(standalone={"batch_tokens": 5})
    with pytest.raises(SpecError, match=r"batch_tokens: 5 given, at least \d+ allowed"):
        finish(run_of("standalone", short, data, tmp_path / "short"))


def test_a_loss_is_the_same_alone_and_in_any_batch(data: TextData) -> None:
    supernet = Supernet(SPEC.search_space, SPEC.task_shape, "per_type", 3).eval()
    for end in ("smallest", "largest"):
        chosen, network = data.validation(30), SPEC.search_space.extreme(end)
        alone, some, all_ = (
            score(
                NUMBERS_EN_DE,
                lambda inputs, network=network: supernet(inputs, network),
                data,
                chosen,
                Evaluation(batch_tokens=tokens),
            )
            for tokens in (1, 100, 8000)
        )
        for other in (some, all_):
            # Another padding is another order of float32 sums.
            assert torch.allclose(alone.losses, other.losses, rtol=1e-5, atol=0)
            assert torch.equal(alone.labels, other.labels)
            assert torch.equal(alone.correct, other.correct)


# -- the sandwich ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 3])
def test_the_others_of_a_sandwich_distil_from_the_largest(step: int, data: TextData) -> None:
    space, recipe = SPEC.search_space, SPEC.supernet
    supernet = Supernet(space, SPEC.task_shape, "per_type", 3)
    batch = data.training_batch(step, recipe, 0)
    schedule = Schedule(space, recipe, SPEC.seed)
    losses = list(Subnets(schedule, recipe)(step, supernet, batch))
    nets = [each.architecture for each in schedule.at(step)]
    scores = [supernet(batch.inputs, each) for each in nets]
    assert scores[0].shape == (len(batch.labels), SPEC.task_shape.target_vocabulary)  # type: ignore[union-attr]
    smoothed = [
        torch.nn.functional.cross_entropy(each, batch.labels, label_smoothing=0.1)
        for each in scores
    ]
    distilled = [distillation.distillation(each, scores[0]) for each in scores]
    want = smoothed if step < 3 else [smoothed[0], *distilled[1:]]
    assert len(losses) == 3
    assert torch.allclose(torch.stack(losses), torch.stack(want))
    # What a student learns moves no weight that the teacher alone has.
    losses[1].backward()  # type: ignore[no-untyped-call]
    trained = {name for name, each in supernet.named_parameters() if each.grad is not None}
    alone = Supernet(space, SPEC.task_shape, "per_type", 3)
    alone(batch.inputs, nets[1]).sum().backward()
    assert trained == {name for name, each in alone.named_parameters() if each.grad is not None}


# -- networks on their own -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(data: TextData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights after a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    spec = request(standalone={**DROPPED, "steps": 5})
    finish(run_of("standalone", spec, data, folder))
    return file_of("standalone", spec, folder)


def test_a_file_says_what_its_network_is_for(trained: Path, data: TextData) -> None:
    model = load_model(trained)
    assert (model.task.name, dict(model.task.options)) == (SPEC.task.name, SPEC.task.options)
    assert model.data == data.about == data.pieces.to_json()
    assert not model.network.training
    assert model.network.architecture == smallest(SPEC)
    weights = load_file(trained)
    for name, each in model.network.named_parameters():
        assert torch.equal(each, weights[f"weight/{name}"])


def test_a_network_of_images_says_it_too(tmp_path: Path) -> None:
    spec = cases.request(standalone={"steps": 3})
    architecture = spec.search_space.extreme("smallest")
    task = catalog.TASKS.load("digits")
    images: ImageData = task.load(task.options_model(), Path("nowhere"))
    finish(train_standalone(architecture, spec, images, seed=0, folder=tmp_path, device="cpu"))
    model = load_model(standalone_file(tmp_path, architecture, 0))
    assert model.task.name == "digits"
    assert model.data["classes"] == list(images.classes)
    assert model.data["mean"] == pytest.approx(images.mean.tolist())
    assert model.network.architecture == architecture


def refused(file: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model(file)
    for word in (str(file), *words):
        assert word in str(caught.value)


def test_what_is_no_trained_network_is_refused(
    data: TextData, trained: Path, tmp_path: Path
) -> None:
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, "no such file")
    foreign = tmp_path / "foreign"
    foreign.write_text("hello")
    refused(foreign, "not readable as a checkpoint", "give a network trained alone")
    others = tmp_path / "others.safetensors"
    save_file({"weight": torch.zeros(3)}, others)
    refused(others, "not readable as a checkpoint")
    short = request({"steps": 2}, {"steps": 20})
    finish(train_supernet(short, data, tmp_path, "cpu"))
    refused(supernet_file(tmp_path), "no network trained alone")
    leave_at_save(run_of("standalone", short, data, tmp_path))
    refused(file_of("standalone", short, tmp_path), "stands at step 17")
    assert trained.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("architecture"),
        lambda about: about.pop("task"),
        lambda about: about.pop("data"),
        lambda about: about.update(architecture={"kind": "robot"}),
        lambda about: about.update(task={"name": "no_such_task"}),
        lambda about: about.update(task=7),
        lambda about: about.update(data=7),
        lambda about: about["task"]["options"].update(vocabulary=301),
    ],
)
def test_a_file_that_says_something_odd_is_refused(
    change: Any, trained: Path, tmp_path: Path
) -> None:
    with safe_open(trained, framework="pt") as opened:
        described = json.loads(opened.metadata()["etnas"])
    change(described["about"])
    odd = tmp_path / "odd.safetensors"
    save_file(load_file(trained), odd, {"etnas": json.dumps(described)})
    refused(odd)
