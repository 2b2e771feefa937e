"""What an operator declares of itself: named axes, parameters, options, arithmetic, no tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from nas.errors import SpecError
from nas.registry import nearest

Site = Literal["encoder_self", "decoder_self", "cross"]
Sizes = Mapping[str, int]
"""Named axes with their lengths: tokens, keys, width, heads, head_width, ffn_width, ..."""

Init = Literal["linear", "zeros", "ones", "normal"]
Role = Literal["qk", "vo", "own"]


@dataclass(frozen=True)
class Parameter:
    """One tensor by its named axes; a fixed axis is written as its length.

    `outputs` and `inputs` together are the tensor's axes, in this order; a linear map reads it as a
    matrix (prod(outputs), prod(inputs)). Named axes are what elastic slicing, extraction, counting
    and checkpoints go by: a subnet holds the front slice along every axis.
    `role` says which weight-sharing rule a supernet applies across attention types.
    """

    outputs: tuple[str | int, ...]
    inputs: tuple[str | int, ...] = ()
    init: Init = "linear"
    role: Role = "own"

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """The tensor's lengths for these sizes."""
        axes = self.outputs + self.inputs
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in axes)

    def fan(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(fan_out, fan_in) of a tensor of this shape, read as a matrix."""
        split = len(self.outputs)
        return math.prod(shape[:split]), math.prod(shape[split:])


@dataclass(frozen=True)
class Option:
    """One option of an operator: an enumeration, or an integer with a least value."""

    default: str | int
    choices: tuple[str | int, ...] = ()
    minimum: int = 0
    description: str = ""

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the option's value."""
        described: dict[str, Any] = {"default": self.default, "description": self.description}
        if self.choices:
            return {"enum": list(self.choices), **described}
        return {"type": "integer", "minimum": self.minimum, **described}

    def check(self, value: Any, where: str) -> str | int:
        """`value` if it is allowed; raises `SpecError` naming what is."""
        if self.choices:
            # 1.0 and True equal the choice 1, but would be written differently.
            if value not in self.choices or type(value) not in (str, int):
                allowed = nearest(str(value), [str(choice) for choice in self.choices])
                raise SpecError(f"{where}: {value!r} is not a choice; {allowed}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < self.minimum:
            raise SpecError(f"{where}: {value!r} given, an integer >= {self.minimum} is allowed")
        checked: str | int = value
        return checked


Options = Mapping[str, str | int]
Own = Mapping[str, Any]
"""An operator's own tensors by the names it declared, sliced for the subnet at hand."""


@dataclass(frozen=True)
class Grid:
    """Where image tokens lie: `rows` x `columns` patches behind `leading` class tokens."""

    rows: int
    columns: int
    leading: int = 0


# Tensors have no single truth value, so contexts are not compared.
@dataclass(frozen=True, eq=False)
class AttentionContext:
    """Where attention stands and what it may look at there; the same for all heads of a layer.

    `key_lengths` (B,): the true number of keys of each image or sentence, 0 to S, in an integer
    tensor; the keys behind them are padding, which may hold anything and changes no output. None
    means that all keys are true. `norm_length`: the length M in tokens by which a type normalises
    positions, one number or a tensor (B,), where it is not the true number of tokens: at a decoder
    it is known before the first step and the same in training (cosFormer).
    """

    site: Site
    grid: Grid | None = None
    """None for sequences."""
    key_lengths: Any = None
    norm_length: Any = None


class Attention(Protocol):
    """An attention type: declared sizes and costs, and `attend`, which imports torch inside.

    Costs are of the core alone (scores and weighted sum, all heads of one layer, one image or
    sentence); the Q, K, V and O projections are the network's and cost the same for every type.
    """

    name: str
    sites: frozenset[Site]
    options: Mapping[str, Option]
    efficient: bool
    """Whether the core is linear in the number of tokens."""

    def parameters(self, options: Options) -> Mapping[str, Parameter]:
        """The type's own parameters, beyond Q, K, V and O."""
        ...

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        """Multiply-accumulates of the core; sizes has tokens, keys, heads, head_width, side."""
        ...

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        """Elements that the core holds at once, at its peak, beside q, k, v and its output.

        What is the same for all images of a batch, and what a kernel holds within one operation,
        do not count.
        """
        ...

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        """q (B, H, N, K), k and v (B, H, S, K) -> (B, H, N, K), at one of the declared sites.

        Honours all of the context: what the type cannot is refused (`SpecError`, `ValueError`).
        """
        ...


class Ffn(Protocol):
    """A feed-forward type: declared sizes and costs, and `apply`, which imports torch inside."""

    name: str
    options: Mapping[str, Option]

    def parameters(self, options: Options) -> Mapping[str, Parameter]:
        """The type's parameters by named axes."""
        ...

    def macs(self, sizes: Sizes, options: Options) -> int:
        """Multiply-accumulates of one layer for one image or sentence."""
        ...

    def activations(self, sizes: Sizes, options: Options) -> int:
        """Elements held at once beside the input and the output."""
        ...

    def apply(self, x: Any, own: Own, activation: str, options: Options) -> Any:
        """(B, N, D) -> (B, N, D)."""
        ...


class Norm(Protocol):
    """A normalisation over the model width, and `apply`, which imports torch inside."""

    name: str

    def parameters(self) -> Mapping[str, Parameter]:
        """The norm's parameters by named axes."""
        ...

    def apply(self, x: Any, own: Own) -> Any:
        """(B, N, D) -> (B, N, D)."""
        ...


NO_OPTIONS: Mapping[str, Option] = {}


@dataclass(frozen=True)
class Choice:
    """An operator with its options, as it stands in a slot: `softmax`, `linear(feature_map=relu)`.

    `options` holds only what differs from the default, sorted, so equal choices are equal values.
    """

    type: str
    options: tuple[tuple[str, str | int], ...] = field(default=())

    def __str__(self) -> str:
        inner = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.type}({inner})" if inner else self.type
