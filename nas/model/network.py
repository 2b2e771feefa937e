"""What the network is: tensors that a blueprint declares, and a forward over an architecture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from nas.errors import SpecError
from nas.model.decoding import Decoding
from nas.model.encoder_decoder import translate
from nas.model.image_encoder import classify
from nas.model.slots import Sharing, Slots, declare
from nas.space.architecture import Architecture, Encoder, EncoderDecoder
from nas.space.task_shape import TaskShape


class Network(Slots):
    """A pre-norm transformer; the architecture is an argument of its forward.

    It holds tensors large enough for a set of architectures and slices them for the one at hand, so
    it has no active state. `Supernet` holds a whole space, `StandaloneNetwork` one architecture.
    """

    def __init__(
        self,
        architectures: Iterable[Architecture],
        shape: TaskShape,
        sharing: Sharing | None,
        seed: int = 0,
    ) -> None:
        super().__init__(declare(architectures, shape, sharing), sharing, seed)
        self.shape = shape

    def run(self, inputs: Any, architecture: Architecture) -> Tensor:
        """Scores by the architecture's slice of what is to be told apart.

        Images (B, C, S, S) have (B, classes), `SentencePairs` with N true target tokens
        (N, vocabulary). Raises `SpecError` for an architecture that this network does not hold.
        """
        if isinstance(architecture, Encoder):
            return classify(inputs, architecture, self.shape, self)
        if isinstance(architecture, EncoderDecoder):
            return translate(inputs, architecture, self.shape, self)
        raise SpecError(f"an architecture is needed, {architecture!r} given")


class StandaloneNetwork(Network):
    """One architecture as an ordinary module: `network(inputs)`."""

    def __init__(self, architecture: Architecture, shape: TaskShape, seed: int = 0) -> None:
        super().__init__([architecture], shape, None, seed)
        self.architecture = architecture

    def forward(self, inputs: Any) -> Tensor:
        """Scores as `run` gives them."""
        return self.run(inputs, self.architecture)

    def decoding(self) -> Decoding:
        """What writes translations with the weights as they are now; `SpecError` if it cannot."""
        return Decoding(self, self.architecture, self.shape)
