"""Is what would fail at once said before anything is recorded, and what is not known owned to?"""

import socket
from pathlib import Path
from typing import Any

import pytest

from nas.errors import DataError, MachineUnavailable, SpecError
from nas.run.preflight import preflight
from tests.run.cases import request
from tests.task.digit_sentences import plug


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU, and no cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)


FITTING: list[dict[str, Any]] = [
    {"name": "local"},
    # Workers share the cores that there are.
    {"name": "ray", "workers": 3, "cores": 2, "training_cores": 8},
    {"name": "ray", "workers": 2, "training_cores": 4, "gpus": 0.5},
    # One process evaluates, so one GPU is taken.
    {"name": "local", "workers": 8, "gpus": 1},
]
TOO_MUCH: dict[str, tuple[dict[str, Any], str]] = {
    "gpus": (
        {"name": "ray", "workers": 2, "gpus": 1},
        r"^executor\.gpus: 1 given, which takes 2 for workers at a time: 2; torch sees 1 GPUs on .*"
        "RAY_ADDRESS",
    ),
    "more than one": ({"name": "local", "gpus": 2}, "2 given, which takes 2 for workers"),
    "shares": ({"name": "ray", "workers": 3, "gpus": 0.5}, r"0\.5 given, which takes 2 for"),
    # Two of these fit on no GPU together, though they make less than two GPUs.
    "large shares": ({"name": "ray", "workers": 2, "gpus": 0.6}, r"0\.6 given, which takes 2 for"),
}


@pytest.mark.parametrize("executor", FITTING, ids=str)
def test_a_request_that_fits_leaves_nothing_unknown(
    executor: dict[str, Any], tmp_path: Path
) -> None:
    assert preflight(request(executor=executor), tmp_path) == ""


@pytest.mark.parametrize("what", TOO_MUCH)
def test_more_than_this_machine_has_is_refused(what: str, tmp_path: Path) -> None:
    executor, said = TOO_MUCH[what]
    with pytest.raises(SpecError, match=said):
        preflight(request(executor=executor), tmp_path)


def test_data_that_are_missing_or_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data_batch_1 is missing"):
        preflight(request(task="cifar10", space="cifar10_small"), tmp_path)
    with pytest.raises(SpecError, match=r"^evaluation\.examples: 361 given, 1 to 360 allowed"):
        preflight(request(evaluation={"examples": 361}), tmp_path)
    assert preflight(request(evaluation={"examples": 360}), tmp_path) == ""


def test_as_many_sentences_as_are_held_out_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch)
    given = {"task": "digit_sentences", "supernet": {}, "standalone": {}}
    assert preflight(request(**given, evaluation={"examples": 72}), tmp_path) == ""
    with pytest.raises(SpecError, match=r"^evaluation\.examples: 73 given, 1 to 72 allowed"):
        preflight(request(**given, evaluation={"examples": 73}), tmp_path)


def test_of_a_cluster_only_whether_it_answers_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = request(
        task="cifar10", space="cifar10_small", executor={"name": "ray", "workers": 999, "gpus": 1}
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        unknown = preflight(spec, tmp_path)
    assert unknown == f"the task's data and GPUs (they are those of RAY_ADDRESS={address})"
    with pytest.raises(MachineUnavailable, match=f"RAY_ADDRESS={address}: no Ray cluster"):
        preflight(spec, tmp_path)
    # One process is no cluster, whatever the variable says.
    with pytest.raises(DataError):
        preflight(request(task="cifar10", space="cifar10_small"), tmp_path)


def test_a_cluster_that_this_process_is_in_is_not_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    spec = request(executor={"name": "ray", "workers": 999})
    assert "the Ray cluster that this process is in" in preflight(spec, tmp_path)
