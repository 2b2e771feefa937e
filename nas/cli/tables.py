"""How a plain table of the report looks on a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from nas.report.table import Table

GAP = 1


def terminal(*, stderr: bool = False) -> Console:
    """Standard output or error; text is shown as it is, `:x:` in a path too."""
    # Rich takes a terminal that says it has no columns at its word and prints nothing.
    width = 80 if os.environ.get("COLUMNS") == "0" else None
    return Console(stderr=stderr, width=width, soft_wrap=stderr, highlight=False, emoji=False)


def show(console: Console, table: Table) -> None:
    """Prints the table, if it has rows, and a blank line."""
    if table.rows:
        console.print(drawn(table, console.width))
        console.print()


def drawn(table: Table, width: int) -> RichTable:
    """The table with its title, without as many spare columns as do not fit into `width`.

    Cells are plain text and stand on one line where the rest fits, else they are folded.
    """
    kept, fits = _kept(table, width)
    shown = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, GAP, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for place in kept:
        shown.add_column(table.columns[place], overflow="fold", no_wrap=fits)
    for row in table.rows:
        shown.add_row(*(Text(row[place]) for place in kept))
    return shown


def _kept(table: Table, width: int) -> tuple[list[int], bool]:
    """Places of the columns to show, and whether they fit."""
    widths = [max(map(cell_len, cells)) for cells in zip(table.columns, *table.rows, strict=True)]
    kept = list(range(len(table.columns)))
    spare = list(table.spare)
    # Rich draws the blank of a border between two columns beside our own.
    while sum(widths[i] + GAP + 1 for i in kept) > width:
        if not spare:
            return kept, False
        gone = spare.pop(0)
        kept = [i for i in kept if table.columns[i] not in gone]
    return kept, True
