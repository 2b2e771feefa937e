"""The real command in a process group of its own, to be killed at a state that the record shows."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord
from tests.run.cases import environment

COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]
PATIENCE = 0.005


class Command:
    """A command with its home in a place; what it says goes to a file there."""

    def __init__(
        self, place: Workspace, command: Sequence[str], more: Mapping[str, str] | None = None
    ) -> None:
        self.place = place
        self.log = place.root / "said.txt"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment(
                    os.environ,
                    MLFLOW_TRACKING_URI=place.tracking_uri,
                    NAS_DATABASE_URL=place.record_url,
                    NAS_HOME=str(place.root),
                    **(more or {}),
                ),
            )

    @property
    def said(self) -> str:
        """All that the commands of this place wrote."""
        return self.log.read_text(errors="replace")

    def until(self, seen: Callable[[], bool]) -> None:
        """Returns when `seen`; an end before that is a mistake."""
        while not seen():
            try:
                code = self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"it ended with {code} before:\n{self.said}")

    def kill(self) -> None:
        """SIGKILL to the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """The exit code, when it has ended by itself."""
        return self.process.wait()


@contextmanager
def command(
    place: Workspace, *arguments: str, more: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """Runs `nas ARGUMENTS`; whatever a test does, nothing is left."""
    with running(place, [*COMMAND, *arguments, "--home", str(place.root)], more) as made:
        yield made


@contextmanager
def driver(place: Workspace, search: str, number: int) -> Iterator[Command]:
    """Runs the process of a service's attempt at a search, likewise."""
    with running(place, [sys.executable, "-m", "nas.cli.drive", search, str(number)]) as made:
        yield made


@contextmanager
def running(
    place: Workspace, command: Sequence[str], more: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """Runs any command, likewise."""
    made = Command(place, command, more)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()


def newest(place: Workspace) -> SearchRecord | None:
    """The search that was asked for last."""
    return next(iter(SqlStore(place.record_url).searches()), None)


def write_request(spec: SearchSpec, folder: Path) -> str:
    """The request as a YAML file."""
    path = folder / "request.yaml"
    path.write_text(yaml.safe_dump(spec.to_json(), sort_keys=False))
    return str(path)


def descendants(process: int) -> dict[int, str]:
    """Processes below this one, with the commands that they show."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        number = int(folder.name)
        parents[number] = int(stat.rpartition(")")[2].split()[1])
        titles[number] = title.replace(b"\0", b" ").decode(errors="replace").strip()
    found: dict[int, str] = {}
    level = {process}
    while level:
        level = {number for number, parent in parents.items() if parent in level}
        found |= {number: titles[number] for number in level}
    return found


def all_gone(handles: list[int]) -> None:
    """Waits until every process of these handles has ended, a minute at most."""
    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    remaining = set(handles)
    while remaining:
        ended = waiting.poll(60_000)
        assert ended, f"{len(remaining)} processes are left"
        for handle, _ in ended:
            waiting.unregister(handle)
            os.close(handle)
            remaining.discard(handle)
