"""Which pictures are to be told apart? Digits, CIFAR-10, or somebody's own folder of images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.errors import SpecError
from nas.search.objective import Metric
from nas.space.task_shape import ImageShape
from nas.task import cifar10_files
from nas.task.image_folder import LAYOUT, SUFFIXES, class_files, class_folders, read_images
from nas.task.splits import check_split, split_digest, stratified_split
from nas.task.task import ImageData, LabelledImages, Scores, data_root, score_labels

if TYPE_CHECKING:
    from torch import Tensor

    from nas.search.recipe import Unit

CROSS_ENTROPY = Metric("cross_entropy", "minimize", "nats", best=0.0)
ACCURACY = Metric("accuracy", "maximize", "fraction", best=1.0)

ClassFiles = tuple[tuple[Path, ...], ...]
Side = Annotated[int, Field(ge=4, le=1024, description="Pixels a side that images are given.")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="Draws the validation images.")]
FolderPath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
# Two of them leave something to train on.
Fraction = Annotated[float, Field(gt=0, lt=0.5)]


class _Options(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class DigitsOptions(_Options):
    """Of 1,797 images, some are held out, stratified by class."""

    side: Side = 8
    validation: Annotated[int, Field(ge=10, le=600)] = 360
    """Images held out for scores."""
    test: Annotated[int, Field(ge=10, le=600)] = 360
    """Images held out for tests, the same for every `split_seed`."""
    split_seed: Seed = 0


class Cifar10Options(_Options):
    """Of the 50,000 training images, some are held out, stratified by class."""

    side: Side = 32
    validation: Annotated[int, Field(ge=10, le=40_000)] = 5_000
    """Images held out for scores."""
    split_seed: Seed = 0


class ImageFolderOptions(_Options):
    """Images under `path`/CLASS/, made RGB; what is held out is stratified by class."""

    path: FolderPath
    """A folder with a folder for each class; absolute, or under `NAS_DATA_DIR`."""
    side: Side = 32
    classes: Annotated[tuple[str, ...], Field(min_length=2, strict=False)] | None = None
    """Names of the class folders; null: read when the request is made, and kept with it."""
    validation: Fraction = 0.1
    """The share of images held out for scores."""
    test: Fraction = 0.1
    """The share held out for tests, whatever `validation` and `split_seed` are."""
    test_path: FolderPath | None = None
    """A folder of test images of the same classes, instead of `test`."""
    split_seed: Seed = 0
    flip_safe: bool = False
    """Whether a mirrored image keeps its class."""

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if self.test_path is not None and "test" in self.model_fields_set:
            raise ValueError("give test (a fraction) or test_path (a folder), not both")
        return self


def classification_metrics(scores: Scores) -> dict[str, float]:
    """Means over labels; an output that is no number has no accuracy either (NaN)."""
    finite = bool(scores.losses.isfinite().all())
    accuracy = float(scores.correct.sum() / scores.labels.sum().double()) if finite else math.nan
    return {CROSS_ENTROPY.name: scores.mean_loss, ACCURACY.name: accuracy}


class _ImageClassification:
    """What the image tasks share: metrics, and how outputs are scored."""

    name: str
    options_model: type[_Options]
    unit: Unit = "images"
    metrics = (CROSS_ENTROPY, ACCURACY)
    generated: tuple[Metric, ...] = ()
    primary = CROSS_ENTROPY.name

    def resolved(self, options: Any, /) -> Any:
        """The options as they are: nothing is known from the data alone."""
        return options

    def flips_safe(self, _options: Any, /) -> bool:
        """Whether a mirrored image keeps its class under these options: not unless it is said."""
        return False

    def uninformed(self, shape: ImageShape, /) -> dict[str, float]:
        """ln(classes) nats and one in so many right."""
        return {CROSS_ENTROPY.name: math.log(shape.classes), ACCURACY.name: 1 / shape.classes}

    def score(self, outputs: Tensor, labels: Tensor, counts: Tensor | None = None, /) -> Scores:
        """Image by image: cross-entropy and top-1 hits of logits (N, classes)."""
        return score_labels(outputs, labels, counts)

    def judged(
        self, _written: Sequence[str], _references: Sequence[str], /
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Nothing: a network gives one answer and writes no text."""
        return {}, {}

    def summary(self, scores: Scores, /) -> dict[str, float]:
        """Mean cross-entropy in nats and accuracy as a fraction."""
        return classification_metrics(scores)


class Digits(_ImageClassification):
    """Scikit-learn's bundled 8x8 scans of handwritten digits (Alpaydin and Kaynak 1998)."""

    name = "digits"
    options_model = DigitsOptions

    def shape(self, options: DigitsOptions, /) -> ImageShape:
        """One channel, ten classes."""
        return ImageShape(options.side, 1, 10)

    def load(self, options: DigitsOptions, _root: Path, /) -> ImageData:
        """The bundled images, their 17 levels spread over 0 to 255."""
        import torch
        from sklearn.datasets import load_digits

        found = load_digits()
        levels = torch.from_numpy(found.images).long()
        images = ((levels * 255 + 8) // 16).to(torch.uint8)[:, None]
        labels = torch.from_numpy(found.target).long()
        pool, test = _set_aside(images, labels, options.test)
        names = tuple(str(name) for name in found.target_names)
        read_test = partial(_resized, test, options.side)
        return _held_out(pool, names, options.validation, options, read_test)

    def held_out(self, options: DigitsOptions, _root: Path, /) -> int:
        """As many as are asked for: the images are always there."""
        return options.validation

    def prepare(self, _options: Any, _root: Path, /) -> str:
        """Nothing to do."""
        return "digits: nothing to prepare, the images come with scikit-learn"


class Cifar10(_ImageClassification):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels."""

    name = "cifar10"
    options_model = Cifar10Options

    def flips_safe(self, _options: Any, /) -> bool:
        """A mirrored animal or vehicle is still one."""
        return True

    def shape(self, options: Cifar10Options, /) -> ImageShape:
        """Three channels, ten classes."""
        return ImageShape(options.side, 3, 10)

    def load(self, options: Cifar10Options, root: Path, /) -> ImageData:
        """Reads `root`/cifar10/cifar-10-batches-py; every file's md5 sum is checked first."""
        images, labels, names = cifar10_files.read(root, train=True)
        read_test = partial(_cifar10_test, root, options.side)
        pool = LabelledImages(images, labels)
        return _held_out(pool, names, options.validation, options, read_test)

    def held_out(self, options: Cifar10Options, root: Path, /) -> int:
        """As many as are asked for, of files whose md5 sums are right."""
        cifar10_files.check(root)
        return options.validation

    def prepare(self, _options: Any, root: Path, /) -> str:
        """Downloads what is missing or broken; nothing is half-written if that fails."""
        return cifar10_files.download(root)


class ImageFolder(_ImageClassification):
    """A user's own images, one folder a class."""

    name = "image_folder"
    options_model = ImageFolderOptions

    def flips_safe(self, options: ImageFolderOptions, /) -> bool:
        """What the user says of these images."""
        return options.flip_safe

    def resolved(self, options: ImageFolderOptions, /) -> ImageFolderOptions:
        """The options with `classes`, read from the folders under `data_root()` where not given."""
        if options.classes is not None:
            return options
        names = tuple(each.name for each in class_folders(data_root() / options.path))
        return options.model_copy(update={"classes": names})

    def shape(self, options: ImageFolderOptions, /) -> ImageShape:
        """Three channels and the classes of the resolved options."""
        return ImageShape(options.side, 3, len(self.resolved(options).classes or ()))

    def load(self, options: ImageFolderOptions, root: Path, /) -> ImageData:
        """Decodes every image once; a broken one is an error before anything is learnt."""
        names, files, test_files = self._files(options, root)
        pool = _read_classes(files, options.side)
        if test_files:
            test = _read_classes(test_files, options.side)
        else:
            count = round(options.test * len(pool))
            pool, test = _set_aside(pool.images, pool.labels, count)
        count = round(options.validation * len(pool))
        return _held_out(pool, names, count, options, partial(_resized, test, options.side))

    def held_out(self, options: ImageFolderOptions, root: Path, /) -> int:
        """Counted by the files' names."""
        names, files, test_files = self._files(options, root)
        images = sum(map(len, files))
        if not test_files:
            count = round(options.test * images)
            check_split(images, len(names), count, "task.test")
            images -= count
        count = round(options.validation * images)
        check_split(images, len(names), count, "task.validation")
        return count

    def _files(
        self, options: ImageFolderOptions, root: Path
    ) -> tuple[tuple[str, ...], ClassFiles, ClassFiles]:
        """Class names, images by class, and test images where they have a folder of their own."""
        folder = root / options.path
        names = options.classes or tuple(each.name for each in class_folders(folder))
        files = class_files(folder, names, least=2)
        if options.test_path is None:
            return names, files, ()
        other = root / options.test_path
        if other.resolve() == folder.resolve():
            raise SpecError(
                f"task.test_path: {options.test_path} is the folder of the training images; "
                "name another one, or leave it out and give test (a fraction)"
            )
        return names, files, class_files(other, names)

    def prepare(self, options: ImageFolderOptions, root: Path, /) -> str:
        """Says what is expected, or what there is; nothing can be downloaded."""
        folder = root / options.path
        count = len(class_folders(folder))
        return (
            f"image_folder: nothing to download; {count} classes in {folder}. Expected there: "
            f"{LAYOUT}; images end in {', '.join(sorted(SUFFIXES))}"
        )


DIGITS = Digits()
CIFAR10 = Cifar10()
IMAGE_FOLDER = ImageFolder()


# -- splits and statistics -------------------------------------------------------------------------


def _set_aside(images: Tensor, labels: Tensor, count: int) -> tuple[LabelledImages, LabelledImages]:
    """The rest and `count` test images, by no seed: another seed must not train on them."""
    split = stratified_split(labels.tolist(), count, "test", "task.test")
    kept, held = list(split.kept), list(split.held)
    return LabelledImages(images[kept], labels[kept]), LabelledImages(images[held], labels[held])


def _held_out(
    pool: LabelledImages,
    classes: tuple[str, ...],
    count: int,
    options: Any,
    read_test: Callable[[], LabelledImages],
) -> ImageData:
    """The pool without `count` validation images, at the side that is asked for."""
    labels = pool.labels.tolist()
    split = stratified_split(labels, count, f"validation/{options.split_seed}", "task.validation")
    train, valid = (
        _resized(LabelledImages(pool.images[chosen], pool.labels[chosen]), options.side)
        for chosen in (list(split.kept), list(split.held))
    )
    mean, std = _statistics(train.images)
    digest = _digest(pool, classes, split_digest(split.held, labels))
    return ImageData(train, valid, classes, mean, std, digest, read_test)


def _digest(pool: LabelledImages, classes: tuple[str, ...], split: str) -> str:
    """SHA-256 of class names, images as they were read, and the split with its labels."""
    content = hashlib.sha256(json.dumps([classes, split, list(pool.images.shape)]).encode())
    content.update(pool.images.contiguous().numpy().data)
    return content.hexdigest()


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of levels / 255, from exact counts of each level."""
    import torch

    counts = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])]
    ).double()
    shares = counts / counts.sum(dim=1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]).square()).sum(dim=1).sqrt()
    return mean.float(), std.where(std > 0, 1 / 255).float()


def _resized(data: LabelledImages, side: int) -> LabelledImages:
    """Antialiased to (N, C, side, side); as it is where the side is right already."""
    if data.images.shape[-1] == side:
        return data
    import torch
    from torchvision.transforms.v2.functional import resize

    # A few at a time: on the way they are floats.
    parts = [resize(part, [side, side], antialias=True) for part in torch.split(data.images, 1000)]
    return LabelledImages(torch.cat(parts), data.labels)


def _read_classes(groups: ClassFiles, side: int) -> LabelledImages:
    import torch

    labels = [label for label, group in enumerate(groups) for _ in group]
    files = tuple(path for group in groups for path in group)
    return LabelledImages(read_images(files, side), torch.tensor(labels))


def _cifar10_test(root: Path, side: int) -> LabelledImages:
    images, labels, _ = cifar10_files.read(root, train=False)
    return _resized(LabelledImages(images, labels), side)
