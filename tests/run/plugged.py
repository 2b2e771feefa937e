"""Costs of another distribution: an exact one without bounds, measured ones, and one in the way."""

import math
import os
import random

from nas.cost.cost import Candidate, CostModel, Figure
from nas.search.objective import Metric


class LayerCount(CostModel):
    """Layers, counted: nobody has worked out its bounds."""

    metric = Metric("layer_count", "minimize", "layers", analytic=True)

    def figure(self, candidate: Candidate) -> Figure:
        return Figure(float(candidate.architecture.depth))


class WeightBytes(CostModel):
    """Bytes of the weights of the network that stands alone, times the batch: a made-up memory."""

    metric = Metric("weight_bytes", "minimize", "bytes")

    def figure(self, candidate: Candidate) -> Figure:
        sizes = [each.numel() * each.element_size() for each in candidate.network().parameters()]
        machine = f"the machine for {candidate.architecture.depth} layers"
        batch = candidate.workload.batch
        return Figure(batch * sum(sizes), {"largest_weight_bytes": max(sizes)}, machine)


class MadeUpTime(CostModel):
    """A time by layers, their types and widths, and a chance that is always the same."""

    metric = Metric("made_up_ms", "minimize", "ms")

    def figure(self, candidate: Candidate) -> Figure:
        each = {"softmax": 1.0, "cosformer": 2.0, "linear": 0.5}
        layers = candidate.architecture.layers
        total = 1 + sum(each[x.attention.type] + 0.01 * x.ffn_width for x in layers)
        chance = random.Random(candidate.architecture.id).gauss(0, 0.03)
        # As if fewer passes were disturbed more.
        chance += 0.001 * candidate.workload.repetitions
        return Figure(total * math.exp(chance), {}, "a made-up clock")


class WorkerProcess(CostModel):
    """The process that it is measured in, and how many threads torch has there."""

    metric = Metric("worker_process", "minimize", "process id")

    def figure(self, _candidate: Candidate) -> Figure:
        import torch

        return Figure(os.getpid(), {"worker_threads": torch.get_num_threads()})


class Accuracy(CostModel):
    """A cost that would hide a task's metric."""

    metric = Metric("accuracy", "maximize", "fraction")

    def figure(self, candidate: Candidate) -> Figure:
        raise NotImplementedError


LAYER_COUNT, WEIGHT_BYTES, ACCURACY = LayerCount(), WeightBytes(), Accuracy()
MADE_UP_TIME, WORKER_PROCESS = MadeUpTime(), WorkerProcess()
