"""How does a process end with all that it started, even when its starter is killed? A keeper.

`python -m nas_services.keeper GRACE COMMAND...` runs a command until it ends, or until standard
input does: that is a pipe whose other end the starter holds, so that it closes however the starter
dies. Then every process below the command is ended, with GRACE seconds to do so by itself, those
too that left its process group: the keeper is their subreaper (prctl(2)), to whom they fall when
their parents die. Standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

_PAUSE = 0.02
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Lets orphans below this process fall to it; only Linux knows how."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def below(process: int) -> list[int]:
    """The processes below one that have not ended; none are found where there is no /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # Behind the command's name, which may hold blanks: state and parent (proc(5)).
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(folder.name)] = int(parent)
    found: list[int] = []
    level = {process}
    while level:
        level = {number for number, parent in parents.items() if parent in level}
        found += level
    return found


def end_all(processes: Callable[[], Sequence[int]], grace: float) -> None:
    """SIGTERM to all of these processes, SIGKILL to what is left after `grace` seconds, or new."""
    seen = set(processes())
    _send(signal.SIGTERM, seen)
    until = time.monotonic() + grace
    while left := processes():
        if time.monotonic() >= until:
            _send(signal.SIGKILL, left)
        seen |= set(left)
        time.sleep(_PAUSE)
    for process in seen:
        # Those that are this process's own children by now.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def _send(number: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def _reap() -> dict[int, int]:
    """The exit codes of children that have ended, by process."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def keep(command: Sequence[str], grace: float) -> int:
    """Runs a command as this module says; its exit code, or 128 and the signal that ended it."""
    become_subreaper()
    # SIGCHLD is a byte in a pipe, so that one poll waits for the child and the starter alike.
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    ending = False

    def end(_number: int, _frame: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    child = os.posix_spawnp(
        command[0],
        list(command),
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0)],
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGCHLD],
    )
    waiting = select.poll()
    waiting.register(woken, select.POLLIN)
    waiting.register(0, select.POLLIN | select.POLLHUP)
    code: int | None = None
    while code is None and not ending:
        for handle, _ in waiting.poll():
            if handle == woken:
                os.read(woken, 4096)
            else:
                # Nothing is ever written to it: it is at its end.
                ending = True
        code = _reap().get(child)
    end_all(lambda: below(os.getpid()), grace)
    _reap()
    if not Path("/proc/self").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    if code is None:
        return 0
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(keep(sys.argv[2:], float(sys.argv[1])))
