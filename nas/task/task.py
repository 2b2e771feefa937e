"""What is a network for? A task names its metrics and shapes, and gives labelled images."""

from __future__ import annotations

import os
from collections.abc import Callable
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

    from nas.search.recipe import Augmentation


def data_root() -> Path:
    """The folder that holds data sets: `NAS_DATA_DIR`, else `data` in the working folder."""
    return Path(os.environ.get("NAS_DATA_DIR") or "data")


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """`images` (N, C, S, S) uint8 and `labels` (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

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
        """The same with training and validation images, mean and std on another device."""
        train, valid = self.train.to(device), self.valid.to(device)
        mean, std = self.mean.to(device), self.std.to(device)
        return ImageData(train, valid, self.classes, mean, std, self.digest, self.read_test)

    def batch(self, step: int, batch_size: int, seed: int) -> Tensor:
        """Positions (batch_size,) int64 in `train` at a step: no state, so a resumed run agrees."""
        return batch_positions(len(self.train), step, batch_size, seed)

    def training_batch(
        self, step: int, batch_size: int, seed: int, augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        """Augmented, normalised (B, C, S, S) float32 and labels (B,): pure in (seed, step)."""
        import torch

        from nas.task.augmentation import augment

        positions = self.batch(step, batch_size, seed).to(self.train.labels.device)
        generator = torch.Generator().manual_seed(keyed_seed("augment", seed, step))
        images = augment(self.train.images[positions], augmentation, generator)
        return self.normalise(images), self.train.labels[positions]

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S) uint8 as float32 with this data's mean and std."""
        from nas.task.augmentation import normalise

        return normalise(images, self.mean.to(images.device), self.std.to(images.device))

    def validation(self, images: int | None = None) -> LabelledImages:
        """The first `images` held-out images (None: all), the same for every candidate.

        Raises:
            SpecError: if more are wanted than are held out.
        """
        count = scored_on(images, len(self.valid))
        return LabelledImages(self.valid.images[:count], self.valid.labels[:count])

    def test(self) -> LabelledImages:
        """The test split: for networks whose training has ended, never for a choice between any."""
        return self.read_test()


def scored_on(images: int | None, held_out: int) -> int:
    """How many of the held-out images candidates are scored on: `images`, None for all.

    Raises:
        SpecError: if more are wanted than are held out.
    """
    count = held_out if images is None else images
    if not 1 <= count <= held_out:
        raise SpecError(
            f"evaluation.images: {images} given, 1 to {held_out} allowed: as many are held out "
            "for validation"
        )
    return count


class Scores(NamedTuple):
    """Image by image, for paired errors: `losses` (N,) float32 in nats, `correct` (N,) bool."""

    losses: Tensor
    correct: Tensor


class Task(Protocol):
    """One entry of the catalog's tasks: a declaration, importable and checkable without torch."""

    @property
    def name(self) -> str:
        """The catalog's name."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that `summary` gives, with direction and unit."""

    @property
    def primary(self) -> str:
        """The metric to rank by when none is named."""

    def uninformed(self, shape: TaskShape, /) -> dict[str, float]:
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
        """Side, channels and classes; options that are not `resolved` may raise `DataError`."""

    def load(self, options: Any, root: Path, /) -> ImageData:
        """Reads the data under a data root; raises `DataError` for missing or broken files and
        `SpecError` for a split that these data do not allow."""

    def held_out(self, options: Any, root: Path, /) -> int:
        """How many images `load` holds out for validation; nothing is decoded to know it.

        Raises as `load` does for files that are missing and a split that they do not allow.
        """

    def prepare(self, options: Any, root: Path, /) -> str:
        """Brings the data under the root if it can and says what it did; raises `DataError`
        naming the folder and the files that it wants."""

    def score(self, outputs: Tensor, labels: Tensor, /) -> Scores:
        """Image by image: outputs (N, classes) of a network against labels (N,)."""

    def summary(self, scores: Scores, /) -> dict[str, float]:
        """Every declared metric of scored images."""
