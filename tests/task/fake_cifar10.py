"""A CIFAR-10 of 240 images, made like the real one, in place of what a download would fetch."""

import hashlib
import pickle
import shutil
import tarfile
import urllib.error
from pathlib import Path

import numpy
import pytest
from torchvision.datasets import CIFAR10 as CIFAR

FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


def fake_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the archive in a folder, and has this process download that one; gives its path."""
    source = folder / "source" / str(CIFAR.base_folder)
    source.mkdir(parents=True)
    generator = numpy.random.default_rng(0)
    for name in FILES[:-1]:
        batch = {
            "data": generator.integers(0, 256, (40, 3072), numpy.uint8),
            "labels": [i % 10 for i in range(40)],
        }
        (source / name).write_bytes(pickle.dumps(batch))
    (source / FILES[-1]).write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    packed = source.parent / str(CIFAR.filename)
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(source, str(CIFAR.base_folder))
    sums = [[name, _md5(source / name)] for name in FILES]

    def fetch(_: str, target: str) -> None:
        try:
            shutil.copyfile(packed, target)
        except FileNotFoundError as error:
            raise urllib.error.URLError("no route to host") from error

    # All that goes out; the check of the archive's md5 sum and the unpacking stay torchvision's.
    outward = "torchvision.datasets.utils"
    monkeypatch.setattr(f"{outward}._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(f"{outward}._urlretrieve", fetch)
    monkeypatch.setattr(CIFAR, "tgz_md5", _md5(packed))
    monkeypatch.setattr(CIFAR, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR, "test_list", sums[5:6])
    monkeypatch.setattr(CIFAR, "meta", CIFAR.meta | {"md5": sums[6][1]})
    return packed


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
