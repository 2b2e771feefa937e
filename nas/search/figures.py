"""How far has a search come, in a few numbers by name?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nas.search.controls import Extent, control_pools, equal_n, judged
from nas.search.pareto import front_of, scored
from nas.search.spec import SearchSpec
from nas.search.trial import Trial


def figures(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """`trials/ROLE`, `front_size` and `best/METRIC`: the best that the search found.

    METRIC is the task's primary one; a trial that breaks a constraint is none that was found. What
    is not there yet has no figure.
    """
    found = {f"trials/{role}": float(n) for role, n in Counter(t.role for t in trials).items()}
    searched = scored(trial for trial in trials if trial.role == "search")
    if searched:
        found["front_size"] = float(len(front_of(spec, trials).members))
    if kept := [trial.metrics for trial in searched if spec.keeps_constraints(trial.metrics)]:
        name, loss = spec.primary.metric.name, spec.primary.loss
        found[f"best/{name}"] = min(kept, key=loss)[name]
    return found


def hypervolumes(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """Normalised hypervolumes of the search and of each control, `hypervolume_of_N/POOL`.

    Each control is held against the search at the smaller number N of scored trials, as larger
    numbers cover more. Of a search that goes on they mean nothing yet: its controls come last.
    """
    searched = scored(trial for trial in trials if trial.role == "search")
    if not searched:
        return {}
    extent = Extent.of(spec, judged(trials))
    found: dict[str, float] = {}
    for name, pool in control_pools(scored(trials)).items():
        n = equal_n(searched, pool)
        found[f"hypervolume_of_{n}/search"], _ = extent.covered(spec, searched, n)
        found[f"hypervolume_of_{n}/{name}"], _ = extent.covered(spec, pool, n)
    return found
