"""Does linear attention give what its definition gives, in every form, gradients included?"""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas_kernels import Backend, FeatureMap, linear_attention
from nas_kernels.testing import assert_close
from tests.kernels.conformance import KernelConformance, counted
from tests.kernels.drawing import DEVICE, Options, Sizes, draw, each_form, placed

MAPS: list[FeatureMap] = ["relu", "elu1"]


class TestLinearAttention(KernelConformance):
    operator = linear_attention
    options: ClassVar[tuple[Options, ...]] = (
        {"causal": False, "feature_map": "elu1"},
        {"causal": True, "feature_map": "relu"},
        # Scores of both signs: far from zero in their sum, or nothing could be compared.
        {"causal": False, "feature_map": "identity", "eps": 2500.0},
        {"causal": False, "feature_map": "relu"},
        {"causal": True, "feature_map": "elu1"},
        {"causal": True, "feature_map": "identity", "eps": 2500.0},
    )
    # Around 0, elu1 is nearly the same for all.
    spread = 5.0

    def macs(self, sizes: Sizes, **_: Any) -> int:
        batch, heads, queries, keys, width, columns = sizes
        return batch * heads * width * (keys * columns + queries * (columns + 1))

    def torch_macs(self, sizes: Sizes, **options: Any) -> int:
        batch, heads, queries, _, width, columns = sizes
        within_chunks = batch * heads * queries * 64 * (width + columns + 1)
        return self.macs(sizes) + int(options["causal"]) * within_chunks


def gradients(output: Tensor, inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, grad.to(output.dtype))


@pytest.mark.parametrize("queries", [1, 197])
def test_one_key_gives_its_value_and_scores_get_no_gradient(queries: int) -> None:
    *tensors, grad = draw((2, 2, queries, 1, 8, 5))
    q, k, v = (t.requires_grad_() for t in (tensors[0].abs(), tensors[1].abs(), tensors[2]))
    out = linear_attention(q, k, v)
    assert_close("o", out, v.expand_as(out), 1e-12)
    dq, dk, dv = gradients(out, [q, k, v], grad)
    assert_close("dv", dv, grad.sum(dim=2, keepdim=True), 1e-12)
    # The true gradients are zero, so the bound is absolute, for inputs of size 1.
    assert dq.abs().max() < 1e-12
    assert dk.abs().max() < 1e-12


@each_form
def test_long_fp16_sums_do_not_overflow(form: Backend) -> None:
    # 300 keys with scores of 1024 sum to more than 2^18, where fp16 ends at 65504.
    q, k, v = (
        torch.full((1, 1, n, 4), 16.0, dtype=torch.float16).to(DEVICE) for n in (2, 300, 300)
    )
    assert torch.equal(linear_attention(q, k, v, backend=form), q)


@pytest.mark.parametrize("causal", [False, True])
def test_each_row_uses_its_own_length(causal: bool) -> None:
    q, k, v, _ = draw((3, 2, 6, 20, 8, 8))
    lengths = torch.tensor([20, 7, 0])
    got = linear_attention(q, k, v, key_lengths=lengths, causal=causal)
    for row, length in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        if length:
            alone = linear_attention(q[one], k[one, :, :length], v[one, :, :length], causal=causal)
            assert_close(f"row {row}", got[one], alone, 1e-12)
    assert not got[2].any()


@each_form
def test_features_that_are_all_zero_give_zero_and_finite_gradients(form: Backend) -> None:
    *tensors, grad = placed((1, 2, 15, 15, 8, 8))
    inputs = [(-t.abs()).requires_grad_() for t in tensors]
    out = linear_attention(*inputs, backend=form)
    assert not out.any()
    assert all(torch.isfinite(g).all() for g in gradients(out, inputs, grad))


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
    got = linear_attention(q, k, v, feature_map=feature_map, key_lengths=torch.tensor([11, 11]))
    assert_close("o", got, want, 1e-12)
    pairs = zip(gradients(got, inputs, grad), gradients(want, inputs, grad), strict=True)
    for name, (a, b) in zip("qkv", pairs, strict=True):
        assert_close(f"d{name}", a, b, 1e-12)


@pytest.mark.parametrize(
    ("queries", "keys", "width", "columns"),
    [(8, 8, 60, 60), (256, 256, 8, 8), (64, 64, 64, 64), (15, 197, 16, 7), (197, 1, 16, 24)],
)
def test_the_torch_form_does_the_products_of_the_readme(
    queries: int, keys: int, width: int, columns: int
) -> None:
    sizes = (1, 1, queries, keys, width, columns)
    macs = keys * width * columns + queries * width * (columns + 1)
    lengths = torch.tensor([keys // 2])
    forward, _ = counted(
        lambda qkv: linear_attention(*qkv, key_lengths=lengths, backend="torch"), sizes
    )
    assert forward == 2 * macs


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
    ("options", "message"),
    [
        ({"feature_map": "gelu"}, "feature_map is 'gelu', expected one of 'relu', 'elu1', "),
        ({"eps": 0.0}, "eps is 0.0, expected a number above 0"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"eps": float("inf")}, "eps is inf"),
        ({"eps": "small"}, "eps is 'small', expected a number above 0"),
    ],
)
def test_options_that_are_none_are_named(options: Options, message: str) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=message):
        linear_attention(x, x, x, **options)
