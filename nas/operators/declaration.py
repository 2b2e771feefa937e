"""What an operator declares of itself: named axes, parameters, options, arithmetic, no tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from nas.errors import SpecError
from nas.registry import nearest

Site = Literal["encoder_self", "decoder_self", "cross"]
Sizes = Mapping[str, int]
"""Named axes with their lengths: tokens, keys, width, heads, head_width, ffn_width, ...

Where attention stands there are besides `side` and `leading` of the grid, both 0 for a sequence,
and `causal`, 1 where a token sees none behind it and what it does not see is not computed, else 0.
"""

Init = Literal["linear", "zeros", "ones", "normal", "embedding"]
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


State = tuple[Any, ...]
"""What attention remembers of its keys and values: tensors, each with the batch first.

So `index_select` over the first axis of each reorders, drops or repeats the rows of a batch.
"""


# Tensors have no single truth value, so contexts are not compared.
@dataclass(frozen=True, eq=False)
class AttentionContext:
    """Where attention stands and what it may look at there; the same for all heads of a layer.

    `key_lengths` (B,): the true number of keys of each image or sentence, 0 to S, in an integer
    tensor; the keys behind them are padding, which may hold anything and changes no output. None
    means that all keys are true. `query_lengths` (B,), at cross: that of queries likewise, whose
    padding may come out as anything; where queries and keys are the same tokens, key_lengths are
    theirs. `norm_length`: the length M in tokens by which a type normalises positions, one number
    or a tensor (B,), where it is not the true number of tokens: at a decoder it is known before the
    first step and the same in training (cosFormer), and at cross it covers both sides.
    """

    site: Site
    grid: Grid | None = None
    """None for sequences."""
    key_lengths: Any = None
    norm_length: Any = None
    query_lengths: Any = None
    copies: int = 1
    """At cross: key j * copies + c is copy c of source token j; key_lengths count keys."""
    position: Any = None
    """Set where remembered keys are recalled: all queries stand at this token, see all keys, whose
    padding is zero. None means tokens 0 to N - 1, at decoder_self the last N of the keys."""


class Attention(Protocol):
    """An attention type: declared sizes and costs, and `attend`, which imports torch inside.

    Costs are of the core alone (scores and weighted sum, all heads of one layer, one image or
    sentence); the Q, K, V and O projections are the network's and cost the same for every type.

    A type subclasses this one, which decodes by `attend` over a cache of keys and values. A type
    whose state is another overrides `remember` and `recall`; where a class overrides `attend`
    without them, it decodes by the cache again, for its base's state knows nothing of its `attend`.
    """

    name: str
    sites: frozenset[Site]
    options: Mapping[str, Option]
    efficient: bool
    """Whether the core is linear in the number of tokens."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "attend" in vars(cls) and not {"remember", "recall"} & vars(cls).keys():
            cls.remember = Attention.remember  # type: ignore[method-assign]
            cls.recall = Attention.recall  # type: ignore[method-assign]

    def parameters(self, options: Options, sizes: Sizes) -> Mapping[str, Parameter]:
        """The type's own parameters, beyond Q, K, V and O; sizes as for `core_macs`."""
        ...

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        """Multiply-accumulates of the core.

        Sizes has tokens, keys, heads, head_width, side, leading and causal.
        """
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

        At decoder_self a token sees those up to itself, N being at most S. Honours all of the
        context: what the type cannot is refused (`SpecError`, `ValueError`).
        """
        ...

    def remember(
        self,
        state: State | None,
        k: Any,
        v: Any,
        own: Own,
        options: Options,
        context: AttentionContext,
        position: Any,
    ) -> State:
        """The state with keys and values (B, H, S, K) that stand at `position` and on.

        state is None before the first. At decoder_self tokens come one by one, or several at once,
        all true; at cross all keys come once. `position` is an int or a tensor (B,).
        """
        import torch

        if context.key_lengths is not None:
            refuse_padding(context)
            from nas_kernels.arguments import blanked, check_inputs

            check_inputs(k, k, v, key_lengths=context.key_lengths)
            k, v, _ = blanked(k, v, context.key_lengths)
        # Projections give strided views, on which `cat` leaves its fast path.
        k, v = k.contiguous(), v.contiguous()
        if state is None:
            return k, v
        return torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)

    def recall(
        self,
        state: State,
        q: Any,
        own: Own,
        options: Options,
        context: AttentionContext,
        position: Any,
    ) -> Any:
        """q (B, H, N, K) -> (B, H, N, K): N queries, all at `position`, over all remembered keys.

        At cross N may be the beams of one sentence: its state is not repeated for them.
        """
        k, v = state
        return self.attend(q, k, v, own, options, replace(context, position=position))


def refuse_padding(context: AttentionContext) -> None:
    """Raises `SpecError` where padded tokens are to be remembered between true ones."""
    if context.site == "decoder_self":
        raise SpecError(
            "key_lengths are given where tokens are remembered at decoder_self; all of them are "
            "true there: None is allowed"
        )


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
