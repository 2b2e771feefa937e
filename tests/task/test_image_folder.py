"""Is a folder of anybody's images read as it is meant, and a broken one named?"""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from nas import catalog
from nas.errors import DataError, SpecError
from nas.search.spec import load_spec
from nas.space.task_shape import ImageShape
from nas.task.image_classification import IMAGE_FOLDER, ImageFolderOptions
from nas.task.image_folder import class_folders, image_files, read_images
from nas.task.task import ImageData
from tests.task.conformance import TaskConformance

MODES = ["RGB", "L", "P", "RGBA", "1", "CMYK", "LA"]
SIZES = [(8, 8), (21, 8), (9, 30), (5, 5), (64, 48)]


def noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    pixels = numpy.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), numpy.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder: Path, classes: int = 3, count: int = 20) -> Path:
    """`count` images in each class folder, every mode and size among them."""
    for label in range(classes):
        inside = folder / f"class_{label}"
        inside.mkdir(parents=True)
        for number in range(count):
            mode = MODES[number % len(MODES)]
            suffix = "tif" if mode == "CMYK" else "png"
            image = noise(mode, SIZES[number % len(SIZES)], 1000 * label + number)
            image.save(inside / f"{number:03}.{suffix}")
    return folder


class TestImageFolder(TaskConformance):
    name = "image_folder"

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return fill(tmp_path_factory.mktemp("root") / "mine").parent

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, root: Path) -> ImageFolderOptions:
        return ImageFolderOptions(path=str(root / "mine"), side=8, validation=0.3)

    def test_every_image_is_in_one_split(self, data: ImageData) -> None:
        parts = (data.train, data.valid, data.test())
        assert [len(part) for part in parts] == [38, 16, 6]
        images = torch.cat([part.images for part in parts]).flatten(1)
        assert len({tuple(image) for image in images.tolist()}) == 60
        assert data.classes == ("class_0", "class_1", "class_2")

    def test_a_relative_path_is_under_the_data_root(
        self, root: Path, data: ImageData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NAS_DATA_DIR", str(root))
        options = ImageFolderOptions(path="mine", side=8, validation=0.3)
        assert IMAGE_FOLDER.shape(options) == ImageShape(8, 3, 3)
        assert IMAGE_FOLDER.load(options, root).digest == data.digest

    def test_a_request_keeps_the_classes_it_was_made_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
        fill(tmp_path / "mine")
        task = {"name": "image_folder", "path": "mine", "side": 8}
        spec = load_spec({"name": "x", "task": task, "space": "digits_tiny"})
        assert spec.task.options["classes"] == ["class_0", "class_1", "class_2"]
        (tmp_path / "mine").rename(tmp_path / "away")
        recorded = load_spec(spec.to_json())
        assert recorded == spec
        assert recorded.task_shape == ImageShape(8, 3, 3)
        fill(tmp_path / "mine", classes=4)
        options = recorded.task.configured(catalog.TASKS, "task")
        with pytest.raises(DataError, match=r"class_2, class_3; wanted: class_0, class_1, class_2"):
            IMAGE_FOLDER.load(options, tmp_path)

    def test_the_options_say_whether_flips_are_safe(self, options: ImageFolderOptions) -> None:
        assert not IMAGE_FOLDER.flips_safe(options)
        assert IMAGE_FOLDER.flips_safe(options.model_copy(update={"flip_safe": True}))

    def test_prepare_says_what_is_expected(self, options: ImageFolderOptions, root: Path) -> None:
        text = IMAGE_FOLDER.prepare(options, root)
        assert "nothing to download" in text
        assert "CLASS/IMAGE" in text


@pytest.mark.parametrize(
    ("mode", "colour", "want"),
    [
        ("RGB", (10, 200, 30), (10, 200, 30)),
        ("L", 99, (99, 99, 99)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 200, 30, 255), (10, 200, 30)),
        ("RGBA", (10, 200, 30, 0), (255, 255, 255)),
        ("LA", (40, 0), (255, 255, 255)),
        ("I;16", 0x6400, (0x64, 0x64, 0x64)),
    ],
)
def test_modes_become_eight_bit_rgb(
    tmp_path: Path, mode: str, colour: tuple[int, ...], want: tuple[int, int, int]
) -> None:
    path = tmp_path / "image.png"
    Image.new(mode, (20, 13), colour).save(path)
    image = read_images((path,), 4)[0]
    assert torch.equal(image, torch.tensor(want, dtype=torch.uint8)[:, None, None].expand(3, 4, 4))


def test_a_palette_with_a_transparent_colour_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (4, 0, 8, 8))
    image.save(tmp_path / "image.png", transparency=0)
    got = read_images((tmp_path / "image.png",), 8)[0]
    assert got[:, :, :4].eq(255).all()
    assert got[:, 0, 7].tolist() == [200, 100, 50]


def test_an_image_of_the_right_side_is_kept(tmp_path: Path) -> None:
    image = noise("RGB", (8, 8), 0)
    image.save(tmp_path / "image.png")
    want = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
    assert torch.equal(read_images((tmp_path / "image.png",), 8)[0], want)


def test_the_middle_square_is_taken_and_shrunk_with_antialiasing(tmp_path: Path) -> None:
    pixels = numpy.zeros((16, 48, 3), numpy.uint8)
    # A fine chessboard in the middle, red on both sides of it.
    pixels[:, :, 0] = 255
    pixels[:, 16:32] = (numpy.indices((16, 16)).sum(0) % 2 * 200)[:, :, None]
    Image.fromarray(pixels).save(tmp_path / "image.png")
    got = read_images((tmp_path / "image.png",), 4)[0].double()
    assert (got - 100).abs().max() <= 1


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    pixels = numpy.zeros((8, 8, 3), numpy.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    got = read_images((tmp_path / "image.png",), 8)[0]
    assert got[:, :, 4:].eq(255).all()
    assert got[:, :, :4].eq(0).all()


def truncate(path: Path) -> None:
    whole = noise("RGB", (64, 64), 0)
    whole.save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def scribble(path: Path) -> None:
    path.write_text("not an image")


def damage(path: Path) -> None:
    noise("RGB", (64, 64), 0).save(path)
    content = bytearray(path.read_bytes())
    content[30:60] = bytes(30)
    path.write_bytes(content)


def deepen(path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(path, format="TIFF")


@pytest.mark.parametrize("spoil", [truncate, scribble, damage, deepen, Path.touch])
def test_a_broken_image_is_named(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = fill(tmp_path / "mine", classes=2)
    spoil(folder / "class_1" / "zzz.png")
    with pytest.raises(DataError, match=r"class_1/zzz\.png: not an image that can be read"):
        IMAGE_FOLDER.load(ImageFolderOptions(path=str(folder), side=8), tmp_path)


def test_other_files_hidden_ones_and_folders_are_passed_over(tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", classes=2, count=3)
    (folder / "README.txt").write_text("about")
    (folder / ".cache").mkdir()
    (folder / "class_0" / "notes.txt").write_text("about")
    (folder / "class_0" / "._001.png").write_text("not an image")
    (folder / "class_0" / ".thumbs").mkdir()
    (folder / "class_0" / ".thumbs" / "a.png").write_text("not an image")
    (folder / "class_0" / "more").mkdir()
    noise("RGB", (8, 8), 0).save(folder / "class_0" / "more" / "A.PNG")
    assert [path.name for path in class_folders(folder)] == ["class_0", "class_1"]
    names = [path.relative_to(folder).as_posix() for path in image_files(folder / "class_0")]
    assert names == [f"class_0/{each}" for each in ("000.png", "001.png", "002.png", "more/A.PNG")]


# What cannot be read is said when it is only looked at, too.
either = pytest.mark.parametrize("ask", [IMAGE_FOLDER.load, IMAGE_FOLDER.held_out])
Ask = Callable[[ImageFolderOptions, Path], object]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    options = ImageFolderOptions(path=str(tmp_path / "nowhere"))
    for ask in (
        IMAGE_FOLDER.shape,
        lambda o: IMAGE_FOLDER.load(o, tmp_path),
        lambda o: IMAGE_FOLDER.held_out(o, tmp_path),
    ):
        with pytest.raises(DataError, match=r"nowhere: cannot be read .* CLASS/IMAGE"):
            ask(options)


def test_fewer_than_two_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match="1 class folders there"):
        IMAGE_FOLDER.shape(ImageFolderOptions(path=str(tmp_path)))


@either
def test_an_empty_class_is_named(ask: Ask, tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", classes=2)
    (folder / "class_2").mkdir()
    with pytest.raises(DataError, match=r"class_2: no images there"):
        ask(ImageFolderOptions(path=str(folder), side=8), tmp_path)


@either
def test_a_class_of_one_image_is_refused_but_among_test_images(ask: Ask, tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", classes=2)
    (folder / "class_2").mkdir()
    noise("RGB", (8, 8), 0).save(folder / "class_2" / "alone.png")
    message = r"class_2: 1 image there; at least 2 are needed, one to learn from and one to hold"
    with pytest.raises(DataError, match=message):
        ask(ImageFolderOptions(path=str(folder), side=8), tmp_path)
    fill(tmp_path / "train")
    options = ImageFolderOptions(path="train", test_path="mine", side=8)
    assert len(IMAGE_FOLDER.load(options, tmp_path).test()) == 41
    noise("RGB", (8, 8), 1).save(folder / "class_2" / "second.png")
    ask(ImageFolderOptions(path=str(folder), side=8), tmp_path)


@either
def test_a_fraction_that_holds_nothing_out_is_refused(ask: Ask, tmp_path: Path) -> None:
    folder = fill(tmp_path / "mine", classes=2, count=10)
    options = ImageFolderOptions(path=str(folder), side=8, validation=0.001)
    with pytest.raises(SpecError, match=r"task\.validation: 0 of 18 images given"):
        ask(options, tmp_path)


def test_a_test_folder_is_taken_whole(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=4)
    options = ImageFolderOptions(path="train", test_path="test", side=8, validation=0.2)
    data = IMAGE_FOLDER.load(options, tmp_path)
    assert [len(part) for part in (data.train, data.valid, data.test())] == [48, 12, 12]
    assert IMAGE_FOLDER.held_out(options, tmp_path) == 12


@either
def test_a_test_folder_of_other_classes_is_refused(ask: Ask, tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=2)
    options = ImageFolderOptions(path="train", test_path="test", side=8)
    with pytest.raises(DataError, match=r"class_0, class_1; wanted: class_0, class_1, class_2"):
        ask(options, tmp_path)


def test_a_fraction_and_a_test_folder_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        ImageFolderOptions(path="a", test=0.2, test_path="b")


@pytest.mark.parametrize("spelling", ["train", "./train", "link", "test/../train", "{root}/train"])
def test_the_training_images_are_no_test_images(spelling: str, tmp_path: Path) -> None:
    fill(tmp_path / "train", classes=2)
    (tmp_path / "test").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "train")
    other = spelling.format(root=tmp_path)
    options = ImageFolderOptions(path="train", test_path=other, side=8)
    for ask in (IMAGE_FOLDER.load, IMAGE_FOLDER.held_out):
        with pytest.raises(SpecError, match=r"^task\.test_path: .* folder of the training images"):
            ask(options, tmp_path)


@either
def test_classes_that_the_test_images_leave_with_one_can_lend_none(
    ask: Ask, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "mine", classes=2, count=2)
    options = ImageFolderOptions(path=str(folder), side=8, test=0.49)
    with pytest.raises(SpecError, match=r"^task\.validation: .* 2 images of 2 classes.*; add im"):
        ask(options, tmp_path)


def test_sixteen_bits_in_a_pgm_are_eight_of_them(tmp_path: Path) -> None:
    path = tmp_path / "image.pgm"
    path.write_bytes(b"P5 8 8 65535\n" + bytes([0x64, 0xFF] * 64))
    assert read_images((path,), 8).eq(0x64).all()


def test_a_path_that_can_be_none_is_named() -> None:
    for key in ("path", "test_path"):
        task = {"name": "image_folder", "path": "mine", key: "a\0b"}
        with pytest.raises(SpecError, match=rf"task\.{key}: .*'a\\x00b' given"):
            load_spec({"name": "x", "task": task, "space": "digits_tiny"})
