"""Programs beside the API: started again when they die, and gone with all they started."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas_services import children
from nas_services.children import Children, Program
from nas_services.keeper import below
from tests.run.processes import all_gone

SERVICES = Path(children.__file__).parents[1]

# A child, a grandchild of another session that ignores SIGTERM, and an orphan of its own session.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \
    "print('ready', flush=True); time.sleep(600)"
one = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True,
                       stdout=subprocess.PIPE)
one.stdout.readline()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "w") as file:
            print(one.pid, os.getpid(), os.getppid(), file=file)
        os.rename(sys.argv[1], sys.argv[2])
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""
HOLDER = """
import sys
from pathlib import Path
from nas_services.children import Children, Program
script, file = sys.argv[1:]
made = Program("family", [sys.executable, "-c", script, file + ".new", file],
               {}, Path(file + ".log"), grace=0.2)
with Children([made], lambda text: print(text, flush=True)):
    sys.stdin.read()
"""


def until(seen: Callable[[], bool]) -> None:
    """Waits for something that a file or process list shows."""
    for _ in range(6000):
        if seen():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it was not seen within a minute")


def environment(**more: str) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(SERVICES), **more}


@contextmanager
def holding(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the family, until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, FAMILY, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        try:
            until(file.exists)
            yield process
        finally:
            process.kill()


def handles(process: int) -> list[int]:
    return [os.pidfd_open(each) for each in below(process)]


@pytest.mark.parametrize("number", [None, signal.SIGKILL])
def test_nothing_is_left_however_the_starter_ends(tmp_path: Path, number: int | None) -> None:
    with holding(tmp_path / "family") as process:
        # The keeper, the child, the stubborn one and the orphan.
        found = handles(process.pid)
        assert len(found) == 4
        if number is None:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0
            assert below(process.pid) == []
        else:
            process.send_signal(number)
        all_gone(found)


def test_what_a_killed_keeper_leaves_is_ended_before_it_is_started_again(tmp_path: Path) -> None:
    file = tmp_path / "family"
    with holding(file) as process:
        keeper = next(
            each
            for each in below(process.pid)
            if b"nas_services.keeper" in Path(f"/proc/{each}/cmdline").read_bytes()
        )
        found = handles(process.pid)
        file.unlink()
        os.kill(keeper, signal.SIGKILL)
        all_gone(found)
        assert process.stdout is not None
        assert b"family ended with -9" in process.stdout.readline()
        until(file.exists)
        again = handles(process.pid)
        assert len(again) == 4
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
        all_gone(again)


def test_who_dies_early_is_started_again_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    said: list[str] = []
    enough = threading.Event()

    class Clock(threading.Event):
        """Pauses that take no time; the seventh is one for good."""

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            if len(pauses) == 7:
                enough.set()
                return super().wait(60)
            return False

    monkeypatch.setattr(children, "become_subreaper", lambda: None)
    prepared: list[int] = []
    script = "import os, sys; print('words', os.environ['GIVEN']); sys.exit(3)"
    dying = Program(
        "dying",
        [sys.executable, "-S", "-c", script],
        environment(GIVEN="to it"),
        tmp_path / "logs" / "dying.log",
        lambda: prepared.append(1),
    )
    kept = Children([dying], said.append)
    monkeypatch.setattr(kept, "_stopping", Clock())
    # This process may have children that are another test's affair.
    monkeypatch.setattr(kept, "_strays", list)
    with kept:
        assert enough.wait(60)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert len(prepared) == 7
    assert said[0] == (
        f"dying ended with 3; it is started again in 1 s (what it said: {dying.log})"
    )
    assert dying.log.read_text() == "words to it\n" * 7


def test_what_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "become_subreaper", lambda: None)
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    (tmp_path / "file").write_text("")
    program = Program("nothing", ["true"], environment(), tmp_path / "file" / "nothing.log")
    with Children([program], say):
        assert told.wait(60)
    assert "nothing could not be started" in said[0]


def test_children_of_other_kinds_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"]) as mine, Children([], print):
        assert Children([], print)._strays() == []
        mine.kill()
