"""Can the request for one GPU be run in slices: is it taken up between its checkpoints by steps?"""

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nas.cli.progress import Bars
from nas.run.running import Update
from tests.cli.terminal import SEARCHES, nas, written
from tests.task.fake_cifar10 import fake_cifar10

# Sizes at which nothing is learnt and everything is done; the rest stands as the file has it.
TINY: dict[str, Any] = {
    "task.validation": 20,
    "batch": 3,
    "budget.trials": 6,
    "supernet.steps": 30,
    "supernet.batch_size": 4,
    "supernet.warmup_steps": 5,
    "supernet.stability.every": 10,
    "supernet.stability.subnets": 5,
    "controls.random": 2,
    "controls.homogeneous": 1,
    "executor.name": "local",
    "executor.cores": 1,
}
NARROW = {"heads": [2], "head_width": [4, 8], "ffn_width": [8, 16]}


@pytest.fixture
def request_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`search cifar10_gpu.yaml` at these sizes, on a small CIFAR-10 that has been prepared."""
    fake_cifar10(tmp_path, monkeypatch)
    assert nas("data", "prepare", "cifar10").code == 0
    space = yaml.safe_load((SEARCHES.parent / "cifar10.yaml").read_text())
    small = {**space, "width": [16, 24], "depth": [1, 2], "layers": {**space["layers"], **NARROW}}
    changes = {**TINY, "space": str(written(tmp_path / "small.yaml", small))}
    words = [f"--set={path}={json.dumps(value)}" for path, value in changes.items()]
    return ["search", str(SEARCHES / "cifar10_gpu.yaml"), *words, "--json"]


def stopped_and_resumed(words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the search prints that Ctrl-C stopped in the middle of the supernet's training."""
    heard: list[Update] = []

    def listen(_: Bars, update: Update) -> None:
        heard.append(update)
        if (update.phase, update.done) == ("supernet", 20):
            signal.raise_signal(signal.SIGINT)

    # As if two minutes passed between two reports: no step of these has the file's number.
    monkeypatch.setattr("nas.train.loop.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Bars, "__call__", listen)
    stopped = nas(*words, "--home", home)
    assert stopped.code == 130, stopped.err
    again = stopped.err.strip().splitlines()[-1].partition("interrupted; go on with: nas ")[2]
    heard.clear()
    said = nas(*shlex.split(again), "--json")
    assert said.code == 0, said.err
    assert [update.done for update in heard if update.phase == "supernet"] == [30]
    done = {update.phase: (update.done, update.total) for update in heard}
    assert (done["search"], done["random"], done["homogeneous"]) == ((6, 6), (2, 2), (5, 5))
    assert said.json["state"] == "succeeded"
    assert said.json["front"]
    return said.json


@pytest.mark.slow
def test_stopped_and_resumed_it_ends_as_if_it_had_not_been(
    request_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*request_words, "--set=executor.gpus=0"]
    whole = nas(*words, "--home", tmp_path / "whole")
    assert whole.code == 0, whole.err
    resumed = stopped_and_resumed(words, tmp_path / "home", monkeypatch)
    assert resumed["front"] == whole.json["front"]


@pytest.mark.gpu
def test_a_gpu_takes_it_up_too(
    request_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed = stopped_and_resumed(request_words, tmp_path / "home", monkeypatch)
    given = json.loads(Path(resumed["files"]["pareto.json"]).read_text())
    assert torch.cuda.get_device_name() in str(given["extra"])
