"""The feed-forward types against their formula."""

import math

import pytest
import torch
from torch import Tensor

from nas.operators.declaration import Grid
from tests.operators.conformance import FfnConformance, sizes_of, tensors


class TestMlp(FfnConformance):
    name = "mlp"

    @pytest.mark.parametrize("activation", ["gelu", "relu"])
    def test_it_is_the_definition(self, activation: str) -> None:
        def act(x: Tensor) -> Tensor:
            return x.clamp(min=0) if activation == "relu" else x * (1 + (x / 2**0.5).erf()) / 2

        own = tensors(self.parameters({}), sizes_of(Grid(3, 3)))
        x = torch.linspace(-2, 2, 8, dtype=torch.float64).expand(1, 9, 8)
        hidden = act(x @ own["in_weight"].T + own["in_bias"])
        expected = hidden @ own["out_weight"].T + own["out_bias"]
        torch.testing.assert_close(self.declaration.apply(x, own, activation, {}), expected)

    def test_activations_grow_with_the_hidden_width(self) -> None:
        sizes = sizes_of(Grid(3, 3))
        assert self.declaration.activations(sizes, {}) == 2 * math.prod((9, sizes["ffn_width"]))
