"""How is it asked for at a terminal: the command `nas`, its exit codes and its one error line."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
from types import FrameType

import typer
from rich.console import Console

from nas.cli import cost, maintenance, results, search, spaces
from nas.errors import EtnasError, NothingFeasible, TrainingDiverged

WRONG_INPUT, NOTHING_FEASIBLE, FAILED, INTERRUPTED = 2, 3, 1, 130

app = typer.Typer(
    name="nas",
    help="Neural architecture search for efficient transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
search.register(app)
results.register(app)
cost.register(app)
spaces.register(app)
maintenance.register(app)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(f"etnas {importlib.metadata.version('etnas')}")
        raise typer.Exit


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The command `nas`: 0 done, 2 wrong input, 3 nothing feasible, 130 interrupted, 1 otherwise."""
    for entry in importlib.metadata.entry_points(group="etnas.commands"):
        entry.load()(app)
    # A batch system's SIGTERM ends a search as cleanly as a person's Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=False)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except EtnasError as error:
        _fail(str(error))
        if isinstance(error, NothingFeasible):
            sys.exit(NOTHING_FEASIBLE)
        sys.exit(FAILED if isinstance(error, TrainingDiverged | RuntimeError) else WRONG_INPUT)
    except Exception as error:
        shown = getattr(error, "format_message", None)
        if shown is None:
            raise
        # What click says of wrong options and arguments.
        _fail(shown())
        sys.exit(WRONG_INPUT)


def _fail(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error: ", style="bold red", end="")
    console.print(message, markup=False)
