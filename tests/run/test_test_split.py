"""Who reads the test images? Who looks whether they are whole, and networks at their end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nas.run import confirm
from nas.run.workspace import Workspace
from nas.search.trial import Standing
from nas.store.sql import SqlStore
from nas.task.image_classification import Digits, DigitsOptions
from nas.task.task import ImageData, LabelledImages
from nas.train.checkpoint import read_state
from tests.run.cases import RECIPE, finish, request, short_report

# Long enough that larger networks score better, so that the front has more than one to halve.
LEARNT = {"steps": 200, "learning_rate": 0.005, "stability": {"every": 50, "subnets": 5}}


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
    reads: list[list[str]] = []

    def note() -> None:
        files = place.root.glob("standalone/*/*.safetensors")
        reads.append([file.name for file in files if read_state(file, {}).complete])

    watched(monkeypatch, note)
    halving = {"members": 1, "seeds": 2, "flops_tolerance": 0.1, "shortlist": 3}
    spec = request(supernet={**RECIPE, **LEARNT}, confirmation=halving)
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
    # Looked through before any training, by no rung, and then once by each network, when it is
    # trained to the end: rungs left those that they confirm as finished as they had to be.
    assert len(store.trials(record.id, "rung")) > 2
    assert reads[0] == []
    assert len(reads) == 1 + len(trained)
    for trial, finished in zip(trained, reads[1:], strict=True):
        name = f"{trial.architecture.id}-seed{Standing.of(trial).seed}.safetensors"
        assert name in finished
