"""Do compiled and exported calls give what the operator gives, at any length and layout?"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from nas_kernels import (
    LinearState,
    cosformer_attention,
    cosformer_attention_step,
    linear_attention,
    window_attention,
)
from nas_kernels.testing import assert_close

pytestmark = pytest.mark.slow

OPERATORS: dict[str, Callable[..., Tensor]] = {
    "linear_attention": linear_attention,
    "cosformer_attention": cosformer_attention,
    "window_attention": partial(window_attention, window=5),
}
LENGTHS = (50, 128, 70, 200, 64, 333, 600, 90)
BOUND = 1e-5
"""Relative RMS error, as of fp32 forms against the reference."""


class Graphs:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    count = 0

    def __call__(self, graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        self.count += 1
        return graph.forward


def projected(tokens: int) -> list[Tensor]:
    """q, k and v as a projection leaves them: (B, N, H, width) seen as (B, H, N, width)."""
    return [torch.randn(2, tokens, 3, 16).transpose(1, 2).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("causal", [False, True])
def test_many_lengths_take_few_graphs(name: str, causal: bool) -> None:
    graphs = Graphs()
    torch._dynamo.reset()
    call = partial(OPERATORS[name], causal=causal)
    compiled = torch.compile(call, fullgraph=True, backend=graphs)
    for tokens in LENGTHS:
        inputs = projected(tokens)
        lengths = torch.tensor([tokens // 2, tokens])
        got, want = compiled(*inputs, key_lengths=lengths), call(*inputs, key_lengths=lengths)
        assert_close("o", got, want, BOUND)
    assert graphs.count <= 3


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_of_traced_lengths_are_right(name: str) -> None:
    torch._dynamo.reset()
    call = partial(OPERATORS[name], causal=True)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    # A multiple of a chunk after one that is none: padding by nothing keeps strides.
    for tokens in (50, 128, 64):
        inputs = projected(tokens)
        found = torch.autograd.grad(compiled(*inputs).sum(), inputs)
        wanted = torch.autograd.grad(call(*inputs).sum(), inputs)
        for each, a, b in zip("qkv", found, wanted, strict=True):
            assert_close(f"d{each}", a, b, BOUND)


@pytest.mark.parametrize("number", [int, lambda i: torch.tensor([i, i])], ids=["int", "tensor"])
def test_a_compiled_step_serves_every_position(number: Callable[[int], Any]) -> None:
    graphs = Graphs()
    torch._dynamo.reset()
    compiled = torch.compile(cosformer_attention_step, fullgraph=True, backend=graphs)
    state: LinearState | None = None
    for i in range(12):
        token = [torch.randn(2, 1, 1, 8) for _ in range(3)]
        got, _ = compiled(state, *token, position=number(i), norm_length=20)
        want, state = cosformer_attention_step(state, *token, position=number(i), norm_length=20)
        assert_close("o", got, want, BOUND)
    assert graphs.count <= 4


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_an_export_serves_every_length(name: str, causal: bool, strict: bool) -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
            return OPERATORS[name](q, k, v, causal=causal, key_lengths=lengths)

    rows, queries, keys = (
        torch.export.Dim(name, min=1, max=4096) for name in ("rows", "queries", "keys")
    )
    tensors = [torch.randn(2, 1, n, 8) for n in (130, 70, 70)]
    program = torch.export.export(
        Attention(), (*tensors, torch.tensor([30, 70])), strict=strict,
        dynamic_shapes=[{0: rows, 2: queries}, *[{0: rows, 2: keys}] * 2, {0: rows}],
    )  # fmt: skip
    for node in program.graph.nodes:
        shape = getattr(node.meta.get("val"), "shape", ())
        # Nothing grows with queries and keys at once.
        assert sum(not isinstance(size, int) for size in shape[1:]) <= 1, (node, shape)
    for batch, t, s in ((1, 1, 1), (3, 64, 64), (2, 2, 150), (1, 300, 7)):
        inputs = [torch.randn(batch, 1, n, 8) for n in (t, s, s)]
        lengths = torch.full((batch,), min(t, s))
        got, want = program.module()(*inputs, lengths), Attention()(*inputs, lengths)
        assert_close("o", got, want, BOUND)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_step_serves_every_position_and_batch(strict: bool) -> None:
    class Step(torch.nn.Module):
        def forward(
            self, state: LinearState, q: Tensor, k: Tensor, v: Tensor, position: Tensor
        ) -> tuple[Tensor, LinearState]:
            return cosformer_attention_step(state, q, k, v, position=position, norm_length=20)

    def drawn(batch: int) -> tuple[Any, ...]:
        state = LinearState(torch.rand(batch, 1, 16, 8), torch.rand(batch, 1, 16))
        return (state, *(torch.randn(batch, 1, 1, 8) for _ in range(3)), torch.full((batch,), 3))

    rows: Any = {0: torch.export.Dim("rows", min=1, max=4096)}
    program = torch.export.export(
        Step(), drawn(2), strict=strict, dynamic_shapes=[LinearState(rows, rows), *[rows] * 4]
    )
    for batch in (1, 5):
        given = drawn(batch)
        (got, state), (want, right) = program.module()(*given), Step()(*given)
        assert_close("o", got, want, BOUND)
        for part, a, b in zip(LinearState._fields, state, right, strict=True):
            assert_close(part, a, b, BOUND)
