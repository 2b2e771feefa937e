"""A task of another distribution that gives sentence pairs, as far as costs ask for it."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from nas.search.objective import Metric
from nas.space.task_shape import TextShape


class Options(BaseModel):
    """Nothing can be chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sentences:
    """Sentence pairs of two languages with one vocabulary of 1000 pieces."""

    name = "sentences"
    unit = "sentences"
    metrics = (Metric("perplexity", "minimize", "1"),)
    primary = "perplexity"
    options_model = Options

    def shape(self, _options: Any) -> TextShape:
        return TextShape(1000, 1000, source_length=12, target_length=9)


SENTENCES = Sentences()
