"""Does training wait for its images? The input pipeline against the training step, in turns.

Bar: a step of training a `cifar10_small` supernet (batch 64, uniform sampling, two threads) takes
>= 5 x as long as making its batch: positions, augmentation and normalisation of real images, with
crop and flip and with two layers of RandAugment after them. The step on the space's smallest
network stands beside it: no network gives the pipeline less time. Needs CIFAR-10 in NAS_DATA_DIR.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.supernet_step import Case, Step
from nas import catalog
from nas.errors import DataError
from nas.search.recipe import Augmentation, SupernetRecipe, TrainingRecipe
from nas.space.loader import load_space
from nas.task.task import ImageData, data_root

BAR = 5.0
AUGMENTATIONS = {
    "crop and flip": Augmentation(crop_padding=4, flip=True),
    "crop, flip, RandAugment 2 layers": Augmentation(
        crop_padding=4, flip=True, randaugment_layers=2
    ),
}


def steps(data: ImageData, batch: int) -> dict[str, Step]:
    """Training steps on a batch that lies ready: as a search takes them, and the cheapest."""
    task = catalog.TASKS.load("cifar10")
    images, labels, *_ = data.training_batch(0, TrainingRecipe(batch_size=batch), 0)
    case = Case(load_space("cifar10_small"), task.shape(task.options_model()), images, labels)
    smallest = case.space.extreme("smallest")
    return {
        "uniform": case.scheduled(SupernetRecipe(sampling="uniform"))[1],
        "smallest network": case.path(lambda _: smallest)[1],
    }


def against(step: Step, data: ImageData, batch: int, given: Augmentation, pairs: int) -> Paired:
    """The training step (a) and the making of a batch (b), in turns."""
    recipe = TrainingRecipe(batch_size=batch, augmentation=given)
    return compare(step, lambda number: data.training_batch(number, recipe, 0), pairs)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=40)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    task = catalog.TASKS.load("cifar10")
    try:
        data: ImageData = task.load(task.options_model(), data_root())
    except DataError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    found = {
        (step, name): against(each, data, given.batch, augmentation, given.pairs)
        for step, each in steps(data, given.batch).items()
        for name, augmentation in AUGMENTATIONS.items()
    }
    bars = {key: BAR if key[0] == "uniform" else None for key in found}
    print_table(
        f"Training step over input pipeline, CIFAR-10, batch {given.batch}, {given.threads} "
        f"threads, {given.pairs} pairs",
        ("training step", "augmentation", "step, ms", "batch, ms", "ratio", "quartiles", "bar"),
        [
            (
                *key,
                f"{each.a_ms:.1f}",
                f"{each.b_ms:.2f}",
                f"{each.ratio:.1f}",
                f"{each.lower_quartile:.1f} to {each.upper_quartile:.1f}",
                f">= {BAR:g}" if bars[key] else "",
            )
            for key, each in found.items()
        ],
    )
    figures: dict[str, Any] = {
        "machine": machine(),
        "batch": given.batch,
        "ratios": [
            {"step": key[0], "augmentation": key[1], **each.to_json(), "bar": bars[key]}
            for key, each in found.items()
        ],
    }
    write(given.out, figures)


if __name__ == "__main__":
    main()
