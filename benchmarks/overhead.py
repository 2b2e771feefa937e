"""What does a trial cost beside its evaluation? Real searches of 200 trials on digits, one worker.

The interval between two commits less the later trial's own seconds: strategy, record, executor and
the process that copies to MLflow meanwhile.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.report import machine, parser, print_table, write
from nas.run import search
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.spec import load_spec
from nas.store.mlflow import default_tracking_uri
from nas.store.sql import SqlStore

BARS_MS = {"local": 5.0, "ray": 40.0}


@dataclass(frozen=True)
class Overhead:
    """Milliseconds a trial beside its evaluation, the evaluations' median, and the first's wait."""

    trials: int
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    mean_ms: float
    evaluation_ms: float
    start_ms: float


def measure(executor: str, trials: int, folder: Path) -> Overhead:
    """Runs a search and holds its commits' times against the evaluations' own."""
    spec = load_spec(
        {
            "name": "overhead",
            "task": "digits",
            "space": "digits_tiny",
            "budget": {"trials": trials},
            "supernet": {"steps": 20},
            "evaluation": {"examples": 100},
            "controls": {"random": 0, "homogeneous": 0},
            "executor": {"name": executor, "workers": 1, "cores": 1},
        }
    )
    place = Workspace(
        folder, f"sqlite:///{folder / 'record.db'}", default_tracking_uri(folder), folder
    )
    times: list[float] = []

    def listen(update: Update) -> None:
        if update.phase == "search":
            times.append(1e3 * time.perf_counter())

    record = submit(spec, place)
    search.run(record.id, place, reporter=lambda *_: {}, listener=listen)
    found = SqlStore(place.record_url).trials(record.id, "search")
    own = [1e3 * trial.measurement.seconds for trial in found]
    # The first interval has the worker's start; the first trial loads the supernet.
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    beside = [wait - seconds for wait, seconds in zip(waits, own, strict=True)]
    lower, median, upper = statistics.quantiles(beside[1:], n=4, method="inclusive")
    return Overhead(
        len(found),
        median,
        lower,
        upper,
        statistics.fmean(beside[1:]),
        statistics.median(own),
        beside[0],
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=200)
    arguments.add_argument("--executor", choices=list(BARS_MS), action="append")
    given = arguments.parse_args()
    found: dict[str, Overhead] = {}
    for executor in given.executor or BARS_MS:
        with tempfile.TemporaryDirectory() as folder:
            found[executor] = measure(executor, given.trials, Path(folder))
    print_table(
        f"Milliseconds a trial beside its evaluation, {given.trials} trials, one worker",
        ("executor", "median", "quartiles", "mean", "bar", "evaluation", "first trial"),
        [
            (
                name,
                f"{each.median_ms:.2f}",
                f"{each.lower_quartile_ms:.2f} to {each.upper_quartile_ms:.2f}",
                f"{each.mean_ms:.2f}",
                f"{BARS_MS[name]:g}",
                f"{each.evaluation_ms:.2f}",
                f"{each.start_ms:.0f}",
            )
            for name, each in found.items()
        ],
    )
    figures: dict[str, Any] = {
        "machine": machine(),
        "overhead": {
            name: {**asdict(each), "bar_ms": BARS_MS[name]} for name, each in found.items()
        },
    }
    write(given.out, figures)


if __name__ == "__main__":
    main()
