"""Is the network the one that the papers describe? Against a plain one that is written out."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.errors import SpecError
from nas.model import image_encoder, layers
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.operators.declaration import AttentionContext, Choice, Grid
from nas.space.architecture import Architecture, Encoder
from nas.space.blueprint import outer_parts
from nas.space.layer import EncoderLayer
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape
from nas_kernels.testing import assert_close, relative_rms
from tests.model import plain
from tests.model.cases import (
    EVERY_CHOICE,
    SHAPE,
    SPACES,
    architectures,
    images,
    randomised,
)
from tests.model.test_supernet import stored
from tests.space.spaces import encoder

TYPES = EVERY_CHOICE.all_attentions
SUPERNETS = {name: randomised(Supernet(space, SHAPE)).double() for name, space in SPACES.items()}
LAYER = EncoderLayer(Choice("softmax"), heads=2, head_width=4, ffn_width=12)
NETWORK = Encoder(patch_size=2, width=8, layers=(LAYER, LAYER))


def spelled(choice: Choice) -> str:
    """The plain implementation's name of an attention type."""
    if choice.type == "linear":
        return f"linear({dict(choice.options).get('feature_map', 'elu1')})"
    return choice.type


def recipe(architecture: Architecture) -> plain.Recipe:
    """What the plain implementation is told beside the weights."""
    distances = {dict(x.attention.options).get("max_distance", 14) for x in architecture.layers}
    outer = encoder(architecture)
    return plain.Recipe(
        patch=outer.patch_size,
        attentions=tuple(spelled(layer.attention) for layer in architecture.layers),
        stem=outer.stem,
        norm=architecture.norm,
        activation=architecture.activation,
        pooling=outer.pooling,
        max_distance=int(distances.pop()) if len(distances) == 1 else 14,
    )


def copied(network: torch.nn.Module) -> dict[str, Tensor]:
    """The network's weights, as leaves of their own."""
    return {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}


def assert_equals_plain(supernet: Supernet, architecture: Architecture) -> None:
    """Scores and every gradient, in float64."""
    weights = copied(supernet.extract(architecture))
    batch = images().double()
    got, want = supernet(batch, architecture), plain.vit(weights, batch, recipe(architecture))
    assert_close("scores", got, want, 1e-10)
    direction = images(1, ImageShape(5, 1, 1))[0, 0, : len(batch)].double()
    supernet.zero_grad(set_to_none=True)
    (got * direction).sum().backward()
    (want * direction).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
    for name, weight in weights.items():
        front = tuple(slice(length) for length in weight.shape)
        sliced = gradients[stored(name, supernet, set(gradients))][front]
        assert weight.grad is not None
        # A key's bias cancels in a softmax, so its gradient is zero but for rounding.
        torch.testing.assert_close(sliced, weight.grad, rtol=1e-8, atol=1e-11, msg=name)
    supernet.zero_grad(set_to_none=True)


def homogeneous(space: SearchSpace) -> Iterator[tuple[str, Choice]]:
    for attention in space.all_attentions:
        if space.allows_everywhere(attention):
            yield space.name, attention


@pytest.mark.parametrize(
    ("name", "attention"),
    list(itertools.chain.from_iterable(map(homogeneous, SPACES.values()))),
    ids=str,
)
@settings(max_examples=12)
@given(data=st.data())
def test_a_homogeneous_slice_is_a_plain_transformer(
    name: str, attention: Choice, data: st.DataObject
) -> None:
    architecture = data.draw(architectures(SPACES[name].homogeneous(attention)))
    assert_equals_plain(SUPERNETS[name], architecture)


@settings(max_examples=12)
@given(data=st.data())
def test_a_mixed_slice_is_a_plain_transformer(data: st.DataObject) -> None:
    architecture = data.draw(architectures(SPACES["layers_differ"]))
    assert_equals_plain(SUPERNETS["layers_differ"], architecture)


CHANGES = [
    {"stem": "conv"},
    {"norm": "rmsnorm"},
    {"activation": "relu"},
    {"pooling": "class_token"},
    {"pooling": "mean_beside_class_token"},
    {"position": "none"},
    {"patch_size": 4},
    {"patch_size": 1, "stem": "conv"},
    {"patch_size": 8, "pooling": "class_token", "position": "none"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("attention", TYPES, ids=str)
def test_every_outer_choice_is_the_plain_one(
    attention: Choice, change: dict[str, str | int]
) -> None:
    architecture = Architecture.from_json({**NETWORK.to_json(), **change})
    architecture = architecture.replace_attention(attention)
    network = randomised(StandaloneNetwork(architecture, SHAPE)).double()
    weights, batch = copied(network), images().double()
    want = plain.vit(weights, batch, recipe(architecture))
    assert_close("scores", network(batch), want, 1e-10)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(map(str, c.values())))
def test_every_outer_choice_changes_the_network(change: dict[str, str | int]) -> None:
    """With the same weights wherever both have them."""
    base = randomised(StandaloneNetwork(NETWORK, SHAPE))
    other = StandaloneNetwork(Architecture.from_json({**NETWORK.to_json(), **change}), SHAPE)
    randomised(other)
    held = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in held and held[name].shape == parameter.shape:
                parameter.copy_(held[name])
    assert relative_rms(other(images()), base(images())) > 1e-3


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(TYPES, 2)), ids=str)
def test_changing_one_layer_s_type_changes_the_scores(
    one: Choice, other: Choice, layer: int
) -> None:
    """Also where the types share all four projections."""
    supernet = randomised(Supernet(EVERY_CHOICE, SHAPE, "shared_qkvo"))
    before = encoder(EVERY_CHOICE.extreme("largest", one))
    changed = list(before.layers)
    changed[layer] = dataclasses.replace(changed[layer], attention=other)
    after = dataclasses.replace(before, layers=tuple(changed))
    with torch.no_grad():
        scores = supernet(images(), before), supernet(images(), after)
    assert relative_rms(scores[1], scores[0]) > 1e-3


# -- cosFormer over an image -----------------------------------------------------------------------


def test_cosformer_is_bidirectional() -> None:
    """The first patch sees the last: a causal form would not move it."""
    attention = dataclasses.replace(LAYER, attention=Choice("cosformer"))
    architecture = dataclasses.replace(NETWORK, layers=(attention,))
    part = randomised(StandaloneNetwork(architecture, SHAPE))
    own = dict(part.get_submodule("layers.0.attention").named_parameters())
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, -1] += 1
    context = AttentionContext("encoder_self", Grid(4, 4))
    one, two = (layers.attend(each, attention.attention, own, context) for each in (other, x))
    moved = one - two
    assert bool((moved.abs().amax(-1) > 1e-6).all())


def test_a_type_is_not_run_where_it_does_not_declare_to_stand() -> None:
    layer = dataclasses.replace(LAYER, attention=Choice("softmax_relpos"))
    network = StandaloneNetwork(dataclasses.replace(NETWORK, layers=(layer,)), SHAPE)
    own = dict(network.get_submodule("layers.0.attention").named_parameters())
    with pytest.raises(SpecError, match="cannot stand at cross; its sites: decoder_self, encoder"):
        layers.attend(torch.zeros(1, 16, 8), layer.attention, own, AttentionContext("cross"))


# -- as an ordinary module -------------------------------------------------------------------------


def test_names_are_clean() -> None:
    architecture = NETWORK.replace_attention(Choice("linear", (("feature_map", "relu"),)), TYPES[4])
    names = set(StandaloneNetwork(architecture, SHAPE).state_dict())
    assert names == {
        *(f"outer.{name}" for name in ("embedding.weight", "embedding.bias", "position.table")),
        *(f"outer.{name}" for name in ("norm.weight", "norm.bias", "head.weight", "head.bias")),
        *(
            f"layers.{i}.{part}.{name}"
            for i in (0, 1)
            for part, held in {
                "attention_norm": ("weight", "bias"),
                "attention": [f"{r}_{kind}" for r in "qkvo" for kind in ("weight", "bias")],
                "ffn_norm": ("weight", "bias"),
                "ffn": ("in_weight", "in_bias", "out_weight", "out_bias"),
            }.items()
            for name in held
        ),
        *(
            f"layers.1.attention.{line}_{use}"
            for line in ("row", "column")
            for use in ("key", "value")
        ),
    }


@pytest.mark.parametrize("attention", TYPES, ids=str)
def test_safetensors_give_the_network_back(attention: Choice, tmp_path: Path) -> None:
    architecture = NETWORK.replace_attention(attention)
    network = randomised(StandaloneNetwork(architecture, SHAPE))
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    again = StandaloneNetwork(architecture, SHAPE, seed=5)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(again(images()), network(images()))


def test_a_supernet_s_weights_survive_safetensors_too(tmp_path: Path) -> None:
    supernet = randomised(Supernet(EVERY_CHOICE, SHAPE, "shared_vo"))
    save_file(supernet.state_dict(), tmp_path / "weights.safetensors")
    again = Supernet(EVERY_CHOICE, SHAPE, "shared_vo", seed=5)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    largest = EVERY_CHOICE.extreme("largest")
    assert torch.equal(again(images(), largest), supernet(images(), largest))


def test_a_seed_decides_the_first_weights() -> None:
    for build in (
        lambda seed: StandaloneNetwork(NETWORK, SHAPE, seed),
        lambda seed: Supernet(EVERY_CHOICE, SHAPE, seed=seed),
    ):
        state = torch.get_rng_state()
        one, same, other = (dict(build(seed).named_parameters()) for seed in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(one[name], same[name]) for name in one)
        drawn = {name for name in one if not torch.equal(one[name], other[name])}
        constant = {name for name in one if one[name].eq(0).all() or one[name].eq(1).all()}
        assert drawn == set(one) - constant
        assert all("bias" in name or "norm" in name for name in constant)


def test_first_weights_are_xavier_s() -> None:
    """Uniform in +- sqrt(6 / (fan in + fan out)): Glorot and Bengio, 2010, eq. 16."""
    layer = EncoderLayer(Choice("softmax"), heads=4, head_width=16, ffn_width=100)
    wide = Encoder(patch_size=2, width=60, layers=(layer,))
    weights = dict(StandaloneNetwork(wide, SHAPE).named_parameters())
    fans = {
        "outer.embedding.weight": (12, 60),
        "layers.0.attention.q_weight": (60, 64),
        "layers.0.attention.o_weight": (64, 60),
        "layers.0.ffn.in_weight": (60, 100),
        "layers.0.ffn.out_weight": (100, 60),
        "outer.head.weight": (60, 5),
    }
    for name, fan in fans.items():
        bound = (6 / sum(fan)) ** 0.5
        assert bound * 0.97 < float(weights[name].detach().abs().max()) <= bound


def test_a_copy_is_independent() -> None:
    network = StandaloneNetwork(NETWORK, SHAPE)
    before = network(images())
    randomised(copy.deepcopy(network))
    assert torch.equal(network(images()), before)


def test_it_refuses_a_patch_that_does_not_divide() -> None:
    with pytest.raises(SpecError, match="patch_size 3 does not divide"):
        StandaloneNetwork(dataclasses.replace(NETWORK, patch_size=3), SHAPE)


# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["learned", "none"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("attention", TYPES, ids=str)
def test_bfloat16_autocast_stays_near_float32(
    attention: Choice, pooling: str, norm: str, position: str
) -> None:
    architecture = dataclasses.replace(
        encoder(NETWORK.replace_attention(attention)), pooling=pooling, norm=norm, position=position
    )
    network = StandaloneNetwork(architecture, SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(images())
    scores.float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
    # Eight roundings to bfloat16's 8 bits.
    assert_close("scores", scores.float(), network(images()), 8 * 2.0**-8)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_the_residual_stream_keeps_the_weights_precision(stem: str) -> None:
    architecture = dataclasses.replace(NETWORK, stem=stem, position="none")
    network = StandaloneNetwork(architecture, SHAPE)
    part = outer_parts(architecture, SHAPE)[0]
    own = dict(network.get_submodule(f"outer.{part.path}").named_parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert image_encoder.embed(images(), architecture, own).dtype == torch.float32
