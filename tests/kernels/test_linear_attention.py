"""Does the fast form of linear attention give what its definition gives, gradients included?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas_kernels import linear_attention
from nas_kernels.linear_attention import reference
from nas_kernels.linear_attention.reference import FeatureMap
from nas_kernels.testing import assert_close

MAPS: list[FeatureMap] = ["relu", "elu1"]
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


def draw(shape: Shape, seed: int = 0) -> list[Tensor]:
    """q, k, v and an output gradient in fp64."""
    batch, heads, queries, keys, width, columns = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(queries, width), (keys, width), (keys, columns), (queries, columns)]
    return [torch.randn(batch, heads, *s, generator=generator, dtype=torch.float64) for s in sizes]


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad.to(output.dtype))


@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["fp64", "fp32"]
)
def test_output_and_gradients_match_the_reference(
    shape: Shape, feature_map: FeatureMap, dtype: torch.dtype, bound: float
) -> None:
    *tensors, grad = draw(shape)
    fast = [t.to(dtype).requires_grad_() for t in tensors]
    slow = [t.detach().clone().requires_grad_() for t in fast]
    lengths = torch.randint(1, shape[3] + 1, shape[:1], generator=torch.Generator().manual_seed(1))
    got = linear_attention(*fast, feature_map=feature_map, lengths=lengths)
    want = reference.linear_attention(*slow, feature_map=feature_map, lengths=lengths)
    assert got.dtype == dtype
    assert_close("o", got, want, bound)
    pairs = zip(gradients(got, fast, grad), gradients(want, slow, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, bound)


@pytest.mark.parametrize("queries", [1, 197])
def test_one_key_gives_its_value_and_scores_get_no_gradient(queries: int) -> None:
    *tensors, grad = draw((2, 2, queries, 1, 8, 5))
    q, k, v = (t.requires_grad_() for t in (tensors[0].abs(), tensors[1].abs(), tensors[2]))
    out = linear_attention(q, k, v, feature_map="relu")
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
    got, want = linear_attention(*fast), reference.linear_attention(*slow)
    assert got.dtype == dtype
    assert_close("o", got, want, bound)
    grad = grad.to(dtype)
    pairs = zip(gradients(got, fast, grad), gradients(want, slow, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, bound)


def test_autocast_changes_nothing() -> None:
    q, k, v, _ = (t.float() for t in draw((2, 2, 63, 63, 8, 8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = linear_attention(q, k, v)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, linear_attention(q, k, v))


def test_long_fp16_sums_do_not_overflow() -> None:
    # 8192 keys with features of 16: the normaliser is above 2^21, where fp16 ends at 65504.
    q, k, v = (torch.full((1, 1, n, 4), 16.0, dtype=torch.float16) for n in (2, 8192, 8192))
    assert torch.equal(linear_attention(q, k, v, feature_map="relu"), q)


@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("filler", [0.0, 1e4, float("nan"), float("inf"), -float("inf")])
def test_padding_changes_no_valid_output_or_gradient(
    feature_map: FeatureMap, filler: float
) -> None:
    *tensors, grad = draw((2, 2, 9, 9, 8, 5))
    plain = [t.requires_grad_() for t in tensors]
    want = linear_attention(*plain, feature_map=feature_map)
    wanted = gradients(want, plain, grad)
    q, k, v = (torch.nn.functional.pad(t.detach(), (0, 0, 0, 4), value=filler) for t in tensors)
    q[:, :, 9:] = 3.0
    padded = [t.requires_grad_() for t in (q, k, v)]
    got = linear_attention(*padded, feature_map=feature_map, lengths=torch.tensor([9, 9]))
    assert torch.isfinite(got).all()
    assert_close("o", got[:, :, :9], want, 1e-12)
    grad = torch.nn.functional.pad(grad, (0, 0, 0, 4))
    for name, a, b in zip("qkv", gradients(got, padded, grad), wanted, strict=True):
        assert_close(f"d{name}", a[:, :, :9], b, 1e-12)
        assert not a[:, :, 9:].any()


def test_each_row_uses_its_own_length() -> None:
    q, k, v, _ = draw((3, 2, 6, 20, 8, 8))
    lengths = torch.tensor([20, 7, 0])
    got = linear_attention(q, k, v, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        alone = linear_attention(q[one], k[one, :, :length], v[one, :, :length])
        assert_close(f"row {row}", got[one], alone, 1e-12)
    assert not got[2].any()


def test_features_that_are_all_zero_give_zero_and_finite_gradients() -> None:
    *tensors, grad = draw((1, 2, 15, 15, 8, 8))
    inputs = [(-t.abs()).float().requires_grad_() for t in tensors]
    out = linear_attention(*inputs, feature_map="relu")
    assert not out.any()
    assert all(torch.isfinite(g).all() for g in gradients(out, inputs, grad))


@pytest.mark.parametrize("feature_map", MAPS)
def test_gradcheck(feature_map: FeatureMap) -> None:
    inputs = [t.requires_grad_() for t in draw((1, 2, 3, 4, 3, 2), seed=3)[:3]]
    assert torch.autograd.gradcheck(
        lambda *qkv: linear_attention(*qkv, feature_map=feature_map), inputs
    )


def test_memory_layout_of_a_projection_is_accepted() -> None:
    flat = torch.randn(2, 30, 4 * 8, generator=torch.Generator().manual_seed(0))
    heads = flat.view(2, 30, 4, 8).transpose(1, 2)
    assert not heads.is_contiguous()
    packed = heads.contiguous()
    got, want = linear_attention(heads, heads, heads), linear_attention(packed, packed, packed)
    assert_close("o", got, want, 1e-6)


@pytest.mark.parametrize("feature_map", MAPS)
@pytest.mark.parametrize("queries", [31, 3])
def test_the_order_of_the_products_changes_nothing(feature_map: FeatureMap, queries: int) -> None:
    *tensors, grad = draw((2, 2, queries, 17, 12, 9))
    q, k, v = inputs = [t.requires_grad_() for t in tensors]
    features = [
        x.relu() if feature_map == "relu" else torch.where(x > 0, x + 1, x.exp()) for x in (q, k)
    ]
    scores = torch.einsum("bhnr,bhsr->bhns", *features)
    scores = scores.masked_fill(torch.arange(17) >= 11, 0)
    want = torch.einsum("bhns,bhsv->bhnv", scores, v) / scores.sum(dim=-1, keepdim=True)
    got = linear_attention(q, k, v, feature_map=feature_map, lengths=torch.tensor([11, 11]))
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
        linear_attention(q, k, v, lengths=lengths)
    counted = keys * width * columns + queries * width * (columns + 1)
    assert counter.get_total_flops() == 2 * counted


@given(
    sizes=st.tuples(*[st.integers(1, 12)] * 4),
    feature_map=st.sampled_from(MAPS),
    seed=st.integers(0, 2**31),
)
def test_outputs_are_weighted_means_of_the_values(
    sizes: tuple[int, int, int, int], feature_map: FeatureMap, seed: int
) -> None:
    queries, keys, width, columns = sizes
    q, k, v, _ = draw((1, 1, queries, keys, width, columns), seed)
    # A positive first feature keeps every normaliser above eps.
    q[..., 0], k[..., 0] = q[..., 0].abs() + 0.1, k[..., 0].abs() + 0.1
    out = linear_attention(q, k, v, feature_map=feature_map)
    tiny = 1e-9
    assert (out <= v.amax(dim=2, keepdim=True) + tiny).all()
    assert (out >= v.amin(dim=2, keepdim=True) - tiny).all()
    order = torch.randperm(keys, generator=torch.Generator().manual_seed(seed))
    permuted = linear_attention(q, k[:, :, order], v[:, :, order], feature_map=feature_map)
    assert_close("o of permuted keys", permuted, out, 1e-9)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        pytest.param([(2, 5, 8)] * 3, r"q has shape \(2, 5, 8\), expected \(B, H, N, K\)", id="q"),
        pytest.param(
            [(2, 3, 5, 8), (2, 3, 5, 7), (2, 3, 5, 7)],
            r"k has shape \(2, 3, 5, 7\), expected \(2, 3, S, 8\)",
            id="k",
        ),
        pytest.param(
            [(2, 3, 5, 8), (2, 3, 6, 8), (2, 3, 5, 8)],
            r"v has shape \(2, 3, 5, 8\), expected \(2, 3, 6, V\)",
            id="v",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(sizes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_attention(*(torch.zeros(s) for s in sizes))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        pytest.param(torch.tensor([3]), r"shape \(1,\), expected \(2,\)", id="shape"),
        pytest.param(torch.tensor([3.0, 2.0]), "dtype torch.float32", id="dtype"),
        pytest.param(torch.tensor([3, 6]), r"\[3, 6\], expected values in 0..5", id="too-long"),
        pytest.param(torch.tensor([-1, 5]), r"\[-1, 5\]", id="negative"),
    ],
)
def test_lengths_that_do_not_fit_are_named(lengths: Tensor, message: str) -> None:
    x = torch.zeros(2, 3, 5, 8)
    with pytest.raises(ValueError, match=message):
        linear_attention(x, x, x, lengths=lengths)


def test_mixed_dtypes_and_unknown_maps_are_refused() -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="one floating dtype"):
        linear_attention(x, x, x.double())
    with pytest.raises(ValueError, match="'gelu', expected one of relu, elu1"):
        linear_attention(x, x, x, feature_map="gelu")  # type: ignore[arg-type]


def test_assert_close_names_the_tensor_and_the_error() -> None:
    ones = torch.ones(4)
    assert_close("same", ones, ones, 0.0)
    with pytest.raises(AssertionError, match=r"dq: relative RMS error 0\.1, bound 0\.01"):
        assert_close("dq", ones * 1.1, ones, 0.01)
    with pytest.raises(AssertionError, match=r"dk: shape \(4,\), want \(3,\)"):
        assert_close("dk", ones, torch.ones(3), 1.0)
    with pytest.raises(AssertionError, match="dv: 4 of 4 values of got not finite"):
        assert_close("dv", ones / 0, ones, 1.0)
    with pytest.raises(AssertionError, match="error inf"):
        assert_close("o", ones, ones * 0, 1.0)
