"""How good is a network on examples that it was not trained on? Loss and hits, one by one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.search.stages import Evaluation
from nas.task.task import Data, Examples, Scores, Task
from nas.train.loop import Forward
from nas.train.precision import Precision, autocast


def score(
    task: Task,
    forward: Forward,
    data: Data,
    chosen: Examples,
    evaluation: Evaluation,
    *,
    precision: Precision = "float32",
) -> Scores:
    """Scores of `chosen`, `data.validation(n)` say, on the CPU; `task.summary` gives the metrics.

    `forward` maps the inputs of a batch to class scores (N, classes), where the data lie. Losses of
    different networks on the same examples are paired: see `paired_error`.
    """
    parts: list[Scores] = []
    positions: list[Tensor] = []
    with torch.inference_mode():
        for batch in data.batches(chosen, evaluation):
            with autocast(precision, batch.labels.device):
                outputs: Tensor = forward(batch.inputs)
            parts.append(task.score(outputs.float(), batch.labels, batch.counts))
            positions.append(batch.positions)
    places = torch.cat(positions)
    order = places.argsort()
    assert torch.equal(places[order], torch.arange(len(chosen))), "every example once"
    return Scores(*(torch.cat(each).cpu()[order] for each in zip(*parts, strict=True)))


def paired_error(scores: Scores, reference: Scores) -> float:
    """Standard error of the difference in mean loss of two networks on the same examples, nats.

    Examples are drawn, labels come with them: the error of a ratio, sum of differences over number
    of labels, by its linearisation (Cochran, Sampling Techniques, 1977, chapter 6). Of one label
    an example it is std / sqrt(n); a single example has none (NaN).
    """
    if len(scores.labels) < 2:
        return math.nan
    difference, labels = scores.losses - reference.losses, scores.labels.double()
    mean = difference.sum() / labels.sum()
    # Less the mean number of labels, which moves all alike: exactly 0 where all have as many.
    residual = difference - mean * (labels - labels.mean())
    return float(residual.std() / len(residual) ** 0.5 / labels.mean())
