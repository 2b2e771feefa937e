"""What does a caller hold at the end of a search: the front as records, and where the rest is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import catalog
from nas.cost.forecast import FORECASTS
from nas.errors import PartNotInstalled, SearchNotFound, SpecError
from nas.registry import nearest
from nas.report.evidence import Summary, plain
from nas.report.fidelity import check, fidelity, judge
from nas.report.files import write_atomically, write_report
from nas.report.frame import trials_frame
from nas.report.history import extent_of, history_of, told
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.words import words
from nas.run.lease import shown_state
from nas.run.preflight import preflight
from nas.run.submission import submit
from nas.run.workspace import Workspace, workspace
from nas.search.extent import EXTENT
from nas.search.fidelity import HOURS_SPENT, RANKER_TEST, RankerTest
from nas.search.history import History
from nas.search.installed import named_by, named_by_space, not_installed
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import ROLES, Trial
from nas.space.architecture import Architecture
from nas.space.reading import path_of
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from nas.strategy.strategy import ACCOUNT

if TYPE_CHECKING:
    import pandas as pd

    from nas.run.running import Listener


@dataclass(frozen=True)
class SearchResult:
    """A recorded search as it stands: request, trials of all roles, report files by name."""

    id: str
    state: str
    spec: SearchSpec
    trials: tuple[Trial, ...]
    files: Mapping[str, str]
    place: Workspace
    facts: Mapping[str, str]
    """Where it comes from: commit, digests, machines."""
    later_constraints: tuple[str, ...] = ()
    """Those of the request's constraints that were chosen after the run."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """The same as the record has them: a ranker's test and the history's extent among them."""

    def __repr__(self) -> str:
        roles = Counter(trial.role for trial in self.trials)
        trials = ", ".join(f"{roles[role]} {role}" for role in ROLES if roles[role]) or "none"
        members = len(front_of(self.spec, self.trials).members)
        return (
            f"<SearchResult {self.id} {self.spec.name}, {self.state}: front of {members}; "
            f"trials: {trials}>"
        )

    @cached_property
    def summary(self) -> Summary:
        """Front, controls and confirmation, held against each other, and the gate's verdict."""
        return summarize(self.spec, self.trials, self.later_constraints, self.recorded)

    @cached_property
    def history(self) -> History | None:
        """The hypervolume after each trial; None where nothing says what to normalise it in."""
        return history_of(self.spec, self.trials, self.recorded.get(EXTENT, ""))

    @property
    def words(self) -> list[str]:
        """What follows, in sentences."""
        return [*words(self.summary), *told(self.summary, self.history)]

    @cached_property
    def front(self) -> list[dict[str, Any]]:
        """The Pareto front, best first objective first: id, architecture and metrics of each."""
        return [
            {
                "id": member.architecture_id,
                "index": member.index,
                "architecture": member.architecture.to_json(),
                **member.metrics,
            }
            for member in self.summary.front
        ]

    @property
    def trained_best(self) -> Architecture | None:
        """The best by the first objective of the front of networks trained to the end, if any.

        It may be a homogeneous rival of a member.
        """
        confirmed = self.summary.confirmation
        found = confirmed.front.networks if confirmed and confirmed.front else ()
        best = next((each.architecture_id for each in found if each.on_front), None)
        built = (each.architecture for each in self.trials)
        return next((each for each in built if each.id == best), None)

    def frame(self) -> pd.DataFrame:
        """The front as a DataFrame, one row a member, in the front's order.

        Raises `ModuleNotFoundError` where pandas or pyarrow is not installed.
        """
        return trials_frame(front_of(self.spec, self.trials).members)

    def constrained(self, constraints: Sequence[str]) -> SearchResult:
        """The same trials under further constraints; raises `SpecError` for one that is wrong.

        Comparisons with the controls are exploratory then: the limits were chosen after the run.
        """
        given = self.spec.to_json()
        given["constraints"] = [*given["constraints"], *constraints]
        spec = load_spec(given)
        scored = [trial for trial in self.trials if trial.succeeded and trial.role == "search"]
        for each in spec.parsed_constraints:
            if lacking := [trial for trial in scored if each.metric not in trial.metrics]:
                known = nearest(each.metric, sorted(lacking[0].metrics))
                raise SpecError(f"constraint '{each}': not measured in search {self.id}; {known}")
        later = [
            each for each in spec.parsed_constraints if each not in self.spec.parsed_constraints
        ]
        if not later:
            return self
        # The extent of the search itself: later limits move no reference point.
        fixed = extent_of(self.spec, self.recorded.get(EXTENT, ""))
        return replace(
            self,
            spec=spec,
            later_constraints=(*self.later_constraints, *map(str, later)),
            recorded={**self.recorded, EXTENT: "" if fixed is None else fixed.to_text()},
        )

    def write_page(self, path: str | Path) -> Path:
        """Writes the report page as the trials stand now, and gives its path.

        Raises `SpecError` for what can be no path, `OSError` where it cannot be written and
        `ModuleNotFoundError` where plotly is not installed.
        """
        text = page(
            self.spec,
            self.summary,
            self.trials,
            search_id=self.id,
            extra=self.facts,
            history=self.history,
        )
        return write_atomically(path_of(path, "page"), text.encode())

    def to_json(self) -> dict[str, Any]:
        """The result for machines."""
        return {
            "id": self.id,
            "state": self.state,
            "front": self.front,
            "gate": plain(self.summary.gate),
            "words": self.words,
            "confirmation": plain(self.summary.confirmation),
            "files": dict(self.files),
        }


def find_search(search_id: str, home: str | Path | None = None) -> SearchRecord:
    """A search's record by its id, the beginning of it, or `last`: the newest of the home.

    Raises `SearchNotFound`, `SpecError` for an id that is no text and `StoreUnavailable` for a
    record that cannot be read.
    """
    return opened(workspace(home), search_id).get(search_id)


def opened(place: Workspace, search_id: str) -> SqlStore:
    """The record to look a search up in; raises `SearchNotFound` rather than make a new one.

    Raises `SpecError` for an id that is no text.
    """
    if not isinstance(search_id, str):
        raise SpecError(f"search: {search_id!r} given; an id, its beginning or 'last' is allowed")
    store = SqlStore(place.record_url)
    if store.missing:
        raise SearchNotFound(
            f"no search {search_id!r}: there is no record {store.file}; --home or NAS_HOME names "
            "the folder of another one"
        )
    return store


def check_installed(record: SearchRecord, *, architectures_alone: bool = False) -> None:
    """Raises `PartNotInstalled` where the request, or its space alone, names what is not here."""
    named = named_by_space(record.spec["space"]) if architectures_alone else named_by(record.spec)
    if missing := not_installed(named):
        raise PartNotInstalled(
            f"search {record.id} ({record.name}) names {'; '.join(missing)}: neither etnas nor any "
            "installed package has that; install the package that brings it"
        )


def load_result(search_id: str, home: str | Path | None = None) -> SearchResult:
    """A recorded search's result as it stands, also of one that still runs.

    Raises what `find_search` raises, and `PartNotInstalled` where it names a part (attention type,
    cost, task, ...) of a package that is not installed here.
    """
    place = workspace(home)
    store = opened(place, search_id)
    record = store.get(search_id)
    check_installed(record)
    files = {name: artifact.uri for name, artifact in store.artifacts(record.id).items()}
    trials = tuple(store.trials(record.id))
    spec = load_spec(record.spec)
    state, facts = shown_state(record), provenance(record)
    return SearchResult(
        record.id, state, spec, trials, files, place, facts, recorded=dict(record.facts)
    )


def earlier_search(warm_start: str, home: str | Path | None = None) -> str:
    """The id of a search to begin with; raises what `find_search` and `check_installed` raise."""
    earlier = find_search(warm_start, home)
    check_installed(earlier, architectures_alone=True)
    return earlier.id


def begin(
    spec: SearchSpec, *, home: str | Path | None = None, warm_start: str | None = None
) -> SearchRecord:
    """Submits a request that this process is to run: see `nas.run.submission.submit`.

    Raises `ModuleNotFoundError` where the engine is not installed, and what
    `nas.run.preflight.preflight` raises; nothing is left then.
    """
    catalog.EXECUTORS.load(spec.executor.name, "executor.name")
    place = workspace(home)
    preflight(spec, place.data_root)
    if warm_start is not None:
        warm_start = earlier_search(warm_start, home)
    return submit(spec, place, warm_start=warm_start)


def run_search(
    spec: SearchSpec | str | Path | Mapping[str, Any],
    *,
    home: str | Path | None = None,
    warm_start: str | None = None,
    listener: Listener = lambda _: None,
) -> SearchResult:
    """Runs a request from its submission to its report.

    Raises `SpecError` for a request that is wrong, `NothingFeasible` where no architecture keeps
    the constraints and what `resume_search` raises; nothing is recorded where it never began.
    """
    request = spec if isinstance(spec, SearchSpec) else load_spec(spec)
    record = begin(request, home=home, warm_start=warm_start)
    return resume_search(record.id, home=home, listener=listener)


def resume_search(
    search_id: str, *, home: str | Path | None = None, listener: Listener = lambda _: None
) -> SearchResult:
    """Goes on with a recorded search, named as in `find_search`, to its report.

    Raises what `load_result` raises, `SearchStateError` for one that is finished or cancelled and
    `LeaseLost` where another process runs it. What ends it on the way leaves a search that can be
    resumed: `DataError`, `MachineUnavailable`, `TrainingDiverged`, `EvaluationBroken`,
    `CheckpointError`, `OutputError`, `StoreUnavailable`.
    """
    from nas.run.search import run

    found = find_search(search_id, home)
    check_installed(found)
    run(found.id, workspace(home), reporter=full_report, listener=listener)
    return load_result(found.id, home)


def fidelity_search(
    search_id: str, *, home: str | Path | None = None, listener: Listener = lambda _: None
) -> SearchResult:
    """Checks the ranking of a finished search, named as in `find_search`, or goes on with that.

    What is trained says `nas.search.fidelity`; whether the ranking can be trusted, the result's
    `summary.gate`. Raises what `resume_search` raises, and `SearchStateError` for a search that is
    unfinished.
    """
    from nas.run.search import recheck

    found = find_search(search_id, home)
    check_installed(found)
    recheck(found.id, workspace(home), reporter=full_report, listener=listener)
    return load_result(found.id, home)


def confirm_search(
    search_id: str,
    *,
    home: str | Path | None = None,
    listener: Listener = lambda _: None,
    despite_gate: bool = False,
) -> SearchResult:
    """Confirms a finished search, named as in `find_search`, by stand-alone training.

    What is trained says `nas.run.confirm.confirm`. Raises what `resume_search` raises,
    `SearchStateError` for a search that is unfinished or has no front, and `GateFailed` where its
    ranking did not pass and its request says `gate.on_fail: stop`, unless `despite_gate`.
    It, too, goes on where it was stopped.
    """
    from nas.run.confirm import confirm

    place, found = workspace(home), find_search(search_id, home)
    check_installed(found)
    spec = load_spec(found.spec)
    if not despite_gate and spec.gate.on_fail == "stop":
        trials = opened(place, found.id).trials(found.id)
        checked = fidelity(spec, trials, found.facts)
        verdict = judge(spec.gate, checked, RankerTest.of(found.facts), looked_up=spec.looked_up)
        check(verdict, found.id, confirming=True)
    confirm(found.id, place, reporter=full_report, listener=listener)
    return load_result(found.id, home)


def full_report(
    record: SearchRecord, spec: SearchSpec, trials: Sequence[Trial], folder: Path
) -> Mapping[str, Path]:
    """The report that a search ends with; raises what `write_report` raises."""
    extra = provenance(record)
    return write_report(folder, spec, trials, search_id=record.id, extra=extra, facts=record.facts)


def provenance(record: SearchRecord) -> dict[str, str]:
    """What the record says of where a search comes from, in words: code, digests, machines."""
    shown = {"submitted": record.created, "runs": str(record.attempt)}
    # What is judged and drawn is told in its place, in words.
    elsewhere = (RANKER_TEST, HOURS_SPENT, EXTENT, FORECASTS, ACCOUNT)
    told = {name: text for name, text in record.facts.items() if name not in elsewhere}
    for name, text in told.items():
        origins = name.endswith("_provenance")
        shown[name.replace("_", " ")] = "; ".join(json.loads(text)) if origins else text
    return shown | ({"warm start": record.warm_start} if record.warm_start else {})
