"""Jobs of Ray over its REST API: names, a name that is taken, Ray away, slow, or not understood."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nas.errors import LauncherUnavailable
from nas.run.workspace import workspace
from nas.store.serving import Attempt
from nas_services.jobs import RayJobs, ray_jobs
from nas_services.settings import Settings
from tests.services.upstream import Answer, Asked, upstream

SEARCH = "01JD0000000000000000000000"
FIRST = Attempt(SEARCH, 1, f"{SEARCH}-1", "2026-01-01T00:00:00.000000Z")
TOKEN = "the-token-of-the-cluster"


class Ray:
    """Ray's job server, as far as it is spoken to; its answers have the form of Ray 2.60's."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, object]] = {}
        self.written: dict[str, str] = {}

    def __call__(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(401, b"Unauthorized: Missing authentication token")
        steps = asked.path.removeprefix("/api/jobs/").split("/")
        if asked.method == "POST" and steps == [""]:
            return self._submit(json.loads(asked.body))
        job = self.jobs.get(steps[0])
        if job is None:
            return Answer(404, f"Job {steps[0]} does not exist".encode())
        match asked.method, steps[1:]:
            case "GET", []:
                return Answer(body=json.dumps(job).encode())
            case "GET", ["logs"]:
                return Answer(body=json.dumps({"logs": self.written.get(steps[0], "")}).encode())
            case "POST", ["stop"]:
                running = job["status"] in ("PENDING", "RUNNING")
                job["status"] = "STOPPED" if running else job["status"]
                return Answer(body=json.dumps({"stopped": running}).encode())
        return Answer(405)

    def _submit(self, given: dict[str, object]) -> Answer:
        name = str(given["submission_id"])
        if name in self.jobs:
            said = (
                "Traceback (most recent call last):\n  ...\n"
                f"ValueError: Job with submission_id {name} already exists.\n.\n"
            )
            return Answer(500, said.encode())
        self.jobs[name] = {"submission_id": name, "status": "PENDING"}
        return Answer(body=json.dumps({"job_id": name, "submission_id": name}).encode())


@pytest.fixture
def ray() -> Ray:
    return Ray()


def jobs_of(url: str, token: str = TOKEN, seconds: float = 10.0) -> RayJobs:
    client = httpx.Client(timeout=seconds, trust_env=False)
    return RayJobs(url, token, "exec python -P -m nas.cli.drive", {"NAS_HOME": "/a b"}, client)


@pytest.fixture
def jobs(ray: Ray) -> Iterator[RayJobs]:
    with upstream(ray) as server:
        found = jobs_of(server.url)
        yield found
        found.close()


def test_a_job_is_called_as_its_attempt_and_runs_it() -> None:
    with upstream(Ray()) as server:
        jobs_of(server.url).start(FIRST)
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/api/jobs/")
    assert json.loads(asked.body) == {
        "submission_id": f"{SEARCH}-1",
        "entrypoint": f"exec python -P -m nas.cli.drive {SEARCH} 1",
        "runtime_env": {"env_vars": {"NAS_HOME": "/a b"}},
    }
    assert TOKEN not in asked.body.decode()


def test_a_job_that_is_there_is_not_started_again(ray: Ray, jobs: RayJobs) -> None:
    jobs.start(FIRST)
    ray.jobs[FIRST.job]["status"] = "RUNNING"
    jobs.start(FIRST)
    assert list(ray.jobs) == [FIRST.job]
    assert jobs.status(FIRST.job) == "running"


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"])
def test_every_status_of_ray_is_known(ray: Ray, jobs: RayJobs, status: str) -> None:
    jobs.start(FIRST)
    ray.jobs[FIRST.job]["status"] = status
    assert jobs.status(FIRST.job) == status.lower()


def test_a_job_that_is_not_there_is_no_error(jobs: RayJobs) -> None:
    assert jobs.status("nobody") is None
    assert jobs.logs("nobody") == ""
    jobs.stop("nobody")


def test_a_job_is_stopped_and_its_words_are_read(ray: Ray, jobs: RayJobs) -> None:
    jobs.start(FIRST)
    ray.written[FIRST.job] = "one\ntwo\n"
    jobs.stop(FIRST.job)
    jobs.stop(FIRST.job)
    assert jobs.status(FIRST.job) == "stopped"
    assert jobs.logs(FIRST.job) == "one\ntwo\n"


def test_a_name_leads_to_no_other_address() -> None:
    with upstream(lambda _: Answer(404)) as server:
        assert jobs_of(server.url).status("../version?x=") is None
    assert server.asked[0].path == "/api/jobs/..%2Fversion%3Fx%3D"


def test_who_is_not_let_in_is_told_what_to_set() -> None:
    with upstream(Ray()) as server:
        for token in ("", "another"):
            jobs = jobs_of(server.url, token)
            with pytest.raises(LauncherUnavailable, match="RAY_AUTH_TOKEN") as caught:
                jobs.start(FIRST)
            assert "another" not in str(caught.value)
            for ask in (jobs.status, jobs.stop, jobs.logs):
                with pytest.raises(LauncherUnavailable, match="RAY_AUTH_TOKEN"):
                    ask(FIRST.job)


def test_ray_that_is_away_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(LauncherUnavailable, match=f"Ray at {url} does not answer"):
        jobs_of(url).status(FIRST.job)


def test_ray_that_answers_too_slowly_is_away() -> None:
    done = threading.Event()

    def late(_: Asked) -> Answer:
        done.wait(30)
        return Answer()

    with upstream(late) as server:
        try:
            with pytest.raises(LauncherUnavailable, match="does not answer"):
                jobs_of(server.url, seconds=0.2).start(FIRST)
        finally:
            done.set()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(body=b"<html>hello</html>"), "<html>hello</html>"),
        (Answer(body=b"[]"), r"\[\]"),
        (Answer(body=b'{"status": "DREAMING"}'), "status 'DREAMING'"),
        (Answer(body=b"{}"), "status None"),
        (Answer(body=b"\xff\xfe"), "answered GET"),
        (
            Answer(500, b"Traceback (most recent call last):\n  x\nRuntimeError: no agent."),
            "no agent",
        ),
        (Answer(503, b""), "503"),
    ],
)
def test_an_answer_that_is_not_understood_is_ray_away(answer: Answer, said: str) -> None:
    with upstream(lambda _: answer) as server, pytest.raises(LauncherUnavailable, match=said):
        jobs_of(server.url).status(FIRST.job)


def test_a_job_that_ray_refuses_is_not_taken_for_one_that_is_there() -> None:
    def refusing(asked: Asked) -> Answer:
        return Answer(400, b"ValueError: bad runtime_env") if asked.body else Answer(404)

    with upstream(refusing) as server, pytest.raises(LauncherUnavailable, match="bad runtime_env"):
        jobs_of(server.url).start(FIRST)


def test_drivers_are_told_the_place_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_DATABASE_URL", "postgresql+psycopg://nas:hidden@db/nas")
    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path / "data"))
    with upstream(Ray()) as server:
        settings = Settings(
            place=workspace(tmp_path / "home"), ray_jobs_url=server.url, ray_token=TOKEN
        )
        ray_jobs(settings, "/opt/a python").start(FIRST)
    body = server.asked[0].body.decode()
    given = json.loads(body)
    assert given["entrypoint"] == f"exec '/opt/a python' -P -m nas.cli.drive {SEARCH} 1"
    assert given["runtime_env"]["env_vars"] == {
        "NAS_HOME": str(tmp_path / "home"),
        "NAS_DATA_DIR": str(tmp_path / "data"),
    }
    assert "hidden" not in body
    assert TOKEN not in body
