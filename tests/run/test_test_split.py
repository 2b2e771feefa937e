"""Who reads the test images? Who looks whether they are whole, and networks at their end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nas.run import confirm
from nas.run.workspace import Workspace
from nas.store.sql import SqlStore
from nas.task.image_classification import Digits, DigitsOptions
from nas.task.task import ImageData, LabelledImages
from nas.train.checkpoint import read_state
from tests.run.cases import RECIPE, finish, request, short_report

STABILITY = {"every": 10, "subnets": 5}


def watched(monkeypatch: pytest.MonkeyPatch, on_read: Callable[[], None]) -> None:
    """The digits, whose test images tell that they are read."""
    load = Digits.load

    def loaded(task: Digits, options: DigitsOptions, root: Path) -> ImageData:
        data = load(task, options, root)

        def read_test() -> LabelledImages:
            on_read()
            return data.test()

        return replace(data, read_test=read_test)

    monkeypatch.setattr(Digits, "load", loaded)


@pytest.mark.usefixtures("without_mlflow")
def test_the_test_images_are_looked_through_and_read_by_finally_trained_networks_alone(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[list[bool]] = []

    def note() -> None:
        files = place.root.glob("standalone/*/*.safetensors")
        reads.append([read_state(file, {}).complete for file in files])

    watched(monkeypatch, note)
    spec = request(supernet={**RECIPE, "stability": STABILITY})
    record = finish(spec, place)
    store = SqlStore(place.record_url)
    trials = store.trials(record.id)
    assert {trial.role for trial in trials} == {"search", "random", "homogeneous"}
    assert all(trial.succeeded for trial in trials)
    (file,) = place.supernet(spec).glob("*/supernet.safetensors")
    assert read_state(file, {}).history
    assert reads == []

    confirm.confirm(record.id, place, reporter=short_report)
    trained = store.trials(record.id, "confirmed")
    assert len(trained) > 1
    assert all(trial.succeeded for trial in trained)
    # Looked through before any training; then each network reads once, when it has a finished
    # checkpoint more than the last.
    assert reads == [[True] * count for count in range(len(trained) + 1)]
