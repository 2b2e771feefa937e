"""Does a search at a terminal end as its exit code says, and go on where it was interrupted?"""

import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rich.console import Console

from nas.cli.progress import Bars
from nas.run.running import Update
from tests.cli.conftest import Finished
from tests.cli.terminal import DEMO, SMALL, nas, rows, written

# The process ends itself as a batch system would, in the middle of the search's trials.
KILLED = """
import os, signal
from contextlib import nullcontext
from nas.cli import main, progress
from nas.run import running
running.Projector = lambda *_: nullcontext()
def listen(self, update):
    if (update.phase, update.done) == ("search", 7):
        os.kill(os.getpid(), signal.{signal})
progress.Bars.__call__ = listen
main()
"""


def front(home: Path, search: str) -> Any:
    return nas("pareto", search, "--json", "--home", home).json["front"]


def test_json_is_one_document_and_progress_goes_elsewhere(finished: Finished) -> None:
    assert set(finished.json) == {
        "id", "state", "front", "gate", "words", "confirmation", "files",
    }  # fmt: skip
    assert finished.json["state"] == "succeeded"
    assert finished.json["front"]
    for path in finished.json["files"].values():
        assert Path(path).is_file()
    assert finished.progress.splitlines()[0] == f"search {finished.id}"
    for line in (
        "training the supernet: 200 of 200 loss ",
        "scoring the search: 15 of 15",
        "scoring random controls: 6 of 6",
        "scoring homogeneous controls: 6 of 6",
        "writing the report: 1 of 1",
    ):
        assert finished.progress.count(line) == 1


def test_what_a_finished_search_shows(finished: Finished, tmp_path: Path) -> None:
    # The supernet is shared, so that the same request is scored again only.
    spec = written(tmp_path / "spec.yaml", SMALL)
    said = nas("search", spec, "--home", finished.home)
    assert said.code == 0
    lines = dict(line.partition(" ")[::2] for line in said.out.splitlines()[-4:])
    [search] = {row[0] for row in rows(finished.home, "searches", "id")} & set(said.err.split())
    page = finished.home / "searches" / search / "pareto.html"
    assert lines["report"].strip() == str(page)
    assert page.is_file()
    assert lines["record"].strip() == f"sqlite:///{finished.home / 'record.db'}"
    assert lines["mlflow"].strip() == "http://127.0.0.1:1"
    # The last line is the command that takes up the best architecture: it is run as it stands.
    first, _, second = lines["best"].strip().partition(" && ")
    command, _, file = first.partition(" > ")
    assert file == "best.json"
    best = written(tmp_path / "best.json", nas(*shlex.split(command)[1:]).out)
    cost = nas(*shlex.split(second.replace("best.json", str(best)))[1:], "--json").json
    member = front(finished.home, search)[0]
    assert json.loads(best.read_text()) == member["architecture"]
    assert cost["id"] == member["id"]
    assert cost["flops"] == member["flops"]
    assert [row["id"] for row in front(finished.home, search)] == [
        row["id"] for row in finished.json["front"]
    ]


@pytest.mark.parametrize("signal", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_an_interrupted_search_says_how_it_goes_on(
    signal: str, tmp_path: Path, finished: Finished
) -> None:
    spec, home = written(tmp_path / "spec.yaml", SMALL), tmp_path / "a home"
    shutil.copytree(finished.home / "supernets", home / "supernets")
    command = [sys.executable, "-c", KILLED.format(signal=signal)]
    command += ["search", str(spec), "--home", str(home)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 130, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    _, found, again = ended.stderr.strip().splitlines()[-1].partition("interrupted; go on with: ")
    assert found
    assert len(rows(home, "trials")) == 7
    assert nas(*shlex.split(again)[1:]).code == 0
    [(search, state)] = rows(home, "searches", "id, state")
    assert state == "succeeded"
    assert front(home, search) == finished.json["front"]


def test_an_empty_front_is_exit_code_3(tmp_path: Path, finished: Finished) -> None:
    # A constraint on what only scoring tells: nobody reaches it, and nobody could know.
    changes = {"constraints": ["accuracy >= 1"], "controls": {"random": 0, "homogeneous": 0}}
    spec = written(tmp_path / "spec.yaml", {**SMALL, **changes})
    said = nas("search", spec, "--home", finished.home, "--json")
    assert said.code == 3
    assert said.json["front"] == []
    assert any("There is no front" in sentence for sentence in said.json["words"])
    shown = nas("search", spec, "--home", finished.home)
    assert shown.code == 3
    assert "There is no front" in shown.out
    assert "--best" not in shown.out
    said = nas("confirm", said.json["id"], "--home", finished.home)
    assert said.code == 2
    assert "has no front" in said.err


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = nas("search", DEMO, "--dry-run", "--home", home)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("valid: digits-demo, space digits_tiny of ")
    # More workers than cores make a run slower and stop none.
    crowded = nas("search", DEMO, "--dry-run", "--home", home, "--set", "executor.workers=64")
    assert crowded.code == 0
    changed = nas("search", DEMO, "--dry-run", "--json", "--home", home, "--set", "budget.trials=7")
    assert changed.json["budget"]["trials"] == 7
    assert nas("search", written(tmp_path / "again.json", changed.out), "--dry-run").code == 0
    unknown = nas("search", DEMO, "--dry-run", "--warm-start", "nonsense", "--home", home)
    assert unknown.code == 2
    assert "no search 'nonsense'" in unknown.err
    assert not home.exists()


def test_the_schema_is_printed_and_nothing_is_run() -> None:
    said = nas("search", "--schema")
    assert (said.code, said.err) == (0, "")
    jsonschema.Draft202012Validator(said.json).validate(yaml.safe_load(DEMO.read_text()))
    assert nas("search", DEMO, "--schema") == said


def test_warm_start_begins_with_the_earlier_front(tmp_path: Path, finished: Finished) -> None:
    spec = written(tmp_path / "spec.yaml", {**SMALL, "name": "warm", "seed": 4})
    begun = finished.id[:10]
    said = nas("search", spec, "--home", finished.home, "--warm-start", begun, "--json")
    assert said.code == 0
    record = [row for row in rows(finished.home, "searches", "id, warm_start") if row[1]]
    assert record == [(said.json["id"], finished.id)]
    scored = rows(finished.home, "trials", 'search, role, "index", architecture_id')
    first = {row[3] for row in scored if row[:2] == (said.json["id"], "search") and row[2] < 7}
    assert {member["id"] for member in finished.json["front"]} <= first


def test_confirm_then_pareto(tmp_path: Path, finished: Finished) -> None:
    spec, home = written(tmp_path / "spec.yaml", SMALL), finished.home
    search = nas("search", spec, "--home", home, "--json").json["id"]
    said = nas("confirm", search, "--home", home)
    assert said.code == 0, said.err
    assert "halving the shortlist: " in said.err
    assert "training alone: " in said.err
    assert "Successive halving of the shortlist" in said.out
    assert "Front of the networks trained to the end" in said.out
    assert "Trained alone: member minus homogeneous network" in said.out
    assert "difference in test_cross_entropy" in said.out
    assert "judged by test_cross_entropy" in " ".join(said.out.split())
    assert "Front member #" in said.out
    assert "\nFront by" in nas("pareto", search, "--home", home).out
    (member,) = nas("pareto", search, "--home", home, "--json").json["confirmation"]["members"]
    assert member["values"]["test_accuracy"]["n"] == 2


# -- progress --------------------------------------------------------------------------------------


def test_bars_end_with_the_last_count_of_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(Console(stderr=True)) as bars:
        bars(Update("supernet", 0, 100))
        bars(Update("supernet", 40, 100, "the ranking is\n stable"))
        bars(Update("homogeneous", 0, 0))
        bars(Update("search", 3, 3))
    assert capsys.readouterr().err.splitlines() == [
        "training the supernet: 40 of 100 the ranking is stable",
        "scoring the search: 3 of 3",
    ]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_bars_on_a_terminal_stand_on_a_line_each(width: int) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, height=30)
    bars = Bars(screen)
    bars(Update("supernet", 6000, 6000, "loss 0.812"))
    bars(Update("search", 5, 200, "TypeError at network.py:17: " + "far too much to say " * 9))
    with screen.capture() as captured:
        screen.print(bars.progress.get_renderable())
    lines = captured.get().splitlines()
    assert len(lines) == 2
    assert "training the supernet" in lines[0]
    assert "6000/6000" in lines[0]
    assert "left" in lines[1]
    assert "5/200" in lines[1]
