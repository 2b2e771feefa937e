"""Are images that have changed since a search began refused to it, and taken for a new one?"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from nas.errors import DataChanged, DataError
from nas.run import confirm, search
from nas.run.evaluate import Setup
from nas.run.executor import LocalExecutor
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.store.sql import SqlStore
from tests.run.cases import facts, finish, request, short_report

pytestmark = pytest.mark.usefixtures("without_mlflow")

CHANGED = "task image_folder: its data have changed since the search began"


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = numpy.random.default_rng(seed).integers(0, 256, (8, 8, 3), numpy.uint8)
    Image.fromarray(pixels).save(path)


def add(folder: Path) -> None:
    image(folder / "cat" / "new.png", 99)


def replace(folder: Path) -> None:
    image(folder / "dog" / "3.png", 99)


def swap(folder: Path) -> None:
    (folder / "cat").rename(folder / "other")
    (folder / "dog").rename(folder / "cat")
    (folder / "other").rename(folder / "dog")


CHANGES = [add, replace, swap]


@pytest.fixture
def folder(place: Workspace) -> Path:
    found = place.data_root / "mine"
    for label, name in enumerate(("cat", "dog")):
        for number in range(30):
            image(found / name / f"{number}.png", 100 * label + number)
    return found


@pytest.fixture
def spec(folder: Path) -> SearchSpec:
    return asked(path=str(folder))


def asked(**task: Any) -> SearchSpec:
    return request(
        task={"name": "image_folder", "side": 8, "validation": 0.2, **task},
        evaluation={"examples": 8},
        budget={"trials": 10},
        controls={"random": 1, "homogeneous": 1},
        confirmation={"members": 2, "seeds": 2, "flops_tolerance": 0.5, "rungs": 0},
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_search_is_not_resumed_on_other_images(
    change: Callable[[Path], None], folder: Path, spec: SearchSpec, place: Workspace
) -> None:
    def interrupt(update: Update) -> None:
        if (update.phase, update.done) == ("search", 7):
            raise KeyboardInterrupt

    record, store = submit(spec, place), SqlStore(place.record_url)
    with pytest.raises(KeyboardInterrupt):
        search.run(record.id, place, reporter=short_report, listener=interrupt)
    before = facts(store.trials(record.id))
    assert len(before) == 7
    change(folder)
    with pytest.raises(DataChanged, match=CHANGED):
        search.run(record.id, place, reporter=short_report)
    assert facts(store.trials(record.id)) == before
    assert store.get(record.id).state == "failed"
    assert "its data have changed" in str(store.get(record.id).error)
    # The same request is another search, with a supernet of its own.
    assert finish(spec, place).state == "succeeded"
    assert len(list(place.supernet(spec).glob("*/supernet.safetensors"))) == 2


def test_a_training_is_not_resumed_on_other_images(
    folder: Path, spec: SearchSpec, place: Workspace
) -> None:
    def interrupt(update: Update) -> None:
        if update.phase == "supernet" and update.done:
            raise KeyboardInterrupt

    record = submit(spec, place)
    with pytest.raises(KeyboardInterrupt):
        search.run(record.id, place, reporter=short_report, listener=interrupt)
    add(folder)
    with pytest.raises(DataChanged, match=CHANGED):
        search.run(record.id, place, reporter=short_report)
    (folder / "cat" / "new.png").unlink()
    assert search.run(record.id, place, reporter=short_report).state == "succeeded"


@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_search_confirms_nothing_on_other_images(
    change: Callable[[Path], None], folder: Path, spec: SearchSpec, place: Workspace
) -> None:
    record, store = finish(spec, place), SqlStore(place.record_url)
    before = facts(store.trials(record.id))
    change(folder)
    with pytest.raises(DataChanged, match=CHANGED):
        confirm.confirm(record.id, place, reporter=short_report)
    assert facts(store.trials(record.id)) == before
    assert finish(spec, place).state == "succeeded"
    with pytest.raises(DataChanged, match=CHANGED):
        confirm.confirm(record.id, place, reporter=short_report)
    assert confirm.confirm(store.searches()[0].id, place, reporter=short_report).phase == "report"


def test_who_confirms_needs_the_images_on_the_workers_alone(
    folder: Path, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = finish(asked(path=folder.name, classes=["cat", "dog"]), place)
    there = place.data_root.rename(place.root / "on the workers")

    def elsewhere(work: Callable[..., Any]) -> Callable[..., Any]:
        def working(executor: LocalExecutor, setup: Setup, *rest: Any) -> Any:
            return work(executor, dataclasses.replace(setup, data_root=there), *rest)

        return working

    for work in ("train", "evaluate"):
        monkeypatch.setattr(LocalExecutor, work, elsewhere(getattr(LocalExecutor, work)))
    confirmed = confirm.confirm(record.id, place, reporter=short_report)
    trained = SqlStore(place.record_url).trials(record.id, "confirmed")
    assert (confirmed.state, [trial.succeeded for trial in trained]) == (
        "succeeded",
        [True] * len(trained),
    )
    assert len(trained) >= 2


@pytest.mark.parametrize("trained", [0, 1])
def test_a_confirmation_whose_rivals_are_known_trains_nothing_on_other_images(
    trained: int, folder: Path, spec: SearchSpec, place: Workspace
) -> None:
    def interrupt(update: Update) -> None:
        if (update.phase, update.done) == ("confirmed", trained):
            raise KeyboardInterrupt

    record, store = finish(spec, place), SqlStore(place.record_url)
    with pytest.raises(KeyboardInterrupt):
        confirm.confirm(record.id, place, reporter=short_report, listener=interrupt)
    before = facts(store.trials(record.id))
    assert {trial[0] for trial in before} >= {"matched"}
    replace(folder)
    with pytest.raises(DataChanged, match=CHANGED):
        confirm.confirm(record.id, place, reporter=short_report)
    assert facts(store.trials(record.id)) == before
    assert len(list(place.standalone(record.id).glob("*.safetensors"))) == trained
    assert store.get(record.id).state == "succeeded"


def test_a_broken_image_with_a_name_that_is_no_text(
    folder: Path, spec: SearchSpec, place: Workspace
) -> None:
    broken = folder / "cat" / os.fsdecode(b"\xfe.png")
    broken.write_bytes(b"no image")
    record, store = submit(spec, place), SqlStore(place.record_url)
    with pytest.raises(DataError, match=r"cat/\\udcfe\.png: not an image"):
        search.run(record.id, place, reporter=short_report)
    found = store.get(record.id)
    assert found.state == "failed"
    assert str(found.error).startswith(f"{folder}/cat/\\udcfe.png: not an image")
    # Of a whole image it is a name like any other.
    image(folder / "whole.png", 5)
    (folder / "whole.png").rename(broken)
    assert search.run(record.id, place, reporter=short_report).state == "succeeded"
