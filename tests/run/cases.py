"""A small request on digits, where searches of it are kept, and what is compared of them."""

import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from nas.report.files import write_report
from nas.run import search
from nas.run.running import Listener
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Trial
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord

# Refused at once: nobody listens at port 1.
NO_MLFLOW = "http://127.0.0.1:1"
RECIPE = {"steps": 40, "batch_size": 16, "warmup_steps": 5, "checkpoint_every": 10}


def small(**changes: Any) -> dict[str, Any]:
    """The request as plain values: batches of 5 up to 20 trials, and their controls."""
    return {
        "name": "run-test",
        "task": "digits",
        "space": "digits_tiny",
        "strategy": {"name": "evolution", "population": 10},
        "batch": 5,
        "budget": {"trials": 20},
        "supernet": RECIPE,
        "standalone": {**RECIPE, "steps": 20},
        "evaluation": {"examples": 60},
        "controls": {"random": 6, "homogeneous": 3},
        "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.1, "rungs": 0},
        "executor": "local",
        "seed": 3,
        **changes,
    }


def request(**changes: Any) -> SearchSpec:
    """The request, checked."""
    return load_spec(small(**changes))


def place_in(root: Path) -> Workspace:
    """A workspace whose MLflow is away."""
    root.mkdir(parents=True, exist_ok=True)
    return Workspace(root, f"sqlite:///{root / 'record.db'}", NO_MLFLOW, root / "data")


def copy_of(place: Workspace, root: Path) -> Workspace:
    """A workspace of its own with all that another one holds.

    A record is copied by SQLite: to open and close its files would take away SQLite's own locks.
    """
    shutil.copytree(place.root, root, ignore=shutil.ignore_patterns("record.db*"))
    with (
        closing(sqlite3.connect(place.root / "record.db")) as there,
        closing(sqlite3.connect(root / "record.db")) as here,
    ):
        there.backup(here)
    return place_in(root)


def full_report(
    record: SearchRecord, spec: SearchSpec, trials: Sequence[Trial], folder: Path
) -> Mapping[str, Path]:
    """The real report."""
    return write_report(folder, spec, trials, search_id=record.id, facts=record.facts)


def short_report(
    record: SearchRecord, _spec: SearchSpec, trials: Sequence[Trial], folder: Path
) -> Mapping[str, Path]:
    """A line for those who look at other things."""
    path = folder / "report.txt"
    path.write_text(f"{record.id}: {len(trials)} trials\n")
    return {"report.txt": path}


def finish(
    spec: SearchSpec,
    place: Workspace,
    listener: Listener = lambda _: None,
    warm_start: str | None = None,
) -> SearchRecord:
    """Starts a search and runs it to its short report."""
    record = submit(spec, place, warm_start=warm_start)
    return search.run(record.id, place, reporter=short_report, listener=listener)


def no_projector(_place: Workspace, _search: str) -> AbstractContextManager[None]:
    """In place of the process that copies to MLflow, which takes seconds to start."""
    return nullcontext()


def facts(trials: Sequence[Trial]) -> list[tuple[Any, ...]]:
    """All of trials that must be the same in every run: not how long they took."""
    return [
        (
            trial.role,
            trial.index,
            trial.label,
            trial.architecture.id,
            trial.measurement.state,
            dict(trial.metrics),
        )
        for trial in trials
    ]


def outcome(place: Workspace, search_id: str) -> tuple[list[tuple[Any, ...]], Any]:
    """A search's trials of all roles and its front."""
    store = SqlStore(place.record_url)
    return facts(store.trials(search_id)), store.front(search_id)


def environment(inherited: Mapping[str, str], **changes: str) -> dict[str, str]:
    """For a subprocess that finds the same packages, on one thread, with no cluster given."""
    kept = {name: value for name, value in inherited.items() if name != "RAY_ADDRESS"}
    paths = ":".join(filter(None, sys.path))
    return {**kept, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **changes}
