"""How long does a pass take: wall time between synchronisations, with provenance."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nas.cost.cost import Candidate, CostModel, Figure
from nas.cost.machine import machine
from nas.search.objective import Metric
from nas.search.workload import Workload, check_lengths
from nas.space.task_shape import ImageShape, TaskShape

if TYPE_CHECKING:
    import torch
    from torch import nn

Phases = Mapping[str, Callable[[Any], Any]]
"""What is timed, in order; each takes what the one before gave, the first None."""


class LatencyCost(CostModel):
    """Measured latency of one batch, in ms; `latency_spread_ms` is half the interquartile range.

    Of sentences it is that of the encoder and of beam search step by step, which are told apart as
    `latency_encoder_ms` and `latency_decoder_ms`.
    """

    metric = Metric("latency_ms", "minimize", "ms")

    def figure(self, candidate: Candidate) -> Figure:
        """See `measure`."""
        return measure(candidate.network(), candidate.shape, candidate.workload)


LATENCY = LatencyCost()


def measure(network: nn.Module, shape: TaskShape, workload: Workload) -> Figure:
    """Times a network on the workload, the median; the network itself is left untouched.

    Runs on a copy in evaluation mode: `warmup` passes, then `repetitions` timed ones, each between
    device synchronisations. A pass takes a batch of images, or encodes a batch of sources of
    `source_length` tokens and writes `target_length` tokens by `beam` hypotheses a sentence. Raises
    `RuntimeError` from torch where the device is not there, `SpecError` for a target that is longer
    than this source's may be.
    """
    import torch

    check_lengths(workload, shape)
    device, dtype = torch.device(workload.device), getattr(torch, workload.dtype)
    threads = torch.get_num_threads()
    subject = copy.deepcopy(network).to(device, dtype).eval()
    phases = (
        _classifying(subject, shape, workload, device, dtype)
        if isinstance(shape, ImageShape)
        else _translating(subject, workload, device)
    )
    times: list[list[float]] = []
    try:
        torch.set_num_threads(workload.threads)
        with torch.inference_mode():
            for _ in range(workload.warmup + workload.repetitions):
                times.append(_timed(phases, device))
    finally:
        torch.set_num_threads(threads)
    return _figure(times[workload.warmup :], [*phases], device)


def _classifying(
    subject: nn.Module, shape: ImageShape, workload: Workload, device: Any, dtype: Any
) -> Phases:
    import torch

    size = (workload.batch, shape.channels, shape.side, shape.side)
    images = torch.zeros(size, device=device, dtype=dtype)
    return {"": lambda _: subject(images)}


def _translating(subject: Any, workload: Workload, device: Any) -> Phases:
    import torch

    decoder, beam = subject.decoding(), workload.beam
    size = (workload.batch, workload.source_length)
    # Any tokens will do: what a step costs does not depend on which they are.
    source = torch.zeros(size, dtype=torch.int64, device=device)
    lengths = torch.full(size[:1], workload.source_length, device=device)
    return {
        "encoder": lambda _: decoder.start(source, lengths),
        "decoder": lambda memory: decoder.write(memory, beam=beam, tokens=workload.target_length),
    }


def _timed(phases: Phases, device: torch.device) -> list[float]:
    """Milliseconds of each phase of one pass."""
    times, handed = [], None
    for phase in phases.values():
        _synchronize(device)
        start = time.perf_counter()
        handed = phase(handed)
        _synchronize(device)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _figure(times: list[list[float]], phases: list[str], device: torch.device) -> Figure:
    totals = [sum(each) for each in times]
    quartiles = statistics.quantiles(totals, n=4) if len(totals) > 1 else [totals[0]] * 3
    details = {"latency_spread_ms": (quartiles[2] - quartiles[0]) / 2}
    if len(phases) > 1:
        for name, each in zip(phases, zip(*times, strict=True), strict=True):
            details[f"latency_{name}_ms"] = statistics.median(each)
    return Figure(statistics.median(totals), details, machine(device))


def _synchronize(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
