"""What a person sees while a search runs: one bar a phase, with the time left."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

TITLES = {
    "supernet": "training the supernet",
    "timed": "timing networks to predict others",
    "search": "scoring the search",
    "random": "scoring random controls",
    "homogeneous": "scoring homogeneous controls",
    "remeasured": "measuring the front's networks",
    "fidelity": "training alone to check the ranking",
    "matched": "scoring rivals at matched FLOPs",
    "rung": "halving the shortlist",
    "confirmed": "training alone",
    "report": "writing the report",
}


class Step(Protocol):
    """What is shown: `done` of `total` units of a phase, with a word on the last one."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def text(self) -> str: ...


class Bars:
    """A listener that draws bars on a terminal, and a line at each phase's end elsewhere.

    A terminal or pipe that goes away does not end the search.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        # Rich would end the process, and point its standard output to nowhere.
        console.on_broken_pipe = _passed_on  # type: ignore[method-assign]
        self.tasks: dict[str, TaskID] = {}
        self.last: Step | None = None
        # What is said of the last unit gives way first where the terminal is narrow.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False, table_column=rest),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        with suppress(OSError):
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.progress.stop()
            if self.last is not None:
                self._line(self.last)

    def __call__(self, update: Step) -> None:
        """Moves the phase's bar."""
        with suppress(OSError):
            self._show(update)

    def _show(self, update: Step) -> None:
        if update.total == 0:
            return
        before, self.last = self.last, update
        if before is not None and before.phase != update.phase:
            self._line(before)
        if update.phase not in self.tasks:
            # Time left is judged from here on: what an earlier run did took no time now.
            self.tasks[update.phase] = self.progress.add_task(
                _title(update), total=update.total, completed=update.done, text=""
            )
        self.progress.update(
            self.tasks[update.phase],
            completed=update.done,
            total=update.total,
            text=_word(update),
        )

    def _line(self, last: Step) -> None:
        if not self.console.is_terminal:
            said = (f"{_title(last)}: {last.done} of {last.total}", _word(last))
            self.console.print(*filter(None, said), markup=False, highlight=False, soft_wrap=True)


def _passed_on() -> None:
    # Called where the error is caught.
    raise


def _title(update: Step) -> str:
    return TITLES.get(update.phase, update.phase)


def _word(update: Step) -> str:
    return " ".join(update.text.split())
