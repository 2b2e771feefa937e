"""Trials as a search on cifar10_small could leave them: exact costs, a made-up score."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from nas.cost.cost import exact_costs
from nas.operators.declaration import Choice
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Standing, Trial, TrialRole
from nas.space.architecture import Architecture
from nas.space.task_shape import ImageShape
from tests.space.spaces import encoder

SHAPE = ImageShape(32, 3, 10)
COST = exact_costs(SHAPE)
QUALITY = {"softmax": 0.10, "cosformer": 0.07, "linear": 0.04, "softmax_relpos": 0.11}


def request(**changes: Any) -> SearchSpec:
    """A request on CIFAR-10 with cross-entropy and FLOPs."""
    return SearchSpec.model_validate(
        {"name": "sample", "task": "cifar10", "space": "cifar10_small", **changes}
    )


def proxy(architecture: Architecture) -> float:
    """A cross-entropy that falls with depth, width and softmax, the last layers' type most."""
    gain = 0.09 * math.log2(encoder(architecture).width / 48) + 0.05 * architecture.depth
    for place, layer in enumerate(architecture.layers, 1):
        weight = place / architecture.depth
        gain += weight * QUALITY[layer.attention.type] + 0.0003 * layer.ffn_width
    return 1.1 + math.exp(-gain)


def trial(
    role: TrialRole,
    index: int,
    architecture: Architecture,
    *,
    noise: float = 0.0,
    error: float = 0.004,
    label: str = "",
) -> Trial:
    """A scored trial."""
    loss = proxy(architecture) + noise
    metrics = {
        **COST(architecture),
        "cross_entropy": loss,
        "accuracy": math.exp(-loss),
        "cross_entropy_paired_se": error,
    }
    return Trial(role, index, architecture, Measurement.of(metrics, 1.5), label)


def searched(
    spec: SearchSpec, count: int, *, seed: int = 0, error: float = 0.004, improve: bool = True
) -> list[Trial]:
    """`count` search trials, the later ones mutated from the front so far where they `improve`."""
    rng = random.Random(f"search {seed}")
    space, found = spec.search_space, list[Trial]()
    for index in range(count):
        architecture = space.sample(rng)
        if improve and index >= 20:
            parent = rng.choice(front_of(spec, found).members).architecture
            architecture = space.mutate(parent, rng, 0.12)
        noise = rng.gauss(0, error)
        found.append(trial("search", index, architecture, noise=noise, error=error))
    return found


def controls(
    spec: SearchSpec, count: int, homogeneous: int, *, seed: int = 0, error: float = 0.004
) -> list[Trial]:
    """Random controls and `homogeneous` networks of each type."""
    rng = random.Random(f"controls {seed}")
    space = spec.search_space
    found = [
        trial("random", i, space.sample(rng), noise=rng.gauss(0, error), error=error)
        for i in range(count)
    ]
    for attention in space.all_attentions:
        within = space.homogeneous(attention)
        for _ in range(homogeneous):
            place = len(found) - count
            drawn = within.sample(rng)
            noise, name = rng.gauss(0, error), str(attention)
            found.append(trial("homogeneous", place, drawn, noise=noise, error=error, label=name))
    return found


def confirmed(
    members: Sequence[Architecture],
    gaps: Mapping[str, Sequence[float]],
) -> list[Trial]:
    """Members and rivals of their dimensions trained alone: test loss 1 and 1 minus the gap a seed.

    `gaps` holds member minus rival in test cross-entropy per type and seed.
    """
    found: list[Trial] = []

    def add(architecture: Architecture, standing: Standing, loss: float) -> None:
        metrics = {
            **COST(architecture),
            "cross_entropy": 9.0,
            "accuracy": 0.1,
            "test_cross_entropy": loss,
            "test_accuracy": math.exp(-loss),
        }
        measured = Measurement.of(metrics, 60.0)
        found.append(Trial("confirmed", len(found), architecture, measured, standing.label()))

    for place, member in enumerate(members):
        seeds = max(len(each) for each in gaps.values())
        for seed in range(seeds):
            base = 1 + 0.1 * place + 0.01 * seed
            add(member, Standing(member.id, None, seed), base)
            for attention, gap in gaps.items():
                rival = member.replace_attention(Choice(attention))
                if seed < len(gap):
                    standing = Standing(member.id, attention, seed)
                    add(rival, standing, base - gap[seed])
    return found


def full(spec: SearchSpec, *, error: float = 0.004) -> list[Trial]:
    """200 search trials with some that have no score, 200 random controls, 24 of each type."""
    found = searched(spec, 200, error=error)
    for index, state in ((7, "failed"), (31, "infeasible"), (32, "infeasible")):
        reason = "RuntimeError at loop.py:9: out of memory" if state == "failed" else "not finite"
        measured = Measurement({}, state, reason)  # type: ignore[arg-type]
        found[index] = Trial("search", index, found[index].architecture, measured)
    return found + controls(spec, 200, 24, error=error)
