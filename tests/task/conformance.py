"""What does every image task promise? Proved on one task by a subclass of `TaskConformance`."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ValidationError

from nas import catalog
from nas.errors import SpecError
from nas.search.recipe import Augmentation, TrainingRecipe
from nas.search.stages import Evaluation
from nas.space.task_shape import ImageShape
from nas.task.splits import batch_positions
from nas.task.task import ImageData, Task


def loaded(task: Task, options: BaseModel, root: Path) -> ImageData:
    """The data of a task of images."""
    data = task.load(options, root)
    assert isinstance(data, ImageData)
    return data


class TaskConformance:
    """A subclass sets `name` and gives the fixtures `options` and `root`, class-scoped."""

    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        declared: Task = catalog.TASKS.load(cls.name)
        return declared

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, task: Task, options: BaseModel, root: Path) -> ImageData:
        return loaded(task, options, root)

    def test_the_declaration_loads_no_framework(self) -> None:
        check = (
            "import sys; from nas import catalog; "
            f"catalog.TASKS.load({self.name!r}).options_model.model_json_schema(); "
            "print([m for m in ('torch', 'torchvision', 'sklearn', 'PIL') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr

    def test_metrics_have_direction_and_unit(self, task: Task) -> None:
        assert (task.name, task.unit) == (self.name, "images")
        names = [metric.name for metric in task.metrics]
        assert task.primary in names
        assert len(set(names)) == len(names)
        for metric in task.metrics:
            assert metric.direction in {"minimize", "maximize"}
            assert metric.unit
            assert not metric.analytic

    def test_a_constant_guess_scores_as_it_is_told(
        self, task: Task, options: BaseModel, data: ImageData
    ) -> None:
        shape = task.shape(options)
        assert isinstance(shape, ImageShape)
        told = task.uninformed(shape)
        assert task.primary in told
        # One image of each class: the constant guess on classes as frequent as each other.
        labels = torch.arange(shape.classes)
        scores = task.score(torch.zeros(shape.classes, shape.classes), labels)
        assert task.summary(scores) == pytest.approx(told)
        assert len(data.classes) == shape.classes

    def test_options_are_frozen_and_refuse_unknown_keys(
        self, task: Task, options: BaseModel
    ) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            options.side = 16  # type: ignore[attr-defined]
        given = options.model_dump(exclude_unset=True)
        assert task.options_model.model_validate(given) == options
        with pytest.raises(ValidationError, match="no_such_option"):
            task.options_model.model_validate(given | {"no_such_option": 1})

    def test_the_data_have_the_declared_shape(
        self, task: Task, options: BaseModel, data: ImageData
    ) -> None:
        shape = task.shape(options)
        assert isinstance(shape, ImageShape)
        for part in (data.train, data.valid, data.test()):
            assert part.images.shape == (len(part), shape.channels, shape.side, shape.side)
            assert part.images.dtype == torch.uint8
            assert part.labels.shape == (len(part),)
            assert part.labels.dtype == torch.int64
            assert set(part.labels.tolist()) <= set(range(shape.classes))
        assert len(data.classes) == shape.classes
        assert set(data.train.labels.tolist()) == set(range(shape.classes))

    def test_what_is_held_out_is_known_without_reading_it(
        self, task: Task, options: BaseModel, root: Path, data: ImageData
    ) -> None:
        assert task.held_out(options, root) == len(data.valid)

    def test_loading_again_gives_the_same(
        self, task: Task, options: BaseModel, root: Path, data: ImageData
    ) -> None:
        again = loaded(task, options, root)
        assert again.digest == data.digest
        for one, other in ((again.train, data.train), (again.valid, data.valid)):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
        assert torch.equal(again.test().images, data.test().images)
        assert again.test().digest == data.test().digest
        sets = (data.train, data.valid, data.test(), data.validation(1))
        assert len({each.digest for each in sets}) == len(sets)

    def test_another_seed_moves_validation_and_leaves_the_test_images(
        self, task: Task, options: BaseModel, root: Path, data: ImageData
    ) -> None:
        other = loaded(task, options.model_copy(update={"split_seed": 1}), root)
        assert other.digest != data.digest
        assert len(other.valid) == len(data.valid)
        assert torch.equal(other.test().images, data.test().images)

    def test_statistics_are_of_the_training_images(self, data: ImageData) -> None:
        for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
            levels = data.train.images[:, channel].double().div_(255)
            torch.testing.assert_close(mean, levels.mean().float())
            torch.testing.assert_close(std, levels.std(correction=0).float())

    def test_validation_is_a_prefix_of_one_order(self, data: ImageData) -> None:
        everything = data.validation()
        assert len(everything) == len(data.valid)
        part = data.validation(len(data.valid) // 2)
        assert torch.equal(part.images, everything.images[: len(part)])
        for wrong in (0, -1, len(data.valid) + 1):
            with pytest.raises(SpecError, match=rf"evaluation\.examples: {wrong} given, 1 to"):
                data.validation(wrong)

    def test_a_training_batch_is_a_function_of_seed_and_step(self, data: ImageData) -> None:
        augmentation = Augmentation(crop_padding=1, randaugment_layers=1)
        recipe = TrainingRecipe(batch_size=12, augmentation=augmentation)
        batch = data.training_batch(7, recipe, 3)
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.shape == (12, *data.train.images.shape[1:])
        assert torch.equal(batch.positions, batch_positions(len(data.train), 7, 12, 3))
        assert torch.equal(batch.labels, data.train.labels[batch.positions])
        assert batch.counts is None
        unchanged = data.normalise(data.train.images[batch.positions])
        assert not torch.equal(batch.inputs, unchanged)
        data.training_batch(8, recipe, 3)
        assert torch.equal(batch.inputs, data.training_batch(7, recipe, 3).inputs)
        for step, seed in ((8, 3), (7, 4)):
            assert not torch.equal(batch.inputs, data.training_batch(step, recipe, seed).inputs)

    def test_an_unchanged_batch_is_the_normalised_images(self, data: ImageData) -> None:
        batch = data.training_batch(0, TrainingRecipe(batch_size=12), 0)
        chosen = data.train.images[batch.positions]
        assert torch.equal(batch.inputs, data.normalise(chosen))

    @pytest.mark.parametrize("size", [7, 30, 1000])
    def test_batches_hold_every_image_once(self, data: ImageData, size: int) -> None:
        chosen = data.validation(min(30, len(data.valid)))
        batches = list(data.batches(chosen, Evaluation(batch_size=size)))
        assert [len(batch.labels) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert all(batch.counts is None for batch in batches)
        inputs, labels, positions = (
            torch.cat(each) for each in zip(*(batch[:3] for batch in batches), strict=True)
        )
        order = positions.argsort()
        assert torch.equal(positions[order], torch.arange(len(chosen)))
        assert torch.equal(inputs[order], data.normalise(chosen.images))
        assert torch.equal(labels[order], chosen.labels)

    def test_every_declared_metric_is_measured(self, task: Task, data: ImageData) -> None:
        part = data.validation(10)
        right = torch.nn.functional.one_hot(part.labels, len(data.classes)).float() * 50
        measured = task.summary(task.score(right, part.labels))
        assert set(measured) == {metric.name for metric in task.metrics}
        broken = task.summary(task.score(right * math.nan, part.labels))
        assert all(math.isnan(value) for value in broken.values())

    def test_data_can_be_sent_to_another_process(self, data: ImageData) -> None:
        sent: ImageData = pickle.loads(pickle.dumps(data))
        assert sent.digest == data.digest
        assert torch.equal(sent.test().images, data.test().images)
