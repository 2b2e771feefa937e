"""What is a network for? A task names its metrics and shapes, and gives labelled examples."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel

from nas.errors import SpecError
from nas.search.objective import Metric
from nas.space.task_shape import TaskShape
from nas.task.splits import batch_positions, keyed_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nas.search.recipe import TrainingRecipe, Unit
    from nas.search.stages import Evaluation


def data_root() -> Path:
    """The folder that holds data sets: `NAS_DATA_DIR`, else `data` in the working folder."""
    return Path(os.environ.get("NAS_DATA_DIR") or "data")


class Batch(NamedTuple):
    """Examples as a network takes them, and what it should answer."""

    inputs: Any
    """Images (B, C, S, S) float32, or what else the networks of the task take."""
    labels: Tensor
    """(N,) int64 class indices: one an image, or one a token of each true target, in order."""
    positions: Tensor
    """(B,) int64 on the CPU: which examples of their set these are."""
    counts: Tensor | None = None
    """(B,) int64: how many of the labels are each example's; None: one each."""


class Scores(NamedTuple):
    """Example by example, for paired errors: each (E,), in the order of their set."""

    losses: Tensor
    """float64 nats, summed over the example's labels."""
    correct: Tensor
    """int64: labels that were rated highest."""
    labels: Tensor
    """int64: how many there are."""

    @property
    def mean_loss(self) -> float:
        """Nats a label: each label weighs the same, a long example more than a short one."""
        return float(self.losses.sum() / self.labels.sum())


def score_labels(outputs: Tensor, labels: Tensor, counts: Tensor | None = None) -> Scores:
    """Cross-entropy in nats and top-1 hits of logits (N, classes) against labels (N,).

    `counts` (E,) says how many labels in a row are each example's; None: one each.
    """
    import torch
    from torch.nn.functional import cross_entropy

    losses = cross_entropy(outputs.float(), labels, reduction="none").double()
    correct = outputs.argmax(dim=1) == labels
    if counts is None:
        return Scores(losses, correct.long(), torch.ones_like(labels))
    counts = counts.to(labels.device)
    # One after the other: a sum is the same whatever examples stand beside it.
    losses, hits = (
        torch.segment_reduce(each, "sum", lengths=counts) for each in (losses, correct.double())
    )
    return Scores(losses, hits.long(), counts)


class Examples(Protocol):
    """A set of a task's examples, which its data alone can read."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def digest(self) -> str:
        """Tells these examples from any others."""


class Data(Protocol):
    """What a task learns from and is scored on; the test split is read only by `test()`."""

    @property
    def digest(self) -> str:
        """Tells these examples and their split from any others."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many of the training examples are left out, by reason."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What a trained network needs of the data to be used, as JSON values: pieces, classes."""

    def to(self, device: torch.device | str, /) -> Data:
        """The same, whose batches lie on another device."""

    def training_batch(self, step: int, recipe: TrainingRecipe, seed: int, /) -> Batch:
        """A step's examples, changed as the recipe says: pure in (step, recipe, seed)."""

    def validation(self, examples: int | None = None, /) -> Examples:
        """The first `examples` that are held out (None: all), the same for every candidate.

        Raises:
            SpecError: if more are wanted than are held out.
        """

    def test(self) -> Examples:
        """The test split: for networks whose training has ended, never for a choice between any."""

    def batches(self, chosen: Any, evaluation: Evaluation, /) -> Iterator[Batch]:
        """Every example of such a set once, unchanged, in any order."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """`images` (N, C, S, S) uint8 and `labels` (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of shape, images and labels."""
        content = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for each in (self.images, self.labels):
            content.update(each.cpu().contiguous().numpy().data)
        return content.hexdigest()[:16]

    def to(self, device: torch.device | str) -> LabelledImages:
        """The same on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """A task's images in memory; the test split is read only by who asks for it by `test()`.

    `valid` stands in a fixed order whose every prefix has the classes in proportion. `mean` and
    `std` (C,) float32 are of the training images alone, in units of 255 grey levels, a std of 0
    replaced by one level. `digest` tells these images, classes and split from any others.
    """

    train: LabelledImages
    valid: LabelledImages
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    digest: str
    read_test: Callable[[], LabelledImages]

    def to(self, device: torch.device | str) -> ImageData:
        """The same on another device, but for the test images, which go there batch by batch."""
        train, valid = self.train.to(device), self.valid.to(device)
        mean, std = self.mean.to(device), self.std.to(device)
        return ImageData(train, valid, self.classes, mean, std, self.digest, self.read_test)

    @property
    def skipped(self) -> Mapping[str, int]:
        """None: every image is learnt from."""
        return {}

    @property
    def about(self) -> Mapping[str, Any]:
        """Names of the classes, mean and std."""
        mean, std = self.mean.tolist(), self.std.tolist()
        return {"classes": list(self.classes), "mean": mean, "std": std}

    def training_batch(self, step: int, recipe: TrainingRecipe, seed: int, /) -> Batch:
        """`recipe.batch_size` images, augmented and normalised; no state: a resumed run agrees."""
        import torch

        from nas.task.augmentation import augment

        positions = batch_positions(len(self.train), step, recipe.batch_size, seed)
        there = positions.to(self.train.labels.device)
        generator = torch.Generator().manual_seed(keyed_seed("augment", seed, step))
        images = augment(self.train.images[there], recipe.augmentation, generator)
        return Batch(self.normalise(images), self.train.labels[there], positions)

    def batches(self, chosen: LabelledImages, evaluation: Evaluation, /) -> Iterator[Batch]:
        """`chosen` in its order, normalised, `evaluation.batch_size` at a time."""
        import torch

        size = evaluation.batch_size
        for start in range(0, len(chosen), size):
            images, labels = (
                each[start : start + size].to(self.mean.device)
                for each in (chosen.images, chosen.labels)
            )
            positions = torch.arange(start, start + len(labels))
            yield Batch(self.normalise(images), labels, positions)

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S) uint8 as float32 with this data's mean and std."""
        from nas.task.augmentation import normalise

        return normalise(images, self.mean.to(images.device), self.std.to(images.device))

    def validation(self, examples: int | None = None, /) -> LabelledImages:
        """The first `examples` of the held-out images (None: all), the same for every candidate.

        Raises:
            SpecError: if more are wanted than are held out.
        """
        count = scored_on(examples, len(self.valid))
        return LabelledImages(self.valid.images[:count], self.valid.labels[:count])

    def test(self) -> LabelledImages:
        """The test split: for networks whose training has ended, never for a choice between any."""
        return self.read_test()


def scored_on(examples: int | None, held_out: int) -> int:
    """How many of the held-out examples candidates are scored on: `examples`, None for all.

    Raises:
        SpecError: if more are wanted than are held out.
    """
    count = held_out if examples is None else examples
    if not 1 <= count <= held_out:
        raise SpecError(
            f"evaluation.examples: {examples} given, 1 to {held_out} allowed: as many are held "
            "out for validation"
        )
    return count


class Task(Protocol):
    """One entry of the catalog's tasks: a declaration, importable and checkable without torch."""

    @property
    def name(self) -> str:
        """The catalog's name."""

    @property
    def unit(self) -> Unit:
        """What an example is; it says which keys of a recipe the task takes."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that `summary` gives, with direction and unit."""

    @property
    def generated(self) -> tuple[Metric, ...]:
        """What `judged` gives of texts that a network wrote; none where it gives one answer.

        Where there are any, the data are `TranslationData`.
        """

    @property
    def primary(self) -> str:
        """The metric to rank by when none is named."""

    def uninformed(self, shape: Any, /) -> dict[str, float]:
        """What the best constant guess scores when all classes are as frequent, by metric."""

    @property
    def options_model(self) -> type[BaseModel]:
        """Frozen pydantic model of the options; unknown keys are refused."""

    def flips_safe(self, options: Any, /) -> bool:
        """Whether a mirrored image keeps its class under these options."""

    def resolved(self, options: Any, /) -> Any:
        """The options with what only the data can say (class names), so that a recorded request
        is read without them; raises `DataError` where they must be read and cannot be."""

    def shape(self, options: Any, /) -> TaskShape:
        """What sizes and costs need; options that are not `resolved` may raise `DataError`."""

    def load(self, options: Any, root: Path, /) -> Data:
        """Reads the data under a data root; raises `DataError` for missing or broken files and
        `SpecError` for a split that these data do not allow."""

    def held_out(self, options: Any, root: Path, /) -> int:
        """How many examples `load` holds out for validation; nothing is decoded to know it.

        Raises as `load` does for files that are missing and a split that they do not allow.
        """

    def prepare(self, options: Any, root: Path, /) -> str:
        """Brings the data under the root if it can and says what it did; raises `DataError`
        naming the folder and the files that it wants."""

    def score(self, outputs: Tensor, labels: Tensor, counts: Tensor | None = None, /) -> Scores:
        """Example by example: outputs (N, classes) of a network against the labels of a batch."""

    def summary(self, scores: Scores, /) -> dict[str, float]:
        """Every metric of `metrics` of scored examples."""

    def judged(
        self, written: Sequence[str], references: Sequence[str], /
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Every metric of `generated`, and by what each was computed (a signature)."""
