"""Do the image tasks keep their promises on real images, and say what is wrong with files?"""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10 as CIFAR

from nas.errors import DataError, SpecError
from nas.space.task_shape import ImageShape
from nas.task.image_classification import (
    CIFAR10,
    DIGITS,
    Cifar10Options,
    DigitsOptions,
    classification_metrics,
)
from nas.task.task import ImageData, data_root, score_labels
from tests.task.conformance import TaskConformance
from tests.task.fake_cifar10 import FILES, fake_cifar10


def real_data() -> Path:
    """The data root with CIFAR-10 in it; only where none is named may it be missing."""
    root = data_root()
    if not (root / "cifar10" / "cifar-10-batches-py").is_dir():
        if os.environ.get("NAS_DATA_DIR"):
            pytest.fail(f"NAS_DATA_DIR is {root}, and CIFAR-10 is not there")
        pytest.skip("NAS_DATA_DIR is not set, and there is no ./data with CIFAR-10")
    return root


@pytest.fixture(scope="module")
def needs_data() -> Path:
    return real_data()


def test_real_data_are_missed_only_where_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="CIFAR-10 is not there"):
        real_data()
    monkeypatch.delenv("NAS_DATA_DIR")
    with pytest.raises(pytest.skip.Exception):
        real_data()


class TestDigits(TaskConformance):
    name = "digits"

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> DigitsOptions:
        return DigitsOptions()

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("empty")

    def test_every_image_is_in_one_split(self, data: ImageData) -> None:
        parts = (data.train, data.valid, data.test())
        assert [len(part) for part in parts] == [1077, 360, 360]
        images = torch.cat([part.images for part in parts])
        levels = (images[:, 0].double() * 16 / 255).round().flatten(1)
        labels = torch.cat([part.labels for part in parts])
        given = load_digits()
        want = Counter(zip(map(tuple, given.data.tolist()), given.target.tolist(), strict=True))
        assert Counter(zip(map(tuple, levels.tolist()), labels.tolist(), strict=True)) == want
        assert images.min() == 0
        assert images.max() == 255

    def test_splits_are_stratified(self, data: ImageData) -> None:
        for part in (data.valid, data.test()):
            assert set(Counter(part.labels.tolist()).values()) <= {35, 36, 37}

    def test_another_validation_size_leaves_the_test_images(self, data: ImageData) -> None:
        other = DIGITS.load(DigitsOptions(validation=100), Path())
        assert torch.equal(other.test().images, data.test().images)

    def test_another_side_is_resized(self) -> None:
        options = DigitsOptions(side=12)
        data = DIGITS.load(options, Path())
        assert DIGITS.shape(options) == ImageShape(12, 1, 10)
        for part in (data.train, data.valid, data.test()):
            assert part.images.shape[1:] == (1, 12, 12)

    def test_nothing_needs_preparation(self) -> None:
        assert "nothing" in DIGITS.prepare(DigitsOptions(), Path())

    def test_mirrored_digits_are_not_safe_and_mirrored_photographs_are(self) -> None:
        assert not DIGITS.flips_safe(DigitsOptions())
        assert CIFAR10.flips_safe(Cifar10Options())


class TestCifar10(TaskConformance):
    name = "cifar10"

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Cifar10Options:
        return Cifar10Options()

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, needs_data: Path) -> Path:
        return needs_data

    def test_45000_images_are_left_and_5000_held_out(self, data: ImageData) -> None:
        assert (len(data.train), len(data.valid), len(data.test())) == (45_000, 5_000, 10_000)
        assert set(Counter(data.train.labels.tolist()).values()) == {4_500}
        assert set(Counter(data.valid.labels.tolist()).values()) == {500}
        assert set(Counter(data.validation(2_500).labels.tolist()).values()) == {250}

    def test_the_images_are_torchvisions(self, data: ImageData, root: Path) -> None:
        for train, parts in ((True, (data.train, data.valid)), (False, (data.test(),))):
            given = CIFAR(root / "cifar10", train=train)
            want = torch.from_numpy(given.data).permute(0, 3, 1, 2).flatten(1)
            got = torch.cat([part.images for part in parts]).flatten(1)
            labels = torch.cat([part.labels for part in parts])
            assert Counter(labels.tolist()) == Counter(given.targets)
            assert fingerprints(got, labels) == fingerprints(want, torch.tensor(given.targets))
        assert list(data.classes) == given.classes

    def test_complete_files_need_no_preparation(self, root: Path) -> None:
        assert "complete" in CIFAR10.prepare(Cifar10Options(), root)


def fingerprints(images: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """A hash of every image (N, pixels) with its label, sorted."""
    pairs = zip(images.numpy(), labels.tolist(), strict=True)
    return sorted(hash((image.tobytes(), label)) for image, label in pairs)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return fake_cifar10(tmp_path, monkeypatch)


SMALL = Cifar10Options(validation=20)


def test_prepare_downloads_what_load_then_reads(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert "downloaded" in CIFAR10.prepare(SMALL, root)
    data = CIFAR10.load(SMALL, root)
    assert (len(data.train), len(data.valid), len(data.test())) == (180, 20, 40)
    assert [path.name for path in root.iterdir()] == ["cifar10"]
    archive.unlink()
    assert "complete" in CIFAR10.prepare(SMALL, root)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["missing", "truncated", "altered"])
@pytest.mark.usefixtures("archive")
def test_a_broken_file_is_named_and_prepare_repairs_it(
    tmp_path: Path, name: str, fault: str
) -> None:
    CIFAR10.prepare(SMALL, tmp_path)
    whole = CIFAR10.load(SMALL, tmp_path)
    folder = tmp_path / "cifar10" / CIFAR.base_folder
    content = (folder / name).read_bytes()
    if fault == "missing":
        (folder / name).unlink()
    else:
        broken = content[:-1] if fault == "truncated" else content[:-1] + b"!"
        (folder / name).write_bytes(broken)
    with pytest.raises(DataError) as caught:
        CIFAR10.load(SMALL, tmp_path)
    said = "is missing" if fault == "missing" else "is truncated or altered (wrong md5)"
    assert f"not complete in {folder}: {name} {said}. Wanted there: " in str(caught.value)
    assert ", ".join(FILES) in str(caught.value)
    with pytest.raises(DataError) as found:
        CIFAR10.held_out(SMALL, tmp_path)
    assert str(found.value) == str(caught.value)
    assert "nas data prepare cifar10" in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    CIFAR10.prepare(SMALL, tmp_path)
    assert CIFAR10.load(SMALL, tmp_path).digest == whole.digest


def test_prepare_without_a_network_says_what_it_wants(archive: Path, tmp_path: Path) -> None:
    archive.unlink()
    root = tmp_path / "root"
    with pytest.raises(DataError) as caught:
        CIFAR10.prepare(SMALL, root)
    text = str(caught.value)
    assert "no route to host" in text
    assert str(root / "cifar10" / CIFAR.base_folder) in text
    assert ", ".join(FILES) in text
    assert CIFAR.filename in text
    assert list(root.iterdir()) == []


def test_an_archive_cut_short_leaves_nothing_behind(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    root = tmp_path / "root"
    with pytest.raises(DataError, match="could not be downloaded"):
        CIFAR10.prepare(SMALL, root)
    assert list(root.iterdir()) == []


def test_a_data_root_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be downloaded"):
        CIFAR10.prepare(SMALL, tmp_path / "file")


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (DigitsOptions, {"side": 2}),
        (DigitsOptions, {"validation": 0}),
        (DigitsOptions, {"test": 2000}),
        (Cifar10Options, {"validation": -1}),
        (Cifar10Options, {"validation": math.nan}),
        (Cifar10Options, {"split_seed": -1}),
    ],
)
def test_options_out_of_range_are_refused(model: Any, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        model.model_validate(given)


def test_a_split_beyond_the_data_is_refused() -> None:
    options = DigitsOptions.model_construct(validation=1437, test=360, side=8, split_seed=0)
    with pytest.raises(SpecError, match=r"task\.validation: 1437 of 1437"):
        DIGITS.load(options, Path())


def test_scores_are_cross_entropy_and_hits_image_by_image() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 10, generator=generator) * 3
    labels = torch.randint(0, 10, (50,), generator=generator)
    scores = score_labels(outputs, labels)
    losses, correct, _ = scores
    for row, label, loss, hit in zip(
        outputs.tolist(), labels.tolist(), losses.tolist(), correct.tolist(), strict=True
    ):
        want = math.log(sum(math.exp(each) for each in row)) - row[label]
        assert loss == pytest.approx(want, rel=1e-5)
        assert hit == (max(row) == row[label])
    measured = classification_metrics(scores)
    assert measured["cross_entropy"] == pytest.approx(sum(losses.tolist()) / 50)
    assert measured["accuracy"] == sum(correct.tolist()) / 50


def test_scores_of_several_labels_are_their_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 10, generator=generator) * 3
    labels = torch.randint(0, 10, (50,), generator=generator)
    counts = torch.tensor([3, 1, 0, 30, 16])
    single, scores = score_labels(outputs, labels), score_labels(outputs, labels, counts)
    parts = [torch.split(each, counts.tolist()) for each in single]
    for each, losses, correct, _ in zip(range(5), *parts, strict=True):
        assert scores.losses[each].item() == pytest.approx(losses.sum().item(), rel=1e-12)
        assert scores.correct[each] == correct.sum()
    assert torch.equal(scores.labels, counts)
    # What stands beside an example changes none of its bits.
    alone = score_labels(outputs[4:34], labels[4:34], counts[3:4])
    assert torch.equal(alone.losses, scores.losses[3:4])
    wanted, found = classification_metrics(single), classification_metrics(scores)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_one_broken_output_is_no_accuracy() -> None:
    outputs = torch.zeros(4, 10)
    outputs[2, 3] = math.inf
    measured = DIGITS.summary(DIGITS.score(outputs, torch.zeros(4, dtype=torch.int64)))
    assert math.isnan(measured["accuracy"])
    assert not math.isfinite(measured["cross_entropy"])


def test_bfloat16_outputs_are_scored_in_float32() -> None:
    outputs = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(20) % 10
    losses = score_labels(outputs, labels).losses
    assert losses.dtype == torch.float64
    assert torch.equal(losses, score_labels(outputs.float(), labels).losses)


def test_the_data_root_is_the_variables_or_data_in_the_working_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAS_DATA_DIR", "/some/where")
    assert data_root() == Path("/some/where")
    monkeypatch.delenv("NAS_DATA_DIR")
    assert data_root() == Path("data")
