"""How does one command start the whole service on one machine, and end it without a trace?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from nas.errors import MachineUnavailable, SpecError, StoreUnavailable
from nas_services.app import create_app
from nas_services.children import Children, Program
from nas_services.jobs import ray_jobs
from nas_services.settings import Settings, from_environment

RAY, MLFLOW = "Ray", "MLflow"
RAY_JOBS_PORT = 8265
OBJECT_STORE_BYTES = 256 << 20
CLOSING_SECONDS = 3
SESSIONS_KEPT = 2
# Of a Unix socket's path, of which Ray's part takes up to 60.
_LONGEST_FOLDER = 45
_LOOPBACK = "127.0.0.1"


def serve(
    say: Callable[[str], None],
    *,
    home: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    ray_address: str | None = None,
    mlflow: bool = True,
    require_tokens: bool | None = None,
) -> None:
    """Runs API, Ray and MLflow until SIGINT or SIGTERM; `say` is told addresses and troubles.

    Ray is started unless RAY_ADDRESS or `ray_address` names one, MLflow's server unless
    MLFLOW_TRACKING_URI is the address of one or `mlflow` is False. Raises `SpecError` where the
    port is in use or the home is served already.
    """
    environment = dict(os.environ)
    if ray_address:
        environment["RAY_ADDRESS"] = ray_address
    changes = {"host": host, "port": port, "require_tokens": require_tokens}
    given = {name: value for name, value in changes.items() if value is not None}
    settings = from_environment(environment, home, **given)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(settings.host, settings.port))
        settings = replace(settings, port=listening.getsockname()[1])
        address = _address(settings)
        settings, programs = _beside(settings, environment, mlflow)
        if programs:
            stack.enter_context(_only_one(settings.place.root, address))
        # Drivers run by the interpreter that runs this where Ray is ours.
        own_ray = any(program.name == RAY for program in programs)
        launcher = ray_jobs(settings, sys.executable if own_ray else "python")
        config = uvicorn.Config(
            create_app(settings, launcher=launcher),
            log_level="warning",
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
        server = _Server(config, partial(_announce, say, settings, address, programs))
        stack.enter_context(Children(programs, say))
        stack.enter_context(_undisturbed_end())
        server.run(sockets=[listening])
        if not server.started:
            raise MachineUnavailable("the API could not be started; what it said stands above")


class _Server(uvicorn.Server):
    """A server that tells when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()


def _announce(
    say: Callable[[str], None], settings: Settings, address: str, programs: Sequence[Program]
) -> None:
    starting = {program.name for program in programs}
    say(f"API      {address}/api/v1 (described at {address}/docs)")
    say(f"Pages    {address}/")
    if settings.mlflow_url:
        soon = ", in a few seconds" if MLFLOW in starting else f", at {settings.mlflow_url}"
        say(f"MLflow   {address}/mlflow/{soon}")
    own = "of its own, in a few seconds" if RAY in starting else settings.ray_jobs_url
    say(f"Ray      {own}")
    say(f"Home     {settings.place.root}")
    say("Ctrl-C ends it; searches go on when it is started again.")


def _address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket that the API answers on, taken before anything is started."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SpecError(
            f"port {port} of {host} cannot be listened on ({error.strerror or error}): something "
            "else may use it, another `nas serve` perhaps; --port (NAS_PORT) names another one"
        ) from error
    with listening:
        yield listening


@contextlib.contextmanager
def _only_one(home: Path, address: str) -> Iterator[None]:
    """Keeps a second service with a Ray or MLflow of its own out of the same home."""
    file = home / "service" / "serve.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(f"work folder {home}: {error.strerror}") from error
    with lock:
        try:
            # It goes with the process, however that ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise SpecError(
                f"home {home}: it is served already ({lock.read().strip()}); end that process, or "
                "name another --home (NAS_HOME)"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} at {address}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def _undisturbed_end() -> Iterator[None]:
    """Ends the block at Ctrl-C as if it were done; from then on no signal disturbs what follows."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _beside(
    settings: Settings, environment: Mapping[str, str], mlflow: bool
) -> tuple[Settings, list[Program]]:
    """What runs beside the API, and the settings that lead there."""
    programs: list[Program] = []
    given = environment.get("RAY_ADDRESS", "")
    if not given and not environment.get("NAS_RAY_JOBS_URL"):
        port, token = free_port(), secrets.token_urlsafe(32)
        settings = replace(settings, ray_jobs_url=f"http://{_LOOPBACK}:{port}", ray_token=token)
        programs.append(_ray(settings, environment))
    elif not environment.get("NAS_RAY_JOBS_URL") and "://" not in given:
        settings = replace(settings, ray_jobs_url=_jobs_url(given))
    if not mlflow:
        settings = replace(settings, mlflow_url="")
    elif not settings.mlflow_url:
        settings = replace(settings, mlflow_url=f"http://{_LOOPBACK}:{free_port()}")
        programs.append(_mlflow(settings, environment))
    return settings, programs


def _jobs_url(address: str) -> str:
    """Where the jobs of the cluster at HOST:PORT are asked for, if it is as Ray has it."""
    host = urlsplit(f"//{address}").hostname
    if not host or address == "auto":
        host = _LOOPBACK
    return f"http://[{host}]:{RAY_JOBS_PORT}" if ":" in host else f"http://{host}:{RAY_JOBS_PORT}"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server((_LOOPBACK, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _ray(settings: Settings, environment: Mapping[str, str]) -> Program:
    """A Ray head with all its ports on loopback, whose token drivers and workers inherit.

    So they do the rest of this environment: the record's URL with its password stands nowhere else.
    """
    place = settings.place
    folder = _ray_folder(place.root)
    command = [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()"),
        *("start", "--head", "--block", "--disable-usage-stats", "--log-style", "record"),
        *("--node-ip-address", _LOOPBACK, "--port", str(free_port())),
        *(
            "--dashboard-host",
            _LOOPBACK,
            "--dashboard-port",
            str(urlsplit(settings.ray_jobs_url).port),
        ),
        *("--dashboard-agent-listen-port", "0", "--ray-client-server-port", str(free_port())),
        *("--num-cpus", str(len(os.sched_getaffinity(0)))),
        *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--include-log-monitor", "false", "--temp-dir", str(folder)),
    ]
    own = {
        "NAS_HOME": str(place.root),
        "NAS_DATA_DIR": str(place.data_root),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": settings.ray_token,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else Ray takes an address that others can reach in place of loopback's.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    log = place.root / "service" / "ray.log"
    return Program(RAY, command, {**environment, **own}, log, partial(_forget_sessions, folder))


def _ray_folder(home: Path) -> Path:
    """Where Ray keeps sockets and logs: in the home, unless its path is too long for sockets."""
    folder = home / "ray"
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        return Path(tempfile.gettempdir()) / f"etnas-ray-{os.getuid()}-{os.getpid()}"
    return folder


def _forget_sessions(folder: Path) -> None:
    """Removes what earlier heads left behind, but for the last ones' logs."""
    found = sorted(path for path in folder.glob("session_*") if not path.is_symlink())
    for path in found[: max(0, len(found) - SESSIONS_KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)


def _mlflow(settings: Settings, environment: Mapping[str, str]) -> Program:
    """MLflow's server over the database that searches write to."""
    place = settings.place
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--host", _LOOPBACK, "--port", str(urlsplit(settings.mlflow_url).port)),
    ]
    own = {
        # Here and not in the arguments, as it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": place.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Seven processes that are of no use here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    kept = {name: value for name, value in environment.items() if name != "MLFLOW_TRACKING_URI"}
    log = place.root / "service" / "mlflow.log"
    return Program(MLFLOW, command, {**kept, **own}, log)
