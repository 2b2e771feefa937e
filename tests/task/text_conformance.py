"""What does every text task promise? Proved on one task by a subclass of `TextTaskConformance`."""

import math
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError

from nas import catalog
from nas.errors import SpecError
from nas.search.recipe import TrainingRecipe
from nas.search.stages import Evaluation
from nas.space.task_shape import TextShape
from nas.task.task import Batch
from nas.task.text_data import Sentences, TextData
from nas.task.text_task import TextTask

RECIPE = TrainingRecipe(batch_tokens=300)
FRAMEWORKS = ("torch", "tokenizers", "sacrebleu", "num2words", "fairseq")


def pairs_of(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Of each sentence pair the source, what the decoder takes, and what it should write."""
    inputs, (sources, longest) = batch.inputs, batch.inputs.target.shape
    assert batch.counts is not None
    labels = torch.full((sources * longest,), -1)
    labels[inputs.kept] = batch.labels
    return [
        (source[:n].tolist(), target[:m].tolist(), label[label >= 0].tolist())
        for source, n, target, m, label in zip(
            inputs.source,
            inputs.source_lengths,
            inputs.target,
            inputs.target_lengths,
            labels.view(sources, longest),
            strict=True,
        )
    ]


class TextTaskConformance:
    """A subclass sets `name` and gives the fixtures `options` and `root`, class-scoped."""

    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> TextTask:
        declared: TextTask = catalog.TASKS.load(cls.name)
        return declared

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, task: Any, options: BaseModel, root: Path) -> TextData:
        loaded: TextData = task.load(options, root)
        return loaded

    @pytest.fixture(scope="class")
    @classmethod
    def shape(cls, task: TextTask, options: BaseModel) -> TextShape:
        return task.shape(options)

    def test_the_declaration_loads_no_framework(self) -> None:
        check = (
            "import sys; from nas import catalog; "
            f"catalog.TASKS.load({self.name!r}).options_model.model_json_schema(); "
            f"print([m for m in {FRAMEWORKS} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr

    def test_metrics_have_direction_and_unit(self, task: TextTask) -> None:
        assert task.name == self.name
        declared = (*task.metrics, *task.generated)
        assert task.primary in [metric.name for metric in task.metrics]
        assert len({metric.name for metric in declared}) == len(declared)
        for metric in declared:
            assert metric.direction in {"minimize", "maximize"}
            assert metric.unit
            assert not metric.analytic

    def test_a_constant_guess_scores_as_it_is_told(self, task: TextTask, shape: TextShape) -> None:
        labels = torch.arange(6)
        scores = task.score(
            torch.zeros(6, shape.target_vocabulary), labels, torch.tensor([1, 3, 2])
        )
        assert task.summary(scores) == pytest.approx(task.uninformed(shape))
        assert scores.labels.tolist() == [1, 3, 2]

    def test_options_are_frozen_and_refuse_unknown_keys(
        self, task: TextTask, options: BaseModel
    ) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            options.max_length = 16  # type: ignore[attr-defined]
        given = options.model_dump(exclude_unset=True)
        assert task.options_model.model_validate(given) == options
        with pytest.raises(ValidationError, match="no_such_option"):
            task.options_model.model_validate(given | {"no_such_option": 1})

    def test_batches_have_the_declared_form(self, data: TextData, shape: TextShape) -> None:
        batches = [data.training_batch(step, RECIPE, 0) for step in range(5)]
        batches += list(data.batches(data.validation(), Evaluation(batch_tokens=500)))
        for batch in batches:
            inputs = batch.inputs
            for ids, lengths, vocabulary in (
                (inputs.source, inputs.source_lengths, shape.source_vocabulary),
                (inputs.target, inputs.target_lengths, shape.target_vocabulary),
            ):
                assert ids.dtype == lengths.dtype == torch.int64
                assert ids.shape == (len(batch.positions), int(lengths.max()))
                inside = torch.arange(ids.shape[1]) < lengths[:, None]
                assert torch.equal(ids != 1, inside)
                assert 0 <= int(ids.min()) <= int(ids.max()) < vocabulary
            assert batch.counts is inputs.target_lengths
            assert batch.labels.shape == inputs.kept.shape == (int(batch.counts.sum()),)
            assert torch.equal(inputs.kept, (inputs.target != 1).flatten().nonzero()[:, 0])
            assert torch.equal(inputs.target.flatten()[inputs.kept] == 0, self._starts(batch))
            for source, target, label in pairs_of(batch):
                assert source[-1] == label[-1] == 2
                assert target == [0, *label[:-1]]
                # No piece of a text is a mark.
                assert min([*source[:-1], *target[1:]], default=4) >= 4

    @staticmethod
    def _starts(batch: Batch) -> torch.Tensor:
        assert batch.counts is not None
        starts = torch.zeros(len(batch.labels), dtype=torch.bool)
        starts[batch.counts.cumsum(0) - batch.counts] = True
        return starts

    def test_the_ids_are_the_texts(self, data: TextData) -> None:
        for chosen in (data.validation(), data.test()):
            sources, references = data.sources(chosen), data.references(chosen)
            for batch in data.batches(chosen, Evaluation(batch_tokens=700)):
                for position, (source, _, label) in zip(
                    batch.positions.tolist(), pairs_of(batch), strict=True
                ):
                    assert data.pieces.source(source) == sources[position]
                    assert data.encode([sources[position]]) == [source]
                    assert data.decode(label) == references[position]

    def test_what_is_held_out_is_known_without_reading_it(
        self, task: Any, options: BaseModel, root: Path, data: TextData
    ) -> None:
        held_out = task.held_out(options, root)
        assert held_out == len(data.valid) == len(data.validation())

    def test_validation_is_a_prefix_of_one_order(self, data: TextData) -> None:
        everything = data.sources(data.validation())
        half = len(everything) // 2
        assert data.sources(data.validation(half)) == everything[:half]
        for wrong in (0, -1, len(everything) + 1):
            with pytest.raises(SpecError, match=rf"{wrong} given, 1 to {len(everything)} allowed"):
                data.validation(wrong)

    def test_every_example_is_evaluated_once(self, data: TextData) -> None:
        for chosen in (data.validation(), data.validation(7), data.test()):
            for tokens in (64, 700):
                batches = list(data.batches(chosen, Evaluation(batch_tokens=tokens)))
                seen = torch.cat([batch.positions for batch in batches])
                assert torch.equal(seen.sort()[0], torch.arange(len(chosen)))
                for batch in batches:
                    sides = (batch.inputs.source, batch.inputs.target)
                    assert max(map(torch.numel, sides)) <= tokens or len(batch.positions) == 1

    def test_an_epoch_has_every_pair_once_within_the_bound(self, data: TextData) -> None:
        count = self._batches(data)
        epochs = []
        for epoch in range(3):
            steps = range(epoch * count, (epoch + 1) * count)
            batches = [data.training_batch(step, RECIPE, 0) for step in steps]
            order = torch.cat([batch.positions for batch in batches])
            assert torch.equal(order.sort()[0], torch.arange(len(data.train)))
            for batch in batches:
                sides = (batch.inputs.source, batch.inputs.target)
                assert max(map(torch.numel, sides)) <= RECIPE.batch_tokens
            epochs.append(sorted(tuple(sorted(batch.positions.tolist())) for batch in batches))
        # Other batches at each, not only another order of them.
        assert all(one != other for one, other in pairwise(epochs))

    @staticmethod
    def _batches(data: TextData) -> int:
        """Batches an epoch: those before the first pair comes again."""
        seen: set[int] = set()
        step = 0
        while not seen & set(now := data.training_batch(step, RECIPE, 0).positions.tolist()):
            seen |= set(now)
            step += 1
        assert len(seen) == len(data.train)
        return step

    def test_a_training_batch_is_a_function_of_seed_and_step(self, data: TextData) -> None:
        batch = data.training_batch(7, RECIPE, 3)
        assert data.sources(Sentences(data.train.store, data.train.positions[batch.positions])) == [
            data.pieces.source(source) for source, _, _ in pairs_of(batch)
        ]
        data.training_batch(8, RECIPE, 3)
        assert_same(batch, data.training_batch(7, RECIPE, 3))
        for step, seed in ((8, 3), (7, 4)):
            other = data.training_batch(step, RECIPE, seed)
            assert batch.positions.tolist() != other.positions.tolist()

    def test_a_run_resumes_in_the_middle_of_an_epoch(
        self, task: Any, options: BaseModel, root: Path, data: TextData
    ) -> None:
        again: TextData = task.load(options, root)
        assert again.digest == data.digest
        middle = self._batches(data) * 3 // 2
        for step in (middle, middle + 1):
            assert_same(data.training_batch(step, RECIPE, 5), again.training_batch(step, RECIPE, 5))

    def test_every_declared_metric_is_measured(
        self, task: TextTask, data: TextData, shape: TextShape
    ) -> None:
        (batch, *_) = data.batches(data.validation(5), Evaluation(batch_tokens=8000))
        right = torch.nn.functional.one_hot(batch.labels, shape.target_vocabulary).float() * 50
        measured = task.summary(task.score(right, batch.labels, batch.counts))
        assert set(measured) == {metric.name for metric in task.metrics}
        broken = task.summary(task.score(right * math.nan, batch.labels, batch.counts))
        assert all(math.isnan(value) for value in broken.values())

    def test_true_translations_are_judged_best(self, task: TextTask, data: TextData) -> None:
        references = data.references(data.validation())
        best, signatures = task.judged(references, references)
        worse, _ = task.judged(["", *references[1:]], references)
        assert set(best) == set(signatures) == {metric.name for metric in task.generated}
        assert all(signatures.values())
        for metric in task.generated:
            assert best[metric.name] == pytest.approx(1 if metric.unit == "fraction" else 100)
            assert worse[metric.name] < best[metric.name]
        with pytest.raises(SpecError, match=f"{len(references) - 1} translations and"):
            task.judged(references[1:], references)

    def test_data_can_be_sent_to_another_process(self, data: TextData) -> None:
        sent: TextData = pickle.loads(pickle.dumps(data))
        assert sent.digest == data.digest
        assert_same(sent.training_batch(2, RECIPE, 1), data.training_batch(2, RECIPE, 1))
        assert sent.references(sent.test()) == data.references(data.test())
        assert sent.test().digest == data.test().digest
        sets = (data.train, data.valid, data.validation(), data.validation(1), data.test())
        # All that are held out, in their order, are the validation pairs.
        assert len({each.digest for each in sets}) == len(sets) - 1


def assert_same(one: Batch, other: Batch) -> None:
    for left, right in (
        (one.labels, other.labels),
        (one.positions, other.positions),
        *zip(one.inputs, other.inputs, strict=True),
    ):
        assert torch.equal(left, right)
