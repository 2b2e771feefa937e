"""How good is a network on images that it was not trained on? Loss and hit, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.task.task import ImageData, LabelledImages, Scores, Task
from nas.train.loop import Forward
from nas.train.precision import Precision, autocast


def score(
    task: Task,
    forward: Forward,
    data: ImageData,
    chosen: LabelledImages,
    *,
    batch_size: int,
    device: torch.device | str,
    precision: Precision = "float32",
) -> Scores:
    """Scores of `chosen`, `data.validation(n)` say, on the CPU; `task.summary` gives the metrics.

    `forward` maps normalised images (B, C, S, S) to class scores (B, classes). Losses of different
    networks on the same images are paired, so that their differences have standard errors.
    """
    device = torch.device(device)
    parts: list[Scores] = []
    with torch.inference_mode():
        for start in range(0, len(chosen), batch_size):
            images = data.normalise(chosen.images[start : start + batch_size].to(device))
            with autocast(precision, device):
                outputs: Tensor = forward(images)
            labels = chosen.labels[start : start + batch_size].to(device)
            parts.append(task.score(outputs.float(), labels))
    losses, correct = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Scores(losses, correct)
