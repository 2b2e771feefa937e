"""How are weights learnt? The recipes of a request, for the supernet and for single networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from nas.errors import SpecError
from nas.search.section import NonNegative, Positive, PositiveFloat, Section, Whole

Unit = Literal["images", "sentences", "rows"]
"""What the examples of a task are; rows are those of a table, from which nothing is learnt."""

KEYS: Mapping[Unit, tuple[str, ...]] = {
    "images": ("batch_size", "augmentation"),
    "sentences": (
        "batch_tokens",
        "dropout",
        "beam",
        "length_penalty",
        "source_length",
        "target_length",
    ),
    "rows": (),
}
"""The keys of a request's sections that tasks of one unit alone take; the first sizes a batch. A
task of rows takes no key of how networks are trained, scored or timed."""


class Augmentation(Section):
    """Training-time changes of the images; a flip is refused where the task says it is unsafe."""

    crop_padding: Annotated[Whole, Field(le=64)] = 0
    """Black pixels around an image, out of which it is cropped at a random place; 0: no crop."""
    flip: Annotated[bool, Field(strict=True)] = False
    """Mirror half of the images, drawn at random."""
    randaugment_layers: Annotated[Whole, Field(le=8)] = 0
    """RandAugment's operations an image; 0: none."""
    randaugment_magnitude: Annotated[Whole, Field(le=30)] = 9
    """The strength of these operations."""


class TrainingRecipe(Section):
    """How weights are learnt: AdamW, linear warm-up then cosine to zero, clipped gradients."""

    steps: Annotated[Positive, Field(le=100_000_000)] = 1000
    """Steps of the optimizer."""
    batch_size: Annotated[Positive, Field(le=65_536)] = 64
    """Images a step; for tasks of images."""
    batch_tokens: Annotated[Positive, Field(le=1_000_000)] = 2000
    """Tokens a step of the longer side, padding included; for tasks of sentences."""
    learning_rate: PositiveFloat = 1e-3
    """The highest, at the end of the warm-up."""
    warmup_steps: Whole = 50
    """Steps of linear warm-up."""
    weight_decay: NonNegative = 0.05
    """AdamW's, of linear maps alone."""
    clip_norm: PositiveFloat = 1.0
    """The longest a gradient may be; a longer one is cut to it."""
    label_smoothing: Annotated[NonNegative, Field(lt=1)] = 0.1
    """The share of a target that is spread over all classes."""
    dropout: Annotated[NonNegative, Field(lt=1)] = 0.0
    """The share of activations that a step leaves out, of a narrower slice less; for tasks of
    sentences."""
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Format of matrix products; `auto`: bfloat16 where the device computes in it and gains."""
    checkpoint_every: Positive = 200
    """Steps between checkpoints, beside one every two minutes; they decide no weight."""


class Stability(Section):
    """Stop early when the ranking of a fixed list of subnets stays: Kendall tau >= threshold."""

    every: Positive = 500
    """Steps between scorings."""
    subnets: Annotated[Whole, Field(ge=5, le=1000)] = 50
    """How many are scored, the same each time."""
    threshold: Annotated[PositiveFloat, Field(le=1)] = 0.9
    """From this tau with the scoring before it on, a scoring counts as stable."""
    patience: Positive = 2
    """How many stable scorings in a row end the training."""


class SupernetRecipe(TrainingRecipe):
    """Training of the weight-sharing network."""

    sampling: Literal["uniform", "fair", "sandwich"] = "uniform"
    """What a step trains. `uniform`: one random subnet; `fair`: one of every attention type;
    `sandwich`: the largest, the smallest and `random_subnets` others, distilled in place."""
    sharing: Literal["per_type", "shared_vo", "shared_qkvo"] = "per_type"
    """What attention types share at a site: nothing, V and O, or all projections."""
    random_subnets: Annotated[Whole, Field(le=8)] = 2
    """The others of a sandwich."""
    homogeneous_every: Positive = 4
    """One in so many blocks of steps gives all layers the same attention type."""
    distill_after: Whole | None = None
    """The step from which a sandwich distils; null: the end of the warm-up."""
    stability: Stability | None = None
    """Ends the training early; null: all steps are taken."""


def batch_key(unit: Unit) -> str:
    """The key that sizes a batch of such examples."""
    return KEYS[unit][0]


def check_unit(section: Section, unit: Unit, task: str, where: str) -> None:
    """Raises `SpecError` naming `where` for keys of another unit that are not at their defaults."""
    fields = type(section).model_fields
    if unit == "rows":
        if changed := [key for key in fields if getattr(section, key) != fields[key].default]:
            raise SpecError(
                f"{where}.{changed[0]}: {task} looks its trials up in a table: nothing is trained, "
                "scored or timed by it; leave it out"
            )
        return
    taken = ", ".join(key for key in KEYS[unit] if key in fields) or "none such"
    for other, keys in KEYS.items():
        for key in keys if other != unit else ():
            if key in fields and getattr(section, key) != fields[key].default:
                raise SpecError(
                    f"{where}.{key}: for tasks of {other}; {task} is a task of {unit} and takes "
                    f"{taken}; leave it out"
                )
