"""Costs of another distribution: an exact one without bounds, measured ones, and one in the way."""

import os

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
WORKER_PROCESS = WorkerProcess()
