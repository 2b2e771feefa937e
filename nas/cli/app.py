"""How is it asked for at a terminal: the command `nas`, its exit codes and its one error line."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import typer

from nas.cli import cost, maintenance, remote, results, search, spaces, token, translate
from nas.cli.tables import terminal
from nas.errors import (
    CheckpointError,
    EtnasError,
    GateFailed,
    NothingFeasible,
    SearchStateError,
    SpecError,
    TrainingDiverged,
    missing_package,
)

# What the extra `service` brings; all else that may be missing is the engine's.
SERVICE = ("fastapi", "jinja2", "starlette", "uvicorn")
WRONG_INPUT, NOTHING_FEASIBLE, GATE_FAILED, FAILED, INTERRUPTED = 2, 3, 4, 1, 130

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
translate.register(app)
remote.register(app)
maintenance.register(app)
token.register(app)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(f"etnas {importlib.metadata.version('etnas')}")
        raise typer.Exit


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The command: 0 done, 2 wrong input, 3 nothing feasible, 4 a ranking that is not to be trusted
    where the request stops at that, 130 interrupted, 1 otherwise."""
    _open_streams()
    for entry in importlib.metadata.entry_points(group="etnas.commands"):
        entry.load()(app)
    # A batch system's SIGTERM ends a search as cleanly as a person's Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        # A sign that the terminal's encoding lacks must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    _flush()
    sys.exit(code)


def _open_streams() -> None:
    """A standard stream that is closed, as by `>&-`, is empty, or swallows what is written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            # Processes that are started here have it too.
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _flush() -> None:
    """Writes out what is left; a reader that has gone away is told nothing, and no traceback is."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives its exit code; what a person can mend is one line on stderr."""
    try:
        _check_encoding(arguments)
        code = app(list(arguments), prog_name="nas", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except EtnasError as error:
        _fail(error, str(error))
        return _code(error)
    except ModuleNotFoundError as error:
        package = missing_package(error)
        extra = "service" if package in SERVICE else "engine"
        _fail(error, f"this needs {package}, which is not installed: pip install 'etnas[{extra}]'")
        return WRONG_INPUT
    except BrokenPipeError:
        # Who read the output has gone away, as `| head` does.
        return FAILED
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _fail(error, f"{error.filename or 'output'}: {error.strerror}")
        return FAILED
    except Exception as error:
        # What click says of wrong options and arguments; anything else is a fault of ours.
        said = getattr(error, "format_message", None)
        if said is None:
            raise
        _fail(error, said())
        return WRONG_INPUT


def _check_encoding(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument != argument.encode(errors="replace").decode():
            raise SpecError(f"argument {argument!a}: not text in this terminal's encoding")


def _code(error: EtnasError) -> int:
    if isinstance(error, NothingFeasible):
        return NOTHING_FEASIBLE
    if isinstance(error, GateFailed):
        return GATE_FAILED
    # Of the errors that are builtin's RuntimeError too, a state that forbids a command is input.
    broke = isinstance(error, TrainingDiverged | CheckpointError | RuntimeError)
    return FAILED if broke and not isinstance(error, SearchStateError) else WRONG_INPUT


def _fail(error: Exception, message: str) -> None:
    console = terminal(stderr=True)
    if message:
        console.print("error: ", style="bold red", end="")
        console.print(message, markup=False)
    for note in getattr(error, "__notes__", ()):
        console.print(note, markup=False)
