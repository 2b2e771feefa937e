"""Does a batched augmentation give, image by image, what its definition gives?"""

import cmath
import math
from collections.abc import Callable

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from nas.search.recipe import Augmentation
from nas.task.augmentation import MAGNITUDES, OPERATIONS, augment, normalise

Picture = Image.Image


def draw(count: int, channels: int, side: int, seed: int = 0) -> Tensor:
    """Random images; the first is constant, the second has few levels, the third a narrow range."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, side, side), generator=generator)
    images[0] = 77
    images[1] = images[1] // 64 * 64
    images[2] = 90 + images[2] // 16
    return images.to(torch.uint8)


def picture(image: Tensor) -> Picture:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if len(image) == 1 else array)


def tensor(shown: Picture) -> Tensor:
    array = numpy.array(shown)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


def affine(a: float, b: float, c: float, d: float, e: float, f: float) -> Callable[..., Picture]:
    return lambda shown: shown.transform(
        shown.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.NEAREST
    )


def turn(shown: Picture, degrees: float) -> Picture:
    """Pillow's nearest rotation in floating point; its own, in 1/65536 pixel, errs at borders."""
    if shown.width < 10:
        return shown.rotate(degrees, Image.Resampling.NEAREST)
    middle = complex(shown.width, shown.height) / 2
    step = cmath.rect(1, math.radians(degrees))
    turned = Image.new(shown.mode, shown.size)
    for x in range(shown.width):
        for y in range(shown.height):
            source = (complex(x + 0.5, y + 0.5) - middle) * step + middle
            at = math.floor(source.real), math.floor(source.imag)
            if 0 <= at[0] < shown.width and 0 <= at[1] < shown.height:
                turned.putpixel((x, y), shown.getpixel(at) or 0)
    return turned


# As in the code of Cubuk et al. 2020, which is made of Pillow's operations.
PILLOW: dict[str, Callable[[Picture, float], Picture]] = {
    "identity": lambda shown, _: shown,
    "shear_x": lambda shown, s: affine(1, s, 0, 0, 1, 0)(shown),
    "shear_y": lambda shown, s: affine(1, 0, 0, s, 1, 0)(shown),
    "translate_x": lambda shown, s: affine(1, 0, int(s), 0, 1, 0)(shown),
    "translate_y": lambda shown, s: affine(1, 0, 0, 0, 1, int(s))(shown),
    "rotate": turn,
    "brightness": lambda shown, s: ImageEnhance.Brightness(shown).enhance(1 + s),
    "color": lambda shown, s: ImageEnhance.Color(shown).enhance(1 + s),
    "contrast": lambda shown, s: ImageEnhance.Contrast(shown).enhance(1 + s),
    "sharpness": lambda shown, s: ImageEnhance.Sharpness(shown).enhance(1 + s),
    "posterize": lambda shown, s: ImageOps.posterize(shown, 8 - round(s)),
    "solarize": lambda shown, s: ImageOps.solarize(shown, math.ceil(255 * (1 - s))),
    "autocontrast": lambda shown, _: ImageOps.autocontrast(shown),
    "equalize": lambda shown, _: ImageOps.equalize(shown),
}


def test_the_operations_are_the_fourteen_of_the_paper() -> None:
    assert set(OPERATIONS) == set(PILLOW)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 32, 37])
def test_an_operation_gives_what_pillow_gives(name: str, channels: int, side: int) -> None:
    operation = OPERATIONS[name]
    largest = operation.largest(side)
    for magnitude in (0, 1, 9, 17, 29):
        images = draw(8, channels, side, seed=magnitude)
        signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
        strengths = largest * magnitude / MAGNITUDES * (signs if operation.signed else signs.abs())
        got = operation.apply(images, strengths)
        assert got.dtype == torch.uint8
        for one, image, strength in zip(got, images, strengths.tolist(), strict=True):
            want = tensor(PILLOW[name](picture(image), strength))
            assert torch.equal(one, want), (name, magnitude, strength)


def test_ranges_at_the_largest_magnitude() -> None:
    ranges = {name: each.largest(331) for name, each in OPERATIONS.items()}
    assert ranges["translate_x"] == ranges["translate_y"] == pytest.approx(150)
    assert ranges["rotate"] == 30
    assert ranges["shear_x"] == ranges["shear_y"] == 0.3
    assert {ranges[name] for name in ("brightness", "color", "contrast", "sharpness")} == {0.9}
    assert ranges["posterize"] == 4


ANYTHING = st.builds(
    Augmentation,
    crop_padding=st.integers(0, 5),
    flip=st.booleans(),
    randaugment_layers=st.integers(0, 3),
    randaugment_magnitude=st.integers(0, 30),
)


@given(ANYTHING, st.sampled_from([1, 3]), st.sampled_from([4, 8, 15]), st.integers(0, 99))
def test_augmentation_is_pure_and_keeps_the_form(
    augmentation: Augmentation, channels: int, side: int, seed: int
) -> None:
    images = draw(16, channels, side)
    before = images.clone()
    got, again = (
        augment(images, augmentation, torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert got.shape == images.shape
    assert got.dtype == torch.uint8
    assert torch.equal(got, again)
    assert torch.equal(images, before)


def test_nothing_asked_for_changes_nothing() -> None:
    images = draw(8, 3, 8)
    assert torch.equal(augment(images, Augmentation(), torch.Generator()), images)


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_one_of_all_windows_and_all_come(flip: bool) -> None:
    image = torch.arange(1, 50, dtype=torch.uint8).view(1, 1, 7, 7)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    windows = {
        tuple(each.flatten().tolist())
        for top in range(5)
        for left in range(5)
        for window in [padded[0, 0, top : top + 7, left : left + 7]]
        for each in ([window, window.flip(1)] if flip else [window])
    }
    batch = image.expand(2000, -1, -1, -1)
    augmentation = Augmentation(crop_padding=2, flip=flip)
    got = augment(batch, augmentation, torch.Generator().manual_seed(0))
    assert {tuple(each.flatten().tolist()) for each in got} == windows


def test_half_of_the_images_are_mirrored() -> None:
    images = draw(4, 3, 8)[3:].expand(4000, -1, -1, -1)
    got = augment(images, Augmentation(flip=True), torch.Generator().manual_seed(0))
    mirrored = (got == images.flip(3)).flatten(1).all(1)
    same = (got == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    # Five standard deviations of a fair coin.
    assert abs(int(mirrored.sum()) - 2000) < 5 * math.sqrt(1000)


def test_randaugment_draws_every_operation_and_sign_alike() -> None:
    count, side, magnitude = 14_000, 16, 20
    image = draw(4, 3, side)[3:]
    outcomes = {}
    for name, operation in OPERATIONS.items():
        for sign in (1.0, -1.0) if operation.signed else (1.0,):
            strength = sign * operation.largest(side) * magnitude / MAGNITUDES
            strengths = torch.tensor([strength], dtype=torch.float64)
            outcomes[name, sign] = operation.apply(image, strengths)[0]
    augmentation = Augmentation(randaugment_layers=1, randaugment_magnitude=magnitude)
    generator = torch.Generator().manual_seed(0)
    got = augment(image.expand(count, -1, -1, -1), augmentation, generator)
    seen = 0
    for (name, _), want in outcomes.items():
        twins = [n for (n, _), other in outcomes.items() if torch.equal(other, want)]
        assert set(twins) <= {"identity", "equalize", name}
        found = int((got == want).flatten(1).all(1).sum())
        share = sum(0.5 if OPERATIONS[twin].signed else 1.0 for twin in twins) / len(OPERATIONS)
        assert abs(found - count * share) < 5 * math.sqrt(count * share), name
        seen += found if len(twins) == 1 else found // len(twins)
    assert seen == pytest.approx(count, abs=1)


def test_normalise_is_the_formula() -> None:
    images = draw(4, 3, 8)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.004])
    want = (images.double() / 255 - mean.double()[:, None, None]) / std.double()[:, None, None]
    got = normalise(images, mean, std)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)


@pytest.mark.gpu
def test_a_gpu_changes_the_images_as_the_cpu_does() -> None:
    images = draw(256, 3, 32)
    everything = Augmentation(crop_padding=4, flip=True, randaugment_layers=2)
    here = augment(images, everything, torch.Generator().manual_seed(0))
    there = augment(images.cuda(), everything, torch.Generator().manual_seed(0))
    assert torch.equal(there.cpu(), here)
