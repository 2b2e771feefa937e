"""How is MLflow spoken to? The one door to it: plain values in and out, one kind of error."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nas.errors import EtnasError, StoreUnavailable, headline
from nas.store.database import sqlite_file, sqlite_url

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LONGEST_PARAMETER = 6000
_PARAMETERS_A_CALL = 100
_METRICS_A_CALL = 1000
_PAGE = 1000
_PROBE_SECONDS = 5.0
_USER = re.compile("//[^/@]*@")
_NO_NAME = re.compile(r"[^\w/.-]+")


def default_tracking_uri(folder: Path) -> str:
    """MLflow's SQLite database in a folder; the artifacts lie beside it in `mlartifacts`."""
    return sqlite_url(folder / "mlflow.db")


@dataclass(frozen=True)
class TrackedRun:
    """A run as far as the projection reads it."""

    id: str
    experiment: str
    tags: Mapping[str, str]


@contextmanager
def reaching(tracking_uri: str) -> Iterator[Tracking]:
    """MLflow at this URI; what goes wrong with it inside the block raises `StoreUnavailable`."""
    try:
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise StoreUnavailable("mlflow is not installed: pip install 'etnas[engine]'") from error
    try:
        yield Tracking(tracking_uri)
    except EtnasError:
        raise
    except (MlflowException, OSError, HTTPException, sqlite3.Error) as error:
        raise _unavailable(tracking_uri, error) from error


class Tracking:
    """An MLflow server or database; raises MLflow's own errors, which `reaching` translates.

    Opening it creates the tables of an SQLite database that is new.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._client = _connect(tracking_uri)

    def experiment(self, name: str) -> str:
        """The id of the experiment, which is made where it is missing and restored if deleted."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = sqlite_file(self._uri)
            location = (
                (database.absolute().parent / "mlartifacts" / name).as_uri() if database else None
            )
            try:
                return str(self._client.create_experiment(name, location))
            except MlflowException:
                # Another search of this space and task may just have made it.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def experiments(self) -> list[str]:
        """Ids of all experiments."""
        found: list[str] = []
        token: str | None = None
        while token != "":
            page = self._client.search_experiments(max_results=_PAGE, page_token=token)
            found += [experiment.experiment_id for experiment in page]
            token = page.token or ""
        return found

    def runs(
        self, experiments: list[str], tags: Mapping[str, str], page: int = _PAGE
    ) -> Iterator[TrackedRun]:
        """All runs of these experiments that carry these tags."""
        asked = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        token: str | None = None
        while token != "":
            found = self._client.search_runs(experiments, asked, max_results=page, page_token=token)
            for run in found:
                yield TrackedRun(run.info.run_id, run.info.experiment_id, run.data.tags)
            token = found.token or ""

    def find(self, experiment: str, tags: Mapping[str, str]) -> str | None:
        """The id of a run that carries these tags."""
        found = next(self.runs([experiment], tags, 1), None)
        return found.id if found else None

    def make(self, experiment: str, tags: Mapping[str, str], name: str, start: int) -> str:
        """The id of a new run that carries its tags from its first moment; `start` in ms."""
        run = self._client.create_run(experiment, start, dict(tags), name)
        return str(run.info.run_id)

    def tags(self, run: str) -> Mapping[str, str]:
        """A run's tags."""
        tags: Mapping[str, str] = self._client.get_run(run).data.tags
        return tags

    def log(
        self,
        run: str,
        *,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        time: int = 0,
        step: int = 0,
    ) -> None:
        """Metrics (at `time`, in ms, and `step`), parameters, tags; the same again changes nothing.

        The metric of the highest step is the run's. Signs that MLflow refuses in its name become
        blanks.
        """
        from mlflow.entities import Metric, Param, RunTag

        params = [Param(key, text[:_LONGEST_PARAMETER]) for key, text in (parameters or {}).items()]
        while len(params) > _PARAMETERS_A_CALL:
            self._client.log_batch(run, params=params[:_PARAMETERS_A_CALL], synchronous=True)
            params = params[_PARAMETERS_A_CALL:]
        self._client.log_batch(
            run,
            [
                Metric(_NO_NAME.sub(" ", key).strip(), value, time, step)
                for key, value in (metrics or {}).items()
            ],
            params,
            [RunTag(key, text) for key, text in (tags or {}).items()],
            synchronous=True,
        )

    def log_curve(
        self, run: str, name: str, values: Sequence[float], *, first: int, time: int
    ) -> None:
        """A metric's values at the steps `first`, `first` + 1, ..., all of them at `time` (ms)."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time, step) for step, value in enumerate(values, first)]
        for start in range(0, len(metrics), _METRICS_A_CALL):
            some = metrics[start : start + _METRICS_A_CALL]
            self._client.log_batch(run, some, synchronous=True)

    def untag(self, run: str, name: str) -> None:
        """Takes a tag away."""
        self._client.delete_tag(run, name)

    def set_status(self, run: str, status: str, end: int | None = None) -> None:
        """MLflow's word for the state of a run; with `end` (ms) the run is over."""
        if end is None:
            self._client.update_run(run, status)
        else:
            self._client.set_terminated(run, status, end)

    def write(self, run: str, text: str, path: str) -> None:
        """Writes or replaces a text artifact."""
        self._client.log_text(run, text, path)

    def read(self, run: str, path: str) -> str:
        """A text artifact."""
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self._client.download_artifacts(run, path, scratch)).read_text("utf-8")

    def files(self, run: str, folder: str) -> list[str]:
        """Paths of the artifacts in a folder of the run."""
        return [str(file.path) for file in self._client.list_artifacts(run, folder)]

    def upload(self, run: str, path: Path, name: str) -> None:
        """Writes or replaces the artifact `name` by a file or a folder."""
        if path.is_dir():
            self._client.log_artifacts(run, str(path), name)
            return
        wanted = PurePosixPath(name)
        folder = None if len(wanted.parts) == 1 else str(wanted.parent)
        with tempfile.TemporaryDirectory() as scratch:
            # MLflow calls an artifact as its file is called.
            named = Path(scratch) / wanted.name
            named.symlink_to(path.absolute())
            self._client.log_artifact(run, str(named), folder)


def _probe(tracking_uri: str) -> None:
    """Asks whether anybody answers; raises `ValueError` for what can be no URI of MLflow's."""
    database = sqlite_file(tracking_uri)
    if database is None and tracking_uri.startswith("sqlite:"):
        raise ValueError("a database in memory is gone with its process")
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(database, timeout=_PROBE_SECONDS)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    elif tracking_uri.startswith(("http://", "https://")):
        health = f"{_USER.sub('//', tracking_uri).rstrip('/')}/health"
        try:
            urllib.request.urlopen(health, timeout=_PROBE_SECONDS).close()
        except urllib.error.HTTPError as error:
            # An answer, whatever it says: the calls themselves tell what is wrong.
            error.close()


def _connect(tracking_uri: str) -> MlflowClient:
    # First, because MLflow's own retries take minutes.
    try:
        _probe(tracking_uri)
    except ValueError as error:
        raise _unavailable(tracking_uri, error) from error
    from mlflow import MlflowClient

    # Else each run that ends on a server prints its address, the password in it, and each text
    # that is read draws a progress bar.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        return MlflowClient(tracking_uri)
    except Exception as error:
        raise _unavailable(tracking_uri, error) from error


def _unavailable(tracking_uri: str, error: Exception) -> StoreUnavailable:
    what = headline(error)
    return StoreUnavailable(
        f"MLflow {shown(tracking_uri)}: {what}; nothing is lost: the record keeps what MLflow was "
        "not told"
    )


def shown(tracking_uri: str) -> str:
    """The URI without its password."""
    return _USER.sub("//***@", tracking_uri)
