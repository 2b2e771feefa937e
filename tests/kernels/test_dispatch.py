"""Which form runs, who says so, and does the compiler see through it?"""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nas.model.supernet import Supernet
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape
from nas_kernels import cosformer_attention, explain, linear_attention, window_attention
from nas_kernels.dispatch import choose
from nas_kernels.launching import noted
from tests.kernels.drawing import DEVICE, draw, placed

OPERATORS: dict[str, Callable[..., Tensor]] = {
    "linear_attention": linear_attention,
    "cosformer_attention": cosformer_attention,
    "window_attention": partial(window_attention, window=3),
}


def events(call: Callable[[], Any]) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    return {event.key for event in found.key_averages()}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("backend", ["reference", "torch", "triton"])
def test_the_profiler_sees_what_runs(name: str, backend: str) -> None:
    q, k, v, _ = placed((1, 1, 4, 4, 8, 8))
    seen = events(lambda: OPERATORS[name](q, k, v, backend=backend))
    assert f"nas_kernels::{name} ({backend})" in seen


def test_the_supernet_uses_these_operators() -> None:
    space = load_space("digits_tiny")
    shape = ImageShape(8, 1, 10)
    supernet = Supernet(space, shape)
    images = torch.randn(2, 1, 8, 8)
    for attention in space.all_attentions:
        network = space.homogeneous(attention).extreme("smallest")
        seen = events(partial(supernet, images, network))
        used = {key for key in seen if key.startswith("nas_kernels::")}
        expected = {f"nas_kernels::{attention}_attention (torch)"}
        assert used == (expected if str(attention) in ("linear", "cosformer") else set())


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_compiler_sees_one_graph(name: str, causal: bool) -> None:
    q, k, v, _ = (t.float() for t in draw((1, 2, 9, 9, 8, 8)))
    call = partial(OPERATORS[name], causal=causal)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    inputs = [t.requires_grad_() for t in (q, k, v)]
    want, got = call(*inputs), compiled(*inputs)
    assert torch.allclose(got, want, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(got.sum(), inputs), torch.autograd.grad(want.sum(), inputs), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_export_holds_plain_operators_alone(name: str) -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return OPERATORS[name](q, k, v, causal=True)

    tensors = tuple(t.float() for t in draw((2, 2, 70, 70, 8, 8))[:3])
    tokens = torch.export.Dim("tokens", min=2, max=4096)
    program = torch.export.export(Attention(), tensors, dynamic_shapes=[{2: tokens}] * 3)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert targets
    foreign = {each for each in targets if not each.startswith(("aten.", "<built-in"))}
    assert not foreign
    longer = tuple(t.float() for t in draw((2, 2, 131, 131, 8, 8))[:3])
    got, want = program.module()(*longer), OPERATORS[name](*longer, causal=True)
    assert torch.allclose(got, want, atol=1e-5)


def test_what_is_no_operator_is_named() -> None:
    with pytest.raises(ValueError, match="function is relu, expected linear_attention, "):
        explain(torch.relu, torch.zeros(1))


def test_an_operator_has_one_signature_and_its_own_name() -> None:
    told = inspect.signature(window_attention)
    assert list(told.parameters) == ["q", "k", "v", "window", "causal", "key_lengths", "backend"]
    assert told.return_annotation is get_type_hints(window_attention)["return"] is Tensor
    x = torch.zeros(1, 1, 2, 2)
    calls: list[Callable[..., Any]] = [window_attention, partial(explain, window_attention)]
    for call in calls:
        with pytest.raises(TypeError, match=r"^window_attention\(\) missing 1 .* 'window'$"):
            call(x, x, x)


def test_explain_raises_what_the_call_would() -> None:
    x = torch.zeros(1, 1, 2, 2, device=DEVICE)
    with pytest.raises(ValueError, match="eps is 0"):
        explain(linear_attention, x, x, x, eps=0)
    assert explain(linear_attention, x, x, x, backend="reference") == (
        "reference: the definition, query by query (as asked for)"
    )
    assert explain(linear_attention, x, x, x, causal=True, backend="triton") == (
        "triton: causal scan, one program a head (as asked for)"
    )


@pytest.mark.parametrize("name", ["linear_attention", "cosformer_attention"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("rows", "tokens", "launches", "told"),
    [
        pytest.param(1, 511, 1, "one program a head", id="short"),
        pytest.param(1, 512, 2, "two passes over 2 segments of 256 tokens", id="long"),
        # They keep any GPU busy uncut.
        pytest.param(1000, 512, 1, "one program a head", id="many-rows"),
    ],
)
def test_explain_tells_what_is_launched(
    name: str, causal: bool, rows: int, tokens: int, launches: int, told: str
) -> None:
    x = torch.zeros(1, 1, 1, 8, device=DEVICE).expand(1, rows, tokens, 8)
    said = explain(OPERATORS[name], x, x, x, causal=causal, backend="triton")
    assert told in said
    with noted() as found:
        OPERATORS[name](x, x, x, causal=causal, backend="triton")
    assert len(found) == launches
    assert {each.grid[0] for each in found} == {rows}


def test_window_attention_is_one_launch() -> None:
    x = torch.zeros(1, 1, 1, 8, device=DEVICE).expand(1, 1, 2000, 8)
    with noted() as found:
        window_attention(x, x, x, window=3, backend="triton")
    assert len(found) == 1


@pytest.mark.slow
def test_the_first_call_of_a_process_is_counted() -> None:
    code = (
        "import torch\n"
        "from torch.utils.flop_counter import FlopCounterMode\n"
        "from nas_kernels import cosformer_attention, window_attention\n"
        f"x = torch.ones(1, 1, 4, 8, device='{DEVICE}')\n"
        "with FlopCounterMode(display=False) as cosformer:\n"
        "    cosformer_attention(x, x, x, backend='triton')\n"
        "with FlopCounterMode(display=False) as window:\n"
        "    window_attention(x, x, x, window=0, backend='triton')\n"
        "print(cosformer.get_total_flops(), window.get_total_flops())"
    )
    environment = os.environ | ({} if DEVICE == "cuda" else {"TRITON_INTERPRET": "1"})
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    # 16 features: keys make 8 columns, queries read them and their normaliser. Each query, one key.
    assert found.stdout.split() == [str(2 * 16 * (4 * 8 + 4 * 9)), str(2 * 4 * (8 + 8))]


def test_auto_never_raises_for_want_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_kernels.dispatch._TRITON", False)
    x = torch.zeros(1, 1, 2, 2)
    assert choose("auto", x, x, x) == ("torch", "the tensors lie on cpu")
    with pytest.raises(ValueError, match="backend is 'triton', but the tensors lie on cpu"):
        linear_attention(x, x, x, backend="triton")


def test_all_but_triton_works_without_triton() -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'triton': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import torch, nas_kernels as n\n"
        "x = torch.zeros(1, 1, 2, 2)\n"
        "n.cosformer_attention(x, x, x), n.window_attention(x, x, x, window=1)\n"
        "sys.exit('nas_kernels.linear_attention.kernels' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
