"""The attention types against plain loops over pairs of tokens."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from nas import catalog
from nas.operators.declaration import AttentionContext, Grid, Options, Site
from nas_kernels import cosformer_attention, linear_attention
from tests.operators.conformance import AttentionConformance, settings, sizes_of, tensors

Weight = Callable[[Tensor, Tensor, int, int], Tensor]


def weighted(q: Tensor, k: Tensor, v: Tensor, weight: Weight) -> Tensor:
    """o_i = sum_j w_ij v_j / sum_j w_ij, pair by pair."""
    out = torch.zeros_like(v)
    for batch, head, i in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        query, keys = q[batch, head, i], k[batch, head]
        weights = torch.stack([weight(query, key, i, j) for j, key in enumerate(keys)])
        out[batch, head, i] = weights @ v[batch, head] / weights.sum().clamp(min=1e-6)
    return out


def test_every_shipped_type_is_proved_here() -> None:
    proved = {each.name for each in AttentionConformance.__subclasses__()}
    assert proved == set(catalog.ATTENTIONS.names())


class TestSoftmax(AttentionConformance):
    name = "softmax"

    @pytest.mark.parametrize("grid", [Grid(2, 2), Grid(3, 3, 1)])
    def test_it_is_the_definition(self, grid: Grid) -> None:
        q, k, v = self.inputs(grid)
        scale = q.shape[-1] ** -0.5
        expected = weighted(q, k, v, lambda one, other, _i, _j: (one @ other * scale).exp())
        torch.testing.assert_close(self.run(q, k, v, {}, grid), expected)

    def test_images_go_through_the_fused_kernel_unmasked(self) -> None:
        q, k, v = self.inputs(Grid(3, 3, 1))
        plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert torch.equal(self.run(q, k, v, {}, Grid(3, 3, 1)), plain)


class TestLinear(AttentionConformance):
    name = "linear"

    @pytest.mark.parametrize("feature_map", ["elu1", "relu"])
    def test_it_is_the_definition(self, feature_map: Literal["elu1", "relu"]) -> None:
        def phi(x: Tensor) -> Tensor:
            return x.relu() if feature_map == "relu" else torch.where(x > 0, x + 1, x.exp())

        grid = Grid(3, 3)
        q, k, v = self.inputs(grid)
        expected = weighted(q, k, v, lambda one, other, _i, _j: phi(one) @ phi(other))
        found = self.run(q, k, v, {"feature_map": feature_map}, grid)
        torch.testing.assert_close(found, expected)
        assert torch.equal(found, linear_attention(q, k, v, feature_map=feature_map))


class TestCosformer(AttentionConformance):
    name = "cosformer"

    @pytest.mark.parametrize("grid", [Grid(1, 1), Grid(3, 3), Grid(4, 4, 1)])
    def test_it_is_the_definition(self, grid: Grid) -> None:
        q, k, v = self.inputs(grid)
        count = q.shape[2]

        def weight(one: Tensor, other: Tensor, i: int, j: int) -> Tensor:
            return one.relu() @ other.relu() * math.cos(math.pi / 2 * (i - j) / count)

        found = self.run(q, k, v, {}, grid)
        torch.testing.assert_close(found, weighted(q, k, v, weight))
        assert torch.equal(found, cosformer_attention(q, k, v))

    @pytest.mark.parametrize("length", [9, 11.5, torch.tensor([9, 30])], ids=str)
    def test_positions_are_normalised_by_the_length_that_is_given(self, length: Any) -> None:
        grid = Grid(3, 3)
        q, k, v = self.inputs(grid)
        found = self.run(q, k, v, {}, grid, norm_length=length)
        for row in range(2):
            m = float(length[row] if isinstance(length, Tensor) else length)

            def weight(one: Tensor, other: Tensor, i: int, j: int, m: float = m) -> Tensor:
                return one.relu() @ other.relu() * math.cos(math.pi / 2 * (i - j) / m)

            one, other, values = (each[row : row + 1] for each in (q, k, v))
            expected = weighted(one, other, values, weight)
            torch.testing.assert_close(found[row : row + 1], expected)

    def test_a_length_below_the_true_one_is_refused(self) -> None:
        q, k, v = self.inputs(Grid(3, 3))
        with pytest.raises(ValueError, match=r"norm_length is 7, expected .* two tokens, 8"):
            self.run(q, k, v, {}, Grid(3, 3), norm_length=7)
        self.run(q, k, v, {}, Grid(3, 3), norm_length=7, key_lengths=torch.tensor([8, 2]))


class TestSoftmaxRelpos(AttentionConformance):
    name = "softmax_relpos"
    # With one row and one column torch multiplies without a product that it counts.
    grids = (Grid(3, 3), Grid(4, 4, 1))

    @pytest.mark.parametrize("grid", [Grid(1, 1), Grid(4, 4), Grid(4, 4, 1), Grid(2, 2, 2)])
    def test_it_is_the_definition(self, grid: Grid) -> None:
        for options in settings(self.attention.options):
            q, k, v = self.inputs(grid)
            own = tensors(self.parameters(options), sizes_of(grid))
            a, b = (self.pairs(own, options, grid, role) for role in ("key", "value"))
            scores = torch.einsum("bhik,bhjk->bhij", q, k) + torch.einsum("bhik,ijk->bhij", q, a)
            weights = torch.softmax(scores / q.shape[-1] ** 0.5, dim=-1)
            moved = torch.einsum("bhij,ijk->bhik", weights, b)
            torch.testing.assert_close(self.run(q, k, v, options, grid), weights @ v + moved)

    def pairs(self, own: dict[str, Tensor], options: Options, grid: Grid, role: str) -> Tensor:
        """(N, N, K): the vector of every pair of tokens, entry 0 where a class token takes part."""
        limit = int(options["max_distance"])
        places: list[tuple[int, int] | None] = [None] * grid.leading
        places += [(r, c) for r in range(grid.rows) for c in range(grid.columns)]
        rows, columns = own[f"row_{role}"], own[f"column_{role}"]
        found = torch.zeros(len(places), len(places), rows.shape[1], dtype=rows.dtype)
        for i, one in enumerate(places):
            for j, other in enumerate(places):
                if one is None or other is None:
                    found[i, j] = rows[0] + columns[0]
                else:
                    down, right = (
                        min(max(there - here, -limit), limit) + limit + 1
                        for here, there in zip(one, other, strict=True)
                    )
                    found[i, j] = rows[down] + columns[right]
        return found

    def test_tables_hold_every_offset_and_the_class_token(self) -> None:
        for parameter in self.parameters({"max_distance": 3}).values():
            assert parameter.shape(sizes_of(Grid(2, 2))) == (1 + 7, 4)

    def test_no_padding_is_bit_for_bit_no_lengths(self) -> None:
        for options, grid in self.cases():
            q, k, v = self.inputs(grid)
            lengths = torch.tensor([q.shape[2]] * 2)
            plain = self.run(q, k, v, options, grid)
            assert torch.equal(self.run(q, k, v, options, grid, key_lengths=lengths), plain)


@pytest.mark.parametrize("site", ["encoder_self", "decoder_self", "cross"])
def test_softmax_in_half_precision_on_a_cpu_is_softmax(site: Site) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = 13 if site == "cross" else 9
    q, k, v = (
        torch.randn(4, 3, tokens, 8, generator=generator).bfloat16().requires_grad_()
        for tokens in (9, keys, keys)
    )
    lengths = torch.tensor([keys, 5, 1, 0])
    context = AttentionContext(site, key_lengths=lengths)
    declared = catalog.ATTENTIONS.load("softmax")
    found = declared.attend(q, k, v, {}, {}, context)
    exact = [each.detach().double().requires_grad_() for each in (q, k, v)]
    expected = declared.attend(*exact, {}, {}, context)
    assert found.dtype == torch.bfloat16
    # What queries of padding give is nobody's affair.
    true = torch.arange(9) < lengths[:, None] if site != "cross" else torch.ones(4, 9).bool()
    true = true[:, None, :, None]
    assert relative(found * true, expected * true) < 8e-3
    weights = torch.randn(found.shape, generator=generator) * true
    got = torch.autograd.grad((found * weights).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weights).sum(), exact)
    assert max(map(relative, got, wanted)) < 2e-2


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the error over that of what is expected."""
    return float(((found.double() - expected).norm() / expected.norm()).detach())
