"""Is a command ended by no terminal, pipe or encoding that it writes to?"""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from nas.cli.progress import Bars
from nas.errors import SpecError
from nas.run.running import Update
from tests.cli.conftest import Finished
from tests.cli.terminal import SMALL, nas, refused, rows, written

COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]
# Who reads standard error is gone before the first phase begins.
LEFT_ALONE = """
import os
from contextlib import nullcontext
from nas.cli import main, progress
from nas.run import running
running.Projector = lambda *_: nullcontext()
begin = progress.Bars.__enter__
def left(self):
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(reading)
    os.close(writing)
    return begin(self)
progress.Bars.__enter__ = left
main()
"""


def said_to(out: int | IO[str], *arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code of `nas ARGUMENTS` that writes to `out`, and its standard error."""
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("table", [False, True])
def test_a_reader_that_has_gone_away(table: bool, finished: Finished) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    shown = ["pareto", finished.id, "--home", finished.home] if table else ["spaces", "schema"]
    assert said_to(writing, *shown) == (1, "")
    os.close(writing)


@pytest.mark.parametrize("table", [False, True])
def test_a_full_disk_behind_standard_output(table: bool, finished: Finished) -> None:
    shown = ["pareto", finished.id, "--home", finished.home] if table else ["spaces", "schema"]
    with Path("/dev/full").open("w") as full:
        assert said_to(full, *shown) == (1, "error: output: No space left on device\n")


def test_a_search_goes_on_when_nobody_reads_its_progress(
    tmp_path: Path, finished: Finished
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "supernets").symlink_to(finished.home / "supernets")
    spec = written(tmp_path / "spec.yaml", SMALL)
    command = [sys.executable, "-c", LEFT_ALONE, "search", str(spec), "--home", str(home), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f'"id": "{rows(home, "searches", "id")[0][0]}"' in ended.stdout
    assert rows(home, "searches", "state, error") == [("succeeded", None)]


class Gone(io.StringIO):
    """What is written to a terminal that was closed."""

    def write(self, _: str) -> int:
        raise self.error

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(5, "gone")])
def test_bars_outlive_their_terminal(error: OSError, is_terminal: bool) -> None:
    with Bars(Console(file=Gone(error), force_terminal=is_terminal)) as bars:
        for done in range(3):
            bars(Update("supernet", done, 2))
            bars(Update("search", done, 2))
    assert bars.last == Update("search", 2, 2)


@pytest.mark.parametrize("encoding", ["ascii", "latin1"])
def test_a_terminal_that_lacks_signs(encoding: str, finished: Finished) -> None:
    ids = ("pareto", finished.id, "--home", finished.home)
    whole = nas(*ids).out
    assert any(ord(sign) > 255 for sign in whole)
    ended = subprocess.run(
        [*COMMAND, *map(str, ids)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    shown = ended.stdout.decode(encoding)
    assert shown.startswith("Whether the ranking can be trusted")
    assert "\nFront by" in shown
    # Tables are drawn with other lines there; sentences lose a sign, and no more.
    sentence = whole[whole.index("The search scored") :]
    assert shown.endswith(sentence.encode(encoding, errors="replace").decode(encoding))


def test_a_terminal_without_columns(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    shown = nas("pareto", finished.id, "--home", finished.home).out
    assert shown.startswith("Whether the ranking can be trusted")
    assert "\nFront by" in shown


def test_a_search_without_columns_names_paths_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    home = tmp_path / "a:x:b"
    said = nas("search", written(tmp_path / "spec.yaml", SMALL), "--home", home)
    assert said.code == 0
    assert said.err.startswith("search ")
    assert said.out.startswith("Whether the ranking can be trusted")
    assert "\nFront by" in said.out
    assert f"report   {home}" in said.out


@pytest.mark.parametrize(
    "command",
    [
        ["pareto", "b\udcff"],
        ["search", "--resume", "b\udcff"],
        ["spaces", "show", "b\udcff"],
        ["pareto", "01JABCDEFG", "--home", "home\udcff"],
    ],
)
def test_arguments_that_are_no_text(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(nas(*command), "\\udcff", "encoding")
    assert list(tmp_path.iterdir()) == []


def test_a_message_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SpecError("a:x:b [red]c[/red]")

    monkeypatch.setattr("nas.cli.app.app", fail)
    assert nas("anything").err == "error: a:x:b [red]c[/red]\n"
