"""Are CIFAR-10's files there and whole? Read, checked by their md5 sums, or downloaded."""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def read(root: Path, train: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (N, 3, 32, 32) uint8, labels (N,) int64 and class names; raises `DataError`."""
    import torch
    from torchvision.datasets import CIFAR10 as dataset

    try:
        found = dataset(root / "cifar10", train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise _incomplete(root, "; ".join(_faults(_folder(root))) or str(error)) from error
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(found.targets), tuple(found.classes)


def check(root: Path) -> None:
    """Raises `DataError` naming each file that is missing or broken."""
    if faults := _faults(_folder(root)):
        raise _incomplete(root, "; ".join(faults))


def download(root: Path) -> str:
    """Brings what is missing or broken, and says so; nothing is half-written if that fails."""
    from torchvision.datasets import CIFAR10 as dataset

    folder = _folder(root)
    if not _faults(folder):
        return f"cifar10: complete in {folder}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".cifar10-") as scratch:
            dataset(scratch, download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for name in _sums():
                (Path(scratch) / dataset.base_folder / name).replace(folder / name)
    except (
        OSError,
        RuntimeError,
        EOFError,
        tarfile.TarError,
        http.client.HTTPException,
    ) as why:
        raise DataError(
            f"CIFAR-10 could not be downloaded from {dataset.url} ({why}); unpack "
            f"{dataset.filename} so that {folder} holds {', '.join(_sums())}"
        ) from why
    return f"cifar10: downloaded into {folder}"


def _folder(root: Path) -> Path:
    from torchvision.datasets import CIFAR10 as dataset

    return root / "cifar10" / str(dataset.base_folder)


def _sums() -> dict[str, str]:
    from torchvision.datasets import CIFAR10 as dataset

    sums = dict([*dataset.train_list, *dataset.test_list])
    return sums | {dataset.meta["filename"]: dataset.meta["md5"]}


def _faults(folder: Path) -> list[str]:
    faults = []
    for name, md5 in _sums().items():
        try:
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
            if digest.hexdigest() != md5:
                faults.append(f"{name} is truncated or altered (wrong md5)")
        except FileNotFoundError:
            faults.append(f"{name} is missing")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    return faults


def _incomplete(root: Path, faults: str) -> DataError:
    return DataError(
        f"CIFAR-10 is not complete in {_folder(root)}: {faults}. Wanted there: "
        f"{', '.join(_sums())}; `nas data prepare cifar10` downloads them, or set NAS_DATA_DIR to "
        "the folder that holds cifar10/"
    )
