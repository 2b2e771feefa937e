"""Where does a person browse a search? In MLflow, an idempotent projection of the record."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from nas.errors import EtnasError, LeaseLost, SearchNotFound
from nas.search.extent import EXTENT, FixedExtent
from nas.search.figures import figures, hypervolumes
from nas.search.history import History, search_curve
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import ROLES, Trial
from nas.store.mlflow import TrackedRun, Tracking, reaching, shown
from nas.store.parameters import architecture_parameters, part_name, request_parameters
from nas.store.store import (
    TERMINAL,
    Artifact,
    Event,
    Member,
    SearchRecord,
    SearchStore,
    Spend,
    trial_from_json,
    trial_to_json,
)

CHILD_RUNS = 1000
"""So many search trials get a run each; of later ones only members of the front do."""
TIMINGS = frozenset({"timed", "remeasured"})
"""Roles whose trials, several a network, get none: they are written in lines."""
LONGEST_TAG = 5000
_EVENTS_A_BATCH = 50
# With these events the parent run's figures are taken: at every one of a trial would cost too much.
_TURNS = frozenset({"pareto.updated", "search.state"})
_LEASE_SECONDS = 300.0
_STATUS = {
    "queued": "SCHEDULED",
    "provisioning": "SCHEDULED",
    "running": "RUNNING",
    "paused": "SCHEDULED",
    "cancelling": "RUNNING",
    "cancelled": "KILLED",
    "succeeded": "FINISHED",
    "failed": "FAILED",
}
# Two threads of one process share its holder name, so that no lease keeps them apart.
_ONE_AT_A_TIME = threading.Lock()


def project(
    store: SearchStore,
    tracking_uri: str,
    *,
    search: str | None = None,
    stop: threading.Event | None = None,
    from_start: bool = False,
    root: Path = Path(),
    holder: str | None = None,
    holder_alive: Callable[[str], bool] | None = None,
) -> int:
    """Tells MLflow what waits in the outbox, of one search or of all; returns how many events.

    Interrupted at any point and called again it loses nothing and doubles nothing: each run is
    looked up by its tags before it is made, and an event leaves the outbox when all is written.
    `from_start` tells everything again (MLflow was lost). Relative artifact paths start at `root`.
    `stop` ends the work after the event at hand.

    One process at a time writes a search, by a lease of purpose `projection`: where another one
    does, a named `search` raises `LeaseLost`, else it is left to that process. Raises
    `StoreUnavailable` where MLflow (or the record) cannot be reached; the outbox then keeps what
    was not told.
    """
    stop = stop or threading.Event()
    holder = holder or f"{socket.gethostname()}:{os.getpid()}"
    if search is not None:
        ids = [store.get(search).id]
    else:
        ids = [each.id for each in store.searches()] if from_start else store.unprojected()
    told = 0
    if not ids:
        return told
    with _ONE_AT_A_TIME, reaching(tracking_uri) as tracking:
        for id in ids:
            try:
                lease = store.acquire(
                    id, holder, _LEASE_SECONDS, holder_alive, purpose="projection"
                )
            except (LeaseLost, SearchNotFound):
                # Another process tells of it, or it was deleted since it was looked for.
                if search is not None:
                    raise
                continue
            try:
                if from_start:
                    store.requeue(id)
                while not stop.is_set() and (events := store.outbox(id, _EVENTS_A_BATCH)):
                    store.renew(lease, _LEASE_SECONDS)
                    done = _Projection(tracking, store, store.get(id), root).tell(events, stop)
                    store.mark_projected(done)
                    told += len(done)
            finally:
                store.release(lease)
    return told


def projected_searches(tracking_uri: str) -> list[str]:
    """Ids of all searches that MLflow knows, the newest first; raises `StoreUnavailable`."""
    with reaching(tracking_uri) as tracking:
        return _known(tracking)


def rebuild_record(store: SearchStore, tracking_uri: str, search: str) -> SearchRecord:
    """Restores a search, as MLflow was told it last, into a record that lost it or some trials.

    What the record has stays as it is. Raises `SearchNotFound` where MLflow does not know the id,
    `StoreUnavailable` where MLflow, its artifacts or the record cannot be reached.
    """
    with reaching(tracking_uri) as tracking:
        tags = {"nas.kind": "search", "nas.search_id": search}
        # An id goes into a query, so nothing that could be more than one may pass.
        known = tracking.runs(tracking.experiments(), tags) if search.isalnum() else iter(())
        parent = next(known, None)
        if parent is None:
            ids = ", ".join(_known(tracking)) or "none"
            raise SearchNotFound(
                f"no search {search!r} in MLflow {shown(tracking_uri)}; there are: {ids}"
            )
        kept = json.loads(tracking.read(parent.id, "record.json"))
        trials = {(trial.role, trial.index): trial for trial in _trials(tracking, parent)}
        return store.import_search(
            SearchRecord(**kept["record"]),
            [trials[key] for key in sorted(trials, key=lambda key: (ROLES.index(key[0]), key[1]))],
            artifacts=[Artifact(**each) for each in kept["artifacts"]],
            front=[(role, index) for role, index in kept["front"]],
            spent={phase: Spend(**used) for phase, used in kept["spent"].items()},
        )


class _Projection:
    """What one search looks like in MLflow: a parent run, a child run a trial, artifacts."""

    def __init__(
        self, tracking: Tracking, store: SearchStore, record: SearchRecord, root: Path
    ) -> None:
        self.tracking = tracking
        self.store = store
        self.record = record
        self.root = root
        name = f"{part_name(record.spec, 'space')}/{part_name(record.spec, 'task')}"
        self.experiment = tracking.experiment(name)
        self.created = _milliseconds(record.created)
        tags = {"nas.kind": "search", "nas.search_id": record.id}
        known = tracking.find(self.experiment, tags)
        self.parent = known or tracking.make(self.experiment, tags, record.name, self.created)

    def tell(self, events: Sequence[Event], stop: threading.Event) -> list[int]:
        """Writes what the events say; returns the sequences of those that are written."""
        done: list[int] = []
        front: list[Member] | None = None
        later: list[Trial] = []
        for event in events:
            if stop.is_set():
                break
            data = event.data
            if event.kind == "search.created":
                self._request()
            elif event.kind == "trial":
                trial = self._trial((data["role"], data["index"]))
                if trial.role in TIMINGS or (trial.role == "search" and trial.index >= CHILD_RUNS):
                    later.append(trial)
                else:
                    self._child(trial, _milliseconds(event.time))
            elif event.kind == "artifact":
                self._artifact(Artifact(**data))
            elif event.kind == "pareto.updated":
                front = [(role, index) for role, index in data["members"]]
            done.append(event.sequence)
        if later:
            lines = "".join(f"{json.dumps(trial_to_json(trial))}\n" for trial in later)
            self.tracking.write(self.parent, lines, f"trials/{events[0].sequence:012}.jsonl")
        if front is not None:
            self._front(set(front))
        if turns := [event for event in events[: len(done)] if event.kind in _TURNS]:
            self._figures(turns)
        if done:
            self._state()
        return done

    def _request(self) -> None:
        self.tracking.log(self.parent, parameters=request_parameters(self.record.spec))
        text = yaml.safe_dump(self.record.spec, sort_keys=False, allow_unicode=True)
        self.tracking.write(self.parent, text, "spec.yaml")

    def _trial(self, member: Member) -> Trial:
        role, index = member
        (trial,) = self.store.trials(self.record.id, role, after=index - 1, limit=1)
        assert trial.index == index, member
        return trial

    def _child(self, trial: Trial, end: int) -> str:
        whole = json.dumps(trial_to_json(trial))
        key = {"nas.search_id": self.record.id, "nas.trial": f"{trial.role}/{trial.index}"}
        tags = {
            **key,
            "mlflow.parentRunId": self.parent,
            "nas.kind": "trial",
            "nas.role": trial.role,
            "nas.architecture_id": trial.architecture.id,
            "nas.state": trial.measurement.state,
            "nas.reason": trial.measurement.reason[:LONGEST_TAG],
            "nas.label": trial.label,
            "nas.json": whole if len(whole) <= LONGEST_TAG else "",
        }
        run = self.tracking.find(self.experiment, key) or self.tracking.make(
            self.experiment,
            {name: text for name, text in tags.items() if text},
            f"{trial.role} {trial.index} {trial.label}".strip(),
            end - int(1000 * trial.measurement.seconds),
        )
        if len(whole) > LONGEST_TAG:
            self.tracking.write(run, whole, "trial.json")
        parameters = architecture_parameters(trial.architecture)
        # A metric logged again at the same time is the same metric, so the time must never differ.
        self.tracking.log(run, metrics=trial.metrics, parameters=parameters, time=self.created)
        status = "FAILED" if trial.measurement.state == "failed" else "FINISHED"
        self.tracking.set_status(run, status, end)
        return run

    def _front(self, members: set[Member]) -> None:
        search = {"nas.search_id": self.record.id}
        marked = self.tracking.runs([self.experiment], {**search, "nas.front": "true"})
        tagged = {run.tags["nas.trial"]: run.id for run in marked}
        wanted = {f"{role}/{index}": (role, index) for role, index in members}
        for trial, run in tagged.items():
            if trial not in wanted:
                self.tracking.untag(run, "nas.front")
        for trial in sorted(wanted.keys() - tagged.keys()):
            known = self.tracking.find(self.experiment, {**search, "nas.trial": trial})
            member = known or self._child(self._trial(wanted[trial]), self.created)
            self.tracking.log(member, tags={"nas.front": "true"})

    def _artifact(self, artifact: Artifact) -> None:
        now = self.store.artifacts(self.record.id)[artifact.name]
        tag = f"nas.artifact.{now.name}"
        # A later event tells of what has replaced it.
        if artifact != now or self.tracking.tags(self.parent).get(tag) == now.digest:
            return
        path = _local(now.uri, self.root)
        if path is not None and not path.exists():
            logging.getLogger(__name__).warning("artifact %s is gone: %s", now.name, path)
            return
        if path is not None:
            self.tracking.upload(self.parent, path, now.name)
        self.tracking.log(self.parent, tags={tag: now.digest})

    def _figures(self, turns: Sequence[Event]) -> None:
        """How far the search had come; over the number of trials, as they alone change it.

        A function of the log: told once more, whenever that is, it draws the same curves.
        """
        try:
            spec = load_spec(self.record.spec)
        except EtnasError:
            # Parts that are not installed here stop no one from reading the runs.
            return
        trials = self.store.trials(self.record.id)
        held = {(trial.role, trial.index): trial for trial in trials}
        log = [event for event in self.store.events(self.record.id) if event.kind == "trial"]
        done = self.record.state == "succeeded"
        found: dict[int, dict[str, float]] = {}
        for turn in turns:
            before = [each.data for each in log if each.sequence < turn.sequence]
            then = [held[each["role"], each["index"]] for each in before]
            if len(then) not in found:
                found[len(then)] = figures(spec, then)
            if turn.data.get("state") == "succeeded" or (done and len(then) == len(trials)):
                found[len(then)] |= hypervolumes(spec, then)
        for step, metrics in found.items():
            self.tracking.log(self.parent, metrics=metrics, time=self.created, step=step)
        if fact := self.record.facts.get(EXTENT):
            self._history(spec, trials, FixedExtent.from_text(fact))

    def _history(self, spec: SearchSpec, trials: Sequence[Trial], extent: FixedExtent) -> None:
        """The hypervolume after each trial, as far as MLflow has not got it."""
        told = self.tracking.tags(self.parent)
        curves = {"search": search_curve(spec, trials, extent).tolist()}
        # Before the last control is in, the mean over their orders is another.
        if self.record.state == "succeeded" and "nas.hypervolume.random" not in told:
            control = History.of(spec, trials, extent).random
            curves["random"] = [] if control is None else list(control.mean)
        for name, curve in curves.items():
            tag = f"nas.hypervolume.{name}"
            known = int(told.get(tag, 0))
            if known < len(curve):
                self.tracking.log_curve(
                    self.parent,
                    f"hypervolume/{name}",
                    curve[known:],
                    first=known + 1,
                    time=self.created,
                )
                self.tracking.log(self.parent, tags={tag: str(len(curve))})

    def _state(self) -> None:
        now = self.record
        shown = {
            **{f"nas.{name}": text[:LONGEST_TAG] for name, text in now.facts.items()},
            "nas.state": now.state,
            "nas.phase": now.phase,
            "nas.attempt": str(now.attempt),
            "nas.error": (now.error or "")[:LONGEST_TAG],
            "nas.warm_start": now.warm_start or "",
            "mlflow.source.git.commit": now.facts.get("commit", ""),
        }
        self.tracking.log(self.parent, tags=shown)
        kept = {
            "record": {**asdict(now), "holder": None, "expires": None},
            "artifacts": [asdict(each) for each in self.store.artifacts(now.id).values()],
            "front": self.store.front(now.id),
            "spent": {phase: asdict(used) for phase, used in self.store.spent(now.id).items()},
        }
        self.tracking.write(self.parent, json.dumps(kept, indent=1), "record.json")
        end = _milliseconds(now.updated) if now.state in TERMINAL else None
        self.tracking.set_status(self.parent, _STATUS[now.state], end)


def _known(tracking: Tracking) -> list[str]:
    runs = tracking.runs(tracking.experiments(), {"nas.kind": "search"})
    return sorted((run.tags["nas.search_id"] for run in runs), reverse=True)


def _trials(tracking: Tracking, parent: TrackedRun) -> Iterator[Trial]:
    search = parent.tags["nas.search_id"]
    tags = {"nas.kind": "trial", "nas.search_id": search}
    texts = [
        run.tags.get("nas.json") or tracking.read(run.id, "trial.json")
        for run in tracking.runs([parent.experiment], tags)
    ]
    for path in tracking.files(parent.id, "trials"):
        texts += tracking.read(parent.id, path).splitlines()
    for text in texts:
        yield trial_from_json(json.loads(text), f"MLflow: search {search}")


def _local(uri: str, root: Path) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in uri else root / uri


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
