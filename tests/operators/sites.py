"""What every attention type promises of the sites at which it stands, over sequences of tokens."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Attention, AttentionContext, Options, Site, State
from nas_kernels.testing import assert_close
from tests.operators.conformance import CORE_WITHIN, bytes_an_image, settings, tensors

BATCH, HEADS, WIDTH = 2, 3, 4
NORMS = torch.tensor([14.0, 19.5])
# What is recalled token by token and what is computed at once differ by the order of sums.
STEPWISE_WITHIN = 1e-5


@dataclass(frozen=True)
class Case:
    """A type under some options at a site: its context, how many queries and keys there are."""

    site: Site
    options: Options
    queries: int
    keys: int
    context: AttentionContext

    @property
    def sizes(self) -> dict[str, int]:
        """The named axes."""
        return {
            "tokens": self.queries,
            "keys": self.keys,
            "side": 0,
            "leading": 0,
            "causal": int(self.site == "decoder_self"),
            "heads": HEADS,
            "head_width": WIDTH,
        }

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        """Random q (B, H, N, K), k and v (B, H, S, K)."""
        generator = torch.Generator().manual_seed(0)
        shape = (BATCH, HEADS, self.queries + 2 * self.keys, WIDTH)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        q, k, v = torch.split(drawn, [self.queries, self.keys, self.keys], dim=2)
        return q, k, v

    def place(self, query: int) -> int:
        """The token that a query is."""
        return query + (self.keys - self.queries if self.site != "cross" else 0)

    def true_queries(self) -> Tensor:
        """(B, 1, N, 1) bool: which queries are not padding."""
        lengths = self.context.query_lengths if self.site == "cross" else self.context.key_lengths
        places = torch.tensor([self.place(query) for query in range(self.queries)])
        if lengths is None:
            return torch.ones(BATCH, 1, self.queries, 1, dtype=torch.bool)
        found: Tensor = (places < lengths[:, None])[:, None, :, None]
        return found

    def seen(self, row: int, query: int) -> range:
        """The keys that a query sees."""
        lengths = self.context.key_lengths
        count = self.keys if lengths is None else int(lengths[row])
        return range(min(count, self.place(query) + 1) if self.site == "decoder_self" else count)


class Pair(NamedTuple):
    """A query at token i and a key with its value at token j, each (K,); M of their row."""

    q: Tensor
    k: Tensor
    v: Tensor
    i: int
    j: int
    m: float
    options: Options
    own: Mapping[str, Tensor]


class SiteConformance:
    """An attention type does at each of its sites what it does pair by pair, step by step too.

    A subclass sets `name` and says in `weight`, and `moved` where values are, what it computes.
    """

    name: str

    @property
    def attention(self) -> Attention:
        """The declaration by its name."""
        found: Attention = catalog.ATTENTIONS.load(self.name)
        return found

    def weight(self, pair: Pair) -> Tensor:
        """The weight, not yet divided by their sum, of the key for the query."""
        raise NotImplementedError

    def moved(self, pair: Pair) -> Tensor:
        """The value as the query sees it."""
        return pair.v

    def own(self, case: Case, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Random tensors of the type's own, the same for all lengths."""
        declared = self.attention.parameters(case.options, case.sizes)
        return {name: each.to(dtype) for name, each in tensors(declared, case.sizes).items()}

    def attend(self, case: Case, q: Tensor, k: Tensor, v: Tensor, **context: Any) -> Tensor:
        """The type's output."""
        stands = replace(case.context, **context)
        own = self.own(case, q.dtype)
        out: Tensor = self.attention.attend(q, k, v, own, case.options, stands)
        return out

    def remember(
        self, case: Case, state: State | None, k: Tensor, v: Tensor, position: Any = 0
    ) -> State:
        """The state with these keys."""
        own = self.own(case, k.dtype)
        return self.attention.remember(state, k, v, own, case.options, case.context, position)

    def recall(self, case: Case, state: State, q: Tensor, position: Any) -> Tensor:
        """What queries at a position recall."""
        own = self.own(case, q.dtype)
        out: Tensor = self.attention.recall(state, q, own, case.options, case.context, position)
        return out

    def cases(
        self, *sites: Site, keys: int = 6, padded: bool | None = None, **context: Any
    ) -> Iterator[Case]:
        """Every setting of the options at every site (of these), with and without padding."""
        for site in sorted(self.attention.sites):
            if sites and site not in sites:
                continue
            queries = 5 if site == "cross" else keys
            for options in settings(self.attention.options):
                stands = AttentionContext(site, norm_length=NORMS, **context)
                if padded is not True:
                    yield Case(site, options, queries, keys, stands)
                if padded is not False:
                    lengths: dict[str, Any] = {"key_lengths": torch.tensor([keys, keys - 2])}
                    if site == "cross":
                        lengths["query_lengths"] = torch.tensor([queries - 3, queries])
                    yield Case(site, options, queries, keys, replace(stands, **lengths))

    def definition(self, case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """o_i = sum_j w_ij v_ij / sum_j w_ij over the keys that i sees, pair by pair."""
        out, own = torch.zeros_like(q), self.own(case)
        for row, head, query in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
            i, total = case.place(query), q.new_zeros(())
            for key in case.seen(row, query):
                j = key // case.context.copies
                tokens = q[row, head, query], k[row, head, key], v[row, head, key]
                pair = Pair(*tokens, i, j, float(NORMS[row]), case.options, own)
                weight = self.weight(pair)
                out[row, head, query] += weight * self.moved(pair)
                total = total + weight
            out[row, head, query] /= total.clamp(min=1e-6)
        return out

    # -- at once -----------------------------------------------------------------------------------

    def proved(self, case: Case) -> None:
        q, k, v = case.inputs()
        true = case.true_queries()
        found, want = self.attend(case, q, k, v), self.definition(case, q, k, v)
        torch.testing.assert_close(found * true, want * true)

    def test_at_every_site_it_is_its_definition(self) -> None:
        for case in self.cases():
            self.proved(case)

    def test_copies_of_a_source_token_stand_where_it_stands(self) -> None:
        for copies in (2, 3):
            for case in self.cases("cross", copies=copies):
                self.proved(case)

    def test_fewer_queries_than_keys_are_the_last_tokens(self) -> None:
        for case in self.cases("decoder_self", padded=False):
            for queries in (1, 2, 5):
                self.proved(replace(case, queries=queries))
            q, k, v = case.inputs()
            with pytest.raises(SpecError, match="6 queries are given at decoder_self for 5 keys"):
                self.attend(case, q, k[:, :, :5], v[:, :, :5])

    def test_it_is_right_beyond_a_chunk_and_at_one_token(self) -> None:
        for keys in (1, 70):
            norms = torch.tensor([70.0, 99.0])
            for case in self.cases("decoder_self", keys=keys, padded=False):
                q, k, v = case.inputs()
                found = self.attend(case, q, k, v, norm_length=norms)
                for query in {0, keys - 1, keys // 2}:
                    cut = (each[:, :, : query + 1] for each in (q, k, v))
                    short = replace(case, queries=query + 1, keys=query + 1)
                    alone = self.attend(short, *cut, norm_length=norms)
                    torch.testing.assert_close(found[:, :, query], alone[:, :, query])

    def test_a_later_token_changes_nothing_earlier(self) -> None:
        for case in self.cases("decoder_self"):
            q, k, v = (each.requires_grad_() for each in case.inputs())
            out = self.attend(case, q, k, v)
            for at in range(1, case.keys):
                changed = [torch.cat([t[:, :, :at], 9 - t[:, :, at:]], dim=2) for t in (q, k, v)]
                other = self.attend(case, *changed)
                torch.testing.assert_close(other[:, :, :at], out[:, :, :at])
                early = out[:, :, :at].square().sum()
                for gradient in torch.autograd.grad(early, (q, k, v), retain_graph=True):
                    assert not gradient[:, :, at:].any()

    def test_gradients_reach_whatever_is_used(self) -> None:
        for case in self.cases(padded=False):
            q, k, v = (each.requires_grad_() for each in case.inputs())
            own = {name: each.requires_grad_() for name, each in self.own(case).items()}
            out = self.attention.attend(q, k, v, own, case.options, case.context)
            for gradient in torch.autograd.grad(out.square().sum(), [q, k, v, *own.values()]):
                assert gradient.isfinite().all()
                assert gradient.any()

    @pytest.mark.parametrize("filler", [1e4, math.nan, math.inf])
    def test_what_padded_keys_hold_changes_nothing(self, filler: float) -> None:
        for case in self.cases(padded=True):
            found, last = [], int(case.context.key_lengths[1])
            for value in (0.0, filler):
                q, k, v = case.inputs()
                k, v = k.clone(), v.clone()
                k[1, :, last:] = v[1, :, last:] = value
                inputs = [each.requires_grad_() for each in (q, k, v)]
                out = self.attend(case, *inputs) * case.true_queries()
                found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
            for one, other in zip(*found, strict=True):
                assert one.isfinite().all()
                assert torch.equal(one, other)
            assert not found[0][2][1, :, last:].any()

    def test_a_sentence_gives_the_same_alone_and_padded_in_a_batch(self) -> None:
        for case in self.cases(padded=True):
            q, k, v = case.inputs()
            padded = self.attend(case, q, k, v)
            for row, keys in enumerate(case.context.key_lengths.tolist()):
                lengths = case.context.query_lengths
                queries = keys if lengths is None else int(lengths[row])
                context = replace(
                    case.context,
                    key_lengths=None,
                    query_lengths=None,
                    norm_length=NORMS[row : row + 1],
                )
                short = replace(case, queries=queries, keys=keys, context=context)
                cut = (
                    each[row : row + 1, :, :length]
                    for each, length in ((q, queries), (k, keys), (v, keys))
                )
                alone = self.attend(short, *cut)
                torch.testing.assert_close(padded[row : row + 1, :, :queries], alone)

    def test_without_any_true_key_the_output_is_zero(self) -> None:
        for case in self.cases("cross", padded=False):
            inputs = [each.requires_grad_() for each in case.inputs()]
            none = torch.tensor([0, 0])
            out = self.attend(case, *inputs, key_lengths=none)
            assert not out.any()
            assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), inputs))

    # -- step by step ------------------------------------------------------------------------------

    def test_token_by_token_it_is_the_same_as_at_once(self) -> None:
        for case in self.cases("decoder_self", keys=12, padded=False):
            q, k, v = case.inputs(torch.float32)
            state, outputs = None, []
            for i in range(12):
                position = i if i % 2 else torch.tensor([i, i])
                token = slice(i, i + 1)
                state = self.remember(case, state, k[:, :, token], v[:, :, token], position)
                outputs.append(self.recall(case, state, q[:, :, token], position))
            want = self.attend(case, q, k, v)
            assert_close("outputs", torch.cat(outputs, dim=2), want, STEPWISE_WITHIN)

    def test_a_prefix_may_be_remembered_at_once(self) -> None:
        for case in self.cases("decoder_self", padded=False):
            q, k, v = case.inputs()
            state = self.remember(case, None, k[:, :, :4], v[:, :, :4])
            state = self.remember(case, state, k[:, :, 4:], v[:, :, 4:], 4)
            found = self.recall(case, state, q[:, :, 5:], 5)
            torch.testing.assert_close(found, self.attend(case, q, k, v)[:, :, 5:])

    def test_padding_among_remembered_tokens_is_refused(self) -> None:
        for case in self.cases("decoder_self", padded=True):
            _, k, v = case.inputs()
            with pytest.raises(SpecError, match="key_lengths are given where tokens are rem"):
                self.remember(case, None, k, v)

    def test_what_a_source_said_is_recalled_at_any_position(self) -> None:
        for copies in (1, 2):
            for case in self.cases("cross", copies=copies):
                q, k, v = case.inputs(torch.float32)
                for row, last in enumerate(case.seen(row, 0).stop for row in range(BATCH)):
                    k[row, :, last:] = v[row, :, last:] = math.nan
                state = self.remember(case, None, k, v)
                outputs = [self.recall(case, state, q[:, :, i : i + 1], i) for i in range(5)]
                true = case.true_queries()
                found = torch.cat(outputs, dim=2) * true
                want = self.attend(case, q, k, v) * true
                assert_close("outputs", found, want, STEPWISE_WITHIN)

    def test_queries_at_one_position_do_not_see_each_other(self) -> None:
        for case in self.cases("decoder_self", "cross", padded=False):
            q, k, v = case.inputs()
            state = self.remember(case, None, k, v)
            for position in (5, torch.tensor([5, 5])):
                beams = self.recall(case, state, q[:, :, :3], position)
                for i in range(3):
                    alone = self.recall(case, state, q[:, :, i : i + 1], position)
                    torch.testing.assert_close(beams[:, :, i : i + 1], alone)

    def test_a_reordered_state_is_the_state_of_reordered_rows(self) -> None:
        order, prefix, last = torch.tensor([1, 0, 1]), slice(5), slice(5, 6)
        for case in self.cases("decoder_self", "cross", padded=False):
            moved = replace(case, context=replace(case.context, norm_length=NORMS[order]))
            q, k, v = (torch.cat([each, each[:, :, :1]], dim=2) for each in case.inputs())
            state = self.remember(case, None, k[:, :, prefix], v[:, :, prefix])
            assert isinstance(state, tuple)
            assert {len(each) for each in state} == {BATCH}
            kept = [each.clone() for each in state]
            picked: State = tuple(each.index_select(0, order) for each in state)
            again = self.remember(moved, None, k[order][:, :, prefix], v[order][:, :, prefix])
            for one, other in zip(picked, again, strict=True):
                torch.testing.assert_close(one, other)
            further = state
            if case.site == "decoder_self":
                further = self.remember(case, state, k[:, :, last], v[:, :, last], 5)
                rows = k[order][:, :, last], v[order][:, :, last]
                picked = self.remember(moved, picked, *rows, 5)
            found = self.recall(moved, picked, q[order][:, :, last], 5)
            straight = self.recall(case, further, q[:, :, last], 5)
            torch.testing.assert_close(found, straight[order])
            # Beams share what they continue.
            assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))

    def test_an_efficient_state_does_not_grow(self) -> None:
        for case in self.cases("decoder_self", "cross", padded=False):
            sizes = []
            for keys in (2, 12):
                _, k, v = replace(case, keys=keys).inputs()
                sizes.append(sum(each.numel() for each in self.remember(case, None, k, v)))
            assert (sizes[0] == sizes[1]) == self.attention.efficient

    # -- costs -------------------------------------------------------------------------------------

    def counted(self, run: Callable[..., Any], *args: Any) -> int:
        """Multiply-accumulates that torch counts, of one of the rows."""
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):
            run(*args)
        return counter.get_total_flops() // 2 // BATCH

    def test_declared_arithmetic_is_what_torch_counts(self) -> None:
        for case in self.cases("encoder_self", "cross", padded=False):
            found = self.counted(self.attend, case, *case.inputs())
            assert self.attention.core_macs(case.sizes, case.options) == found

    def test_declared_causal_arithmetic_is_that_of_all_steps(self) -> None:
        tokens = 128
        for case in self.cases("decoder_self", keys=tokens, padded=False):
            case = replace(case, context=replace(case.context, norm_length=128))
            q, k, v = case.inputs()
            found = self.counted(self.remember, case, None, k, v)
            state = None
            for i in range(tokens):
                state = self.remember(case, state, k[:, :, i : i + 1], v[:, :, i : i + 1], i)
                found += self.counted(self.recall, case, state, q[:, :, i : i + 1], i)
            declared = self.attention.core_macs(case.sizes, case.options)
            if self.attention.efficient:
                assert declared == found
            else:
                # Half of the square, its diagonal too; few tokens reach the farthest offsets.
                assert declared == pytest.approx(found, rel=2 / tokens)
            whole = self.attention.core_macs({**case.sizes, "causal": 0}, case.options)
            assert self.attention.efficient == (declared == whole)

    def test_declared_activations_are_what_the_tensors_take(self) -> None:
        for keys in (6, 40, 70):
            for case in self.cases(keys=keys, padded=False, copies=1):
                own = self.own(case)

                def run(batch: int, case: Case = case, own: Any = own) -> Any:
                    q, k, v = (
                        torch.randn(batch, HEADS, count, WIDTH, dtype=torch.float64)
                        for count in (case.queries, case.keys, case.keys)
                    )
                    stands = replace(case.context, norm_length=70)
                    return self.attention.attend(q, k, v, own, case.options, stands)

                found = bytes_an_image(run)
                around = 2 * HEADS * (case.queries + case.keys) * WIDTH
                core = self.attention.core_activations(case.sizes, case.options)
                assert 1 / CORE_WITHIN < 8 * (around + core) / found < CORE_WITHIN, case
