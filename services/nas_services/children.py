"""Which processes run beside the API, and what is done when one of them dies?"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas_services.keeper import become_subreaper, below, end_all

LONGEST_PAUSE = 30.0
GRACE_SECONDS = 5.0
# Who ran for so long did not die of how it was started.
STEADY_SECONDS = 60.0
KEEPER = (sys.executable, "-P", "-m", "nas_services.keeper")


@dataclass(frozen=True)
class Program:
    """Something to keep running: its name for people, command, environment, and file to write to.

    `prepare` is called before each start. It has `grace` seconds to end by itself when it should.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    prepare: Callable[[], None] = field(default=lambda: None)
    grace: float = GRACE_SECONDS


class Children:
    """Keeps programs running while the `with` block lasts, and leaves nothing of them behind.

    Each is run by a keeper (`nas_services.keeper`), so that it ends with all that it started also
    when this process is killed. Who dies is started again, after a pause that doubles up to
    `LONGEST_PAUSE` for one that dies early; `say` is told.
    """

    def __init__(self, programs: Sequence[Program], say: Callable[[str], None]) -> None:
        self._programs, self._say = programs, say
        self._stopping = threading.Event()
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._watch, args=(each,), daemon=True, name=each.name)
            for each in programs
        ]

    def __enter__(self) -> Children:
        if self._programs:
            # What a keeper that was killed leaves behind falls to this process.
            become_subreaper()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopping.set()
            keepers = list(self._keepers.values())
        for keeper in keepers:
            _let_go(keeper)
        for program, thread in zip(self._programs, self._threads, strict=True):
            thread.join(2 * program.grace + 1)

    def _watch(self, program: Program) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._run(program)
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= STEADY_SECONDS:
                pause = 1.0
            self._say(
                f"{program.name} {reason}; it is started again in {pause:.0f} s "
                f"(what it said: {program.log})"
            )
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _run(self, program: Program) -> str:
        """Runs it to its end; says how that was."""
        try:
            program.prepare()
            program.log.parent.mkdir(parents=True, exist_ok=True)
            with program.log.open("ab") as log, self._lock:
                if self._stopping.is_set():
                    return "was not needed"
                keeper = subprocess.Popen(
                    [*KEEPER, str(program.grace), *program.command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=program.environment,
                    # Ctrl-C at a terminal is this process's affair.
                    start_new_session=True,
                )
                self._keepers[program.name] = keeper
        except OSError as error:
            return f"could not be started ({error})"
        code = keeper.wait()
        with self._lock:
            del self._keepers[program.name]
        _let_go(keeper)
        end_all(self._strays, grace=0)
        return f"ended with {code}"

    def _strays(self) -> list[int]:
        """Processes of keepers that were killed: whoever is below this one in another session."""
        with self._lock:
            kept = {keeper.pid for keeper in self._keepers.values()}
            found = set(below(os.getpid())) - kept
        for keeper in kept:
            found -= set(below(keeper))
        return [each for each in found if _foreign(each)]


def _foreign(process: int) -> bool:
    try:
        return os.getsid(process) != os.getsid(0)
    except ProcessLookupError:
        return False


def _let_go(keeper: subprocess.Popen[bytes]) -> None:
    """Closes the keeper's standard input, upon which it ends what it keeps."""
    if keeper.stdin is not None:
        with contextlib.suppress(OSError):
            keeper.stdin.close()
