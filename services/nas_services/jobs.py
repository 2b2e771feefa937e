"""How is a search's driver started on other machines: as a job of Ray, asked for over HTTP."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args
from urllib.parse import quote

import httpx

from nas.errors import LauncherUnavailable
from nas.store.serving import Attempt
from nas_services.settings import Settings

JobStatus = Literal["pending", "running", "succeeded", "failed", "stopped"]
LIVE = frozenset[JobStatus]({"pending", "running"})
"""Those of a job that may still do something."""

ANSWER_SECONDS = 10.0
# The driver of a search; `-P`, so that no folder called nas where Ray runs is taken for ours.
DRIVER = "-P -m nas.cli.drive"
_SHOWN = 300


class Launcher(Protocol):
    """Starts the drivers of searches somewhere; each method may raise `LauncherUnavailable`."""

    def start(self, attempt: Attempt) -> None:
        """Starts the attempt's job; does nothing where there is a job of its name."""

    def status(self, job: str) -> JobStatus | None:
        """How a job stands; None where there is none of this name, or no longer."""

    def stop(self, job: str) -> None:
        """Asks a job to end, and makes it after some seconds; does nothing for one that ended."""

    def logs(self, job: str) -> str:
        """All that a job has written; empty where there is no such job."""


class RayJobs:
    """Jobs of a Ray cluster by its REST API (docs.ray.io, Ray Jobs REST API).

    `entrypoint` is the command that an attempt's search and number follow, `env` what its process
    sees beside what Ray itself runs with. Both stand in the job's description, which whoever may
    look at Ray can read: no place for a secret.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        entrypoint: str,
        env: Mapping[str, str],
        client: httpx.Client | None = None,
    ) -> None:
        self.base_url, self.entrypoint, self.env = base_url, entrypoint, dict(env)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = client or httpx.Client(timeout=ANSWER_SECONDS, trust_env=False)

    def start(self, attempt: Attempt) -> None:
        body = {
            "entrypoint": f"{self.entrypoint} {shlex.quote(attempt.search)} {attempt.number}",
            "submission_id": attempt.job,
            "runtime_env": {"env_vars": self.env},
        }
        answer = self._ask("POST", "", body)
        # Ray tells a name that is taken from any other mistake by its traceback alone.
        if answer.is_error and self.status(attempt.job) is None:
            raise self._refused("POST", "", answer)

    def status(self, job: str) -> JobStatus | None:
        told = self._told("GET", _path(job))
        if told is None:
            return None
        status = str(told.get("status", "")).lower()
        for known in get_args(JobStatus):
            if status == known:
                return known  # type: ignore[no-any-return]
        raise self._unclear("GET", _path(job), f"status {told.get('status')!r}")

    def stop(self, job: str) -> None:
        self._told("POST", f"{_path(job)}/stop")

    def logs(self, job: str) -> str:
        told = self._told("GET", f"{_path(job)}/logs")
        return str((told or {}).get("logs") or "")

    def close(self) -> None:
        """Closes the connections to Ray."""
        self._client.close()

    def _told(self, method: str, path: str) -> Mapping[str, Any] | None:
        """What Ray says as an object; None where it knows no such job."""
        answer = self._ask(method, path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise self._refused(method, path, answer)
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._unclear(method, path, answer.text)
        return told

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            answer = self._client.request(
                method, f"{self.base_url}/api/jobs/{path}", json=body, headers=self._headers
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise LauncherUnavailable(
                f"Ray at {self.base_url} does not answer ({said}); nothing is lost, searches go on "
                "when it is back"
            ) from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise LauncherUnavailable(
                f"Ray at {self.base_url} does not let this service in ({answer.status_code}); set "
                "RAY_AUTH_TOKEN to the cluster's token"
            )
        return answer

    def _refused(self, method: str, path: str, answer: httpx.Response) -> LauncherUnavailable:
        # Ray answers with a traceback, whose last line is the reason.
        lines = [line.strip(" .") for line in answer.text.splitlines() if line.strip(" .")]
        return self._unclear(method, path, f"{answer.status_code} {lines[-1] if lines else ''}")

    def _unclear(self, method: str, path: str, said: str) -> LauncherUnavailable:
        return LauncherUnavailable(
            f"Ray at {self.base_url} answered {method} /api/jobs/{path} with "
            f"{said[:_SHOWN].strip()}"
        )


def ray_jobs(settings: Settings, python: str = "python") -> RayJobs:
    """Drivers as jobs of the settings' Ray, run by the interpreter of this name there.

    They are told where the workspace is, and where data are if NAS_DATA_DIR tells it here; the URLs
    of record and MLflow, which may hold passwords, are part of what Ray itself was started with.
    """
    env = {"NAS_HOME": str(settings.place.root)}
    if os.environ.get("NAS_DATA_DIR"):
        env["NAS_DATA_DIR"] = str(settings.place.data_root)
    return RayJobs(
        settings.ray_jobs_url, settings.ray_token, f"exec {shlex.quote(python)} {DRIVER}", env
    )


def _path(job: str) -> str:
    return quote(job, safe="")
