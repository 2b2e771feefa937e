"""Tests that every operator of nas_kernels passes in each of its forms; one class an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas_kernels import explain
from nas_kernels.dispatch import Backend
from nas_kernels.testing import assert_close, rms

Sizes = tuple[int, int, int, int, int, int]
"""B, H, T, S, K, V."""
Options = dict[str, Any]

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
FORMS: list[Backend] = ["torch", "triton"]

# One query, lengths around a chunk's and a span's ends, odd and wide widths, both ways of crossing.
SMALL: dict[str, Sizes] = {
    "one-query": (2, 2, 1, 15, 8, 8),
    "one-key": (1, 2, 5, 1, 8, 5),
    "two": (1, 1, 2, 2, 16, 16),
    "odd-widths": (2, 1, 17, 17, 15, 7),
    "wide-heads": (1, 1, 16, 15, 60, 64),
    "a-chunk-and-one": (1, 1, 65, 65, 8, 16),
    "cross-few-keys": (1, 1, 150, 17, 8, 8),
    "cross-few-queries": (1, 1, 17, 80, 8, 8),
}
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 100, 197, 257, 1000)
WIDTHS = (8, 16, 32, 60, 64, 128)


def every_size() -> Iterator[Sizes]:
    """Each length with each width, as many queries as keys and fewer or more."""
    for place, tokens in enumerate(LENGTHS):
        for turn, width in enumerate(WIDTHS):
            other = LENGTHS[(place + turn) % len(LENGTHS)]
            # The definition's loop over time is slow where it is long.
            rows = 2 if tokens < 1000 else 1
            yield rows, rows, tokens, tokens, width, width
            yield 1, 3, tokens, other, width, WIDTHS[(turn + 1) % len(WIDTHS)]


def named(sizes: Sizes) -> str:
    return "B{}-H{}-T{}-S{}-K{}-V{}".format(*sizes)


def draw(sizes: Sizes, seed: int = 0) -> list[Tensor]:
    """q, k, v and an output gradient in fp64, in host memory."""
    batch, heads, queries, keys, width, columns = sizes
    generator = torch.Generator().manual_seed(seed)
    shapes = [(queries, width), (keys, width), (keys, columns), (queries, columns)]
    return [torch.randn(batch, heads, *s, generator=generator, dtype=torch.float64) for s in shapes]


def ragged(batch: int, longest: int, seed: int) -> Tensor:
    """Lengths from 0 to `longest`, the first of them 0 or 1 where there are several."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (batch,), generator=generator)
    if batch > 1:
        lengths[0] = min(seed % 2, longest)
    return lengths


def bound(form: Backend, dtype: torch.dtype) -> float:
    """Relative RMS error that a form may have in a dtype."""
    if dtype in (torch.bfloat16, torch.float16):
        return 1e-2
    if form == "triton":
        return 2e-3 if GPU else 1e-5
    return 1e-12 if dtype == torch.float64 else 1e-5


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Within it, memory that is taken and not written holds NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    # It is deterministic mode that fills memory, unless told not to.
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class KernelConformance:
    """What holds for every operator; a subclass names it and says what it can be told."""

    operator: ClassVar[Callable[..., Tensor]]
    options: ClassVar[Sequence[Options]]
    """Combinations of its own options, `causal` among them."""
    has_query_lengths = False

    def call(self, tensors: Sequence[Tensor], **options: Any) -> Tensor:
        return type(self).operator(*tensors, **options)

    def lengths(self, sizes: Sizes, seed: int) -> Options:
        batch, _, queries, keys, *_ = sizes
        found = {"key_lengths": ragged(batch, keys, seed)}
        if self.has_query_lengths:
            found["query_lengths"] = ragged(batch, queries, seed + 1)
        return found

    def compare(
        self, sizes: Sizes, form: Backend, dtype: torch.dtype, seed: int, **options: Any
    ) -> None:
        """A form's output and gradients against the reference's in fp64, of the same inputs."""
        q, k, v, grad = draw(sizes, seed)
        # One feature that all have keeps normalisers from 0, where a quotient magnifies rounding.
        q[..., 0], k[..., 0] = q[..., 0].abs() + 0.5, k[..., 0].abs() + 0.5
        *tensors, grad = (t.to(dtype).to(DEVICE) for t in (q, k, v, grad))
        fast = [t.clone().requires_grad_() for t in tensors]
        slow = [t.double().requires_grad_() for t in tensors]
        got = self.call(fast, backend=form, **options)
        want = self.call(slow, backend="reference", **options)
        assert got.dtype == dtype
        limit = bound(form, dtype)
        assert_close("o", got, want, limit)
        # A sum with nothing of them: where no key is seen, the definition depends on none.
        want = want + 0 * sum(t.sum() for t in slow)
        wanted = torch.autograd.grad(want, slow, grad.double())
        found = torch.autograd.grad(got, fast, grad)
        # Where a query sees a key or two, its scores' gradients cancel, and rounding is left.
        few = sizes[3] <= 2 or "key_lengths" in options or options["causal"]
        least = max(map(rms, wanted)) if few else 0.0
        for name, a, b in zip("qkv", found, wanted, strict=True):
            assert_close(f"d{name}", a, b, limit, least=least)

    @pytest.fixture(params=FORMS)
    def form(self, request: pytest.FixtureRequest) -> Backend:
        chosen: Backend = request.param
        return chosen

    # -- numbers ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("sizes", SMALL.values(), ids=SMALL.keys())
    def test_output_and_gradients_match_the_reference(self, sizes: Sizes, form: Backend) -> None:
        for seed, options in enumerate(type(self).options):
            self.compare(sizes, form, torch.float32, seed, **options)
            self.compare(sizes, form, torch.float32, seed, **options, **self.lengths(sizes, seed))

    @pytest.mark.parametrize("sizes", [(1, 1, 530, 600, 8, 8), (1, 1, 600, 280, 8, 8)], ids=named)
    def test_sequences_that_are_cut_match_too(self, sizes: Sizes, form: Backend) -> None:
        for seed, options in enumerate(type(self).options):
            lengths = {"key_lengths": torch.tensor([sizes[3] - 10])}
            self.compare(sizes, form, torch.float32, seed, **options, **lengths)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
    def test_half_precision(self, dtype: torch.dtype, form: Backend) -> None:
        for options in type(self).options:
            self.compare((1, 2, 40, 40, 16, 8), form, dtype, 5, **options)

    def test_double_precision_is_exact_in_the_torch_form(self) -> None:
        for seed, options in enumerate(type(self).options):
            for sizes in SMALL.values():
                self.compare(sizes, "torch", torch.float64, seed, **options)

    def test_gradcheck(self) -> None:
        sizes = (2, 1, 3, 4, 3, 2)
        for options in type(self).options:
            for lengths in ({}, self.lengths(sizes, 1)):
                inputs = [t.requires_grad_() for t in draw(sizes, seed=3)[:3]]
                call = partial(self.call, backend="torch", **options, **lengths)
                assert torch.autograd.gradcheck(lambda *qkv, call=call: call(qkv), inputs)

    def test_nothing_that_memory_held_before_is_read(self, form: Backend) -> None:
        with poisoned_memory():
            assert torch.empty(3).isnan().all()
            for seed, options in enumerate(type(self).options):
                for sizes in ((2, 1, 17, 20, 15, 7), (1, 1, 530, 520, 8, 8)):
                    lengths = self.lengths(sizes, seed)
                    self.compare(sizes, form, torch.float32, seed, **options, **lengths)

    @pytest.mark.slow
    @pytest.mark.parametrize("sizes", list(every_size()), ids=named)
    def test_every_size_in_the_torch_form(self, sizes: Sizes) -> None:
        for seed, options in enumerate(type(self).options):
            self.compare(sizes, "torch", torch.float32, seed, **options)
            self.compare(
                sizes, "torch", torch.float32, seed, **options, **self.lengths(sizes, seed)
            )

    @pytest.mark.parametrize("empty", [(0, 2), (2, 0)], ids=["no-rows", "no-heads"])
    def test_an_empty_batch_is_an_empty_result(self, empty: tuple[int, int]) -> None:
        q, k, v = (torch.zeros(*empty, 70, 8, requires_grad=True) for _ in range(3))
        for options in type(self).options:
            out = self.call((q, k, v), **options)
            assert out.shape == (*empty, 70, 8)
            assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [q.shape] * 3

    @pytest.mark.gpu
    @pytest.mark.parametrize("sizes", list(every_size()), ids=named)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    def test_every_size_on_a_gpu(self, sizes: Sizes, dtype: torch.dtype) -> None:
        for seed, options in enumerate(type(self).options):
            self.compare(sizes, "triton", dtype, seed, **options)
            self.compare(sizes, "triton", dtype, seed, **options, **self.lengths(sizes, seed))

    # -- what must not matter --------------------------------------------------------------------

    @pytest.mark.parametrize("filler", [float("nan"), 1e4])
    def test_padding_changes_no_valid_output_or_gradient(
        self, filler: float, form: Backend
    ) -> None:
        *tensors, grad = (t.float().to(DEVICE) for t in draw((2, 1, 9, 9, 8, 5)))
        lengths = dict.fromkeys(self.lengths((2, 1, 9, 9, 8, 5), 0), torch.tensor([9, 9]))
        for options in type(self).options:
            plain = [t.clone().requires_grad_() for t in tensors]
            want = self.call(plain, backend=form, **options)
            wanted = torch.autograd.grad(want, plain, grad)
            wide = [torch.nn.functional.pad(t, (0, 0, 0, 40), value=filler) for t in tensors]
            if not self.has_query_lengths:
                wide[0] = wide[0].nan_to_num(nan=3.0)
            padded = [t.requires_grad_() for t in wide]
            got = self.call(padded, backend=form, **lengths, **options)
            assert torch.isfinite(got).all()
            assert_close("o", got[:, :, :9], want, 1e-5)
            wide_grad = torch.nn.functional.pad(grad, (0, 0, 0, 40))
            found = torch.autograd.grad(got, padded, wide_grad)
            for name, a, b in zip("qkv", found, wanted, strict=True):
                assert_close(f"d{name}", a[:, :, :9], b, 1e-5)
                assert not a[:, :, 9:].any()

    def test_a_future_key_changes_no_causal_output(self, form: Backend) -> None:
        q, k, v, _ = (t.float().to(DEVICE) for t in draw((1, 2, 70, 70, 8, 8)))
        for options in type(self).options:
            if not options["causal"]:
                continue
            before = self.call((q, k, v), backend=form, **options)
            for at in (0, 15, 63, 64):
                changed_k, changed_v = k.clone(), v.clone()
                changed_k[:, :, at + 1 :], changed_v[:, :, at + 1 :] = 7.0, -50.0
                after = self.call((q, changed_k, changed_v), backend=form, **options)
                assert torch.equal(after[:, :, : at + 1], before[:, :, : at + 1])

    def test_strides_do_not_matter(self, form: Backend) -> None:
        *tensors, grad = (t.float().to(DEVICE) for t in draw((1, 2, 9, 9, 8, 8)))
        for options in type(self).options:
            packed = [t.clone().requires_grad_() for t in tensors]
            # As a projection leaves them: (B, N, H, width) seen as (B, H, N, width).
            loose = [
                t.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for t in tensors
            ]
            # An output gradient that is one number, expanded: strides of 0.
            for given in (grad, grad.new_ones(()).expand_as(grad)):
                want, got = (self.call(x, backend=form, **options) for x in (packed, loose))
                assert_close("o", got, want, 1e-6)
                wanted = torch.autograd.grad(want, packed, given)
                found = torch.autograd.grad(got, loose, given)
                for name, a, b in zip("qkv", found, wanted, strict=True):
                    assert_close(f"d{name}", a, b, 1e-6)

    def test_results_repeat_bit_by_bit(self, form: Backend) -> None:
        *tensors, grad = (t.float().to(DEVICE) for t in draw((1, 2, 70, 70, 16, 16)))
        options = type(self).options[0]
        inputs = [t.requires_grad_() for t in tensors]
        twice = []
        for _ in range(2):
            out = self.call(inputs, backend=form, **options)
            twice.append([out, *torch.autograd.grad(out, inputs, grad)])
        assert all(torch.equal(a, b) for a, b in zip(*twice, strict=True))

    def test_autocast_changes_nothing(self, form: Backend) -> None:
        q, k, v, _ = (t.float().to(DEVICE) for t in draw((1, 2, 33, 33, 8, 8)))
        options = type(self).options[0]
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            inside = self.call((q, k, v), backend=form, **options)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, self.call((q, k, v), backend=form, **options))

    # -- the contract ----------------------------------------------------------------------------

    def test_both_forms_count_the_same_flops(self) -> None:
        q, k, v, _ = (t.float().to(DEVICE) for t in draw((2, 2, 64, 64, 16, 8)))
        for options in type(self).options:
            counted = [self.flops((q, k, v), form, **options) for form in FORMS]
            assert counted[0] >= counted[1] > 0

    def flops(self, tensors: Sequence[Tensor], form: Backend, **options: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            self.call(tensors, backend=form, **options)
        return int(counter.get_total_flops())

    def test_auto_runs_what_explain_says(self) -> None:
        q, k, v, _ = (t.float() for t in draw((1, 1, 5, 5, 8, 8)))
        options = type(self).options[0]
        said = explain(type(self).operator, q, k, v, **options)
        assert said.startswith("torch: ")
        assert said.endswith("(the tensors lie on cpu)")
        auto = self.call((q, k, v), **options)
        assert torch.equal(auto, self.call((q, k, v), backend="torch", **options))

    @pytest.mark.parametrize(
        ("spoilt", "message"),
        [
            ({"q": (3, 5, 8)}, r"q has shape \(3, 5, 8\), expected \(B, H, tokens, width\)"),
            ({"k": (2, 3, 5, 7)}, r"k has shape \(2, 3, 5, 7\), expected \(2, 3, S, 8\)"),
            ({"v": (2, 3, 6, 8)}, r"v has shape \(2, 3, 6, 8\), expected \(2, 3, 5, V\)"),
            ({"q": (2, 3, 0, 8)}, "T is 0, expected at least 1"),
            ({"v": (2, 3, 5, 0)}, "V is 0, expected at least 1"),
        ],
    )
    def test_shapes_that_do_not_fit_are_named(
        self, spoilt: dict[str, tuple[int, ...]], message: str
    ) -> None:
        shapes = {"q": (2, 3, 5, 8), "k": (2, 3, 5, 8), "v": (2, 3, 5, 8), **spoilt}
        options = type(self).options[0]
        with pytest.raises(ValueError, match=message):
            self.call([torch.zeros(shape) for shape in shapes.values()], **options)

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [
            (torch.tensor([3]), r"key_lengths has shape \(1,\), expected \(2,\)"),
            (torch.tensor([3.0, 2.0]), "key_lengths has dtype torch.float32"),
            (torch.tensor([True, False]), "key_lengths has dtype torch.bool"),
            (torch.tensor([3, 6]), r"key_lengths is \[3, 6\], expected values in 0..5"),
            (torch.tensor([-1, 5]), r"key_lengths is \[-1, 5\]"),
            ([3, 5], r"key_lengths is \[3, 5\], expected a tensor \(2,\) or None"),
        ],
    )
    def test_lengths_that_do_not_fit_are_named(self, lengths: object, message: str) -> None:
        x = torch.zeros(2, 3, 5, 8)
        options = type(self).options[0]
        with pytest.raises(ValueError, match=message):
            self.call((x, x, x), key_lengths=lengths, **options)

    def test_what_a_form_does_not_support_is_named(self) -> None:
        x = torch.zeros(1, 1, 2, 300)
        options = type(self).options[0]
        with pytest.raises(ValueError, match="backend is 'cuda', expected one of 'auto', "):
            self.call((x, x, x), backend="cuda", **options)
        with pytest.raises(ValueError, match=r"'triton', but .*K and V up to 256"):
            self.call((x, x, x), backend="triton", **options)
        with pytest.raises(ValueError, match="one floating dtype"):
            self.call((x, x, x.double()), **options)
        with pytest.raises(ValueError, match="one device"):
            self.call((x, x, x.to("meta")), **options)
