"""Tests that every operator of nas_kernels passes in each of its forms; one class an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas_kernels import explain
from nas_kernels.dispatch import Backend
from nas_kernels.launching import noted
from nas_kernels.testing import assert_close, rms
from tests.kernels.drawing import (
    DEVICE,
    EACH_FORM,
    LAYOUTS,
    SMALL,
    Layout,
    Options,
    Sizes,
    bound,
    draw,
    every_size,
    gradients_to_ask,
    keys_seen,
    named,
    placed,
    poisoned_memory,
    ragged,
    rounds,
)


class KernelConformance:
    """What holds for every operator; a subclass names it and says what it can be told."""

    operator: ClassVar[Callable[..., Tensor]]
    options: ClassVar[Sequence[Options]]
    """Combinations of its own: one bidirectional, one causal, and what else changes the path."""
    has_query_lengths = False
    spread = 1.0
    """Factor of q and k: features must differ, or gradients by the scores cancel."""

    def macs(self, sizes: Sizes, **options: Any) -> int:
        """Multiplications of one pass forward, by the operator's README."""
        raise NotImplementedError

    def torch_macs(self, sizes: Sizes, **options: Any) -> int:
        """The same of its torch form, for lengths of whole chunks or blocks."""
        raise NotImplementedError

    def call(self, tensors: Sequence[Tensor], **options: Any) -> Tensor:
        return type(self).operator(*tensors, **options)

    def lengths(self, sizes: Sizes, seed: int) -> Options:
        batch, _, queries, keys, *_ = sizes
        found = {"key_lengths": ragged(batch, keys, seed)}
        if self.has_query_lengths:
            found["query_lengths"] = ragged(batch, queries, seed + 1)
        return found

    def compare(
        self,
        sizes: Sizes,
        form: Backend,
        dtype: torch.dtype,
        seed: int,
        *,
        layouts: Sequence[Layout] = (torch.clone,) * 4,
        **options: Any,
    ) -> None:
        """A form's output and gradients against the reference's in fp64, of the same inputs."""
        q, k, v, grad = draw(sizes, seed)
        # One feature that all have keeps normalisers from 0, where a quotient magnifies rounding.
        q[..., 0], k[..., 0] = q[..., 0].abs() + 2, k[..., 0].abs() + 0.25
        # Values that go with their keys: gradients by the scores add up instead of cancelling.
        both = slice(1, min(sizes[4:]))
        v[..., both] += k[..., both]
        drawn = (t.to(dtype).to(DEVICE) for t in (self.spread * q, self.spread * k, v, grad))
        *fast, grad = (layout(t) for layout, t in zip(layouts, drawn, strict=True))
        slow = [t.double().contiguous().requires_grad_() for t in fast]
        fast = [t.requires_grad_() for t in fast]
        got = self.call(fast, backend=form, **options)
        want = self.call(slow, backend="reference", **options)
        assert got.dtype == dtype
        limit = bound(form, dtype)
        assert_close("o", got, want, limit)
        # A sum with nothing of them: where no key is seen, the definition depends on none.
        want = want + 0 * sum(t.sum() for t in slow)
        seen = keys_seen(sizes, **options)
        # A mean of one value has no gradient by its weight: rounding is all that is left of it.
        for given, largest in gradients_to_ask(grad, seen, rounds(form, dtype)):
            wanted = torch.autograd.grad(want, slow, given.double(), retain_graph=True)
            found = torch.autograd.grad(got, fast, given, retain_graph=True)
            least = max(map(rms, wanted)) if largest else 0.0
            for name, a, b in zip("qkv", found, wanted, strict=True):
                assert_close(f"d{name}", a, b, limit, least=least)

    @pytest.fixture(params=EACH_FORM)
    def form(self, request: pytest.FixtureRequest) -> Backend:
        chosen: Backend = request.param
        return chosen

    @pytest.fixture
    def short_spans(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sequences are cut from 128 tokens on: the same paths in shapes that take no time."""
        monkeypatch.setattr("nas_kernels.tuning.LEAST_SPAN", 64)

    # -- numbers ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("sizes", SMALL.values(), ids=SMALL.keys())
    def test_output_and_gradients_match_the_reference(self, sizes: Sizes, form: Backend) -> None:
        for seed, options in enumerate(type(self).options):
            self.compare(sizes, form, torch.float32, seed, **options)
            self.compare(sizes, form, torch.float32, seed, **options, **self.lengths(sizes, seed))

    @pytest.mark.usefixtures("short_spans")
    @pytest.mark.parametrize("sizes", [(1, 1, 140, 192, 8, 8), (1, 1, 190, 90, 8, 8)], ids=named)
    def test_sequences_that_are_cut_match_too(self, sizes: Sizes, form: Backend) -> None:
        self.compare_cut(sizes, form)

    @pytest.mark.slow
    @pytest.mark.parametrize("sizes", [(1, 1, 530, 600, 8, 8), (1, 1, 600, 280, 8, 8)], ids=named)
    def test_sequences_of_a_cut_one_s_true_length_match_too(
        self, sizes: Sizes, form: Backend
    ) -> None:
        self.compare_cut(sizes, form)

    def compare_cut(self, sizes: Sizes, form: Backend) -> None:
        for seed, options in enumerate(type(self).options):
            lengths: Options = {"key_lengths": torch.tensor([sizes[3] - 10])}
            self.compare(sizes, form, torch.float32, seed, **options, **lengths)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
    def test_half_precision(self, dtype: torch.dtype, form: Backend) -> None:
        for options in type(self).options[:3]:
            self.compare((1, 1, 40, 40, 16, 8), form, dtype, 5, **options)

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

    @pytest.mark.usefixtures("short_spans")
    def test_nothing_that_memory_held_before_is_read(self, form: Backend) -> None:
        with poisoned_memory():
            assert torch.empty(3, device=DEVICE).isnan().all()
            for seed, options in enumerate(type(self).options[:3]):
                for sizes in ((2, 1, 17, 20, 15, 7), (1, 1, 140, 130, 8, 8)):
                    lengths = self.lengths(sizes, seed)
                    self.compare(sizes, form, torch.float32, seed, **options, **lengths)

    @pytest.mark.slow
    @pytest.mark.parametrize("sizes", list(every_size()), ids=named)
    def test_every_size_in_the_torch_form(self, sizes: Sizes) -> None:
        for seed, options in enumerate(type(self).options):
            variants: list[Options] = [{}, self.lengths(sizes, seed)]
            # The definition's loop over a thousand queries: one of the two, in turn.
            for given in variants if max(sizes[2:4]) < 1000 else variants[seed % 2 :][:1]:
                self.compare(sizes, "torch", torch.float32, seed, **options, **given)

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
        *tensors, grad = placed((2, 1, 9, 9, 8, 5))
        lengths = dict.fromkeys(self.lengths((2, 1, 9, 9, 8, 5), 0), torch.tensor([9, 9]))
        for options in type(self).options[:3]:
            plain = [t.clone().requires_grad_() for t in tensors]
            want = self.call(plain, backend=form, **options)
            wanted = torch.autograd.grad(want, plain, grad)
            wide = [torch.nn.functional.pad(t, (0, 0, 0, 30), value=filler) for t in tensors]
            if not self.has_query_lengths:
                wide[0] = wide[0].nan_to_num(nan=3.0)
            padded = [t.requires_grad_() for t in wide]
            got = self.call(padded, backend=form, **lengths, **options)
            assert torch.isfinite(got).all()
            assert_close("o", got[:, :, :9], want, 1e-5)
            wide_grad = torch.nn.functional.pad(grad, (0, 0, 0, 30))
            found = torch.autograd.grad(got, padded, wide_grad)
            for name, a, b in zip("qkv", found, wanted, strict=True):
                assert_close(f"d{name}", a[:, :, :9], b, 1e-5)
                assert not a[:, :, 9:].any()

    def test_a_future_key_changes_no_causal_output(self, form: Backend) -> None:
        q, k, v, _ = placed((1, 2, 70, 70, 8, 8))
        for options in type(self).options:
            if not options["causal"]:
                continue
            before = self.call((q, k, v), backend=form, **options)
            for at in (0, 15, 63, 64):
                changed_k, changed_v = k.clone(), v.clone()
                changed_k[:, :, at + 1 :], changed_v[:, :, at + 1 :] = 7.0, -50.0
                after = self.call((q, changed_k, changed_v), backend=form, **options)
                assert torch.equal(after[:, :, : at + 1], before[:, :, : at + 1])

    @pytest.mark.usefixtures("short_spans")
    @pytest.mark.parametrize("layouts", LAYOUTS, ids=[each[0].__name__ for each in LAYOUTS])
    def test_strides_do_not_matter(self, layouts: Sequence[Layout], form: Backend) -> None:
        both_ways, causal = type(self).options[:2]
        whole, cut = (1, 2, 9, 12, 8, 5), (1, 2, 20, 130, 8, 5)
        for seed, (sizes, options) in enumerate(
            ((whole, both_ways), (whole, causal), (cut, both_ways))
        ):
            self.compare(sizes, form, torch.float32, seed, layouts=layouts, **options)

    def test_results_repeat_bit_by_bit(self, form: Backend) -> None:
        *tensors, grad = placed((1, 2, 70, 70, 16, 16))
        options = type(self).options[0]
        inputs = [t.requires_grad_() for t in tensors]
        twice = []
        for _ in range(2):
            out = self.call(inputs, backend=form, **options)
            twice.append([out, *torch.autograd.grad(out, inputs, grad)])
        assert all(torch.equal(a, b) for a, b in zip(*twice, strict=True))

    def test_autocast_changes_nothing(self, form: Backend) -> None:
        q, k, v, _ = placed((1, 2, 33, 33, 8, 8))
        options = type(self).options[0]
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            inside = self.call((q, k, v), backend=form, **options)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, self.call((q, k, v), backend=form, **options))

    # -- the contract ----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "sizes",
        [(2, 3, 64, 64, 16, 8), (1, 1, 15, 197, 16, 7), (1, 2, 197, 1, 16, 24)],
        ids=named,
    )
    def test_the_triton_form_reports_the_products_of_the_readme(self, sizes: Sizes) -> None:
        for options in type(self).options:
            forward, backward = counted(partial(self.call, backend="triton", **options), sizes)
            assert forward == 2 * self.macs(sizes, **options)
            # Each product has two in the backward pass: by its left side and by its right.
            assert backward == 2 * forward

    def test_the_torch_form_s_products_are_linear_in_the_tokens(self) -> None:
        sizes = (1, 1, 1024, 1024, 64, 64)
        for options in type(self).options:
            forward, backward = counted(partial(self.call, backend="torch", **options), sizes)
            # Normalisers and a last block that is not full come on top; 1024^2 would be far beyond.
            most = 1.05 * 2 * self.torch_macs(sizes, **options)
            assert self.macs(sizes, **options) < forward <= most
            assert backward <= 2 * most

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


def counted(operator: Callable[[Sequence[Tensor]], Tensor], sizes: Sizes) -> tuple[int, int]:
    """FLOPs of an operator's pass forward and of its pass backward; no kernel is started."""
    *tensors, grad = placed(sizes)
    inputs = [t.requires_grad_() for t in tensors]
    with noted():
        with FlopCounterMode(display=False) as forward:
            out = operator(inputs)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(out, inputs, grad)
    return forward.get_total_flops(), backward.get_total_flops()
