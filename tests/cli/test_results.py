"""Do `nas pareto` and `nas compare` show what the record holds, at any width?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from nas.cli.tables import drawn
from nas.report.history import told
from nas.report.result import load_result
from nas.report.table import Table
from nas.report.words import brief
from nas.run.lease import holder
from nas.search.spec import load_spec
from nas.search.trial import Measurement, Trial
from nas.store.sql import SqlStore
from tests.cli.conftest import Finished
from tests.cli.terminal import SMALL, nas, refused, written


@contextmanager
def store_of(finished: Finished) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{finished.home / 'record.db'}")
    yield store
    store.close()


def test_pareto_is_the_record_s_front(finished: Finished) -> None:
    said = nas("pareto", finished.id.lower()[:12], "--json", "--home", finished.home)
    assert (said.code, said.err) == (0, "")
    assert said.json == finished.json
    store = SqlStore(f"sqlite:///{finished.home / 'record.db'}")
    trials = {trial.index: trial for trial in store.trials(finished.id, "search")}
    assert len(trials) == 15
    named = [(row["cross_entropy"], row["flops"]) for row in finished.json["front"]]
    assert named == sorted(named)
    for row, (loss, flops) in zip(finished.json["front"], named, strict=True):
        assert trials[row["index"]].architecture.id == row["id"]
        assert trials[row["index"]].architecture.to_json() == row["architecture"]
        others = [trial.metrics for trial in trials.values() if trial.index != row["index"]]
        assert not any(
            o["cross_entropy"] <= loss and o["flops"] <= flops
            and (o["cross_entropy"], o["flops"]) != (loss, flops)
            for o in others
        )  # fmt: skip


def test_list_is_the_record_the_newest_first(tmp_path: Path, finished: Finished) -> None:
    home = tmp_path / "home"
    store = SqlStore(f"sqlite:///{home / 'record.db'}")
    older = store.create_search(load_spec(SMALL).to_json())
    far = "2999-01-02T00:00:00.000000Z"
    with store_of(finished) as source:
        trials = source.trials(finished.id)
        store.import_search(replace(source.get(finished.id), created=far), trials)
    broken = Trial("search", 99, trials[0].architecture, Measurement.failed("broken"))
    store.add_trial(store.acquire(older.id, "host:1:1", 60), broken)
    said = nas("list", "--json", "--home", home)
    assert (said.code, said.err) == (0, "")
    told = {"task": "digits", "space": "digits_tiny", "name": "cli-test", "budget": 15}
    assert said.json == [
        {
            **told, "id": finished.id, "state": "succeeded", "phase": "report", "scored": 15,
            "created": far,
        },
        {**told, "id": older.id, "state": "queued", "phase": "", "scored": 0,
         "created": older.created},
    ]  # fmt: skip
    shown = nas("list", "--home", home).out
    assert shown.index(finished.id) < shown.index(older.id)
    for words in ("15 of 15", "0 of 15", "succeeded", older.created[:10]):
        assert words in shown


def test_a_search_that_nobody_runs_is_listed_as_interrupted(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'record.db'}")
    id = store.create_search(load_spec(SMALL).to_json()).id

    def listed() -> object:
        return nas("list", "--json", "--home", tmp_path).json[0]["state"]

    lease = store.acquire(id, holder(), 60)
    store.set_state(lease, "running", phase="search")
    assert listed() == "running"
    store.release(lease)
    assert listed() == "interrupted"
    # As one leaves it that was killed: the lease has not run out, its holder is dead.
    store.acquire(id, holder().rpartition(":")[0] + ":0", 60)
    assert listed() == "interrupted"
    # Of another machine nobody here can say more than its lease does.
    store.release(store.acquire(id, holder().rpartition(":")[0] + ":0", 60))
    store.acquire(id, "elsewhere:1:1", 60)
    assert listed() == "running"


def test_an_empty_list_is_a_sentence(tmp_path: Path) -> None:
    for there in (False, True):
        if there:
            SqlStore(f"sqlite:///{tmp_path / 'home' / 'record.db'}").searches()
        said = nas("list", "--home", tmp_path / "home")
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(f"no search yet in sqlite:///{tmp_path}")
        assert nas("list", "--json", "--home", tmp_path / "home").json == []
        assert (tmp_path / "home").exists() is there


def test_last_stands_for_the_newest_search(tmp_path: Path, finished: Finished) -> None:
    home = tmp_path / "home"
    with store_of(finished) as source:
        record, trials = source.get(finished.id), source.trials(finished.id)
    SqlStore(f"sqlite:///{home / 'record.db'}").import_search(record, trials)
    at = ("--home", home)
    assert nas("pareto", "last", "--json", *at).json["front"] == finished.json["front"]
    assert nas("compare", "last", finished.id, "--json", *at).json["comparison"]["difference"] == 0
    refused(nas("pareto", finished.id[:5], *at), "at least 6 characters", finished.id)
    # Each of them has found it, and says why it does not begin.
    assert f"search {finished.id} is finished" in nas("search", "--resume", "last", *at).err
    assert f"search {finished.id}" in nas("confirm", "last", *at).err


def test_further_constraints(finished: Finished) -> None:
    ask = ("pareto", finished.id, "--home", finished.home, "--constraint")
    front = finished.json["front"]
    assert len(front) > 2
    said = nas(*ask, f"flops <= {front[-2]['flops']}", "--json")
    assert [row["id"] for row in said.json["front"]] == [row["id"] for row in front[-2:]]
    assert any(each.startswith("Exploratory, as chosen after") for each in said.json["words"])
    assert not any("covers more" in each for each in said.json["words"])
    shown = nas(*ask, f"flops <= {front[-2]['flops']}").out
    assert "exploratory" in shown
    assert "chosen after the run" in " ".join(shown.split())
    refused(nas(*ask, "flop <= 3"), "'flop'", "did you mean 'flops'?")
    refused(nas(*ask, "flops < 3"), "'flops < 3'", "METRIC <= NUMBER")
    refused(nas(*ask, "flops <= 3"), "'flops <= 3'", "smallest possible flops is 37440")


def test_only_a_new_limit_is_exploratory(finished: Finished) -> None:
    result = load_result(finished.id, finished.home)
    assert result.constrained([]) is result
    once = result.constrained(["flops >= 40000", "flops<=1e12"])
    assert once.later_constraints == ("flops >= 40000", "flops <= 1000000000000")
    assert once.constrained(["flops >= 4e4"]) is once
    twice = once.constrained(["params >= 10"])
    assert twice.summary.later_constraints == (*once.later_constraints, "params >= 10")
    assert {each.verdict for each in twice.summary.comparisons} == {"exploratory"}


def test_no_member_is_exit_code_3_and_still_json(finished: Finished) -> None:
    ask = ("pareto", finished.id, "--home", finished.home, "--constraint", "accuracy >= 1")
    refused(nas(*ask), finished.id, "no front", "accuracy >= 1", code=3)
    refused(nas(*ask, "--best"), "no front", code=3)
    said = nas(*ask, "--json")
    assert said.code == 3
    assert said.json["front"] == []


def test_a_search_without_trials(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = SqlStore(f"sqlite:///{home / 'record.db'}")
    search = store.create_search(load_spec(SMALL).to_json()).id
    refused(nas("pareto", search, "--home", home), search, "queued", "0 scored", code=3)
    refused(nas("compare", search, search, "--home", home), "no scored trial", code=3)
    said = nas("confirm", search, "--home", home)
    assert said.code == 2
    assert f"nas search --resume {search}" in said.err


def test_best_is_an_architecture_file(finished: Finished, tmp_path: Path) -> None:
    said = nas("pareto", finished.id, "--best", "--home", finished.home)
    path = written(tmp_path / "best.json", said.out)
    assert said.json == finished.json["front"][0]["architecture"]
    assert (
        nas("cost", path, "--task", "digits", "--json").json["id"]
        == finished.json["front"][0]["id"]
    )


def test_the_page_can_be_written_anywhere(finished: Finished, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = nas("pareto", finished.id, "--html", page, "--home", finished.home)
    assert said.code == 0
    assert finished.json["front"][0]["id"] in page.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(
    width: int, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = nas("pareto", finished.id, "--home", finished.home).out.splitlines()
    assert any(line.startswith("Front") for line in lines)
    assert max(map(cell_len, lines)) <= width
    # The title may take more than one line.
    first = next(place for place, line in enumerate(lines) if line.startswith("───")) + 1
    cells = [row.split() for row in lines[first : first + len(finished.json["front"])]]
    assert [row[0] for row in cells] == [str(i + 1) for i in range(len(cells))]
    shown = "\n".join(lines)
    assert all(row["id"] in shown for row in finished.json["front"]) or width < 100
    assert "Hypervolume at equal n" in shown
    assert "Supernet scores never decide" in " ".join(shown.split())


def test_a_terminal_shows_words_of_the_report(finished: Finished) -> None:
    result = load_result(finished.id, finished.home)
    said = [*brief(result.summary), *told(result.summary, result.history)]
    assert said == [sentence for sentence in result.words if sentence in said]
    shown = " ".join(nas("pareto", finished.id, "--home", finished.home).out.split())
    assert shown.startswith(said[0])
    assert shown.endswith(" ".join(said[1:]))


def test_spare_columns_go_in_their_order_before_anything_is_folded() -> None:
    table = Table("T", ("a", "bb", "ccc"), (("1", "22", "3" * 8),), (("ccc",), ("a",)))

    def lines(width: int) -> list[str]:
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            console.print(drawn(table, width))
        return [line.rstrip() for line in captured.get().splitlines()]

    assert lines(40)[1::2] == ["a  bb  ccc", "1  22  33333333"]
    assert lines(10)[1::2] == ["a  bb", "1  22"]
    assert lines(5)[1::2] == ["bb", "22"]


def test_compare(finished: Finished, tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.yaml", {**SMALL, "strategy": "random", "name": "other"})
    other = nas("search", spec, "--home", finished.home, "--json").json["id"]
    ids = ("compare", finished.id, other, "--home", finished.home)
    said = nas(*ids)
    assert (said.code, said.err) == (0, "")
    assert f"first: search {finished.id}, cli-test" in said.out
    assert f"second: search {other}, other" in said.out
    found = nas(*ids, "--json").json
    assert found["comparison"]["n"] == 15
    assert found["words"][0] in " ".join(said.out.split())
    same = nas("compare", other, other, "--json", "--home", finished.home).json["comparison"]
    assert same["difference"] == 0
    objectives = {**SMALL, "objectives": ["accuracy", "params"]}
    third = nas("search", written(spec, objectives), "--home", finished.home, "--json").json["id"]
    refused(nas("compare", other, third, "--home", finished.home), "objectives", "the same")
