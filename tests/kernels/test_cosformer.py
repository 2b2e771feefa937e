"""Does the fast form of cosFormer attention give what its definition gives, gradients included?"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas_kernels import cosformer_attention
from nas_kernels import linear_attention as linear
from nas_kernels.cosformer import reference
from nas_kernels.testing import assert_close, relative_rms

# B, H, N, S, K, V
SHAPES = [
    pytest.param((2, 3, 1, 15, 8, 8), id="one-query"),
    pytest.param((2, 2, 15, 15, 60, 60), id="n15-wide-heads"),
    pytest.param((2, 2, 63, 63, 15, 7), id="n63-odd-widths"),
    pytest.param((1, 4, 197, 197, 8, 16), id="n197"),
    pytest.param((2, 1, 257, 257, 60, 8), id="n257"),
    pytest.param((2, 2, 15, 197, 8, 8), id="cross-few-queries"),
    pytest.param((2, 2, 197, 15, 15, 15), id="cross-few-keys"),
]
Shape = tuple[int, int, int, int, int, int]
DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def draw(shape: Shape, seed: int = 0) -> list[Tensor]:
    """q, k, v and an output gradient in fp64."""
    batch, heads, queries, keys, width, columns = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(queries, width), (keys, width), (keys, columns), (queries, columns)]
    return [torch.randn(batch, heads, *s, generator=generator, dtype=torch.float64) for s in sizes]


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad.to(output.dtype))


@pytest.mark.parametrize("norm", ["true", "number", "per-row"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), DTYPES, ids=["fp64", "fp32"])
def test_output_and_gradients_match_the_reference(
    shape: Shape, norm: str, dtype: torch.dtype, bound: float
) -> None:
    *tensors, grad = draw(shape)
    fast = [t.to(dtype).requires_grad_() for t in tensors]
    slow = [t.detach().clone().requires_grad_() for t in fast]
    lengths = torch.randint(1, shape[3] + 1, shape[:1], generator=torch.Generator().manual_seed(1))
    norms = {"true": None, "number": max(shape[2:4]) + 3, "per-row": lengths * 1.5 + 2}
    m = norms[norm]
    got = cosformer_attention(*fast, norm_length=m, lengths=lengths)
    want = reference.cosformer_attention(*slow, norm_length=m, lengths=lengths)
    assert got.dtype == dtype
    assert_close("o", got, want, bound)
    pairs = zip(gradients(got, fast, grad), gradients(want, slow, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, bound)


def test_the_reference_is_the_formula_term_by_term() -> None:
    q, k, v, _ = draw((1, 1, 4, 6, 3, 2))
    got = reference.cosformer_attention(q, k, v)[0, 0]
    for i in range(4):
        total, mean = 0.0, torch.zeros(2, dtype=torch.float64)
        for j in range(6):
            dot = sum(max(float(q[0, 0, i, c]), 0) * max(float(k[0, 0, j, c]), 0) for c in range(3))
            score = dot * math.cos(math.pi / 2 * (i - j) / 6)
            total, mean = total + score, mean + score * v[0, 0, j]
        assert_close(f"o_{i}", got[i], mean / max(total, 1e-6), 1e-12)


@pytest.mark.parametrize("queries", [1, 197])
def test_one_key_gives_its_value_and_scores_get_no_gradient(queries: int) -> None:
    *tensors, grad = draw((2, 2, queries, 1, 8, 5))
    q, k, v = (t.requires_grad_() for t in (tensors[0].abs(), tensors[1].abs(), tensors[2]))
    out = cosformer_attention(q, k, v)
    assert_close("o", out, v.expand_as(out), 1e-12)
    dq, dk, dv = gradients(out, [q, k, v], grad)
    assert_close("dv", dv, grad.sum(dim=2, keepdim=True), 1e-12)
    # The true gradients are zero, so the bound is absolute, for inputs of size 1.
    assert dq.abs().max() < 1e-12
    assert dk.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.bfloat16, 4e-3), (torch.float16, 5e-4)], ids=["bf16", "fp16"]
)
def test_half_precision_rounds_only_the_output(dtype: torch.dtype, bound: float) -> None:
    *tensors, grad = draw((2, 2, 257, 257, 15, 8))
    fast = [t.to(dtype).requires_grad_() for t in tensors]
    slow = [t.detach().float().requires_grad_() for t in fast]
    got, want = cosformer_attention(*fast), reference.cosformer_attention(*slow)
    assert got.dtype == dtype
    assert_close("o", got, want, bound)
    grad = grad.to(dtype)
    pairs = zip(gradients(got, fast, grad), gradients(want, slow, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, bound)


def test_autocast_changes_nothing() -> None:
    q, k, v, _ = (t.float() for t in draw((2, 2, 63, 63, 8, 8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cosformer_attention(q, k, v)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, cosformer_attention(q, k, v))


@pytest.mark.parametrize("extra", [1, 40])
@pytest.mark.parametrize("filler", [0.0, 1e4, float("nan"), float("inf"), -float("inf")])
def test_padding_changes_no_valid_output_or_gradient(filler: float, extra: int) -> None:
    *tensors, grad = draw((2, 2, 9, 9, 8, 5))
    plain = [t.requires_grad_() for t in tensors]
    want = cosformer_attention(*plain)
    wanted = gradients(want, plain, grad)
    pad = (0, 0, 0, extra)
    q, k, v = (torch.nn.functional.pad(t.detach(), pad, value=filler) for t in tensors)
    q[:, :, 9:] = 3.0
    padded = [t.requires_grad_() for t in (q, k, v)]
    got = cosformer_attention(*padded, lengths=torch.tensor([9, 9]))
    assert torch.isfinite(got).all()
    assert_close("o", got[:, :, :9], want, 1e-12)
    grad = torch.nn.functional.pad(grad, pad)
    for name, a, b in zip("qkv", gradients(got, padded, grad), wanted, strict=True):
        assert_close(f"d{name}", a[:, :, :9], b, 1e-12)
        assert not a[:, :, 9:].any()


def test_padded_queries_stay_weighted_means_in_fp16() -> None:
    # Left at their positions they would have negative weights, a normaliser of eps and overflow.
    q, k, v, _ = (t.abs().half() for t in draw((1, 1, 64, 64, 8, 8)))
    out = cosformer_attention(q * 30, k * 30, v, lengths=torch.tensor([1]))
    assert_close("o", out, v[:, :, :1].expand_as(out), 1e-3)


def test_each_row_uses_its_own_length() -> None:
    q, k, v, _ = draw((3, 2, 20, 20, 8, 8))
    lengths = torch.tensor([20, 7, 0])
    got = cosformer_attention(q, k, v, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = cosformer_attention(*(t[row : row + 1, :, :length] for t in (q, k, v)))
        assert_close(f"row {row}", got[row : row + 1, :, :length], alone, 1e-12)
    assert not got[2].any()


def test_cross_attention_with_norm_length_ignores_padding_on_both_sides() -> None:
    q, k, v, _ = draw((1, 2, 7, 5, 8, 8))
    want = cosformer_attention(q, k, v, norm_length=9)
    wide_q = torch.nn.functional.pad(q, (0, 0, 0, 13), value=2.0)
    wide_k, wide_v = (torch.nn.functional.pad(t, (0, 0, 0, 6), value=2.0) for t in (k, v))
    lengths = torch.tensor([5])
    for norm_length in (9, torch.tensor([9]), torch.tensor([9.0])):
        got = cosformer_attention(wide_q, wide_k, wide_v, norm_length=norm_length, lengths=lengths)
        assert_close("o", got[:, :, :7], want, 1e-12)
        # Padded queries, some of them past M, are weighted means of the true values too.
        assert (got <= v.amax(dim=2, keepdim=True) + 1e-9).all()
        assert (got >= v.amin(dim=2, keepdim=True) - 1e-9).all()


def test_a_large_norm_length_is_plain_linear_attention() -> None:
    q, k, v, _ = draw((1, 2, 30, 30, 8, 8))
    plain = linear(q, k, v, feature_map="relu")
    assert_close("o", cosformer_attention(q, k, v, norm_length=10**7), plain, 1e-9)
    assert relative_rms(cosformer_attention(q, k, v), plain) > 0.01


def test_features_that_are_all_zero_give_zero_and_finite_gradients() -> None:
    *tensors, grad = draw((1, 2, 15, 15, 8, 8))
    inputs = [(-t.abs()).float().requires_grad_() for t in tensors]
    out = cosformer_attention(*inputs)
    assert not out.any()
    assert all(torch.isfinite(g).all() for g in gradients(out, inputs, grad))


@pytest.mark.parametrize("lengths", [None, torch.tensor([3])], ids=["full", "padded"])
def test_gradcheck(lengths: Tensor | None) -> None:
    inputs = [t.requires_grad_() for t in draw((1, 2, 3, 4, 3, 2), seed=3)[:3]]
    assert torch.autograd.gradcheck(lambda *qkv: cosformer_attention(*qkv, lengths=lengths), inputs)


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
    got = cosformer_attention(q, k, v, norm_length=m, lengths=torch.tensor([11, 11]))
    assert_close("o", got, want, 1e-12)
    pairs = zip(gradients(got, inputs, grad), gradients(want, inputs, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, 1e-12)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "columns"),
    [(8, 8, 60, 60), (256, 256, 8, 8), (64, 64, 64, 64), (15, 197, 16, 7), (197, 1, 16, 24)],
)
def test_the_products_are_counted_as_the_readme_says(
    queries: int, keys: int, width: int, columns: int
) -> None:
    q, k, v, _ = draw((1, 1, queries, keys, width, columns))
    lengths = torch.tensor([keys // 2])
    with FlopCounterMode(display=False) as counter:
        cosformer_attention(q, k, v, lengths=lengths)
    counted = 2 * width * (keys * columns + queries * (columns + 1))
    assert counter.get_total_flops() == 2 * counted


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
    assert_close("o", out, reference.cosformer_attention(q, k, v, norm_length=m), 1e-9)


@pytest.mark.parametrize(
    ("norm_length", "lengths", "message"),
    [
        pytest.param(5, None, "norm_length is 5, .* true length, 6", id="number"),
        pytest.param(0, torch.tensor([0, 0]), "norm_length is 0", id="zero"),
        pytest.param(3, torch.tensor([2, 4]), r"true length, \[2, 4\]", id="number-lengths"),
        pytest.param(torch.tensor([6, 5]), None, r"is \[6, 5\]", id="rows"),
        pytest.param(torch.tensor([2, 3]), torch.tensor([2, 4]), r"is \[2, 3\]", id="rows-lengths"),
        pytest.param(torch.tensor([9.0, float("nan")]), None, "nan", id="nan"),
        pytest.param(torch.tensor([6]), None, r"shape \(1,\), expected \(2,\)", id="shape"),
    ],
)
def test_a_norm_length_that_would_turn_weights_negative_is_refused(
    norm_length: Tensor | int, lengths: Tensor | None, message: str
) -> None:
    x = torch.zeros(2, 1, 6, 4)
    with pytest.raises(ValueError, match=message):
        cosformer_attention(x, x, x, norm_length=norm_length, lengths=lengths)


def test_shapes_that_do_not_fit_are_named() -> None:
    x = torch.zeros(2, 1, 6, 4)
    with pytest.raises(ValueError, match=r"k has shape \(2, 1, 6, 3\), expected \(2, 1, S, 4\)"):
        cosformer_attention(x, x[..., :3], x)
