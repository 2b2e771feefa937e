"""Does a ranking that is not to be trusted stop those who asked to be stopped, and nobody else?"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Finished
from tests.cli.terminal import SMALL, nas, refused, rows, written

CHECK: dict[str, Any] = {"networks": 8, "steps": 3}
# Out of reach of networks that learn nothing in three steps.
GATE: dict[str, Any] = {"supernet_tau": 1.0, "ranker_tau": 1.0}


@pytest.fixture
def home(finished: Finished, tmp_path: Path) -> Path:
    """A home with the supernet that the small request wants."""
    shutil.copytree(finished.home / "supernets", tmp_path / "home" / "supernets")
    return tmp_path / "home"


@pytest.mark.slow
def test_stop_ends_the_search_and_the_confirmation_until_told_otherwise(home: Path) -> None:
    given = {"fidelity": {**CHECK, "deferred": False}, "gate": {**GATE, "on_fail": "stop"}}
    spec = written(home.parent / "spec.yaml", {**SMALL, **given})
    at = ("--home", home)
    said = nas("search", spec, *at, "--json")
    assert said.code == 4
    # What it found is shown all the same.
    search, gate = said.json["id"], said.json["gate"]
    assert gate["verdict"] == "failed"
    assert said.json["words"][0] == gate["sentence"]
    assert "training alone to check the ranking: 8 of 8" in said.err
    message = said.err[said.err.index("error: ") :]
    assert message.startswith(f"error: search {search}: The ranking is not to be trusted: ")
    assert message.count("error: ") == 1
    assert message.endswith(f"`nas confirm {search} --despite-gate` goes on all the same\n")
    assert rows(home, "searches", "state, error") == [("succeeded", None)]
    checked = nas("fidelity", search, *at)
    assert checked.code == 4
    assert checked.err.endswith(message)
    assert "The ranking is not to be trusted" in " ".join(checked.out.split())
    unconfirmed = nas("confirm", search, *at)
    assert (unconfirmed.code, unconfirmed.out) == (4, "")
    assert unconfirmed.err == f"search {search}\n{message}"
    assert not [role for (role,) in rows(home, "trials", "role") if role == "confirmed"]
    best = nas("pareto", search, "--best", *at)
    assert (best.code, best.err) == (0, f"warning: {gate['sentence']}\n")
    assert best.json == said.json["front"][0]["architecture"]
    again = nas("confirm", search, "--despite-gate", *at)
    assert again.code == 0, again.err
    assert "difference in test_cross_entropy" in again.out
    told = nas("pareto", search, *at, "--json").json
    assert told["words"][0] == gate["sentence"]
    # What was trained to the end is what is best, whatever supernet scores had said.
    trained = next(e for e in told["confirmation"]["front"]["networks"] if e["on_front"])
    best = nas("pareto", search, "--best", *at)
    assert best.err == (
        f"{trained['architecture_id']}: the best of the networks that were trained to the end\n"
    )
    path = written(home.parent / "best.json", best.out)
    assert nas("cost", path, "--task", "digits", "--json").json["id"] == trained["architecture_id"]


def test_warn_is_words_only(home: Path) -> None:
    spec = written(home.parent / "spec.yaml", {**SMALL, "fidelity": CHECK, "gate": GATE})
    at = ("--home", home)
    said = nas("search", spec, *at, "--json")
    assert (said.code, said.json["gate"]["verdict"]) == (0, "not known")
    assert "`nas fidelity ID` does that" in said.json["words"][0]
    checked = nas("fidelity", "last", *at)
    assert checked.code == 0, checked.err
    shown = " ".join(checked.out.split())
    assert "Agreement of rankings: Kendall's tau" in shown
    assert "The ranking is not to be trusted: " in shown
    assert "8 trained alone" in shown
    told = nas("pareto", "last", *at, "--json").json
    assert told["gate"]["verdict"] == "failed"
    assert Path(told["files"]["fidelity.json"]).is_file()
    best = nas("pareto", "last", "--best", *at)
    assert (best.code, best.err) == (0, f"warning: {told['gate']['sentence']}\n")
    assert checked.out.startswith("The ranking is not to be trusted: ")


def test_stop_wants_a_ranking_that_passed_before_anything_is_confirmed(home: Path) -> None:
    gate = {**GATE, "on_fail": "stop"}
    spec = written(home.parent / "spec.yaml", {**SMALL, "fidelity": CHECK, "gate": gate})
    at = ("--home", home)
    said = nas("search", spec, *at)
    assert said.code == 0, said.err
    refused = nas("confirm", "last", *at)
    assert refused.code == 4
    assert "is not known: no network was trained alone to check it" in refused.err
    assert not [role for (role,) in rows(home, "trials", "role") if role == "confirmed"]


def test_an_unfinished_or_unknown_search(home: Path) -> None:
    refused(nas("fidelity", "last", "--home", home), "no search")
