"""The weight-sharing network: one set of tensors that holds every architecture of a space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nas.model.network import Network, StandaloneNetwork
from nas.model.slots import Sharing
from nas.space.architecture import Architecture
from nas.space.blueprint import blueprint
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape


class Supernet(Network):
    """A network for a whole space; `supernet(inputs, a)` equals `supernet.extract(a)(inputs)`.

    `sharing` says what attention types share at a site: nothing (`per_type`), V and O
    (`shared_vo`; ViTAS, Su et al., 2022) or all four projections (`shared_qkvo`).
    """

    def __init__(
        self, space: SearchSpace, shape: TaskShape, sharing: Sharing = "per_type", seed: int = 0
    ) -> None:
        super().__init__(space.covering(), shape, sharing, seed)
        self.space = space
        self.sharing = sharing

    def forward(self, inputs: Any, architecture: Architecture) -> Tensor:
        """Scores as `run` gives them, by the architecture's slice."""
        return self.run(inputs, architecture)

    def extract(self, architecture: Architecture) -> StandaloneNetwork:
        """A stand-alone network with a copy of the architecture's slice of the weights.

        Raises `SpecError` for an architecture that this network does not hold.
        """
        network = StandaloneNetwork(architecture, self.shape)
        with torch.no_grad():
            for part in blueprint(architecture, self.shape):
                own = network.slices(part)
                for name, tensor in self.slices(part).items():
                    own[name].copy_(tensor)
        reference = next(self.parameters())
        return network.to(reference.device, reference.dtype).train(self.training)
