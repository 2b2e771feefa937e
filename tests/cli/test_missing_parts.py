"""What can still be seen of a search that names a plug-in which is no longer installed?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas import catalog
from nas.search.spec import load_spec
from nas.store.sql import SqlStore
from tests.cli.terminal import SMALL, nas, refused, written


def record(home: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """The id of a search as another installation recorded it."""
    spec = load_spec(SMALL).to_json()
    change(spec)
    return SqlStore(f"sqlite:///{home / 'record.db'}").create_search(spec).id


GONE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "attention": (lambda spec: spec["space"]["layers"]["attention"].append("gone"), "attention"),
    "its options": (
        lambda spec: spec["space"]["layers"]["attention"].append({"type": "gone", "window": 3}),
        "attention",
    ),
    "one layer's": (
        lambda spec: spec["space"].update({"layers.1": {"attention": ["gone"]}}),
        "attention",
    ),
    "ffn": (lambda spec: spec["space"]["layers"].update(ffn=["mlp", "gone"]), "ffn"),
    "norm": (lambda spec: spec["space"].update(norm=["gone"]), "norm"),
    "task": (lambda spec: spec["task"].update(name="gone"), "task"),
    "strategy": (lambda spec: spec["strategy"].update(name="gone"), "strategy"),
    "executor": (lambda spec: spec["executor"].update(name="gone"), "executor"),
    "objective": (lambda spec: spec["objectives"].append("gone"), "cost"),
    "constraint": (lambda spec: spec["constraints"].append("gone <= 3"), "cost"),
}


@pytest.mark.parametrize("kind", GONE)
def test_a_part_that_is_not_installed_is_named(kind: str, tmp_path: Path) -> None:
    change, point = GONE[kind]
    search = record(tmp_path, change)
    at = ("--home", tmp_path)
    assert [each["id"] for each in nas("list", "--json", *at).json] == [search]
    said = nas("pareto", search, *at)
    refused(
        said, search, f"{point} 'gone' (entry-point group etnas.{point})", "install the package"
    )
    assert "did you mean" not in said.err
    assert said.err.split("error: ")[1] in nas("search", "--resume", search, *at).err
    assert said.err.split("error: ")[1] in nas("confirm", search, *at).err
    checked = nas("doctor", "--json", *at)
    assert checked.code == 1
    assert not checked.json["record"]["ok"]
    assert f"{search} names {point} 'gone'" in checked.json["record"]["text"]


def test_what_architectures_need_is_what_a_warm_start_needs(tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    wanted = record(tmp_path, GONE["attention"][0])
    for command in (["search", spec, "--warm-start", wanted], ["store", "rebuild", wanted]):
        refused(nas(*command, "--home", tmp_path), wanted, "attention 'gone'")
    store = SqlStore(f"sqlite:///{tmp_path / 'record.db'}")
    assert len(store.searches()) == 1


def test_all_is_seen_again_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = record(tmp_path, GONE["attention"][0])
    whole = record(tmp_path, lambda _: None)
    assert whole not in nas("doctor", "--json", "--home", tmp_path).json["record"]["text"]
    target = "nas.operators.attention.softmax:SOFTMAX"
    entries = {**catalog.ATTENTIONS.entries, "gone": target}
    monkeypatch.setitem(vars(catalog.ATTENTIONS), "entries", entries)
    assert nas("doctor", "--json", "--home", tmp_path).json["record"]["ok"]
    refused(nas("pareto", search, "--home", tmp_path), "0 scored", code=3)
