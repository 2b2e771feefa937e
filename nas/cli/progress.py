"""What a person sees while a search runs: one bar a phase, with the time left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from nas.run.running import Update

TITLES = {
    "supernet": "training the supernet",
    "search": "scoring the search",
    "random": "scoring random controls",
    "homogeneous": "scoring homogeneous controls",
    "confirmed": "training alone",
    "report": "writing the report",
}


class Bars:
    """A listener that draws bars on a terminal, and a line at each phase's end elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tasks: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def __call__(self, update: Update) -> None:
        """Moves the phase's bar."""
        if update.total == 0:
            return
        title = TITLES.get(update.phase, update.phase)
        if update.phase not in self.tasks:
            # Time left is judged from here on: what an earlier run did took no time now.
            self.tasks[update.phase] = self.progress.add_task(
                title, total=update.total, completed=update.done, text=""
            )
        self.progress.update(
            self.tasks[update.phase],
            completed=update.done,
            total=update.total,
            text=update.text[:48],
        )
        if not self.console.is_terminal and update.done >= update.total:
            self.console.print(f"{title}: {update.done} of {update.total}", highlight=False)
