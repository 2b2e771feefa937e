"""Does the supernet rank networks as training does? Which are asked, and how they are trained."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nas.search.pareto import front_of, scored
from nas.search.rank_correlation import RankAgreement
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Trial

RANKER_TEST = "ranker_test"
"""The fact of a search that holds its `RankerTest`."""
HOURS_SPENT = "fidelity_hours_spent"
"""The fact that says that `fidelity.hours` were up before all networks were trained."""
FEWEST_JUDGED = 8
"""Of fewer networks a bootstrap's interval of tau is too narrow to pass or to fail a ranking."""
SEED = 0
"""Of every such training: the same for all, so that networks differ by their architecture."""


def short_recipe(spec: SearchSpec) -> SearchSpec:
    """The request with the stand-alone recipe by which the ranking is checked.

    Fewer steps, and as large a share of them to warm up; all else as in `standalone`.
    """
    whole = spec.standalone
    steps = spec.fidelity.steps or max(1, whole.steps // 4)
    warmup = round(whole.warmup_steps * steps / whole.steps)
    # Read anew: a copy of the model would keep digests of the longer recipe.
    changes = {"standalone.steps": steps, "standalone.warmup_steps": warmup}
    return load_spec(spec.to_json(), changes)


def slices(spec: SearchSpec, trials: Sequence[Trial]) -> list[Trial]:
    """Scored trials of search and random control, each architecture once, the search's first."""
    name, found = spec.primary.metric.name, dict[str, Trial]()
    for role in ("search", "random"):
        held = [each for each in scored(trials) if each.role == role and name in each.metrics]
        for trial in sorted(held, key=lambda each: each.index):
            found.setdefault(trial.architecture.id, trial)
    return list(found.values())


def networks_to_train(spec: SearchSpec, trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose networks are trained alone to check their ranking, in the order of training.

    Half of `fidelity.networks` are members of the front, spread evenly along it with both its ends.
    The others lie below it: the middle ones of equal shares of all other scored trials, ordered by
    the task's primary metric. Where one side has too few, the other gives more. The order is drawn
    from the seed, so that any beginning of it, as a budget may leave, is spread as well.
    """
    pool = slices(spec, trials)
    by_id = {trial.architecture.id: trial for trial in pool}
    members = {each.architecture.id for each in front_of(spec, trials).members} & set(by_id)

    def ordered(ids: set[str]) -> list[Trial]:
        return sorted(
            (by_id[each] for each in ids),
            key=lambda trial: (spec.primary.loss(trial.metrics), trial.architecture.id),
        )

    front, below = ordered(members), ordered(set(by_id) - members)
    count = min(spec.fidelity.networks, len(pool))
    of_front = min(len(front), max((count + 1) // 2, count - len(below)))
    chosen = [*_ends_and_between(front, of_front), *_middles(below, count - of_front)]
    random.Random(f"{spec.seed}/fidelity").shuffle(chosen)
    return chosen


def _ends_and_between(given: Sequence[Trial], count: int) -> list[Trial]:
    if count == 1:
        return [given[0]]
    return [given[round(i * (len(given) - 1) / (count - 1))] for i in range(count)]


def _middles(given: Sequence[Trial], count: int) -> list[Trial]:
    return [given[(2 * i + 1) * len(given) // (2 * count)] for i in range(count)]


@dataclass(frozen=True)
class Agreements:
    """How a score agrees with a truth, beside the counts that any score must beat.

    All on the same networks. `params` and `depth`: more parameters or layers are taken as better.
    """

    score: RankAgreement
    params: RankAgreement
    depth: RankAgreement

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        truth: Sequence[float],
        params: Sequence[int],
        depths: Sequence[int],
    ) -> Agreements:
        """From scores and truth as losses, and the counts, in the order of the same networks."""
        counts = ([-count for count in each] for each in (params, depths))
        return cls(*(RankAgreement.of(each, truth) for each in (scores, *counts)))


@dataclass(frozen=True)
class RankerTest:
    """A ranker that learnt from a search's trials, tried on random controls that it never saw.

    `fitted`: networks that it learnt from. `agreements` with the supernet's score; None where there
    was nothing to learn from or to try it on, as `reason` says.
    """

    member: str
    fitted: int
    agreements: Agreements | None
    reason: str = ""

    def to_text(self) -> str:
        """As the record keeps it: JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, facts: Mapping[str, str]) -> RankerTest | None:
        """What the facts of a search hold; None where no ranker was tried."""
        if RANKER_TEST not in facts:
            return None
        given = json.loads(facts[RANKER_TEST])
        kept = given["agreements"]
        agreements = kept and Agreements(**{k: RankAgreement(**v) for k, v in kept.items()})
        return cls(given["member"], given["fitted"], agreements, given["reason"])


def learnt_and_unseen(spec: SearchSpec, trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """The scored search trials, for a ranker to learn from, and random controls of other networks.

    Each architecture once.
    """
    pool = slices(spec, trials)
    return ([t for t in pool if t.role == "search"], [t for t in pool if t.role == "random"])
