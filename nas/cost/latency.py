"""How long does a forward pass take: wall time between synchronisations, with provenance."""

from __future__ import annotations

import copy
import statistics
import time
from typing import TYPE_CHECKING

from nas.cost.cost import Candidate, CostModel, Figure
from nas.cost.machine import machine
from nas.search.objective import Metric
from nas.search.workload import Workload
from nas.space.task_shape import TaskShape

if TYPE_CHECKING:
    import torch
    from torch import nn


class LatencyCost(CostModel):
    """Measured latency of one batch, in ms; `latency_spread_ms` is half the interquartile range."""

    metric = Metric("latency_ms", "minimize", "ms")

    def figure(self, candidate: Candidate) -> Figure:
        """See `measure`."""
        return measure(candidate.network(), candidate.shape, candidate.workload)


LATENCY = LatencyCost()


def measure(network: nn.Module, shape: TaskShape, workload: Workload) -> Figure:
    """Times `network(images)` on the workload, the median; the network itself is left untouched.

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
    return Figure(statistics.median(kept), {"latency_spread_ms": spread}, machine(device))


def _synchronize(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
