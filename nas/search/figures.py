"""How far has a search come, in a few numbers by name?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nas.search.pareto import (
    front_of,
    hypervolume_at,
    ideal_point,
    reference_point,
    scored,
)
from nas.search.spec import SearchSpec
from nas.search.trial import Trial


def figures(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """`trials/ROLE`, `front_size` and `best/METRIC`: the task's primary metric of a searched trial.

    What is not there yet has no figure.
    """
    found = {f"trials/{role}": float(n) for role, n in Counter(t.role for t in trials).items()}
    searched = scored(trial for trial in trials if trial.role == "search")
    if searched:
        name, loss = spec.primary.metric.name, spec.primary.loss
        found[f"best/{name}"] = min(searched, key=lambda t: loss(t.metrics)).metrics[name]
        found["front_size"] = float(len(front_of(spec, trials).members))
    return found


def hypervolumes(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """Normalised hypervolumes of the search and of each control, `hypervolume_of_N/POOL`.

    Each control is held against the search at the smaller number N of scored trials, as larger
    numbers cover more; reference and ideal point are those of all of them. Of a search that goes on
    they mean nothing yet: its controls come last.
    """
    judged = [trial for trial in trials if trial.role in ("search", "random", "homogeneous")]
    pools: dict[str, list[Trial]] = {}
    for trial in scored(judged):
        pools.setdefault(trial.role, []).append(trial)
        if trial.role == "homogeneous":
            pools.setdefault(f"homogeneous {trial.label}", []).append(trial)
    searched = pools.pop("search", [])
    if not searched:
        return {}
    reference = reference_point(judged, spec.parsed_objectives)
    ideal = ideal_point(judged, spec.parsed_objectives)
    found: dict[str, float] = {}
    for name, pool in pools.items():
        n = min(len(searched), len(pool))
        for whose, held in (("search", searched), (name, pool)):
            mean, _ = hypervolume_at(
                held,
                spec.parsed_objectives,
                reference,
                n,
                constraints=spec.parsed_constraints,
                ideal=ideal,
                seed=spec.seed,
            )
            found[f"hypervolume_of_{n}/{whose}"] = mean
    return found
