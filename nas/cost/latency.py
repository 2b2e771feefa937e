"""How long does a forward pass take: wall time between synchronisations, with provenance."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.search.objective import Metric
from nas.search.workload import Workload
from nas.space.task_shape import TaskShape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Latency:
    """A measured latency: median and half the interquartile range in ms, and its provenance."""

    median_ms: float
    spread_ms: float
    workload: Workload
    machine: str

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return {
            "latency_ms": self.median_ms,
            "spread_ms": self.spread_ms,
            "workload": self.workload.to_json(),
            "machine": self.machine,
        }


class LatencyCost:
    """The declaration of measured latency: one batch, in milliseconds."""

    metric = Metric("latency_ms", "minimize", "ms")


LATENCY = LatencyCost()


def measure(network: nn.Module, shape: TaskShape, workload: Workload) -> Latency:
    """Times `network(images)` on the workload; the network itself is left untouched.

    Runs on a copy in evaluation mode: `warmup` passes, then `repetitions` timed ones, each between
    device synchronisations. Raises `RuntimeError` from torch where the device is not there.
    """
    import torch

    device, dtype = torch.device(workload.device), getattr(torch, workload.dtype)
    threads = torch.get_num_threads()
    subject = copy.deepcopy(network).to(device, dtype).eval()
    size = (workload.batch, shape.channels, shape.side, shape.side)
    images = torch.zeros(size, device=device, dtype=dtype)
    times = []
    try:
        torch.set_num_threads(workload.threads)
        with torch.inference_mode():
            for _ in range(workload.warmup + workload.repetitions):
                _synchronize(device)
                start = time.perf_counter()
                subject(images)
                _synchronize(device)
                times.append((time.perf_counter() - start) * 1e3)
    finally:
        torch.set_num_threads(threads)
    kept = times[workload.warmup :]
    quartiles = statistics.quantiles(kept, n=4) if len(kept) > 1 else [kept[0]] * 3
    spread = (quartiles[2] - quartiles[0]) / 2
    return Latency(statistics.median(kept), spread, workload, machine(device))


def machine(device: Any) -> str:
    """What the figure was taken on: the GPU's name, or the processor and torch's version."""
    import platform

    import torch

    version = f"torch {torch.__version__}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {version}"
    return f"{platform.machine()} CPU, {version}"


def _synchronize(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
