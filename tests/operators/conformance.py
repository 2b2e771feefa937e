"""What every operator promises of its declaration, proved by subclassing one of these classes."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import jsonschema
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring.tensor_bytes import TensorBytes
from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import (
    Attention,
    AttentionContext,
    Grid,
    Option,
    Options,
    Parameter,
    Site,
)
from nas.registry import Registry
from nas.space.dimension import ATTENTIONS, FFN, Operator

HEADS, HEAD_WIDTH = 3, 4
# Declared activations may be off by a running maximum a row, or a normaliser.
CORE_WITHIN = 1.15


def settings(options: Mapping[str, Option]) -> list[dict[str, str | int]]:
    """All combinations of enumerated options, and small values of the integer ones."""
    values = [
        option.choices or (option.minimum, option.minimum + 1, option.default)
        for option in options.values()
    ]
    return [dict(zip(options, each, strict=True)) for each in itertools.product(*values)]


def sizes_of(grid: Grid, heads: int = HEADS, head_width: int = HEAD_WIDTH) -> dict[str, int]:
    """The named axes of self-attention over a grid."""
    tokens = grid.rows * grid.columns + grid.leading
    return {
        "tokens": tokens,
        "keys": tokens,
        "side": grid.rows,
        "leading": grid.leading,
        "causal": 0,
        "heads": heads,
        "head_width": head_width,
        "width": 8,
        "ffn_width": 12,
    }


def tensors(
    parameters: Mapping[str, Parameter], sizes: Mapping[str, int], seed: int = 1
) -> dict[str, Tensor]:
    """Random tensors for declared parameters, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(each.shape(sizes), generator=generator, dtype=torch.float64)
        for name, each in parameters.items()
    }


def bytes_an_image(run: Callable[[int], object], held: Sequence[Tensor] = ()) -> float:
    """What each further image of a batch adds to the tensor bytes at the peak of `run(batch)`.

    Copies of weights and tables, the same for every image, drop out; what a kernel allocates within
    one operation is not seen.
    """
    peaks = []
    for batch in (64, 128):
        counter = TensorBytes(held)
        with torch.inference_mode(), counter:
            run(batch)
        peaks.append(counter.peak)
    return (peaks[1] - peaks[0]) / 64


class DeclarationConformance:
    """A named declaration with options; a subclass sets `registry`, `dimension` and `name`."""

    registry: Registry
    dimension: Operator
    name: str

    @property
    def declaration(self) -> Any:
        """The declaration by its name."""
        return self.registry.load(self.name)

    def test_it_is_called_what_the_catalog_calls_it(self) -> None:
        assert self.declaration.name == self.name

    def test_it_loads_without_torch(self) -> None:
        program = (
            "import sys; from nas import catalog\n"
            f"registry = next(each for each in vars(catalog).values()"
            f" if getattr(each, 'point', '') == {self.registry.point!r})\n"
            f"registry.load({self.name!r})\n"
            "sys.exit('torch' in sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_options_fit_their_schema_and_come_back(self) -> None:
        schema = jsonschema.Draft202012Validator(self.dimension.schema())
        for options in settings(self.declaration.options):
            form = {"type": self.name, **options}
            schema.validate(form)
            choice = self.dimension.parse(form, "here")
            written = json.loads(json.dumps(self.dimension.dump(choice)))
            schema.validate(written)
            assert self.dimension.parse(written, "here") == choice
        schema.validate(self.name)
        assert self.dimension.parse(self.name, "here").options == ()

    def test_other_options_are_refused(self) -> None:
        schema = jsonschema.Draft202012Validator(self.dimension.schema())
        wrong: dict[str, list[Any]] = {"no_such_option": [1]}
        for name, option in self.declaration.options.items():
            wrong[name] = ["no such choice", None, True, 1.5, option.minimum - 1, []]
            assert option.description
            assert option.check(option.default, "here") == option.default
        for name, values in wrong.items():
            for value in values:
                form = {"type": self.name, name: value}
                assert not schema.is_valid(form)
                with pytest.raises(SpecError, match=rf"^here\.{name}: "):
                    self.dimension.parse(form, "here")

    def parameters(self, options: Options) -> Mapping[str, Parameter]:
        """The declared parameters under these options."""
        found: Mapping[str, Parameter] = self.declaration.parameters(options)
        return found

    def test_every_axis_of_every_parameter_is_known(self) -> None:
        for options in settings(self.declaration.options):
            for parameter in self.parameters(options).values():
                shape = parameter.shape(sizes_of(Grid(3, 3)))
                assert all(length > 0 for length in shape)


class AttentionConformance(DeclarationConformance):
    """An attention type computes what it declares, head by head, on any grid, padded or not."""

    registry = catalog.ATTENTIONS
    dimension = ATTENTIONS["encoder_self"]
    grids: tuple[Grid, ...] = (Grid(1, 1), Grid(3, 3), Grid(4, 4, 1))

    @property
    def attention(self) -> Attention:
        """The declaration."""
        found: Attention = self.declaration
        return found

    def parameters(self, options: Options) -> Mapping[str, Parameter]:
        """The declared parameters under these options, on a grid."""
        return self.attention.parameters(options, sizes_of(Grid(3, 3)))

    def run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        options: Options,
        grid: Grid,
        seed: int = 1,
        **context: Any,
    ) -> Tensor:
        """The type's output in an image encoder, with random tensors of its own."""
        own = tensors(self.parameters(options), sizes_of(grid, q.shape[1], q.shape[-1]), seed)
        stands = AttentionContext("encoder_self", grid, **context)
        out: Tensor = self.attention.attend(q, k, v, own, options, stands)
        return out

    def inputs(self, grid: Grid, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
        """Random q, k and v (B, H, N, K), in float64."""
        sizes, generator = sizes_of(grid), torch.Generator().manual_seed(0)
        shape = (batch, HEADS, sizes["tokens"], HEAD_WIDTH)
        q, k, v = torch.randn((3, *shape), generator=generator, dtype=torch.float64)
        return q, k, v

    def run_batch(self, options: Options, grid: Grid, batch: int) -> Tensor:
        """The output for a batch of random inputs, which are made here."""
        return self.run(*self.inputs(grid, batch), options, grid)

    def cases(self) -> list[tuple[dict[str, str | int], Grid]]:
        """Every setting of the options on every grid."""
        return list(itertools.product(settings(self.attention.options), self.grids))

    def padded_cases(self) -> Iterator[tuple[dict[str, str | int], Grid, Grid, Tensor]]:
        """Options, a grid, its upper rows, and lengths (2,): of all tokens, of the upper rows'."""
        for options in settings(self.attention.options):
            for grid, rows in ((Grid(3, 3), 2), (Grid(4, 2, 1), 1)):
                upper = Grid(rows, grid.columns, grid.leading)
                lengths = [sizes_of(each)["tokens"] for each in (grid, upper)]
                yield options, grid, upper, torch.tensor(lengths)

    def test_its_sites_are_known(self) -> None:
        assert self.attention.sites
        assert set(self.attention.sites) <= set(get_args(Site))

    def test_outputs_and_gradients_are_finite(self) -> None:
        for options, grid in self.cases():
            q, k, v = (each.requires_grad_() for each in self.inputs(grid))
            out = self.run(q, k, v, options, grid)
            assert out.shape == q.shape
            assert out.isfinite().all()
            gradients = torch.autograd.grad(out.square().sum(), (q, k, v))
            assert all(each.isfinite().all() for each in gradients)

    def test_images_do_not_see_each_other(self) -> None:
        for options, grid in self.cases():
            q, k, v = self.inputs(grid, batch=3)
            together = self.run(q, k, v, options, grid)
            alone = self.run(q[1:2], k[1:2], v[1:2], options, grid)
            torch.testing.assert_close(together[1:2], alone)

    def test_heads_do_not_see_each_other(self) -> None:
        for options, grid in self.cases():
            q, k, v = self.inputs(grid)
            together = self.run(q, k, v, options, grid)
            fewer = self.run(q[:, :2], k[:, :2], v[:, :2], options, grid)
            torch.testing.assert_close(together[:, :2], fewer)

    @pytest.mark.parametrize("filler", [1e4, math.nan, math.inf, -math.inf])
    def test_what_padded_keys_hold_changes_no_output_and_no_gradient(self, filler: float) -> None:
        for options, grid, _, lengths in self.padded_cases():
            found = []
            for value in (0.0, filler):
                q, k, v = self.inputs(grid)
                k[1, :, lengths[1] :] = v[1, :, lengths[1] :] = value
                inputs = [each.requires_grad_() for each in (q, k, v)]
                out = self.run(q, k, v, options, grid, key_lengths=lengths)
                found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
            for one, other in zip(*found, strict=True):
                assert one.isfinite().all()
                assert torch.equal(one, other)
            for gradient in found[0][2:]:
                assert not gradient[1, :, lengths[1] :].any()
                assert gradient[0].any()

    def test_an_image_gives_the_same_with_and_without_padding(self) -> None:
        for options, grid, upper, lengths in self.padded_cases():
            q, k, v = self.inputs(grid)
            padded = self.run(q, k, v, options, grid, key_lengths=lengths)
            whole = self.run(q[:1], k[:1], v[:1], options, grid)
            torch.testing.assert_close(padded[:1], whole)
            q, k, v = (each[1:, :, : lengths[1]] for each in (q, k, v))
            cut = self.run(q, k, v, options, upper)
            torch.testing.assert_close(padded[1:, :, : lengths[1]], cut)

    def test_without_any_true_key_the_output_is_zero_and_finite_in_its_gradients(self) -> None:
        for options, grid, _, lengths in self.padded_cases():
            q, k, v = (each.requires_grad_() for each in self.inputs(grid))
            out = self.run(q, k, v, options, grid, key_lengths=torch.zeros_like(lengths))
            assert not out.any()
            gradients = torch.autograd.grad(out.sum(), (q, k, v))
            assert all(each.isfinite().all() for each in gradients)

    def test_lengths_that_do_not_fit_are_refused(self) -> None:
        for options, grid, _, lengths in self.padded_cases():
            q, k, v = self.inputs(grid)
            for wrong in (lengths + 1, lengths - 100, lengths[:1], lengths.double()):
                with pytest.raises(ValueError, match="lengths "):
                    self.run(q, k, v, options, grid, key_lengths=wrong)

    def test_own_tensors_are_used(self) -> None:
        for options, grid in self.cases():
            q, k, v = self.inputs(grid)
            same = torch.equal(*(self.run(q, k, v, options, grid, seed) for seed in (1, 2)))
            assert same != bool(self.parameters(options))

    def test_declared_arithmetic_is_what_torch_counts(self) -> None:
        for options, grid in self.cases():
            q, k, v = self.inputs(grid, batch=1)
            counter = FlopCounterMode(display=False)
            with counter, sdpa_kernel(SDPBackend.MATH):
                self.run(q, k, v, options, grid)
            assert 2 * self.attention.core_macs(sizes_of(grid), options) == pytest.approx(
                counter.get_total_flops(), rel=1e-3
            )

    def test_declared_activations_are_what_the_tensors_take(self) -> None:
        for options, grid in self.cases():
            found = bytes_an_image(partial(self.run_batch, options, grid))
            sizes = sizes_of(grid)
            # q, k, v and the output, in float64.
            around = 4 * HEADS * sizes["tokens"] * HEAD_WIDTH
            declared = 8 * (around + self.attention.core_activations(sizes, options))
            assert 1 / CORE_WITHIN < declared / found < CORE_WITHIN, (options, grid)

    def test_efficient_means_linear_in_the_tokens(self) -> None:
        options = {name: each.default for name, each in self.attention.options.items()}
        small, large = (
            self.attention.core_macs(sizes_of(Grid(side, side)), options) for side in (64, 128)
        )
        assert large / small == pytest.approx(4 if self.attention.efficient else 16, rel=0.05)

    def test_costs_never_shrink_with_a_size(self) -> None:
        for options, grid in self.cases():
            for count in (self.attention.core_macs, self.attention.core_activations):
                sizes = sizes_of(grid)
                base = count(sizes, options)
                assert base > 0
                for axis in ("heads", "head_width"):
                    assert count({**sizes, axis: sizes[axis] + 1}, options) >= base


class FfnConformance(DeclarationConformance):
    """A feed-forward type computes what it declares, token by token."""

    registry = catalog.FFNS
    dimension = FFN

    @pytest.mark.parametrize("activation", ["gelu", "relu"])
    def test_tokens_do_not_see_each_other(self, activation: str) -> None:
        sizes = sizes_of(Grid(3, 3))
        x = torch.randn(2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for options in settings(self.declaration.options):
            own = tensors(self.parameters(options), sizes)
            out = self.declaration.apply(x, own, activation, options)
            assert out.shape == x.shape
            torch.testing.assert_close(
                self.declaration.apply(x[:1, 4:5], own, activation, options), out[:1, 4:5]
            )

    def test_declared_arithmetic_is_what_torch_counts(self) -> None:
        sizes = sizes_of(Grid(3, 3))
        x = torch.randn(1, 9, 8, dtype=torch.float64)
        for options in settings(self.declaration.options):
            counter = FlopCounterMode(display=False)
            with counter:
                self.declaration.apply(x, tensors(self.parameters(options), sizes), "gelu", options)
            assert 2 * self.declaration.macs(sizes, options) == counter.get_total_flops()


class NormConformance:
    """A norm acts on each token alone and knows its width from its tensors."""

    name: str

    def test_it_is_called_what_the_catalog_calls_it(self) -> None:
        assert catalog.NORMS.load(self.name).name == self.name

    def test_tokens_do_not_see_each_other_and_scale_does_not_matter(self) -> None:
        norm = catalog.NORMS.load(self.name)
        own = tensors(norm.parameters(), {"width": 8})
        generator = torch.Generator().manual_seed(0)
        x = 100 * torch.randn(2, 5, 8, dtype=torch.float64, generator=generator)
        out = norm.apply(x, own)
        assert out.shape == x.shape
        torch.testing.assert_close(norm.apply(x[1:, 2:3], own), out[1:, 2:3])
        torch.testing.assert_close(norm.apply(7 * x, own), out, rtol=1e-6, atol=1e-6)
