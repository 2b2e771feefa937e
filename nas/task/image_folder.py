"""How is a folder of somebody's own images read? Class by class, any size and mode, made square."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import DataError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
LAYOUT = "CLASS/IMAGE, a folder for each of at least two classes"


def class_folders(folder: Path) -> tuple[Path, ...]:
    """The class folders by name, hidden ones left out; raises `DataError` for fewer than two."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        found = tuple(each for each in entries if each.is_dir() and not _hidden(each.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error}); {LAYOUT} is expected") from error
    if len(found) < 2:
        raise DataError(f"{folder}: {len(found)} class folders there; {LAYOUT} is expected")
    return found


def image_files(folder: Path) -> tuple[Path, ...]:
    """All images in a class folder and below, in an order of their names; `DataError` for none."""
    found = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    shown = [path for path in found if not any(map(_hidden, path.parts))]
    if not shown:
        raise DataError(f"{folder}: no images there; allowed: {', '.join(sorted(SUFFIXES))}")
    return tuple(folder / path for path in sorted(shown, key=lambda path: path.parts))


def class_files(
    folder: Path, names: tuple[str, ...], least: int = 1
) -> tuple[tuple[Path, ...], ...]:
    """The images of each class; raises `DataError` for other classes than these.

    So it does for a class of fewer than `least`: of one image, nothing can be held out and learnt.
    """
    found = tuple(each.name for each in class_folders(folder))
    if found != names:
        raise DataError(f"{folder}: classes {', '.join(found)}; wanted: {', '.join(names)}")
    groups = tuple(image_files(folder / name) for name in names)
    for name, group in zip(names, groups, strict=True):
        if len(group) < least:
            raise DataError(
                f"{folder / name}: {len(group)} image there; at least {least} are needed, one to "
                "learn from and one to hold out; add images, or take the class away"
            )
    return groups


def read_images(files: tuple[Path, ...], side: int) -> Tensor:
    """The images as (N, 3, side, side) uint8; raises `DataError` naming a file that is broken."""
    import torch

    images = torch.empty(len(files), 3, side, side, dtype=torch.uint8)
    for image, path in zip(images, files, strict=True):
        image.copy_(torch.from_numpy(_read_image(path, side)))
    return images


def _read_image(path: Path, side: int) -> NDArray[numpy.uint8]:
    """One image (3, side, side): upright, its middle square, shrunk with antialiasing."""
    import numpy
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            # Pillow gives 16-bit PGM, and nothing else that is PPM, as 32 bits a pixel.
            deep = opened.format == "PPM" and opened.mode == "I"
            image = _rgb(ImageOps.exif_transpose(opened), sixteen=deep)
    # Pillow's readers let a broken file raise what it will: OSError, SyntaxError, struct.error.
    except Exception as error:
        raise DataError(f"{path}: not an image that can be read: {error}") from error
    shorter = min(image.size)
    left, top = ((length - shorter) // 2 for length in image.size)
    # Cut first: resizing within a box would let what lies around it bleed in.
    square = image.crop((left, top, left + shorter, top + shorter))
    resized = square.resize((side, side), Image.Resampling.BILINEAR)
    return numpy.array(resized).transpose(2, 0, 1)


def _rgb(image: Image, sixteen: bool = False) -> Image:
    """Eight bits a channel, on white where the image is transparent.

    `sixteen` says that the levels are 0 to 65535, whatever room they are given.
    """
    import numpy
    from PIL import Image

    if sixteen or image.mode.startswith("I;16"):
        high: Any = numpy.asarray(image) >> 8
        return Image.fromarray(high.astype(numpy.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ValueError(f"mode {image.mode} with 32 bits a pixel; 1 to 16 bits are allowed")
    if "A" in image.getbands() or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _hidden(name: str) -> bool:
    return name.startswith(".")
