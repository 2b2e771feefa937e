"""How are training images changed? A whole batch at a time, every draw from the generator given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nas.search.recipe import Augmentation

# A magnitude counts in steps of a 30th of each operation's range.
MAGNITUDES = 30


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (B, C, S, S) uint8, C 1 or 3, cropped, flipped and put through RandAugment.

    A pure function of the images and the state of `generator`, which lives on the CPU wherever the
    images are, so that every device draws the same.
    """
    if augmentation.crop_padding or augmentation.flip:
        images = _crop_and_flip(images, augmentation, generator)
    for _ in range(augmentation.randaugment_layers):
        images = _random_operations(images, augmentation.randaugment_magnitude, generator)
    return images


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images / 255 - mean) / std in float32: images (B, C, S, S) uint8, mean and std (C,)."""
    scale = 1 / (255 * std)
    return images.float().mul_(scale[:, None, None]).sub_((mean / std)[:, None, None])


def _crop_and_flip(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    count, _, side, _ = images.shape
    padding = augmentation.crop_padding
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    columns = torch.arange(side).expand(count, side)
    if augmentation.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, side - 1 - columns, columns)
    rows, columns = (torch.arange(side) + top, columns + left)
    positions = rows[:, :, None] * (side + 2 * padding) + columns[:, None, :]
    padded = functional.pad(images, (padding,) * 4)
    return _pick(padded, positions.to(images.device))


def _pick(images: Tensor, positions: Tensor) -> Tensor:
    """Pixels of (B, C, H, W) at flat positions (B, S, S), the same in each channel."""
    count, channels = images.shape[:2]
    flat = positions.reshape(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, flat).view(count, channels, *positions.shape[1:])


# -- RandAugment -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One operation of RandAugment: `apply(images, strengths)`, strengths (B,) float64.

    At the largest magnitude the strength is `largest(side)`, its sign drawn where `signed`.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    largest: Callable[[int], float] = lambda _: 0.0
    signed: bool = False


def _random_operations(images: Tensor, magnitude: int, generator: torch.Generator) -> Tensor:
    """One layer of RandAugment (Cubuk et al. 2020): a random operation an image, one magnitude."""
    count, side = len(images), images.shape[-1]
    drawn = torch.randint(0, len(OPERATIONS), (count,), generator=generator)
    signs = torch.randint(0, 2, (count,), generator=generator).double() * 2 - 1
    changed = images.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        group = (drawn == number).nonzero()[:, 0]
        if len(group):
            strength = operation.largest(side) * magnitude / MAGNITUDES
            strengths = strength * (signs[group] if operation.signed else signs[group].abs())
            group = group.to(images.device)
            changed[group] = operation.apply(images[group], strengths.to(images.device))
    return changed


def _identity(images: Tensor, _: Tensor) -> Tensor:
    return images


def _move(images: Tensor, matrix: tuple[tuple[Tensor | float, ...], ...]) -> Tensor:
    """Each pixel's centre (x, y) takes the nearest pixel at `matrix` (2 x 3) times (x, y, 1)."""
    side = images.shape[-1]
    centres = torch.arange(side, device=images.device, dtype=torch.float64) + 0.5
    x, y = centres.view(1, 1, -1), centres.view(1, -1, 1)
    column, row = (
        (_each(a) * x + _each(b) * y + _each(c)).floor().long().expand(len(images), side, side)
        for a, b, c in matrix
    )
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    moved = _pick(images, (row * side + column) * inside)
    return moved * inside[:, None]


def _each(value: Tensor | float) -> Tensor | float:
    return value.view(-1, 1, 1) if isinstance(value, Tensor) else value


def _shear_x(images: Tensor, slope: Tensor) -> Tensor:
    return _move(images, ((1, slope, 0), (0, 1, 0)))


def _shear_y(images: Tensor, slope: Tensor) -> Tensor:
    return _move(images, ((1, 0, 0), (slope, 1, 0)))


def _translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    return _move(images, ((1, 0, pixels.trunc()), (0, 1, 0)))


def _translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    return _move(images, ((1, 0, 0), (0, 1, pixels.trunc())))


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    middle = images.shape[-1] / 2
    sine, cosine = degrees.deg2rad().sin(), degrees.deg2rad().cos()
    return _move(
        images,
        (
            (cosine, -sine, middle - cosine * middle + sine * middle),
            (sine, cosine, middle - sine * middle - cosine * middle),
        ),
    )


def _blend(plain: Tensor, full: Tensor, strengths: Tensor) -> Tensor:
    """`plain` at strength -1, `full` at 0, beyond it above; grey levels cut off as Pillow does."""
    factor = (1 + strengths).float().view(-1, 1, 1, 1)
    plain, full = plain.float(), full.float()
    return (plain + factor * (full - plain)).clamp_(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Luma (B, 1, S, S) int64 of ITU-R BT.601 in 16-bit fixed point."""
    if images.shape[1] == 1:
        return images.long()
    red, green, blue = images.long().chunk(3, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def _color(images: Tensor, strengths: Tensor) -> Tensor:
    return _blend(_grey(images).expand_as(images), images, strengths)


def _brightness(images: Tensor, strengths: Tensor) -> Tensor:
    return _blend(torch.zeros_like(images), images, strengths)


def _contrast(images: Tensor, strengths: Tensor) -> Tensor:
    pixels = images.shape[-1] ** 2
    total = _grey(images).sum(dim=(1, 2, 3), keepdim=True)
    return _blend((2 * total + pixels) // (2 * pixels), images, strengths)


def _sharpness(images: Tensor, strengths: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=images.device)
    if images.shape[-1] < 3:
        return images
    planes = images.float().flatten(0, 1)[:, None]
    smooth = images.clone()
    sums = functional.conv2d(planes, kernel[None, None]).view_as(images[..., 1:-1, 1:-1])
    # The edge has no neighbours to smooth with and stays.
    smooth[..., 1:-1, 1:-1] = (sums / 13).round().to(torch.uint8)
    return _blend(smooth, images, strengths)


def _posterize(images: Tensor, bits_dropped: Tensor) -> Tensor:
    dropped = bits_dropped.round().long().view(-1, 1, 1, 1)
    return (images.long() >> dropped << dropped).to(torch.uint8)


def _solarize(images: Tensor, strengths: Tensor) -> Tensor:
    threshold = 255 * (1 - strengths).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def _look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each level of (B, C, S, S) replaced by its entry in the channel's table (B, C, 256)."""
    levels = tables.clamp(0, 255).to(torch.uint8)
    return levels.gather(2, images.flatten(2).long()).view_as(images)


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    levels = torch.arange(256, device=images.device, dtype=torch.float64)
    low = images.amin(dim=(2, 3)).double()[..., None]
    high = images.amax(dim=(2, 3)).double()[..., None]
    # A number over a tensor would be its reciprocal times the number: rounded twice.
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    return _look_up(images, torch.where(high > low, levels * scale + -low * scale, levels))


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    """Levels by their rank; a channel with fewer than 255 pixels below its top stays."""
    flat = images.flatten(2).long()
    counts = flat.new_zeros(*flat.shape[:2], 256).scatter_add_(2, flat, torch.ones_like(flat))
    top = counts.gather(2, flat.amax(dim=2, keepdim=True))
    step = (flat.shape[2] - top) // 255
    below = counts.cumsum(2) - counts
    tables = (below + step // 2) // step.clamp(min=1)
    return _look_up(images, torch.where(step > 0, tables, torch.arange(256, device=images.device)))


# Ranges as for 30 magnitudes in Cubuk et al. 2020; the strength m of a scale of 10 is 3 m here.
OPERATIONS = {
    "identity": Operation(_identity),
    "shear_x": Operation(_shear_x, lambda _: 0.3, signed=True),
    "shear_y": Operation(_shear_y, lambda _: 0.3, signed=True),
    "translate_x": Operation(_translate_x, lambda side: 150 / 331 * side, signed=True),
    "translate_y": Operation(_translate_y, lambda side: 150 / 331 * side, signed=True),
    "rotate": Operation(_rotate, lambda _: 30.0, signed=True),
    "brightness": Operation(_brightness, lambda _: 0.9, signed=True),
    "color": Operation(_color, lambda _: 0.9, signed=True),
    "contrast": Operation(_contrast, lambda _: 0.9, signed=True),
    "sharpness": Operation(_sharpness, lambda _: 0.9, signed=True),
    "posterize": Operation(_posterize, lambda _: 4.0),
    "solarize": Operation(_solarize, lambda _: 1.0),
    "autocontrast": Operation(_autocontrast),
    "equalize": Operation(_equalize),
}
