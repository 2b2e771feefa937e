"""What do the smaller nets of a step learn from the largest? Its class probabilities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from nas.search.recipe import SupernetRecipe


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of class scores (N, classes), mean over the labels, in float32.

    In-place distillation (Yu and Huang, Universally Slimmable Networks, ICCV 2019; Yu et al.,
    BigNAS, ECCV 2020): the teacher is the largest net of the same step; no gradient reaches it.
    """
    return functional.kl_div(
        functional.log_softmax(student.float(), dim=-1),
        functional.log_softmax(teacher.detach().float(), dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def first_step(recipe: SupernetRecipe) -> int:
    """From which step on the others distil: `distill_after`, or the end of the warm-up.

    A teacher that has learnt nothing yet hurts short runs.
    """
    return recipe.warmup_steps if recipe.distill_after is None else recipe.distill_after
