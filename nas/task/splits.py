"""Which images are held out, and which come next? The same wherever it is asked."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from nas.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Positions in a pool of images: `kept` ascending, `held` so that every prefix is balanced."""

    kept: tuple[int, ...]
    held: tuple[int, ...]


def keyed_seed(*key: object) -> int:
    """A seed below 2^63 for a random generator, another one for every key."""
    return int.from_bytes(_hash(key)[:8], "big") >> 1


def stratified_split(labels: Sequence[int], count: int, key: str, where: str) -> Split:
    """Holds `count` images out, each class in proportion (largest remainders, then lower label).

    Which ones, and in what order, follows from SHA-256 of `key` and position alone. A prefix of
    `held` has the classes in proportion too. Every class keeps at least one image.

    Raises:
        SpecError: naming `where`, if `count` leaves nothing to hold out or nothing to train on.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        members[label].append(position)
    check_split(len(labels), len(members), count, where)
    shares = _shares({label: len(each) for label, each in members.items()}, count)
    ranked: list[tuple[float, bytes, int]] = []
    for label, positions in members.items():
        order = sorted((_hash((key, position)), position) for position in positions)
        share = shares[label]
        ranked += [((2 * n + 1) / share, *each) for n, each in enumerate(order[:share])]
    held = tuple(position for _, _, position in sorted(ranked))
    out = set(held)
    return Split(tuple(i for i in range(len(labels)) if i not in out), held)


def check_split(images: int, classes: int, count: int, where: str) -> None:
    """Raises `SpecError` naming `where` unless `count` of `images` can be held out.

    At least one is, and one of each class is left to train on.
    """
    most = images - classes
    if most < 1:
        raise SpecError(
            f"{where}: nothing can be held out of {images} images of {classes} classes, as each "
            "class keeps one; add images"
        )
    if not 1 <= count <= most:
        raise SpecError(
            f"{where}: {count} of {images} images given; 1 to {most} can be held out, as each of "
            f"{classes} classes keeps one"
        )


def _shares(counts: dict[int, int], total: int) -> dict[int, int]:
    everything = sum(counts.values())
    # Integers throughout: a remainder must not depend on how a machine rounds.
    shares = {k: min(total * n // everything, n - 1) for k, n in counts.items()}
    by_remainder = sorted(counts, key=lambda k: (-(total * counts[k] % everything), k))
    while sum(shares.values()) < total:
        for label in by_remainder:
            if sum(shares.values()) < total and shares[label] < counts[label] - 1:
                shares[label] += 1
    return shares


def split_digest(held: Sequence[int], labels: Sequence[int]) -> str:
    """SHA-256 of the held-out positions, ascending, each with its label in `labels` of the pool."""
    content = [[position, int(labels[position])] for position in sorted(held)]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def batch_positions(count: int, step: int, batch_size: int, seed: int) -> Tensor:
    """Positions (batch_size,) int64 of training step `step`: a pure function of its arguments.

    The batches cut an endless row of epochs, each its own permutation of `count` images, so that
    every image is seen equally often and a resumed run goes on exactly where it was.
    """
    import torch

    parts = []
    at, end = step * batch_size, (step + 1) * batch_size
    while at < end:
        epoch, offset = divmod(at, count)
        parts.append(_permutation(count, seed, epoch)[offset : offset + end - at])
        at += len(parts[-1])
    return torch.cat(parts)


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(keyed_seed("epoch", seed, epoch))
    return torch.randperm(count, generator=generator)


def _hash(key: tuple[object, ...]) -> bytes:
    return hashlib.sha256("/".join(map(str, key)).encode()).digest()
