"""A small corpus of made-up sentences, and real data where they are."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from nas.task.task import data_root

WORDS = [
    "der",
    "die",
    "das",
    "ein",
    "Haus",
    "geht",
    "läuft",
    "über",
    "Straße",
    "nicht",
    "und",
    "weiß,",
    "schön;",
    "Café",
    "12",
    "“naïve”",
    "z.B.",
]
SIZES = {"train": 300, "valid": 40, "test": 30}


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of 2 to 24 words, and as many or some more words in another order."""
    generator = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = generator.choices(WORDS, k=generator.randint(2, 24))
        pairs.append(
            (" ".join(words), " ".join([*reversed(words), *words[: generator.randint(0, 3)]]))
        )
    return pairs


def write(path: Path, lines: Sequence[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_corpus(folder: Path, source: str = "en", target: str = "de") -> Path:
    """All six files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(SIZES.items()):
        pairs = sentence_pairs(count, seed)
        write(folder / f"{split}.{source}", [one for one, _ in pairs])
        write(folder / f"{split}.{target}", [other for _, other in pairs])
    return folder


def real_text(name: str) -> Path:
    """The data root with this corpus in it; only where none is named may it be missing."""
    root = data_root()
    if not (root / name).is_dir():
        if os.environ.get("NAS_DATA_DIR"):
            pytest.fail(f"NAS_DATA_DIR is {root}, and {name} is not there")
        pytest.skip(f"NAS_DATA_DIR is not set, and there is no ./data with {name}")
    return root
