"""What the network is: tensors that a blueprint declares, and a forward over an architecture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from nas.errors import SpecError
from nas.model import layers
from nas.operators.declaration import AttentionContext, Grid, Parameter
from nas.space.architecture import Architecture
from nas.space.blueprint import Part, blueprint, ends, layer_parts, outer_parts
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
        """Xavier-uniform maps (Glorot and Bengio, 2010), normal(0, 0.02) tables, ones and zeros."""
        for name, parameter in self.declared.items():
            tensor = cast(Tensor, getattr(self, name))
            with torch.no_grad():
                if parameter.init == "linear":
                    fan_out, fan_in = parameter.fan(tuple(tensor.shape))
                    bound = math.sqrt(6 / (fan_in + fan_out))
                    tensor.uniform_(-bound, bound, generator=generator)
                elif parameter.init == "normal":
                    tensor.normal_(0.0, 0.02, generator=generator)
                else:
                    tensor.fill_(1.0 if parameter.init == "ones" else 0.0)


def _not_held(part: Part, held: str) -> SpecError:
    return SpecError(
        f"the network does not hold this architecture: its {part.path} is {part.variant} with "
        f"{part.shapes}, the network has {held}"
    )


def _slices(owner: nn.Module, path: str, part: Part) -> dict[str, Tensor]:
    slot = owner._modules.get(path)
    if slot is None:
        raise _not_held(part, "none")
    return cast(Slot, slot).slices(part)


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


class Network(nn.Module):
    """A pre-norm encoder transformer over images; the architecture is an argument of forward.

    It holds tensors large enough for a set of architectures and slices them for the one at hand, so
    it has no active state. `Supernet` holds a whole space, `StandaloneNetwork` one architecture.
    """

    def __init__(
        self,
        architectures: Iterable[Architecture],
        shape: TaskShape,
        sharing: Sharing | None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shape = shape
        declared = declare(architectures, shape, sharing)
        depth = 1 + max(int(path.split(".")[1]) for path in declared if path.startswith("layers."))
        self.outer = nn.ModuleDict()
        self.layers = nn.ModuleList(nn.ModuleDict() for _ in range(depth))
        for path, slot in declared.items():
            owner, name = self.outer, path
            if path.startswith("layers."):
                _, index, name = path.split(".")
                owner = cast(nn.ModuleDict, self.layers[int(index)])
            owner[name] = Slot(slot, sharing)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, Slot):
                module.initialize(generator)

    def slices(self, part: Part) -> dict[str, Tensor]:
        """The tensors of one part of a blueprint; raises `SpecError` where they are not held."""
        if not part.path.startswith("layers."):
            return _slices(self.outer, part.path, part)
        _, index, path = part.path.split(".")
        if int(index) >= len(self.layers):
            raise _not_held(part, f"{len(self.layers)} layers")
        return _slices(self.layers[int(index)], path, part)

    def run(self, images: Tensor, architecture: Architecture) -> Tensor:
        """Class scores (B, classes) of images (B, C, S, S), by the architecture's slice.

        Raises `SpecError` for an architecture that this network does not hold.
        """
        if architecture.depth > len(self.layers):
            raise SpecError(
                f"an architecture of {architecture.depth} layers is given, the network holds "
                f"{len(self.layers)}"
            )
        own = {
            part.path: _slices(self.outer, part.path, part)
            for part in outer_parts(architecture, self.shape)
        }
        common = ends(architecture, self.shape)
        context = AttentionContext("encoder_self", Grid(common.side, common.side, common.leading))
        x = layers.embed(images, architecture, own["embedding"])
        if common.leading:
            x = torch.cat([own["class_token"]["token"].expand(len(x), -1, -1), x], dim=1)
        if "position" in own:
            x = x + own["position"]["table"]
        norm, activation = architecture.norm, architecture.activation
        for layer, slots in zip(architecture.layers, self.layers, strict=False):
            w = {part.path: _slices(slots, part.path, part) for part in layer_parts(layer, common)}
            hidden = layers.normalize(x, norm, w["attention_norm"])
            x = x + layers.attend(hidden, layer, w["attention"], context)
            hidden = layers.normalize(x, norm, w["ffn_norm"])
            x = x + layers.feed_forward(hidden, layer, activation, w["ffn"])
        x = layers.normalize(x, norm, own["norm"])
        head = own["head"]
        return nn.functional.linear(layers.pool(x, architecture), head["weight"], head["bias"])


class StandaloneNetwork(Network):
    """One architecture as an ordinary module: `network(images)`."""

    def __init__(self, architecture: Architecture, shape: TaskShape, seed: int = 0) -> None:
        super().__init__([architecture], shape, None, seed)
        self.architecture = architecture

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes) of images (B, C, S, S)."""
        return self.run(images, self.architecture)
