"""Does window attention give what its definition gives, in every form, gradients included?"""

from typing import Any, ClassVar

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from nas_kernels import Backend, window_attention
from nas_kernels.testing import assert_close
from tests.kernels.conformance import KernelConformance
from tests.kernels.drawing import Options, Sizes, each_form, placed, tf32_or


class TestWindowAttention(KernelConformance):
    operator = window_attention
    options: ClassVar[tuple[Options, ...]] = (
        {"causal": False, "window": 5},
        {"causal": True, "window": 20},
        {"causal": False, "window": 70},
    )

    def macs(self, sizes: Sizes, **options: Any) -> int:
        batch, heads, queries, keys, width, columns = sizes
        distances = torch.arange(queries)[:, None] - torch.arange(keys)
        window: int = options["window"]
        ahead = 0 if options["causal"] else window
        seen = int(((distances <= window) & (distances >= -ahead)).sum())
        return batch * heads * seen * (width + columns)

    def torch_macs(self, sizes: Sizes, **options: Any) -> int:
        batch, heads, queries, _, width, columns = sizes
        window: int = options["window"]
        met = max(64, window) + (1 if options["causal"] else 2) * window
        return batch * heads * queries * met * (width + columns)


@each_form
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [29, 1000])
def test_a_wide_window_is_plain_softmax(form: Backend, causal: bool, window: int) -> None:
    *tensors, grad = placed((2, 2, 30, 30, 8, 8))
    inputs = [t.requires_grad_() for t in tensors]
    got = window_attention(*inputs, window=window, causal=causal, backend=form)
    q, k, v = inputs
    want = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_close("o", got, want, tf32_or(form, 1e-5))
    found, wanted = (torch.autograd.grad(o, inputs, grad) for o in (got, want))
    for name, a, b in zip("qkv", found, wanted, strict=True):
        assert_close(f"d{name}", a, b, tf32_or(form, 1e-5))


@each_form
def test_a_window_of_nothing_is_the_own_value(form: Backend) -> None:
    q, k, v, _ = placed((2, 1, 70, 70, 8, 5))
    for causal in (False, True):
        got = window_attention(q, k, v, window=0, causal=causal, backend=form)
        assert_close("o", got, v, tf32_or(form, 1e-6))


@each_form
def test_who_sees_no_key_is_zero_and_moves_nothing(form: Backend) -> None:
    *tensors, grad = placed((1, 1, 80, 80, 8, 8))
    inputs = [t.requires_grad_() for t in tensors]
    lengths = torch.tensor([10])
    out = window_attention(*inputs, window=3, key_lengths=lengths, backend=form)
    assert out[:, :, :13].any(-1).all()
    assert not out[:, :, 13:].any()
    dq, dk, dv = torch.autograd.grad(out, inputs, grad)
    assert not dq[:, :, 13:].any()
    assert not dk[:, :, 10:].any()
    assert not dv[:, :, 10:].any()


@each_form
@pytest.mark.parametrize("causal", [False, True])
def test_what_no_window_reaches_is_never_touched(form: Backend, causal: bool) -> None:
    # Seven blocks of 64 tokens. NaN in a block of keys, even times a weight of zero, would spoil
    # every query whose program goes there, and such a query every key.
    *tensors, grad = placed((1, 1, 448, 448, 8, 8))
    clean = [t.clone().requires_grad_() for t in tensors]
    for spoilt in tensors[1:]:
        spoilt[:, :, :64] = spoilt[:, :, -64:] = float("nan")
    inputs = [t.requires_grad_() for t in tensors]
    got = window_attention(*inputs, window=5, causal=causal, backend=form)
    distances = torch.arange(448)[:, None] - torch.arange(448)
    near = ((distances <= 5) & (distances >= (0 if causal else -5))).to(got.device)
    q, k, v = clean
    want = scaled_dot_product_attention(q, k, v, attn_mask=near)
    found, wanted = (torch.autograd.grad(o, x, grad) for o, x in ((got, inputs), (want, clean)))
    # A block off the spoilt keys, and for keys a block off the queries that meet those.
    queries, keys = slice(128, 320), slice(192, 256)
    assert_close("o", got[:, :, queries], want[:, :, queries], tf32_or(form, 1e-5))
    for name, a, b, part in zip("qkv", found, wanted, (queries, keys, keys), strict=True):
        assert_close(f"d{name}", a[:, :, part], b[:, :, part], tf32_or(form, 1e-5))


@pytest.mark.parametrize("window", [-1, 2.5, True, None])
def test_a_window_that_is_none_is_named(window: object) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=f"window is {window!r}, expected a whole number"):
        window_attention(x, x, x, window=window)  # type: ignore[arg-type]
