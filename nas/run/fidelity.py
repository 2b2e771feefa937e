"""Does the ranking hold? Networks on and below the front are trained alone, a ranker is tried."""

from __future__ import annotations

from collections.abc import Sequence

from nas.cost.analytic import PARAMS
from nas.run.queue import fixed
from nas.run.running import Running
from nas.search.fidelity import (
    HOURS_SPENT,
    RANKER_TEST,
    Agreements,
    RankerTest,
    learnt_and_unseen,
    networks_to_train,
)
from nas.search.rank_correlation import FEWEST
from nas.search.spec import SearchSpec
from nas.search.trial import Proposal, Trial, TrialRole
from nas.space.features import Features
from nas.strategy.ranker import Ranker

PHASE: TrialRole = "fidelity"


def check_ranking(running: Running) -> None:
    """Tries the ranker, and trains the networks of the request's `fidelity` alone, or goes on.

    The phase must be `fidelity`: its time, that of earlier runs included, is what `fidelity.hours`
    bounds.
    """
    spec, hours = running.spec, running.spec.fidelity.hours
    trials = running.store.trials(running.id)
    running.note_facts({RANKER_TEST: try_ranker(spec, trials).to_text()})
    proposals = [
        Proposal(PHASE, i, trial.architecture, f"{trial.role} {trial.index}")
        for i, trial in enumerate(networks_to_train(spec, trials))
    ]

    def over(_: int) -> bool:
        if hours is None:
            return False
        running.charge()
        return running.store.spent(running.id)[PHASE].seconds >= hours * 3600

    trained = running.evaluate(PHASE, fixed(proposals), len(proposals), over)
    if len(trained) < len(proposals) and over(len(trained)):
        running.note_facts({HOURS_SPENT: f"{hours:g}"})


def try_ranker(spec: SearchSpec, trials: Sequence[Trial]) -> RankerTest:
    """The adaptive ranker, fitted to the search's trials and tried on random controls.

    A pure function of the trials. No control that the search has, too, takes part.
    """
    learnt, unseen = learnt_and_unseen(spec, trials)
    if len(learnt) < FEWEST or len(unseen) < FEWEST:
        many = f"{len(learnt)} scored networks to learn from and {len(unseen)} to be tried on"
        return RankerTest("", len(learnt), None, f"there are {many}; {FEWEST} of each are needed")
    loss = spec.primary.loss
    features = Features.of_space(spec.search_space)
    codes = features.codes([trial.architecture for trial in learnt])
    ranker = Ranker.fit(features, codes, [loss(trial.metrics) for trial in learnt], seed=spec.seed)
    others = [trial.architecture for trial in unseen]
    agreements = Agreements.of(
        ranker.score(features.codes(others)).tolist(),
        [loss(trial.metrics) for trial in unseen],
        [PARAMS.of(each, spec.task_shape) for each in others],
        [each.depth for each in others],
    )
    return RankerTest(ranker.member, len(learnt), agreements)
