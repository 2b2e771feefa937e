"""In what order does a search run: supernet, batches of trials, controls, report; resumable."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nas import catalog
from nas.errors import NothingFeasible, OutputError, SearchStateError
from nas.run.fidelity import PHASE, check_ranking
from nas.run.predicting import measure_front, predict_costs
from nas.run.queue import fixed
from nas.run.running import Listener, Running, Update, holding
from nas.run.submission import WARM_TRIALS
from nas.run.workspace import Workspace
from nas.search.pareto import ParetoFront
from nas.search.problem import Problem
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Proposal, Trial
from nas.space.architecture import Architecture
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from nas.strategy.random import fresh
from nas.strategy.strategy import ACCOUNT, Accountable, Strategy
from nas.train.checkpoint import State, read_state

# Of the time budget, the share that supernet training may use: a first batch must still be scored.
TRAINING_SHARE = 0.75
# The fact that says how far the supernet is trained, as it was saved last.
STEPS = "supernet_steps"
Reporter = Callable[[SearchRecord, SearchSpec, Sequence[Trial], Path], Mapping[str, Path]]
"""Writes a report into a folder and gives its files by name; raises `OutputError`."""


def run(
    search: str,
    place: Workspace,
    *,
    reporter: Reporter,
    listener: Listener = lambda _: None,
    passing: tuple[type[Exception], ...] = (),
) -> SearchRecord:
    """Runs a recorded search from wherever it stands to its report.

    Raises `SearchStateError` for a finished search, `LeaseLost` where another process runs it and
    `EvaluationBroken` where nothing could be evaluated. Killed at any moment, it can be run again:
    no trial is lost or doubled. An error makes it a failed search, but for those of the kinds
    `passing`, after which the caller sees to it that it goes on.
    """
    record = SqlStore(place.record_url).get(search)
    if record.state == "succeeded":
        raise SearchStateError(
            f"search {record.id} is finished; look at it with `nas pareto {record.id}` or confirm "
            f"it with `nas confirm {record.id}`"
        )
    with holding(record.id, place, listener) as running:
        running.store.reopen(running.lease)
        try:
            running.enter("supernet")
            _train_supernet(running)
            predict_costs(running)
            running.enter("search")
            found = _search(running)
            running.enter("controls")
            _controls(running, len(found))
            measure_front(running)
            if not running.spec.fidelity.deferred:
                running.enter(PHASE)
                check_ranking(running)
            running.enter("report")
            write_report(running, reporter)
            return running.store.set_state(running.lease, "succeeded", phase="report")
        except Exception as error:
            if not isinstance(error, passing):
                running.fail(error)
            raise


def recheck(
    search: str, place: Workspace, *, reporter: Reporter, listener: Listener = lambda _: None
) -> SearchRecord:
    """Checks the ranking of a finished search, or goes on with that, and writes its report anew.

    Raises `SearchStateError` for an unfinished search and `DataChanged` where the data are not
    those that it began with.
    """
    record = to_train_alone(search, place)
    with holding(record.id, place, listener) as running:
        running.revisit(PHASE)
        check_ranking(running)
        write_report(running, reporter)
        return running.store.set_state(running.lease, "succeeded", phase="report")


def to_train_alone(search: str, place: Workspace) -> SearchRecord:
    """The record of a search that has ended well and whose networks can be trained alone.

    Raises `SearchStateError` for any other.
    """
    record = SqlStore(place.record_url).get(search)
    spec = load_spec(record.spec)
    if spec.looked_up:
        raise SearchStateError(
            f"search {record.id}: nothing can be trained alone for task {spec.task.name}, whose "
            "scores are those of finished trainings, looked up in a table"
        )
    if record.state != "succeeded":
        raise SearchStateError(
            f"search {record.id} is {record.state}; finish it first with "
            f"`nas search --resume {record.id}`"
        )
    return record


def write_report(running: Running, reporter: Reporter) -> None:
    """Writes the report from the record's trials; front and files are noted in the record."""
    folder = running.place.report(running.id)
    trials = running.store.trials(running.id)
    running.listener(Update("report", 0, 1))
    running.note_front(trials)
    record = running.store.get(running.id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = reporter(record, running.spec, trials, folder)
    except OSError as error:
        what = error.strerror or str(error)
        raise OutputError(f"report {folder}: not written ({what}); no trial is lost") from error
    for name, path in files.items():
        running.note_artifact(name, path)
    running.listener(Update("report", 1, 1))


def _train_supernet(running: Running) -> None:
    spec, left = running.spec, running.left(TRAINING_SHARE)
    setup = replace(running.setup, training_seconds=None if left is None else max(1.0, left))
    file: Path | None = None
    facts: Mapping[str, str] = {}
    for progress in running.executor.train(setup):
        file = progress.saved
        if progress.facts != facts:
            facts = progress.facts
            running.note_facts(facts)
        if file is not None and not spec.looked_up:
            # Who looks at the record alone sees that it comes further.
            running.note_facts({STEPS: f"{progress.step} of {progress.steps}"})
        text = progress.waiting or progress.stopped or f"loss {progress.loss:.3f}"
        running.listener(Update("supernet", progress.step, progress.steps, text))
        # Training writes nothing to the record, so the loss of the lease is asked for.
        if running.heartbeat.lost is not None:
            raise running.heartbeat.lost
    if spec.looked_up:
        return
    assert file is not None, "what ends a training is saved"
    running.note_artifact(file.name, file)
    state = read_state(file, {})
    running.note_facts(
        {
            STEPS: f"{state.step} of {spec.supernet.steps} {state.stopped}".strip(),
            "supernet_precision": state.precision,
            **_left_out(state),
        }
    )


def _left_out(state: State) -> dict[str, str]:
    """How many training examples were not learnt from and why, where there are any."""
    skipped = state.about.get("skipped") or {}
    told = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
    return {"training_examples_left_out": told} if told else {}


def _search(running: Running) -> list[Trial]:
    spec = running.spec
    options = spec.strategy.configured(catalog.STRATEGIES, "strategy")
    strategy: Strategy = catalog.STRATEGIES.load(spec.strategy.name)(options)
    problem = running.problem
    warm = _warm(running)

    def propose(trials: Sequence[Trial]) -> list[Proposal]:
        running.note_front(trials)
        first = len(trials)
        count = min(spec.batch, spec.budget.trials - first)
        if count <= 0:
            return []
        try:
            chosen = warm[first : first + count] or strategy.propose(
                problem, spec.seed, trials, count
            )
        except NothingFeasible as error:
            if predicted := running.predicted & {each.metric for each in spec.parsed_constraints}:
                names = " and ".join(sorted(predicted))
                error.add_note(
                    f"{names}: as predicted from timings; by --set prediction.timings=0 every "
                    "candidate is measured"
                )
            raise
        return [Proposal("search", first + i, each) for i, each in enumerate(chosen)]

    # The first batch is always scored, so that a budget that is too small still ends with a front.
    least = min(spec.batch, spec.budget.trials)

    def over(scored: int) -> bool:
        left = running.left()
        return left is not None and scored >= least and left <= 0

    trials = running.evaluate("search", propose, spec.budget.trials, over)
    if isinstance(strategy, Accountable):
        running.note_facts({ACCOUNT: strategy.account(problem, spec.seed, trials)})
    return trials


def _warm(running: Running) -> list[Architecture]:
    """Architectures of an earlier search, best first, to be scored again on this supernet.

    Half the budget at most, the earlier front before the rest; an architecture that this space does
    not hold, or that breaks this search's analytic constraints, is left out.
    """
    earlier = running.record.warm_start
    if earlier is None:
        return []
    count = int(running.record.facts[WARM_TRIALS])
    trials = running.store.trials(earlier, "search", limit=count)
    objectives = running.spec.parsed_objectives
    known = [
        t for t in trials if t.succeeded and all(o.metric.name in t.metrics for o in objectives)
    ]
    front = ParetoFront.of(known, objectives).members
    problem = running.problem
    held = [
        architecture
        for architecture in dict.fromkeys(trial.architecture for trial in (*front, *known))
        if problem.space.contains(architecture) and problem.analytic_violation(architecture) == 0
    ]
    return held[: running.spec.budget.trials // 2]


def _controls(running: Running, searched: int) -> None:
    """Random networks as many as were searched, and homogeneous ones of each attention type."""
    spec = running.spec
    problem = running.problem
    wanted = spec.controls.random if spec.controls.random is not None else searched
    drawn = _drawn(problem, f"{spec.seed}/random control", wanted)
    proposals = [Proposal("random", i, each, "random") for i, each in enumerate(drawn)]
    running.evaluate("random", fixed(proposals), len(proposals))
    proposals = []
    for attention in spec.search_space.all_attentions:
        if not spec.search_space.allows_everywhere(attention):
            continue
        within = replace(problem, space=spec.search_space.homogeneous(attention))
        drawn = _drawn(within, f"{spec.seed}/{attention}", spec.controls.homogeneous)
        first = len(proposals)
        proposals += [
            Proposal("homogeneous", first + i, each, str(attention)) for i, each in enumerate(drawn)
        ]
    running.evaluate("homogeneous", fixed(proposals), len(proposals))


def _drawn(problem: Problem, stream: str, count: int) -> list[Architecture]:
    try:
        return fresh(problem, set(), random.Random(stream), count) if count else []
    except NothingFeasible:
        # No network of this kind meets the constraints: a fact that the report states as none.
        return []
