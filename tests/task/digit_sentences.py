"""A task of sentences: several digits make one example, and each of them has its label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas import catalog
from nas.registry import Registry
from nas.search.recipe import TrainingRecipe, Unit
from nas.search.stages import Evaluation
from nas.task.image_classification import Digits, DigitsOptions
from nas.task.task import Batch, ImageData, LabelledImages, scored_on

LONGEST = 9


@dataclass(frozen=True, eq=False)
class Sentences:
    """Rows of images (E, `LONGEST`), of which only the first `lengths` (E,) are read."""

    images: LabelledImages
    rows: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def digest(self) -> str:
        """All of them are made of the digits, always the same ones."""
        return f"{self.rows.tolist()}"

    @classmethod
    def of(cls, images: LabelledImages) -> Sentences:
        """As many sentences as a fifth of the images, of 1 to 9 of them each."""
        generator, count = torch.Generator().manual_seed(0), len(images) // 5
        rows = torch.randint(0, len(images), (count, LONGEST), generator=generator)
        return cls(images, rows, torch.randint(1, LONGEST + 1, (count,), generator=generator))

    def take(self, chosen: Tensor) -> Sentences:
        """Those at positions (B,)."""
        return Sentences(self.images, self.rows[chosen], self.lengths[chosen])

    def batch(self, data: ImageData, positions: Tensor) -> Batch:
        """Sentences end to end, without padding."""
        taken = self.take(positions)
        places = taken.rows[torch.arange(LONGEST) < taken.lengths[:, None]]
        images = data.normalise(self.images.images[places])
        return Batch(images, self.images.labels[places], positions, taken.lengths)


@dataclass(frozen=True, eq=False)
class SentenceData:
    """The digits as sentences, in batches of so many tokens, the longest of them first."""

    digits: ImageData

    @property
    def digest(self) -> str:
        return self.digits.digest

    @property
    def skipped(self) -> Mapping[str, int]:
        return {}

    @property
    def about(self) -> Mapping[str, Any]:
        return self.digits.about

    def to(self, device: torch.device | str, /) -> SentenceData:
        return SentenceData(self.digits.to(device))

    def training_batch(self, step: int, recipe: TrainingRecipe, seed: int, /) -> Batch:
        train = Sentences.of(self.digits.train)
        generator = torch.Generator().manual_seed(1000 * seed + step)
        drawn = torch.randint(0, len(train), (recipe.batch_tokens // LONGEST,), generator=generator)
        return train.batch(self.digits, drawn)

    def validation(self, examples: int | None = None, /) -> Sentences:
        held = Sentences.of(self.digits.valid)
        return held.take(torch.arange(scored_on(examples, len(held))))

    def test(self) -> Sentences:
        return Sentences.of(self.digits.test())

    def batches(self, chosen: Sentences, evaluation: Evaluation, /) -> Iterator[Batch]:
        order = chosen.lengths.argsort(descending=True).tolist()
        while order:
            count = max(1, evaluation.batch_tokens // int(chosen.lengths[order[0]]))
            yield chosen.batch(self.digits, torch.tensor(order[:count]))
            order = order[count:]


class DigitSentences(Digits):
    """Which digits stand in a row?"""

    name = "digit_sentences"
    unit: Unit = "sentences"

    def load(self, options: DigitsOptions, root: Path, /) -> SentenceData:  # type: ignore[override]
        digits = super().load(options, root)
        return SentenceData(replace(digits, digest=f"sentences of {digits.digest}"))

    def held_out(self, options: DigitsOptions, root: Path, /) -> int:
        return super().held_out(options, root) // 5


DIGIT_SENTENCES = DigitSentences()


def plug(patch: pytest.MonkeyPatch) -> None:
    """As if an installed distribution had this entry point."""
    own = {DigitSentences.name: "tests.task.digit_sentences:DIGIT_SENTENCES"}
    patch.setattr(catalog, "TASKS", Registry("task", {**catalog.TASKS.entries, **own}))
