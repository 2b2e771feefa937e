"""Is what no operator takes named, and what nobody can check kept from harm?"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kernels import cosformer_attention, linear_attention, window_attention
from nas_kernels.testing import assert_close
from tests.kernels.drawing import DEVICE, draw, each_form

OPERATORS: dict[str, Callable[..., Tensor]] = {
    "linear_attention": linear_attention,
    "cosformer_attention": cosformer_attention,
    "window_attention": partial(window_attention, window=4),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"q": None}, "q is None, expected a tensor"),
        ({"v": np.zeros(3)}, r"v is array\(.*, expected a tensor"),
        ({"causal": "no"}, "causal is 'no', expected True or False"),
        (
            {"key_lengths": torch.tensor([3], dtype=torch.uint8)},
            "torch.uint8, expected int32, int64",
        ),
        (
            {"key_lengths": torch.ones(1, 6)},
            r"shape \(1, 6\), expected \(1,\): lengths, not a mask",
        ),
        ({"key_lengths": torch.tensor([3], device="meta")}, "lies on meta, expected cpu"),
    ],
)
def test_what_is_no_argument_is_named(name: str, spoilt: dict[str, Any], message: str) -> None:
    given = {each: torch.zeros(1, 1, 6, 8) for each in "qkv"}
    with pytest.raises(ValueError, match=message):
        OPERATORS[name](**(given | spoilt))


@pytest.mark.parametrize("name", OPERATORS)
def test_kinds_of_tensors_that_have_no_sums_are_named(name: str) -> None:
    x = torch.zeros(1, 1, 6, 8)
    for spoilt, message in (
        (x.to(torch.float8_e4m3fn), "expected one floating dtype: float64, "),
        (x.to(torch.complex64), "expected one floating dtype: float64, "),
        (x.to_sparse(), "q has layout torch.sparse_coo"),
    ):
        with pytest.raises(ValueError, match=message):
            OPERATORS[name](spoilt, spoilt, spoilt)


@pytest.mark.parametrize("norm_length", [40, 40.0, np.int64(40), torch.tensor(40), 10**30])
def test_a_norm_length_may_be_any_number(norm_length: Any) -> None:
    q, k, v, _ = draw((2, 1, 6, 6, 4, 4))
    got = cosformer_attention(q, k, v, norm_length=norm_length)
    assert_close("o", got, cosformer_attention(q, k, v, norm_length=float(norm_length)), 1e-12)


@pytest.mark.parametrize("norm_length", [1e39, 10**400, torch.tensor([1e39], dtype=torch.float64)])
def test_a_norm_length_that_its_dtype_does_not_hold_is_named(norm_length: Any) -> None:
    x = torch.zeros(1, 1, 6, 4)
    with pytest.raises(ValueError, match=r"norm_length is \S+, expected a number of at least 1"):
        cosformer_attention(x, x, x, norm_length=norm_length)


@each_form
@pytest.mark.parametrize("window", [2**63 - 1, 2**70])
def test_a_window_beyond_all_numbers_sees_all(form: str, window: int) -> None:
    q, k, v, _ = (t.float().to(DEVICE) for t in draw((1, 1, 3, 4, 4, 4)))
    got = window_attention(q, k, v, window=window, backend=form)  # type: ignore[arg-type]
    want = window_attention(q, k, v, window=4, backend=form)  # type: ignore[arg-type]
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", OPERATORS)
@each_form
def test_a_length_that_could_not_be_checked_reads_nothing_beyond(
    name: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where lengths lie on an accelerator: nothing is read, so nothing is refused.
    monkeypatch.setattr("nas_kernels.arguments.readable", lambda _: False)
    around = torch.full((1, 1, 300, 8), float("nan"), device=DEVICE)
    q, k, *_ = (t.float().to(DEVICE) for t in draw((1, 1, 6, 6, 8, 8)))
    around[:, :, :6] = k
    near = around[:, :, :6].requires_grad_()
    call = partial(OPERATORS[name], backend=form)
    if name == "cosformer_attention":
        # Its own M would be as wrong as the length.
        call = partial(call, norm_length=6)
    out = call(q, near, near, key_lengths=torch.tensor([200]))
    assert_close("o", out, call(q, k, k), 1e-6)
    assert torch.autograd.grad(out.sum(), near)[0].isfinite().all()


@each_form
@pytest.mark.parametrize("feature_map", ["relu", "elu1", "identity"])
def test_a_diverged_network_is_seen_to_be_one(form: str, feature_map: str) -> None:
    q, k, v, _ = (t.float().to(DEVICE) for t in draw((1, 1, 6, 6, 8, 8)))
    call = partial(linear_attention, feature_map=feature_map, backend=form)  # type: ignore[arg-type]
    spoilt = q.clone()
    spoilt[0, 0, 1, 0] = float("nan")
    assert call(spoilt, k, v).isnan().any(-1)[0, 0].tolist() == [False, True, *[False] * 4]
    spoilt = k.clone()
    spoilt[0, 0, 2, 3] = float("nan")
    assert call(q, spoilt, v).isnan().any(-1).all()
    assert call(q, spoilt, v, causal=True).isnan().any(-1)[0, 0, 2:].all()


def test_forward_mode_takes_the_torch_form() -> None:
    q, k, v = (t.float() for t in draw((1, 1, 6, 6, 8, 8))[:3])

    def slope(backend: str) -> Tensor:
        call = partial(linear_attention, k=k, v=v, backend=backend)  # type: ignore[arg-type]
        tangent: Tensor = torch.func.jvp(call, (q,), (torch.ones_like(q),))[1]
        return tangent

    step = 1e-3
    moved = linear_attention(q + step, k, v) - linear_attention(q - step, k, v)
    assert_close("slope", slope("auto"), moved / (2 * step), 1e-2)
    with pytest.raises(ValueError, match="forward-mode differentiation is asked for"):
        slope("triton")
