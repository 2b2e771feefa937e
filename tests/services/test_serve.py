"""`nas serve` as a person starts it: searches are run, and nothing is left however it ends."""

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nas.errors import SpecError
from nas.run.workspace import Workspace
from nas.search.spec import load_spec
from nas.store.database import sqlite_url
from nas.store.mlflow import default_tracking_uri
from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore
from nas.store.store import TERMINAL
from nas_services import supervisor
from nas_services.children import Program
from nas_services.keeper import below
from nas_services.settings import Settings
from tests.run.cases import environment, small
from tests.run.processes import COMMAND, all_gone

# On a machine that is busy with other tests, heads and drivers take their time.
PATIENCE = 280.0
BARE = ("RAY_ADDRESS", "NAS_DATABASE_URL", "MLFLOW_TRACKING_URI", "NAS_HOME", "NAS_RAY_JOBS_URL")


class Service:
    """A service in a process of its own."""

    def __init__(self, home: Path, *more: str, **variables: str) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if name not in BARE}
        self.errors = home.with_suffix(".said")
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--port", "0", "--home", str(home), *more],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env=environment(inherited, **variables),
            )
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith("Ctrl-C"):
                break
        found = re.search(r"(http://\S+)/api/v1", self.said)
        assert found is not None, f"{self.said}{self.errors.read_text()}"
        self.address = found[1]
        self.serving = ServingSqlStore(sqlite_url(home / "record.db"))
        self.store = SqlStore(sqlite_url(home / "record.db"))
        # What it says later would else fill the pipe.
        self.reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.reader.start()

    def submit(self, **changes: object) -> str:
        """A small search, as an endpoint commits one."""
        spec = load_spec(small(**changes)).to_json()
        with self.serving.once("local", None, "") as once:
            return once.create_search(spec, owner="local").id

    def until(self, seen: Callable[[], bool]) -> None:
        """Waits for what the record or the processes show."""
        end = time.monotonic() + PATIENCE
        while not seen():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end, "it was not seen in time"
            select.select([], [], [], 0.05)

    def ended(self, search: str) -> bool:
        return self.store.get(search).state in TERMINAL

    def named(self, title: str) -> list[int]:
        """The processes below it with these words in their command."""
        found = []
        for each in below(self.process.pid):
            try:
                shown = Path(f"/proc/{each}/cmdline").read_bytes()
            except OSError:
                continue
            if title.encode() in shown:
                found.append(each)
        return found

    def handles(self) -> list[int]:
        """Of all processes below it."""
        found = []
        for each in below(self.process.pid):
            try:
                found.append(os.pidfd_open(each))
            except ProcessLookupError:
                continue
        return found


@contextmanager
def service(home: Path, *more: str, **variables: str) -> Iterator[Service]:
    """A service, and nothing of it afterwards."""
    made = Service(home, *more, **variables)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        made.reader.join(60)
        assert made.process.stdout is not None
        made.process.stdout.close()
        made.store.close()
        made.serving.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_is_run_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with service(tmp_path / "home") as made:
        search = made.submit(executor={"name": "ray", "workers": 2, "training_cores": 1})
        made.until(lambda: made.ended(search))
        record = made.store.get(search)
        assert (record.state, record.error) == ("succeeded", None)
        assert made.store.count(search, "search") == 20
        assert len(made.serving.attempts(search)) == 1
        asked = f"{made.address}/mlflow/ajax-api/2.0/mlflow/experiments/search"

        def shown() -> bool:
            answer = httpx.post(asked, json={"max_results": 9})
            return answer.status_code == 200 and "digits_tiny/digits" in answer.text

        made.until(shown)
        made.until(lambda: made.serving.attempts(search)[0].ended is not None)
        for port in _listening_below(made.process.pid):
            assert port.startswith(("0100007F:", "0000000000000000FFFF00000100007F:"))
        left = made.handles()
        assert len(left) > 8
        made.process.send_signal(signal.SIGINT)
        assert made.process.wait(60) == 0
        all_gone(left)
        assert _socketless(made.address)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_goes_on_after_a_killed_head_and_a_killed_service(tmp_path: Path) -> None:
    home = tmp_path / "home"
    # It ends by itself, but not before it was seen.
    recipe = {"steps": 600, "batch_size": 16, "warmup_steps": 5, "checkpoint_every": 20}
    with service(home) as made:
        search = made.submit(supernet=recipe)
        made.until(lambda: made.store.get(search).phase == "supernet")
        (head,) = made.named("gcs_server")
        driver = [os.pidfd_open(each) for each in made.named("nas.cli.drive")]
        assert driver
        os.kill(head, signal.SIGKILL)
        # Its driver goes with it, or else it would run beside the next one.
        all_gone(driver)
        # As a new attempt, or as the first one where Ray had only just been given it.
        made.until(lambda: bool(made.named("nas.cli.drive")))
        left = made.handles()
        made.process.kill()
        made.process.wait()
        all_gone(left)
    assert made.store.get(search).state not in TERMINAL
    with service(home) as made:
        made.until(lambda: made.ended(search))
        record = made.store.get(search)
        assert (record.state, record.error) == ("succeeded", None)
        assert made.store.count(search, "search") == 20
        left = made.handles()
        made.process.terminate()
        assert made.process.wait(60) == 0
        all_gone(left)


def _listening_below(process: int) -> list[str]:
    """Addresses, in the form of /proc/net/tcp, at which processes below this one listen."""
    inodes = set()
    for each in below(process):
        for handle in Path(f"/proc/{each}/fd").glob("*"):
            try:
                target = str(handle.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    found = [fields[1] for fields in lines if fields[3] == "0A" and fields[9] in inodes]
    assert found
    return found


def _socketless(address: str) -> bool:
    try:
        httpx.get(f"{address}/healthz")
    except httpx.ConnectError:
        return True
    return False


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Service]:
    """The API without Ray and MLflow, which starts at once."""
    with service(tmp_path / "home", "--no-mlflow", "--ray-address", "http://127.0.0.1:9") as made:
        yield made


def refused(home: Path, *more: str) -> tuple[int, str]:
    """Exit code and last words of a service that cannot be started."""
    inherited = {name: value for name, value in os.environ.items() if name not in BARE}
    ended = subprocess.run(
        [*COMMAND, "serve", "--home", str(home), *more],
        capture_output=True,
        text=True,
        env=environment(inherited),
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, " ".join(ended.stderr.split())


def test_it_answers_by_itself_and_ends_at_sigterm(alone: Service) -> None:
    assert httpx.get(f"{alone.address}/healthz").status_code == 200
    assert httpx.get(f"{alone.address}/mlflow/").status_code == 404
    assert below(alone.process.pid) == []
    port = alone.address.rpartition(":")[2]
    code, said = refused(alone.home, "--port", port)
    assert (code, f"port {port} of 127.0.0.1 cannot be listened on" in said) == (2, True)
    alone.process.terminate()
    assert alone.process.wait(60) == 0
    assert alone.errors.read_text().count("Traceback") == 0


def test_a_home_that_is_served_is_said(tmp_path: Path) -> None:
    with supervisor._only_one(tmp_path, "http://127.0.0.1:1"):
        code, said = refused(tmp_path, "--port", "0")
    assert code == 2
    assert f"it is served already (process {os.getpid()} at http://127.0.0.1:1)" in said


def test_beyond_loopback_tokens_are_needed(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert code == 2
    assert "no tokens are required" in said


class TestWhatRunsBeside:
    """What is started, and what is not where an address is given."""

    def beside(
        self, home: Path, mlflow: bool = True, given: str = "", **variables: str
    ) -> tuple[Settings, dict[str, Program]]:
        place = Workspace(
            home, sqlite_url(home / "record.db"), default_tracking_uri(home), home / "data"
        )
        settings = Settings(place=place, mlflow_url=given)
        if jobs := variables.get("NAS_RAY_JOBS_URL"):
            settings = replace(settings, ray_jobs_url=jobs)
        settings, programs = supervisor._beside(settings, variables, mlflow)
        return settings, {program.name: program for program in programs}

    def test_ray_and_mlflow_by_default(self, tmp_path: Path) -> None:
        settings, programs = self.beside(tmp_path, NAS_DATABASE_URL="postgresql://a:secret@b/c")
        ray, mlflow = programs["Ray"], programs["MLflow"]
        assert ray.environment["RAY_AUTH_TOKEN"] == settings.ray_token
        assert ray.environment["RAY_AUTH_MODE"] == "token"
        assert len(settings.ray_token) >= 32
        assert ray.environment["NAS_HOME"] == str(tmp_path)
        assert ray.environment["NAS_DATABASE_URL"] == "postgresql://a:secret@b/c"
        assert mlflow.environment["MLFLOW_BACKEND_STORE_URI"] == settings.place.tracking_uri
        said = " ".join([*ray.command, *mlflow.command])
        assert settings.ray_token not in said
        assert "secret" not in said
        assert settings.ray_jobs_url.rpartition(":")[2] in ray.command
        assert settings.mlflow_url.rpartition(":")[2] in mlflow.command

    def test_each_service_has_a_token_of_its_own(self, tmp_path: Path) -> None:
        assert self.beside(tmp_path)[0].ray_token != self.beside(tmp_path)[0].ray_token

    def test_none_where_addresses_are_given(self, tmp_path: Path) -> None:
        settings, programs = self.beside(
            tmp_path, RAY_ADDRESS="10.0.0.7:6379", given="http://mlflow:5000"
        )
        assert programs == {}
        assert settings.ray_jobs_url == "http://10.0.0.7:8265"
        assert settings.mlflow_url == "http://mlflow:5000"

    def test_where_jobs_are_asked_for_may_be_said_itself(self, tmp_path: Path) -> None:
        settings, programs = self.beside(tmp_path, False, NAS_RAY_JOBS_URL="http://head:1")
        assert programs == {}
        assert settings.ray_jobs_url == "http://head:1"
        assert settings.mlflow_url == ""

    def test_ray_lies_where_its_sockets_have_names_that_are_short_enough(
        self, tmp_path: Path
    ) -> None:
        short = Path("/tmp/h")
        assert supervisor._ray_folder(short) == short / "ray"
        long = tmp_path / ("x" * 80)
        assert len(str(supervisor._ray_folder(long))) < 45

    def test_old_sessions_of_ray_are_removed(self, tmp_path: Path) -> None:
        for number in range(4):
            (tmp_path / f"session_2026-01-0{number + 1}").mkdir()
        (tmp_path / "session_latest").symlink_to(tmp_path / "session_2026-01-04")
        supervisor._forget_sessions(tmp_path)
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == ["session_2026-01-04", "session_latest"]


def test_a_port_that_another_listens_on_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SpecError, match=f"port {port} of 127.0.0.1"),
            supervisor._listening("127.0.0.1", port),
        ):
            pass
