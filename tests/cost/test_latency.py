"""A latency carries where it comes from, and the measured network is as it was."""

import math
import platform
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.cost.latency import measure
from nas.cost.machine import machine
from nas.model.network import StandaloneNetwork
from nas.search.workload import Workload
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape

SHAPE = ImageShape(side=8, channels=1, classes=10)


class Recorder(nn.Module):
    """Notes what it is called with."""

    calls: list[tuple[torch.Size, torch.dtype, bool, bool, int]] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        inference, threads = torch.is_inference_mode_enabled(), torch.get_num_threads()
        self.calls.append((images.shape, self.weight.dtype, self.training, inference, threads))
        return images * self.weight


class Broken(nn.Module):
    """Fails when it is called."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError(f"no {images.dtype}")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Recorder.calls.clear()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_runs_the_workload_on_a_copy_in_evaluation_mode(dtype: str) -> None:
    workload = Workload.model_validate(
        {"dtype": dtype, "batch": 3, "warmup": 2, "repetitions": 5, "threads": 2}
    )
    measure(Recorder().train(), SHAPE, workload)
    expected = (torch.Size([3, 1, 8, 8]), getattr(torch, dtype), False, True, 2)
    assert Recorder.calls == [expected] * 7


def test_the_network_is_given_back_as_found() -> None:
    network = StandaloneNetwork(load_space("digits_tiny").extreme("largest"), SHAPE).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    identities = [id(parameter) for parameter in network.parameters()]
    threads = torch.get_num_threads()
    measure(network, SHAPE, Workload(dtype="bfloat16", repetitions=2, threads=threads + 1))
    assert network.training
    assert [id(parameter) for parameter in network.parameters()] == identities
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == torch.float32
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


def test_threads_come_back_after_a_failure() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=r"no torch\.float32"):
        measure(Broken(), SHAPE, Workload(threads=threads + 1))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("repetitions", [1, 2, 5])
def test_a_figure_has_its_spread_and_its_machine(repetitions: int) -> None:
    workload = Workload(batch=2, warmup=0, repetitions=repetitions)
    found = measure(Recorder(), SHAPE, workload)
    assert math.isfinite(found.value)
    assert found.value >= 0
    assert set(found.details) == {"latency_spread_ms"}
    assert math.isfinite(found.details["latency_spread_ms"])
    assert found.details["latency_spread_ms"] >= 0
    assert platform.node() in found.machine
    assert torch.__version__ in found.machine


def test_a_machine_tells_its_clock_where_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cpu")
    file = tmp_path / "cpuinfo_max_freq"
    monkeypatch.setattr("nas.cost.machine.HIGHEST", file)
    assert "MHz" not in machine(device)
    file.write_text("3500000\n")
    assert "at up to 3500 MHz, torch" in machine(device)
    file.write_text("unknown")
    assert "MHz" not in machine(device)
