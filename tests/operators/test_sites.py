"""The attention types at every site against pairs of tokens, and step by step."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nas import catalog
from nas.errors import SpecError
from nas.operators.attention.cosformer import CosFormer
from nas.operators.attention.linear import Linear
from nas.operators.attention.relpos import SoftmaxRelpos
from nas.operators.attention.softmax import Softmax
from nas.operators.declaration import Attention, AttentionContext, Grid, Site
from nas.space.dimension import Operator
from tests.operators.sites import BATCH, HEADS, NORMS, WIDTH, Pair, SiteConformance


def test_every_shipped_type_is_proved_here() -> None:
    proved = {each.name for each in SiteConformance.__subclasses__()}
    assert proved == set(catalog.ATTENTIONS.names())


@pytest.mark.parametrize("site", ["encoder_self", "decoder_self", "cross"])
@pytest.mark.parametrize("name", catalog.ATTENTIONS.names())
def test_a_type_stands_where_it_declares_to(name: str, site: Site) -> None:
    slot = Operator(catalog.ATTENTIONS, site)
    if (name, site) != ("softmax_relpos", "cross"):
        assert slot.parse(name, "decoder.layers.0").type == name
        return
    with pytest.raises(SpecError, match=f"{name}' cannot stand at {site}; its sites: decoder_self"):
        slot.parse(name, "decoder.layers.0")


class TestSoftmax(SiteConformance):
    name = "softmax"

    def weight(self, pair: Pair) -> Tensor:
        return torch.exp(pair.q @ pair.k / len(pair.q) ** 0.5)

    def test_a_whole_target_goes_through_the_fused_causal_kernel(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = torch.nn.functional.scaled_dot_product_attention
        asked = []

        def noted(*args: Any, **kwargs: Any) -> Tensor:
            asked.append(kwargs)
            return plain(*args, **kwargs)

        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
        for case in self.cases("decoder_self"):
            self.attend(case, *case.inputs())
        assert asked == [{"is_causal": True}] * 2


class TestLinear(SiteConformance):
    name = "linear"

    def weight(self, pair: Pair) -> Tensor:
        if pair.options["feature_map"] == "relu":
            return pair.q.relu() @ pair.k.relu()
        q, k = (torch.where(each > 0, each + 1, each.exp()) for each in (pair.q, pair.k))
        return q @ k


class TestCosformer(SiteConformance):
    name = "cosformer"

    def weight(self, pair: Pair) -> Tensor:
        return pair.q.relu() @ pair.k.relu() * math.cos(math.pi / 2 * (pair.i - pair.j) / pair.m)

    def test_a_decoder_must_know_the_length_before_the_first_token(self) -> None:
        for case in self.cases("decoder_self", "cross", padded=False):
            open_case = replace(case, context=replace(case.context, norm_length=None))
            q, k, v = case.inputs()
            state = self.remember(case, None, k, v)
            for run in (
                lambda at=open_case, q=q, k=k, v=v: self.attend(at, q, k, v),
                lambda at=open_case, k=k, v=v: self.remember(at, None, k, v),
                lambda at=open_case, q=q, s=state: self.recall(at, s, q, 5),
            ):
                with pytest.raises(SpecError, match=f"no norm_length at {case.site}; a length"):
                    run()

    @pytest.mark.parametrize("copies", [1, 3])
    def test_a_token_beyond_the_length_is_refused(self, copies: int) -> None:
        for case in self.cases("cross", keys=6 * copies, padded=False, copies=copies):
            q, k, v = case.inputs()
            self.attend(case, q, k, v, norm_length=5)
            with pytest.raises(ValueError, match=r"norm_length is 4, expected .* two tokens, 5"):
                self.attend(case, q, k, v, norm_length=4)
            lengths = torch.tensor([5 * copies, 1])
            self.attend(case, q, k, v, norm_length=4, key_lengths=lengths)
            short = replace(case, context=replace(case.context, norm_length=4))
            with pytest.raises(ValueError, match=r"position is 5.0, expected at most .*4.0"):
                self.remember(short, None, k, v)
            shorter = replace(short, context=replace(short.context, key_lengths=lengths))
            state = self.remember(shorter, None, k, v)
            with pytest.raises(ValueError, match=r"position is 5.0, expected at most .*4.0"):
                self.recall(shorter, state, q, 5)

    def test_padded_queries_beyond_the_length_are_no_tokens(self) -> None:
        for copies in (1, 2):
            case = next(self.cases("cross", padded=False, copies=copies))
            q, k, v = case.inputs()
            q = q.repeat(1, 1, 4, 1)
            with pytest.raises(ValueError, match="two tokens"):
                self.attend(case, q, k, v)
            whole = self.attend(case, q, k, v, query_lengths=torch.tensor([13, 20]))
            cut = self.attend(case, q[:1, :, :13], k[:1], v[:1], norm_length=NORMS[:1])
            torch.testing.assert_close(whole[:1, :, :13], cut)

    def test_padded_tokens_of_a_target_beyond_the_length_are_no_tokens(self) -> None:
        case = next(self.cases("decoder_self", keys=18, padded=False))
        q, k, v = case.inputs()
        whole = self.attend(case, q, k, v, key_lengths=torch.tensor([15, 18]))
        cut = (each[:1, :, :15] for each in (q, k, v))
        alone = self.attend(case, *cut, norm_length=NORMS[:1])
        torch.testing.assert_close(whole[:1, :, :15], alone)

    @pytest.mark.parametrize("copies", [0, True, 4])
    def test_copies_that_do_not_fit_are_refused(self, copies: Any) -> None:
        case = next(self.cases("cross", padded=False))
        _, k, v = case.inputs()
        stands = replace(case, context=replace(case.context, copies=copies))
        with pytest.raises(ValueError, match=r"copies is |expected a multiple of copies, 4"):
            self.remember(stands, None, k, v)


class TestSoftmaxRelpos(SiteConformance):
    name = "softmax_relpos"

    def row(self, pair: Pair, table: str) -> Tensor:
        """The table's row for a pair of tokens."""
        limit = int(pair.options["max_distance"])
        return pair.own[table][min(max(pair.j - pair.i, -limit), limit) + limit]

    def weight(self, pair: Pair) -> Tensor:
        key = pair.k + self.row(pair, "offset_key")
        return torch.exp(pair.q @ key / len(pair.q) ** 0.5)

    def moved(self, pair: Pair) -> Tensor:
        return pair.v + self.row(pair, "offset_value")

    def test_gradients_reach_whatever_is_used(self) -> None:
        # With as many rows as offsets occur, none is left without a pair.
        for case in self.cases(padded=False):
            case = replace(case, options={"max_distance": 5})
            own = {name: each.requires_grad_() for name, each in self.own(case).items()}
            q, k, v = (each.requires_grad_() for each in case.inputs())
            out = self.attention.attend(q, k, v, own, case.options, case.context)
            found = torch.autograd.grad(out.square().sum(), [q, k, v, *own.values()])
            assert all(each.isfinite().all() and each.any() for each in found)
            assert all(each.any(dim=-1).all() for each in found[3:])

    def test_a_decoder_has_no_rows_for_what_it_does_not_see(self) -> None:
        for case in self.cases(padded=False):
            limit = int(case.options["max_distance"])
            rows = limit + 1 if case.site == "decoder_self" else 2 * limit + 1
            shapes = {name: tuple(each.shape) for name, each in self.own(case).items()}
            assert shapes == {"offset_key": (rows, WIDTH), "offset_value": (rows, WIDTH)}

    def test_a_decoder_over_a_grid_is_refused(self) -> None:
        case = next(self.cases("decoder_self", padded=False))
        with pytest.raises(SpecError, match="given a grid at decoder_self; a sequence is allowed"):
            self.attend(case, *case.inputs(), grid=Grid(2, 3))


def sharper() -> Iterator[Attention]:
    """Types of another author, who overrode `attend` alone."""
    for base in (Softmax, Linear, CosFormer, SoftmaxRelpos):

        class Sharper(base):  # type: ignore[misc, valid-type]
            def attend(self, q: Any, k: Any, v: Any, *args: Any) -> Any:
                return 3 * super().attend(2 * q - 1, k, v, *args)

        yield Sharper()


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("attention", tuple(sharper()), ids=lambda each: each.name)
def test_a_type_that_overrides_attend_alone_decodes_by_it(
    attention: Attention, copies: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, BATCH, HEADS, 6, WIDTH, generator=generator, dtype=torch.float64)
    options = {name: each.default for name, each in attention.options.items()}
    own = {
        name: torch.randn(15, WIDTH, generator=generator, dtype=torch.float64)
        for name in attention.parameters(options, {"side": 0, "causal": 1})
    }
    for site in attention.sites & {"decoder_self", "cross"}:
        context = AttentionContext(site, norm_length=NORMS, copies=copies)
        if site == "cross":
            context = replace(context, key_lengths=torch.tensor([6, 3]))
        want = attention.attend(q, k, v, own, options, context)
        state = attention.remember(None, k, v, own, options, context, 0)
        for i in range(6):
            if site == "decoder_self":
                seen = slice(i + 1)
                state = attention.remember(
                    None, k[:, :, seen], v[:, :, seen], own, options, context, 0
                )
            found = attention.recall(state, q[:, :, i : i + 1], own, options, context, i)
            torch.testing.assert_close(found, want[:, :, i : i + 1])
