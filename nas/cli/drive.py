"""The process of a service's attempt at a search: `python -m nas.cli.drive SEARCH NUMBER`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from nas.errors import EtnasError, missing_package
from nas.report.result import full_report
from nas.run.drive import drive
from nas.run.workspace import workspace

if TYPE_CHECKING:
    from nas.run.running import Update

FAILED, INTERRUPTED = 1, 130
LINE_SECONDS = 5.0


class Lines:
    """A listener that writes a line at a phase's beginning and end, and now and then between."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._phase, self._said = "", 0.0

    def __call__(self, update: Update) -> None:
        """Tells how far the phase has come."""
        due = time.monotonic() - self._said >= LINE_SECONDS
        if due or update.phase != self._phase or update.done >= update.total:
            self._phase, self._said = update.phase, time.monotonic()
            text = " ".join(update.text.split())
            self.say(f"{update.phase}: {update.done} of {update.total} {text}".rstrip())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs the search in the workspace that the environment names.

    0 where it ended well or was stopped as asked, 130 where the process was told to end, 1 for any
    error, of which the last line says what it was.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("search")
    parser.add_argument("number", type=int)
    given = parser.parse_args()
    # A shell may have let it begin with SIGINT ignored.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        drive(
            given.search,
            given.number,
            workspace(),
            reporter=full_report,
            listener=Lines(_say),
            say=_say,
        )
    except KeyboardInterrupt:
        _say(f"attempt {given.number} was told to end; the next one goes on where it was")
        return INTERRUPTED
    except EtnasError as error:
        _say(f"error: {' '.join(str(error).split())}")
        return FAILED
    except ModuleNotFoundError as error:
        _say(f"error: {missing_package(error)} is not installed where the search is to run")
        return FAILED
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
