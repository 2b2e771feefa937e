"""Does window attention give what its definition gives, in every form, gradients included?"""

from typing import ClassVar

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from nas_kernels import window_attention
from nas_kernels.testing import assert_close
from tests.kernels.conformance import FORMS, KernelConformance, Options, draw


class TestWindowAttention(KernelConformance):
    operator = window_attention
    options: ClassVar[tuple[Options, ...]] = (
        {"causal": False, "window": 2},
        {"causal": True, "window": 20},
        {"causal": False, "window": 70},
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [29, 1000])
def test_a_wide_window_is_plain_softmax(form: str, causal: bool, window: int) -> None:
    *tensors, grad = (t.float() for t in draw((2, 2, 30, 30, 8, 8)))
    inputs = [t.requires_grad_() for t in tensors]
    got = window_attention(*inputs, window=window, causal=causal, backend=form)  # type: ignore[arg-type]
    q, k, v = inputs
    want = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_close("o", got, want, 1e-5)
    found, wanted = (torch.autograd.grad(o, inputs, grad) for o in (got, want))
    for name, a, b in zip("qkv", found, wanted, strict=True):
        assert_close(f"d{name}", a, b, 1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_window_of_nothing_is_the_own_value(form: str) -> None:
    q, k, v, _ = (t.float() for t in draw((2, 1, 70, 70, 8, 5)))
    for causal in (False, True):
        got = window_attention(q, k, v, window=0, causal=causal, backend=form)  # type: ignore[arg-type]
        assert_close("o", got, v, 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_who_sees_no_key_is_zero_and_moves_nothing(form: str) -> None:
    *tensors, grad = (t.float() for t in draw((1, 1, 80, 80, 8, 8)))
    inputs = [t.requires_grad_() for t in tensors]
    lengths = torch.tensor([10])
    out = window_attention(*inputs, window=3, key_lengths=lengths, backend=form)  # type: ignore[arg-type]
    assert out[:, :, :13].any(-1).all()
    assert not out[:, :, 13:].any()
    dq, dk, dv = torch.autograd.grad(out, inputs, grad)
    assert not dq[:, :, 13:].any()
    assert not dk[:, :, 10:].any()
    assert not dv[:, :, 10:].any()


@pytest.mark.parametrize("window", [-1, 2.5, True, None])
def test_a_window_that_is_none_is_named(window: object) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=f"window is {window!r}, expected a whole number"):
        window_attention(x, x, x, window=window)  # type: ignore[arg-type]
