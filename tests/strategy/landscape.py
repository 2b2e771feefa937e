"""Problems scored in no time: real spaces, exact costs and a made-up loss with structure."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from functools import lru_cache

from nas.cost.cost import exact_costs_of_many
from nas.search.objective import Constraint, Metric, Objective
from nas.search.problem import Problem
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture, Encoder, EncoderDecoder
from nas.space.blueprint import blueprint
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TaskShape, TextShape
from nas.strategy.strategy import Strategy
from tests.space.spaces import encoder

DIGITS = ImageShape(side=8, channels=1, classes=10)
SENTENCES = TextShape(50, 50, source_length=20, target_length=12)
LOSS = Metric("cross_entropy", "minimize", "nats")
ACCURACY = Metric("accuracy", "maximize", "fraction")
FLOPS = Metric("flops", "minimize", "operations", analytic=True)
PARAMS = Metric("params", "minimize", "numbers", analytic=True)
TWO = (Objective(LOSS), Objective(FLOPS))


def space_of(**changes: object) -> SearchSpace:
    """A digits space of 2,368 architectures, or another with these changes."""
    layers = {
        "attention": ["softmax", "cosformer", "linear"],
        "heads": [2, 4],
        "head_width": [4, 8],
        "ffn_width": [16, 64],
    }
    given: dict[str, object] = {"name": "enumerated", "patch_size": [1, 2], "width": [16, 24]}
    given |= {"depth": [1, 2], "layers": layers}
    return load_space(given | changes)


@lru_cache(maxsize=100_000)
def costs(architecture: Architecture) -> Mapping[str, float]:
    """Exact parameters and FLOPs (2 x MAC) for digits, or for sentences."""
    shape = DIGITS if isinstance(architecture, Encoder) else SENTENCES
    parts = list(blueprint(architecture, shape))
    macs = sum(count for part in parts for _, count in part.macs)
    return {"params": sum(part.params for part in parts), "flops": 2 * macs}


def problem_of(
    space: SearchSpace | None = None,
    *constraints: str,
    objectives: tuple[Objective, ...] = TWO,
) -> Problem:
    """A problem over a space with constraints given as text."""
    space = space or space_of()
    parsed = tuple(Constraint.parse(text) for text in constraints)
    shape: TaskShape = DIGITS if space.kind == Encoder.kind else SENTENCES
    return Problem(space, objectives, parsed, costs, exact_costs_of_many(shape))


# By the place of a layer, first and later: softmax pays late, the cheap kinds do well early.
QUALITY = {"softmax": (0.30, 0.62), "cosformer": (0.34, 0.40), "linear": (0.26, 0.30)}


@lru_cache(maxsize=100_000)
def cross_entropy(architecture: Architecture, world: int = 0) -> float:
    """A made-up loss: diminishing returns, interactions of attention types, a little ruggedness.

    Types differ by place and head width, two layers of one efficient kind do not add up, and
    `world` seeds what no structure explains (standard deviation 0.015).
    """
    if isinstance(architecture, EncoderDecoder):
        gain: float = 0.2 * ((architecture.encoder_width + architecture.decoder_width) / 64) ** 0.5
    else:
        outer = encoder(architecture)
        gain = 0.25 * (outer.width / 32) ** 0.5 + 0.2 * (outer.patch_size == 1)
    previous = None
    for place, layer in enumerate(architecture.layers):
        kind = layer.attention.type
        quality = QUALITY[kind][min(place, 1)]
        if kind == "cosformer":
            quality *= 0.7 + 0.3 * (layer.head_width == 8)
        if kind == previous and kind != "softmax":
            quality *= 0.6
        room = (layer.heads * layer.head_width / 32) ** 0.3 * (layer.ffn_width / 64) ** 0.2
        gain += quality * room * 0.8**place
        previous = kind
    digest = hashlib.sha256(f"{world}:{architecture.id}".encode()).digest()
    return 2.0 - gain + 0.015 * random.Random(digest).gauss(0, 1)


def evaluated(index: int, architecture: Architecture, world: int = 0) -> Trial:
    """The trial of an architecture; accuracy follows from the loss."""
    loss = cross_entropy(architecture, world)
    metrics = {"cross_entropy": loss, "accuracy": 1 / (1 + loss), **costs(architecture)}
    return Trial("search", index, architecture, Measurement.of(metrics))


def run(
    strategy: Strategy, problem: Problem, seed: int, count: int, batch: int = 10, world: int = 0
) -> list[Trial]:
    """A whole search of at most `count` trials."""
    trials: list[Trial] = []
    while len(trials) < count:
        wanted = min(batch, count - len(trials))
        proposed = strategy.propose(problem, seed, tuple(trials), wanted)
        if not proposed:
            break
        trials += [evaluated(len(trials) + i, each, world) for i, each in enumerate(proposed)]
    return trials


def all_of(problem: Problem, world: int = 0) -> list[Trial]:
    """Every architecture of the space, evaluated."""
    found: Iterable[Architecture] = problem.space.enumerate()
    return [evaluated(index, each, world) for index, each in enumerate(found)]
