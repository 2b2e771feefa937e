"""Where does a network keep its tensors? In slots that a blueprint declares and slices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from nas.errors import SpecError
from nas.operators.declaration import Parameter
from nas.space.architecture import Architecture, Stack
from nas.space.blueprint import blueprint, layer_path, outer_parts
from nas.space.layer import Layer
from nas.space.part import Part, StackShape, layer_parts
from nas.space.task_shape import TaskShape

Sharing = Literal["per_type", "shared_vo", "shared_qkvo"]
Declared = dict[str, dict[str, tuple[Parameter, tuple[int, ...]]]]
"""Per path and tensor name: the declaration and the greatest length along every axis."""


class Slot(nn.Module):
    """The tensors of one part; where attention types have their own, under `name@variant`."""

    def __init__(
        self, declared: Mapping[str, tuple[Parameter, tuple[int, ...]]], sharing: Sharing | None
    ) -> None:
        super().__init__()
        self.sharing = sharing
        self.declared = {name: parameter for name, (parameter, _) in declared.items()}
        for name, (_, shape) in declared.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def slices(self, part: Part) -> dict[str, Tensor]:
        """The part's tensors by declared name: front slices along every axis.

        Raises `SpecError` where this network does not hold them.
        """
        found = {}
        for name, shape in part.shapes.items():
            whole = self._parameters.get(stored_name(part, name, self.sharing))
            if whole is None:
                raise _not_held(part, f"no {name} of this kind")
            if whole.shape != shape:
                # A slice beyond the end would silently be shorter.
                if any(want > have for want, have in zip(shape, whole.shape, strict=True)):
                    raise _not_held(part, f"{name} {tuple(whole.shape)}")
                found[name] = whole[tuple(slice(length) for length in shape)]
            else:
                found[name] = whole
        return found

    def initialize(self, generator: torch.Generator) -> None:
        """Xavier-uniform maps (Glorot and Bengio, 2010), normal tables, ones and zeros.

        Positions and class tokens have a standard deviation of 0.02, embeddings one of 1/sqrt(D).
        """
        for name, parameter in self.declared.items():
            tensor = cast(Tensor, getattr(self, name))
            with torch.no_grad():
                if parameter.init == "linear":
                    fan_out, fan_in = parameter.fan(tuple(tensor.shape))
                    bound = math.sqrt(6 / (fan_in + fan_out))
                    tensor.uniform_(-bound, bound, generator=generator)
                elif parameter.init == "normal":
                    tensor.normal_(0.0, 0.02, generator=generator)
                elif parameter.init == "embedding":
                    tensor.normal_(0.0, tensor.shape[-1] ** -0.5, generator=generator)
                else:
                    tensor.fill_(1.0 if parameter.init == "ones" else 0.0)


def _not_held(part: Part, held: str) -> SpecError:
    return SpecError(
        f"the network does not hold this architecture: its {part.path} is {part.variant} with "
        f"{part.shapes}, the network has {held}"
    )


def stored_name(part: Part, name: str, sharing: Sharing | None) -> str:
    """Under which name a tensor is kept: as declared alone, `name@variant` in a supernet."""
    if sharing is None:
        return name
    role = part.parameters[name].role
    shared = (role == "vo" and sharing != "per_type") or (role == "qk" and sharing == "shared_qkvo")
    return f"{name}@{'shared' if shared else part.variant}".replace(".", "_")


def declare(
    architectures: Iterable[Architecture], shape: TaskShape, sharing: Sharing | None
) -> Declared:
    """The tensors that hold those of all these architectures."""
    declared: Declared = {}
    for architecture in architectures:
        for part in blueprint(architecture, shape):
            slot = declared.setdefault(part.path, {})
            for name, lengths in part.shapes.items():
                stored = stored_name(part, name, sharing)
                _, seen = slot.get(stored, (None, lengths))
                greatest = tuple(max(pair) for pair in zip(seen, lengths, strict=True))
                slot[stored] = (part.parameters[name], greatest)
    return declared


class Slots(nn.Module):
    """Tensors large enough for a set of architectures, sliced for the one at hand.

    Parts outside the layers stand under `outer`, those of layers under their own path. `dropout` is
    the share that training drops of the widest network's activations.
    """

    dropout = 0.0

    def __init__(self, declared: Declared, sharing: Sharing | None, seed: int) -> None:
        super().__init__()
        self.outer = nn.ModuleDict()
        self._by_path: dict[str, Slot] = {}
        layers = {path.rpartition(".")[0] for path in declared if "." in path}
        self._depths = Counter(layer.rpartition(".")[0] for layer in layers)
        generator = torch.Generator().manual_seed(seed)
        for path, tensors in declared.items():
            self._by_path[path] = slot = Slot(tensors, sharing)
            owner: nn.Module = self.outer
            *above, name = path.split(".")
            if above:
                owner = self
                for step in above:
                    owner = _child(owner, step)
            owner.add_module(name, slot)
        for module in self.modules():
            if isinstance(module, Slot):
                module.initialize(generator)

    def slices(self, part: Part, path: str | None = None) -> dict[str, Tensor]:
        """The tensors of one part of a blueprint; raises `SpecError` where they are not held.

        `path` is where the part stands, where that is not what it says itself.
        """
        path = part.path if path is None else path
        slot = self._by_path.get(path)
        if slot is None:
            stack = path.rpartition(".")[0].rpartition(".")[0]
            raise _not_held(part, f"{self._depths[stack]} {stack}" if stack else "none")
        return slot.slices(part)

    def widest(self, path: str) -> int:
        """The greatest width of a norm: that of the widest network held."""
        return len(next(self._by_path[path].parameters()))

    def outer_slices(
        self, architecture: Architecture, shape: TaskShape
    ) -> dict[str, dict[str, Tensor]]:
        """The tensors of the parts outside the layers; raises `SpecError` for too many layers."""
        parts = outer_parts(architecture, shape)
        for stack in architecture.stacks:
            given, at = len(architecture.layers_of(stack)), stack.path("layers")
            if given > (held := self._depths[at]):
                raise SpecError(
                    f"an architecture of {given} {at} is given, the network holds {held}"
                )
        return {part.path: self.slices(part) for part in parts}

    def layer_slices(
        self, stack: Stack, index: int, layer: Layer, common: StackShape
    ) -> dict[str, dict[str, Tensor]]:
        """The tensors of one layer, by part."""
        at = layer_path(stack, index)
        parts = layer_parts(layer, common)
        return {part.path: self.slices(part, f"{at}.{part.path}") for part in parts}


def _child(owner: nn.Module, name: str) -> nn.Module:
    found = owner._modules.get(name)
    if found is None:
        found = nn.ModuleDict()
        owner.add_module(name, found)
    return found
