"""What does sharing weights cost? A supernet's step against a plain ViT's, in time and memory.

Bars: a single-path step takes <= 1.05 x the step of a static ViT of the same size written directly
in torch; a sandwich step (largest, smallest, 2 random nets) <= 3.0 x the largest net's; training
the supernet holds <= 1.3 x the tensor bytes of training the largest static net at the same batch,
that is the largest in bytes among the space's attention types.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.measuring.tensor_bytes import peak_bytes
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.operators.declaration import Choice
from nas.search.recipe import SupernetRecipe
from nas.space.architecture import Architecture, Encoder
from nas.space.layer import EncoderLayer
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape
from nas.task.task import Batch
from nas.train.sampling import Schedule
from nas.train.supernet import Subnets

SINGLE_PATH_BAR, SANDWICH_BAR, MEMORY_BAR = 1.05, 3.0, 1.3
CIFAR10 = ImageShape(side=32, channels=3, classes=10)
SOFTMAX = Choice("softmax")
SANDWICH = SupernetRecipe(sampling="sandwich", random_subnets=2, distill_after=0)
Step = Callable[[int], None]


class PlainBlock(nn.Module):
    """A pre-norm transformer layer as one writes it by hand: fused QKV, torch's SDPA, an MLP."""

    def __init__(self, width: int, layer: EncoderLayer) -> None:
        super().__init__()
        inner = layer.heads * layer.head_width
        self.heads = layer.heads
        self.attention_norm, self.ffn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * inner), nn.Linear(inner, width)
        self.up, self.down = nn.Linear(width, layer.ffn_width), nn.Linear(layer.ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(functional.gelu(self.up(self.ffn_norm(x))))
        return out


class PlainViT(nn.Module):
    """A static vision transformer with softmax attention, sized like an architecture."""

    def __init__(self, architecture: Encoder, shape: ImageShape) -> None:
        super().__init__()
        width, patch = architecture.width, architecture.patch_size
        if architecture.stem == "conv":
            self.stem: nn.Module = nn.Sequential(
                nn.Conv2d(shape.channels, width, 2 * patch - 1, patch, patch - 1),
                nn.GELU(),
                nn.Conv2d(width, width, 1),
            )
        else:
            self.stem = nn.Conv2d(shape.channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(shape.grid_side(patch) ** 2, width))
        self.blocks = nn.Sequential(*(PlainBlock(width, each) for each in architecture.layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, shape.classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).flatten(2).transpose(1, 2) + self.position
        scores: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return scores


def update(network: nn.Module, losses: Callable[[int], Iterator[Tensor]]) -> Step:
    """A training step: every loss backward, clipped gradients, AdamW, gradients dropped."""
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step(number: int) -> None:
        for loss in losses(number):
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if parameters[0].is_cuda:
            torch.cuda.synchronize()

    return step


@dataclasses.dataclass(frozen=True)
class Case:
    """The batch that every net of the comparison trains on."""

    space: SearchSpace
    shape: ImageShape
    images: Tensor
    labels: Tensor

    def plain(self, architecture: Architecture) -> tuple[nn.Module, Step]:
        """The hand-written ViT of this size."""
        assert isinstance(architecture, Encoder)
        network = PlainViT(architecture, self.shape).to(self.images.device)
        return network, self._static(network)

    def standalone(self, architecture: Architecture) -> tuple[nn.Module, Step]:
        """Our network of one architecture."""
        network = StandaloneNetwork(architecture, self.shape).to(self.images.device)
        return network, self._static(network)

    def _static(self, network: nn.Module) -> Step:
        def losses(number: int) -> Iterator[Tensor]:  # noqa: ARG001
            yield functional.cross_entropy(network(self.images), self.labels)

        return update(network, losses)

    def path(self, choose: Callable[[int], Architecture]) -> tuple[nn.Module, Step]:
        """A supernet that trains one path a step."""
        network = Supernet(self.space, self.shape).to(self.images.device)

        def losses(number: int) -> Iterator[Tensor]:
            yield functional.cross_entropy(network(self.images, choose(number)), self.labels)

        return network, update(network, losses)

    def scheduled(self, recipe: SupernetRecipe) -> tuple[nn.Module, Step]:
        """A supernet trained by a recipe's schedule and losses."""
        network = Supernet(self.space, self.shape).to(self.images.device)
        nets = Subnets(Schedule(self.space, recipe, 0), recipe)
        batch = Batch(self.images, self.labels, torch.arange(len(self.labels)))
        return network, update(network, lambda n: nets(n, network, batch))


def middle(space: SearchSpace) -> Architecture:
    """A softmax network of a middle size: sliced along every axis."""
    sizes = space.extreme("largest", SOFTMAX)
    smaller = space.extreme("smallest", SOFTMAX)
    assert isinstance(sizes, Encoder)
    assert isinstance(smaller, Encoder)
    layer, least = sizes.layers[0], smaller.layers[0]
    half = dataclasses.replace(
        layer, heads=layer.heads - 2, ffn_width=(layer.ffn_width + least.ffn_width) // 2
    )
    depth = (sizes.depth + smaller.depth) // 2
    made = dataclasses.replace(
        sizes, width=sorted(space.network["width"])[-2], layers=(half,) * depth
    )
    assert space.contains(made)
    return made


def single_path(case: Case, architecture: Architecture, pairs: int) -> Paired:
    """A supernet's step on one architecture against the plain ViT's of its size."""
    _, shared = case.path(lambda _: architecture)
    return compare(shared, case.plain(architecture)[1], pairs)


def sandwich(case: Case, pairs: int) -> Paired:
    """A sandwich step against a step on its largest net alone, in a supernet of its own."""
    schedule = Schedule(case.space, SANDWICH, 0)
    _, four = case.scheduled(SANDWICH)
    _, one = case.path(lambda number: schedule.at(number)[0].architecture)
    return compare(four, one, pairs)


def memory(case: Case, steps: int) -> dict[str, int]:
    """Peak tensor bytes of training: the largest static nets, and the supernet by each sampling."""
    types = case.space.all_attentions
    largest = [case.space.extreme("largest", choice) for choice in types]
    makers: dict[str, Callable[[], tuple[nn.Module, Step]]] = {
        "static, plain softmax": partial(case.plain, largest[0])
    }
    for choice, architecture in zip(types, largest, strict=True):
        makers[f"static, {choice}"] = partial(case.standalone, architecture)
    uniform = SupernetRecipe(sampling="uniform")
    makers["supernet, uniform"] = partial(case.scheduled, uniform)
    makers["supernet, sandwich"] = partial(case.scheduled, SANDWICH)
    makers["supernet, largest of each type"] = partial(
        case.path, lambda number: largest[number % len(largest)]
    )
    found = {}
    for name, make in makers.items():
        network, step = make()
        found[name] = peak_bytes(network, (partial(step, number) for number in range(steps)))
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=12)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--threads", type=int, help="torch threads; torch's own choice if unset")
    given = arguments.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    images = torch.randn(given.batch, 3, 32, 32, device=given.device)
    labels = torch.randint(10, (given.batch,), device=given.device)
    case = Case(load_space("cifar10_small"), CIFAR10, images, labels)

    sizes = {
        "largest": case.space.extreme("largest", SOFTMAX),
        "middle": middle(case.space),
        "smallest": case.space.extreme("smallest", SOFTMAX),
    }
    timed = {f"single path, {name}": single_path(case, a, given.pairs) for name, a in sizes.items()}
    timed["sandwich n = 2"] = sandwich(case, given.pairs)
    bars = dict.fromkeys(timed, SINGLE_PATH_BAR) | {"sandwich n = 2": SANDWICH_BAR}
    held = memory(case, steps=6)
    static = max(size for name, size in held.items() if name.startswith("static"))
    show(timed, bars, held, static)
    figures: dict[str, Any] = {
        "machine": machine(given.device),
        "batch": given.batch,
        "steps": {name: {**each.to_json(), "bar": bars[name]} for name, each in timed.items()},
        "peak_tensor_bytes": held,
        "memory_bar": MEMORY_BAR,
    }
    write(given.out, figures)


def show(
    timed: dict[str, Paired], bars: dict[str, float], held: dict[str, int], static: int
) -> None:
    """Prints both tables."""
    print_table(
        f"Training step, cifar10_small, {next(iter(timed.values())).pairs} pairs",
        ("step", "ms", "against, ms", "ratio", "quartiles", "bar"),
        [
            (
                name,
                f"{each.a_ms:.1f}",
                f"{each.b_ms:.1f}",
                f"{each.ratio:.3f}",
                f"{each.lower_quartile:.3f} to {each.upper_quartile:.3f}",
                f"{bars[name]:g}",
            )
            for name, each in timed.items()
        ],
    )
    print_table(
        f"Peak tensor bytes in training; ratio to the largest static net (bar {MEMORY_BAR:g})",
        ("training", "MiB", "ratio"),
        [(name, f"{size / 2**20:.1f}", f"{size / static:.3f}") for name, size in held.items()],
    )


if __name__ == "__main__":
    main()
