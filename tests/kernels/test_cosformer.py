"""Does cosFormer attention give what its definition gives, in every form, gradients included?"""

import math
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from nas_kernels import Backend, cosformer_attention, linear_attention
from nas_kernels.testing import assert_close, relative_rms
from tests.kernels.conformance import KernelConformance, counted
from tests.kernels.drawing import (
    DEVICE,
    Options,
    Sizes,
    draw,
    each_form,
    placed,
    tf32_or,
)


class TestCosformerAttention(KernelConformance):
    operator = cosformer_attention
    options: ClassVar[tuple[Options, ...]] = (
        {"causal": False},
        {"causal": True},
        {"causal": False, "norm_length": 2000},
    )
    has_query_lengths = True
    spread = 3.0

    def macs(self, sizes: Sizes, **_: Any) -> int:
        batch, heads, queries, keys, width, columns = sizes
        return batch * heads * 2 * width * (keys * columns + queries * (columns + 1))

    def torch_macs(self, sizes: Sizes, **options: Any) -> int:
        batch, heads, queries, _, width, columns = sizes
        within_chunks = batch * heads * queries * 64 * (2 * width + columns + 1)
        return self.macs(sizes) + int(options["causal"]) * within_chunks


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad.to(output.dtype))


def test_the_reference_is_the_formula_term_by_term() -> None:
    q, k, v, _ = draw((1, 1, 4, 6, 3, 2))
    got = cosformer_attention(q, k, v, backend="reference")[0, 0]
    for i in range(4):
        total, mean = 0.0, torch.zeros(2, dtype=torch.float64)
        for j in range(6):
            dot = sum(max(float(q[0, 0, i, c]), 0) * max(float(k[0, 0, j, c]), 0) for c in range(3))
            score = dot * math.cos(math.pi / 2 * (i - j) / 6)
            total, mean = total + score, mean + score * v[0, 0, j]
        assert_close(f"o_{i}", got[i], mean / max(total, 1e-6), 1e-12)


@pytest.mark.parametrize("queries", [31, 3])
def test_the_order_of_the_products_changes_nothing(queries: int) -> None:
    *tensors, grad = draw((2, 2, queries, 17, 12, 9))
    q, k, v = inputs = [t.requires_grad_() for t in tensors]
    m = max(queries, 17)
    distances = torch.arange(queries, dtype=q.dtype)[:, None] - torch.arange(17, dtype=q.dtype)
    scores = torch.einsum("bhnr,bhsr->bhns", q.relu(), k.relu())
    scores = scores * torch.cos(math.pi / 2 * distances / m)
    scores = scores.masked_fill(torch.arange(17) >= 11, 0)
    want = torch.einsum("bhns,bhsv->bhnv", scores, v) / scores.sum(dim=-1, keepdim=True)
    got = cosformer_attention(q, k, v, norm_length=m, key_lengths=torch.tensor([11, 11]))
    assert_close("o", got, want, 1e-12)
    pairs = zip(gradients(got, inputs, grad), gradients(want, inputs, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, 1e-12)


@each_form
@pytest.mark.parametrize("causal", [False, True])
def test_each_row_uses_its_own_lengths(form: Backend, causal: bool) -> None:
    q, k, v, _ = placed((4, 2, 12, 20, 8, 8))
    queries, keys = torch.tensor([12, 5, 1, 9]), torch.tensor([20, 7, 1, 0])
    got = cosformer_attention(
        q, k, v, query_lengths=queries, key_lengths=keys, causal=causal,
        backend=form,
    )  # fmt: skip
    for row, (n, s) in enumerate(zip(queries.tolist(), keys.tolist(), strict=True)):
        one = slice(row, row + 1)
        assert not got[row, :, n:].any()
        if s:
            alone = cosformer_attention(
                q[one, :, :n], k[one, :, :s], v[one, :, :s], causal=causal, backend="reference"
            )
            assert_close(f"row {row}", got[one, :, :n], alone, tf32_or(form, 1e-5))
    assert not got[3].any()


def test_a_padded_length_is_not_the_norm_length() -> None:
    q, k, v, _ = draw((1, 2, 9, 9, 8, 8))
    alone = cosformer_attention(q, k, v)
    wide = [pad(t, (0, 0, 0, 40)) for t in (q, k, v)]
    lengths = torch.tensor([9])
    right = cosformer_attention(*wide, query_lengths=lengths, key_lengths=lengths)
    assert_close("o", right[:, :, :9], alone, 1e-12)
    # Without the queries' lengths all of them count, and M is their number.
    wrong = cosformer_attention(*wide, key_lengths=lengths)[:, :, :9]
    assert relative_rms(wrong, alone) > 0.01
    assert_close("o", wrong, cosformer_attention(q, k, v, norm_length=49), 1e-12)


def test_a_large_norm_length_is_plain_linear_attention() -> None:
    q, k, v, _ = draw((1, 2, 30, 30, 8, 8))
    plain = linear_attention(q, k, v)
    assert_close("o", cosformer_attention(q, k, v, norm_length=10**7), plain, 1e-9)
    assert relative_rms(cosformer_attention(q, k, v), plain) > 0.01


@pytest.mark.parametrize("norm_length", [9, torch.tensor([9]), torch.tensor([9.0])])
def test_norm_length_may_be_a_number_or_one_a_row(norm_length: Tensor | int) -> None:
    q, k, v, _ = draw((1, 2, 7, 5, 8, 8))
    for form in ("reference", "torch"):
        got = cosformer_attention(q, k, v, norm_length=norm_length, backend=form)
        want = cosformer_attention(q, k, v, norm_length=9)
        assert_close("o", got, want, 1e-12)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "columns"),
    [(8, 8, 60, 60), (256, 256, 8, 8), (64, 64, 64, 64), (15, 197, 16, 7), (197, 1, 16, 24)],
)
def test_the_torch_form_does_the_products_of_the_readme(
    queries: int, keys: int, width: int, columns: int
) -> None:
    sizes = (1, 1, queries, keys, width, columns)
    macs = 2 * width * (keys * columns + queries * (columns + 1))
    forward, _ = counted(lambda qkv: cosformer_attention(*qkv, backend="torch"), sizes)
    assert forward == 2 * macs


@given(
    sizes=st.tuples(*[st.integers(1, 12)] * 4), slack=st.integers(0, 20), seed=st.integers(0, 2**31)
)
def test_outputs_are_weighted_means_of_the_values(
    sizes: tuple[int, int, int, int], slack: int, seed: int
) -> None:
    queries, keys, width, columns = sizes
    q, k, v, _ = draw((1, 1, queries, keys, width, columns), seed)
    # A positive first feature keeps every normaliser above eps.
    q[..., 0], k[..., 0] = q[..., 0].abs() + 0.1, k[..., 0].abs() + 0.1
    m = max(queries, keys) + slack
    out = cosformer_attention(q, k, v, norm_length=m)
    tiny = 1e-9
    assert (out <= v.amax(dim=2, keepdim=True) + tiny).all()
    assert (out >= v.amin(dim=2, keepdim=True) - tiny).all()
    assert_close("o", out, cosformer_attention(q, k, v, norm_length=m, backend="reference"), 1e-9)


@each_form
def test_a_norm_length_that_could_not_be_checked_turns_no_weight_negative(
    form: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where M and lengths lie on an accelerator: nothing is read, so nothing is refused.
    monkeypatch.setattr("nas_kernels.arguments.readable", lambda _: False)
    q, k, v, _ = (t.abs() for t in placed((1, 1, 20, 20, 8, 8)))
    tiny = tf32_or(form, 1e-5) * float(v.max())
    for causal in (False, True):
        m = torch.tensor([7], device=DEVICE)
        out = cosformer_attention(q, k, v, norm_length=m, causal=causal, backend=form)
        assert (out <= v.amax(dim=2, keepdim=True) + tiny).all()
        assert (out >= v.amin(dim=2, keepdim=True) - tiny).all()


@pytest.mark.parametrize(
    ("norm_length", "lengths", "message"),
    [
        pytest.param(4, None, r"norm_length is 4, .* two tokens, 5:", id="number"),
        pytest.param(
            0, torch.tensor([0, 0]), "norm_length is 0, expected a number of at", id="zero"
        ),
        pytest.param(True, None, "norm_length is True, expected a number", id="flag"),
        pytest.param(2, torch.tensor([2, 4]), r"two tokens, \[1, 3\]", id="number-lengths"),
        pytest.param(torch.tensor([6, 4]), None, r"is \[6, 4\]", id="rows"),
        pytest.param(torch.tensor([1, 2]), torch.tensor([2, 4]), r"is \[1, 2\]", id="rows-lengths"),
        pytest.param("7", None, "norm_length is '7', expected a number", id="text"),
        pytest.param(float("inf"), None, "norm_length is inf, expected a number", id="infinity"),
        pytest.param(torch.tensor([9.0, float("nan")]), None, "nan", id="nan"),
        pytest.param(torch.tensor([9.0, float("inf")]), None, "inf", id="rows-infinity"),
        pytest.param(torch.tensor([6]), None, r"shape \(1,\), expected \(2,\)", id="shape"),
        pytest.param(torch.tensor([True, True]), None, "dtype torch.bool", id="dtype"),
    ],
)
def test_a_norm_length_that_would_turn_weights_negative_is_refused(
    norm_length: Tensor | int, lengths: Tensor | None, message: str
) -> None:
    x = torch.zeros(2, 1, 6, 4)
    with pytest.raises(ValueError, match=message):
        cosformer_attention(
            x, x, x, norm_length=norm_length, query_lengths=lengths, key_lengths=lengths
        )


def test_the_longest_distance_is_the_least_norm_length() -> None:
    q, k, v, _ = (t.abs() for t in draw((1, 1, 6, 6, 4, 4)))
    out = cosformer_attention(q, k, v, norm_length=5)
    # The two ends weigh nothing to each other, and nothing weighs less.
    assert (out >= v.amin(dim=2, keepdim=True) - 1e-9).all()
    moved = v.clone()
    moved[:, :, 5] += 1
    assert_close(
        "o_0", cosformer_attention(q, k, moved, norm_length=5)[:, :, 0], out[:, :, 0], 1e-9
    )
