"""The norms against their formula."""

import torch

from nas import catalog
from tests.operators.conformance import NormConformance, tensors

X = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


class TestLayerNorm(NormConformance):
    name = "layernorm"

    def test_it_is_the_definition(self) -> None:
        norm = catalog.NORMS.load(self.name)
        own = tensors(norm.parameters(), {"width": 8})
        centred = X - X.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(norm.apply(X, own), scaled * own["weight"] + own["bias"])


class TestRmsNorm(NormConformance):
    name = "rmsnorm"

    def test_it_is_the_definition(self) -> None:
        norm = catalog.NORMS.load(self.name)
        own = tensors(norm.parameters(), {"width": 8})
        scaled = X / (X.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(norm.apply(X, own), scaled * own["weight"])
