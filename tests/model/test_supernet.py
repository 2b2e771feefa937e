"""Does one set of weights hold every network of a space, each as it would be alone?"""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.cost.analytic import PARAMS
from nas.errors import SpecError
from nas.model.network import StandaloneNetwork
from nas.model.slots import Sharing
from nas.model.supernet import Supernet
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture
from nas.space.search_space import SearchSpace
from nas_kernels.testing import assert_close
from tests.model.cases import (
    EVERY_CHOICE,
    LAYERS_DIFFER,
    SHAPE,
    SHARINGS,
    SPACES,
    architectures,
    images,
    randomised,
)

SUPERNETS = {
    (name, sharing): randomised(Supernet(space, SHAPE, sharing))
    for name, space in SPACES.items()
    for sharing in SHARINGS
}
EVERY = pytest.mark.parametrize("name", SPACES)
SHARED = pytest.mark.parametrize("sharing", SHARINGS)


def stored(name: str, supernet: Supernet, used: set[str]) -> str:
    """The supernet's name, among those used, of a stand-alone network's tensor."""
    (found,) = [each for each in used if each.partition("@")[0] == name]
    assert found in dict(supernet.named_parameters())
    return found


def gradients(supernet: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    """By name, of the tensors that got one."""
    supernet.zero_grad(set_to_none=True)
    supernet(images(), architecture).square().sum().backward()
    found = {n: p.grad.clone() for n, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad(set_to_none=True)
    return found


def one_of_each(space: SearchSpace = EVERY_CHOICE) -> tuple[Architecture, Architecture]:
    """Two architectures that differ in every choice."""
    small, large = Choice("softmax"), Choice("linear", (("feature_map", "relu"),))
    return space.extreme("smallest", small), space.extreme("largest", large)


# -- extraction ------------------------------------------------------------------------------------


@EVERY
@SHARED
@settings(max_examples=25)
@given(data=st.data())
def test_the_extracted_network_gives_what_the_slice_gives(
    name: str, sharing: Sharing, data: st.DataObject
) -> None:
    supernet = SUPERNETS[name, sharing]
    architecture = data.draw(architectures(SPACES[name]))
    alone = supernet.extract(architecture)
    with torch.no_grad():
        assert_close("scores", alone(images()), supernet(images(), architecture), 1e-5)


@EVERY
@settings(max_examples=25)
@given(data=st.data())
def test_the_slice_s_gradients_are_the_extracted_network_s(name: str, data: st.DataObject) -> None:
    supernet = SUPERNETS[name, "per_type"]
    architecture = data.draw(architectures(SPACES[name]))
    alone = supernet.extract(architecture)
    alone(images()).square().sum().backward()
    shared = gradients(supernet, architecture)
    assert len(shared) == len(list(alone.parameters()))
    for own_name, parameter in alone.named_parameters():
        got, want = shared[stored(own_name, supernet, set(shared))], parameter.grad
        assert want is not None
        front = tuple(slice(length) for length in want.shape)
        torch.testing.assert_close(got[front], want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
        got[front] = 0
        assert not got.any(), own_name


@EVERY
@settings(max_examples=25)
@given(data=st.data())
def test_its_parameters_are_as_many_as_counted(name: str, data: st.DataObject) -> None:
    architecture = data.draw(architectures(SPACES[name]))
    alone = SUPERNETS[name, "shared_vo"].extract(architecture)
    assert sum(p.numel() for p in alone.parameters()) == PARAMS.of(architecture, SHAPE)


def test_the_extracted_network_is_a_copy() -> None:
    supernet = randomised(Supernet(EVERY_CHOICE, SHAPE))
    architecture = EVERY_CHOICE.extreme("largest")
    before = supernet(images(), architecture)
    first, second = supernet.extract(architecture), supernet.extract(architecture)
    randomised(first, seed=2)
    assert torch.equal(supernet(images(), architecture), before)
    assert torch.equal(second(images()), before)
    randomised(supernet, seed=3)
    assert torch.equal(second(images()), before)
    assert all(p.requires_grad and p.is_leaf for p in second.parameters())


def test_extraction_keeps_precision_and_mode_and_draws_no_number() -> None:
    supernet = Supernet(LAYERS_DIFFER, SHAPE).double().eval()
    state = torch.get_rng_state()
    alone = supernet.extract(LAYERS_DIFFER.extreme("smallest"))
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.dtype for p in alone.parameters()} == {torch.float64}
    assert not alone.training
    assert supernet.train().extract(LAYERS_DIFFER.extreme("smallest")).training


# -- no active network -----------------------------------------------------------------------------


def test_one_forward_leaves_no_trace_in_the_next() -> None:
    supernet = SUPERNETS["every_choice", "per_type"]
    one, other = one_of_each()
    first = supernet(images(), one)
    second = supernet(images(), other)
    assert torch.equal(supernet(images(), one), first)
    assert torch.equal(supernet(images(), other), second)

    apart = [gradients(supernet, each) for each in (one, other)]
    # Both forwards before either backward.
    losses = [supernet(images(), each).square().sum() for each in (one, other)]
    for loss, want in zip(losses, apart, strict=True):
        supernet.zero_grad(set_to_none=True)
        loss.backward()
        got = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)
    supernet.zero_grad(set_to_none=True)


def test_threads_share_the_weights() -> None:
    supernet = SUPERNETS["every_choice", "per_type"]
    rng = random.Random(0)
    chosen = [EVERY_CHOICE.sample(rng) for _ in range(8)]

    def score(architecture: Architecture) -> Tensor:
        with torch.no_grad():
            return supernet(images(), architecture)  # type: ignore[no-any-return]

    alone = [score(each) for each in chosen]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(score, chosen * 5))
    assert all(torch.equal(a, b) for a, b in zip(alone * 5, together, strict=True))


# -- slices ----------------------------------------------------------------------------------------


@EVERY
@SHARED
@settings(max_examples=25)
@given(data=st.data())
def test_the_tensors_hold_every_architecture_s(
    name: str, sharing: Sharing, data: st.DataObject
) -> None:
    supernet = SUPERNETS[name, sharing]
    architecture = data.draw(architectures(SPACES[name]))
    used = set(gradients(supernet, architecture))
    held = {n: p.shape for n, p in supernet.named_parameters()}
    for own_name, own in StandaloneNetwork(architecture, SHAPE).named_parameters():
        shape = held[stored(own_name, supernet, used)]
        assert len(shape) == own.dim()
        assert all(have >= want for have, want in zip(shape, own.shape, strict=True))


@EVERY
def test_no_tensor_is_larger_than_the_space_needs(name: str) -> None:
    space, supernet = SPACES[name], SUPERNETS[name, "per_type"]
    needed: dict[str, tuple[int, ...]] = {}
    for architecture in space.covering():
        used = set(gradients(supernet, architecture))
        for own_name, own in StandaloneNetwork(architecture, SHAPE).named_parameters():
            key = stored(own_name, supernet, used)
            needed[key] = tuple(map(max, zip(needed.get(key, own.shape), own.shape, strict=True)))
    assert needed == {n: tuple(p.shape) for n, p in supernet.named_parameters()}


@pytest.mark.parametrize("attention", EVERY_CHOICE.all_attentions, ids=str)
@pytest.mark.parametrize("role", "qkvo")
def test_rows_keep_their_role_at_every_head_count(attention: Choice, role: str) -> None:
    """A head's rows serve it, and nothing else, however many heads there are."""
    supernet = randomised(Supernet(EVERY_CHOICE, SHAPE))
    layers = EVERY_CHOICE.stacks[0].layers
    axis = 1 if role == "o" else 0
    for heads in layers[0]["heads"]:
        architecture = with_heads(attention, heads)
        before = supernet(images(), architecture)
        for head in range(max(layers[0]["heads"])):
            changed = randomised(Supernet(EVERY_CHOICE, SHAPE))
            parameters = dict(changed.named_parameters())
            with torch.no_grad():
                weight = parameters[f"layers.0.attention.{role}_weight@{attention}"]
                weight.select(axis, head).add_(0.5)
            same = torch.equal(changed(images(), architecture), before)
            assert same == (head >= heads)


def with_heads(attention: Choice, heads: int) -> Architecture:
    largest = EVERY_CHOICE.extreme("largest", attention)
    genome = list(EVERY_CHOICE.genome(largest))
    for position, gene in enumerate(EVERY_CHOICE.genes):
        if gene.field == "heads":
            genome[position] = gene.choices.index(heads)
    return EVERY_CHOICE.build(tuple(genome))


def test_what_is_not_sampled_gets_no_gradient() -> None:
    supernet = SUPERNETS["every_choice", "per_type"]
    for architecture in one_of_each():
        got = set(gradients(supernet, architecture))
        types = [str(layer.attention) for layer in architecture.layers]
        for name, _ in supernet.named_parameters():
            path, _, variant = name.partition("@")
            if not path.startswith("layers."):
                continue
            index = int(path.split(".")[1])
            if index >= architecture.depth:
                assert name not in got
            elif ".attention." in path:
                assert (name in got) == (variant == types[index])
        assert any(name.startswith("outer.position") for name in got)
    small, large = (set(gradients(supernet, each)) for each in one_of_each())
    assert {n for n in small if "position" in n}.isdisjoint(n for n in large if "position" in n)
    assert {n for n in small if "embedding" in n}.isdisjoint(n for n in large if "embedding" in n)


# -- sharing ---------------------------------------------------------------------------------------

SHARED_ROLES = {"per_type": "", "shared_vo": "vo", "shared_qkvo": "qkvo"}


@SHARED
def test_types_share_as_many_tensors_as_the_mode_says(sharing: Sharing) -> None:
    names = [name for name, _ in SUPERNETS["every_choice", sharing].named_parameters()]
    types = {str(choice) for choice in EVERY_CHOICE.all_attentions}
    for role in "qkvo":
        for tensor in ("weight", "bias"):
            prefix = f"layers.1.attention.{role}_{tensor}@"
            found = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
            assert found == ({"shared"} if role in SHARED_ROLES[sharing] else types)
    # The types' own tables and what stands outside attention are never shared by this rule.
    tables = {name.partition("@")[2] for name in names if ".row_key@" in name}
    assert tables == {each for each in types if each.startswith("softmax_relpos")}


@SHARED
@pytest.mark.parametrize("role", "qkvo")
def test_training_one_type_moves_another_as_the_mode_says(sharing: Sharing, role: str) -> None:
    supernet = randomised(Supernet(LAYERS_DIFFER, SHAPE, sharing))
    cosformer = LAYERS_DIFFER.extreme("smallest", Choice("cosformer"))
    linear = LAYERS_DIFFER.extreme("smallest", Choice("linear"))
    before = supernet(images(), linear)
    gradients_of = f"layers.0.attention.{role}_weight@"
    used = {name for name in gradients(supernet, cosformer) if name.startswith(gradients_of)}
    with torch.no_grad():
        for name in used:
            dict(supernet.named_parameters())[name].add_(0.5)
    moved = not torch.equal(supernet(images(), linear), before)
    assert moved == (role in SHARED_ROLES[sharing])


# -- what it does not hold -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (EVERY_CHOICE.extreme("largest", Choice("linear")), "embedding"),
        (LAYERS_DIFFER.extreme("largest", Choice("softmax_relpos")), "softmax_relpos"),
    ],
    ids=["stem", "attention"],
)
def test_a_foreign_architecture_is_refused(foreign: Architecture, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        SUPERNETS["layers_differ", "per_type"](images(), foreign)


def test_a_larger_architecture_is_refused_and_not_cut() -> None:
    supernet = SUPERNETS["layers_differ", "per_type"]
    largest = LAYERS_DIFFER.extreme("largest")
    fields = {**largest.to_json(), "width": 13}
    with pytest.raises(SpecError, match="embedding"):
        supernet(images(), Architecture.from_json(fields))
    deeper = {**largest.to_json(), "layers": largest.to_json()["layers"] * 2}
    with pytest.raises(SpecError, match="6 layers"):
        supernet(images(), Architecture.from_json(deeper))
    with pytest.raises(SpecError, match="3 layers"):
        supernet.extract(Architecture.from_json(deeper))
    with_class_token = {**largest.to_json(), "pooling": "class_token"}
    for use in (supernet.extract, lambda each: supernet(images(), each)):
        with pytest.raises(SpecError, match="class_token"):
            use(Architecture.from_json(with_class_token))
    wider = largest.to_json()
    wider["layers"][0]["heads"] = 3
    with pytest.raises(SpecError, match="q_weight"):
        supernet.extract(Architecture.from_json(wider))
