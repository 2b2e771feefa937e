"""Does a translation network compute what the papers say, whatever it is sliced from?"""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas.cost.analytic import PARAMS
from nas.errors import SpecError
from nas.model.network import StandaloneNetwork
from nas.model.slots import Sharing
from nas.model.supernet import Supernet
from nas.operators.declaration import Choice
from nas.space.architecture import EncoderDecoder
from nas.space.task_shape import TextShape
from nas_kernels.testing import assert_close
from tests.model import cases, plain_translation
from tests.model.cases import SHARINGS, randomised
from tests.model.plain_translation import Layer, Recipe
from tests.model.translation_cases import (
    CROSSING,
    EVERY_CHOICE,
    SELF,
    SHAPE,
    SHARED_WIDTHS,
    SPACES,
    batch,
    drawn,
    single,
    text_pairs,
    typed,
)

SUPERNETS = {
    (name, sharing): randomised(Supernet(space, SHAPE, sharing))
    for name, space in SPACES.items()
    for sharing in SHARINGS
}
PAIRS = text_pairs()
# Gradients whose terms cancel are rounding alone, of float64 some 1e-16 of what was summed.
ROUNDING = 1e-3


def recipe_of(architecture: EncoderDecoder, shape: TextShape = SHAPE) -> Recipe:
    """The same in the words of the plain network."""

    def layer(held: Any) -> Layer:
        cross = getattr(held, "cross_attention", None)
        distance = int(dict(held.attention.options).get("max_distance", 14))
        span = getattr(held, "cross_span", 1)
        return Layer(named(held.attention), named(cross) if cross else "", span, distance)

    return Recipe(
        tuple(map(layer, architecture.encoder_layers)),
        tuple(map(layer, architecture.decoder_layers)),
        (architecture.encoder_width, architecture.decoder_width),
        architecture.norm,
        architecture.activation,
        architecture.position,
        architecture.embeddings,
        shape.length_ratio,
        shape.length_margin,
    )


def named(choice: Choice) -> str:
    """`linear(relu)` for `linear(feature_map=relu)`; without options, but of linear."""
    if choice.type != "linear":
        return choice.type
    return f"linear({dict(choice.options).get('feature_map', 'elu1')})"


def plainly(network: StandaloneNetwork, shape: TextShape = SHAPE) -> Tensor:
    """(N, V) of the pairs by the plain network with the same weights."""
    recipe = recipe_of(typed(network.architecture), shape)
    weights = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    pairs = [(torch.tensor(source), torch.tensor(target)) for source, target in PAIRS]
    return torch.cat([plain_translation.scores(weights, *pair, recipe) for pair in pairs])


SITES = [
    *({"encoder": each} for each in SELF),
    *({"decoder": each} for each in SELF),
    *({"cross": each, "span": span} for each in CROSSING for span in (1, 2, 3)),
]
NETWORKS = [
    {"position": "none"},
    {"norm": "rmsnorm"},
    {"activation": "gelu"},
    {"embeddings": "tied"},
    {"embeddings": "separate"},
    # More layers to look at than there are.
    {"span": 16, "cross": "cosformer"},
]


class TestAgainstThePapers:
    @pytest.mark.parametrize("chosen", [*SITES, *NETWORKS], ids=str)
    def test_each_choice(self, chosen: dict[str, Any]) -> None:
        network = randomised(StandaloneNetwork(single(**chosen), SHAPE)).double()
        with torch.no_grad():
            # Positions are made in single precision.
            assert_close("scores", network(batch(PAIRS)), plainly(network), 1e-6)

    @pytest.mark.parametrize("name", SPACES)
    def test_any_choices_together(self, name: str) -> None:
        for architecture in drawn(SPACES[name], 8):
            network = randomised(StandaloneNetwork(architecture, SHAPE)).double()
            with torch.no_grad():
                assert_close("scores", network(batch(PAIRS)), plainly(network), 1e-6)

    @pytest.mark.parametrize("embeddings", ["tied", "separate"])
    def test_each_language_has_its_vocabulary(self, embeddings: str) -> None:
        shape = replace(SHAPE, source_vocabulary=17, target_vocabulary=21)
        network = randomised(StandaloneNetwork(single(embeddings=embeddings), shape)).double()
        with torch.no_grad():
            found = network(batch(PAIRS))
            assert found.shape == (8, 21)
            assert_close("scores", found, plainly(network, shape), 1e-6)

    def test_the_front_of_a_shared_table_serves_the_narrower_stack(self) -> None:
        network = StandaloneNetwork(single(), SHAPE)
        assert dict(network.named_parameters())["outer.embedding.table"].shape == (13, 8)

    def test_embeddings_start_as_large_as_positions(self) -> None:
        shape = TextShape(4000, 4000)
        table = StandaloneNetwork(single(), shape).state_dict()["outer.embedding.table"]
        assert float(table.std()) == pytest.approx(8**-0.5, rel=0.02)

    def test_a_type_that_cannot_stand_there_is_refused(self) -> None:
        held = single()
        foreign = replace(held.decoder_layers[0], cross_attention=Choice("softmax_relpos"))
        network = StandaloneNetwork(replace(held, decoder_layers=(foreign,)), SHAPE)
        with pytest.raises(SpecError, match="cannot stand at cross; its sites: decoder_self, enc"):
            network(batch(PAIRS))


class TestSupernet:
    @pytest.mark.parametrize("name", SPACES)
    @pytest.mark.parametrize("sharing", SHARINGS)
    def test_the_extracted_network_gives_what_the_slice_gives(
        self, name: str, sharing: Sharing
    ) -> None:
        supernet = SUPERNETS[name, sharing]
        for architecture in drawn(SPACES[name], 8, seed=1):
            alone = supernet.extract(architecture)
            with torch.no_grad():
                found = supernet(batch(PAIRS), architecture)
                assert_close("scores", alone(batch(PAIRS)), found, 1e-5)
            count = sum(each.numel() for each in alone.parameters())
            assert count == PARAMS.of(architecture, SHAPE)

    @pytest.mark.parametrize("chosen", SITES, ids=str)
    @pytest.mark.parametrize("sharing", SHARINGS)
    def test_at_every_site(self, chosen: dict[str, Any], sharing: Sharing) -> None:
        supernet, at = SUPERNETS[EVERY_CHOICE.name, sharing], single(**chosen)
        # The type at its site, in the smallest network that is there.
        smallest = typed(EVERY_CHOICE.extreme("smallest"))
        encoder = replace(smallest.encoder_layers[0], attention=at.encoder_layers[0].attention)
        decoder = replace(
            smallest.decoder_layers[0],
            attention=at.decoder_layers[0].attention,
            cross_attention=at.decoder_layers[0].cross_attention,
            cross_span=at.decoder_layers[0].cross_span,
        )
        asked = replace(smallest, encoder_layers=(encoder,) * 3, decoder_layers=(decoder,) * 2)
        alone = supernet.extract(asked)
        with torch.no_grad():
            assert_close("scores", alone(batch(PAIRS)), supernet(batch(PAIRS), asked), 1e-5)

    @pytest.mark.parametrize("name", SPACES)
    @pytest.mark.parametrize("sharing", SHARINGS)
    def test_gradients_reach_the_slice_and_nothing_else(self, name: str, sharing: Sharing) -> None:
        supernet = copy.deepcopy(SUPERNETS[name, sharing]).double()
        for architecture in drawn(SPACES[name], 3, seed=2):
            supernet.zero_grad(set_to_none=True)
            supernet(batch(PAIRS), architecture).square().sum().backward()
            got = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
            alone = supernet.extract(architecture)
            alone(batch(PAIRS)).square().sum().backward()
            wanted = dict(alone.named_parameters())
            assert sorted(each.partition("@")[0] for each in got) == sorted(wanted)
            for each, gradient in got.items():
                want = wanted[each.partition("@")[0]].grad
                assert want is not None
                front = tuple(slice(length) for length in want.shape)
                assert_close(each, gradient[front], want, 1e-9, least=ROUNDING)
                gradient[front] = 0
                assert not gradient.any(), each

    def test_what_it_does_not_hold(self) -> None:
        supernet = SUPERNETS[SHARED_WIDTHS.name, "per_type"]
        held = typed(SHARED_WIDTHS.extreme("largest"))
        layer, last = held.encoder_layers[0], held.decoder_layers[-1]
        wide = replace(last, cross_heads=5)
        for foreign, message in (
            (replace(held, encoder_width=13), "embedding"),
            (
                replace(held, encoder_layers=(layer,) * 3),
                r"2 encoder\.layers|encoder\.layers is given.* 2",
            ),
            (replace(held, decoder_layers=(wide,)), r"cross_attention .* q_weight"),
            (held.replace_attention(Choice("linear")), "no q_weight of this kind"),
            (replace(held, embeddings="tied"), "source_embedding"),
            (replace(held, norm="rmsnorm"), "norm"),
            (cases.EVERY_CHOICE.extreme("largest"), "the task gives sentence pairs"),
        ):
            uses: Any = supernet.extract, lambda each: supernet(batch(PAIRS), each)
            for use in uses:
                with pytest.raises(SpecError, match=message):
                    use(foreign)
        with pytest.raises(SpecError, match="the task gives images"):
            StandaloneNetwork(held, cases.SHAPE)


def losses(network: StandaloneNetwork, pairs: Any) -> Tensor:
    """Per token, of the next token of a made-up text."""
    found = network(pairs)
    labels = pairs.target.flatten()[pairs.kept]
    return functional.cross_entropy(found, labels, reduction="none")


def gradients(network: StandaloneNetwork, loss: Tensor) -> dict[str, Tensor]:
    names, tensors = zip(*network.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))


MIXED = [
    single(encoder=own, decoder=own, cross=cross, span=2, embeddings="separate")
    for own, cross in zip(SELF, [*CROSSING, "cosformer"], strict=True)
]


@pytest.mark.parametrize("architecture", MIXED, ids=lambda each: str(each.attentions[0]))
class TestPadding:
    @pytest.mark.parametrize("filling", [1, 7])
    def test_wider_padding_of_any_tokens_changes_nothing(
        self, architecture: EncoderDecoder, filling: int
    ) -> None:
        network = randomised(StandaloneNetwork(architecture, SHAPE)).double()
        tight, wide = batch(PAIRS), batch(PAIRS, wider=3, filling=filling)
        # The same labels, wherever they lie.
        assert torch.equal(tight.target.flatten()[tight.kept], wide.target.flatten()[wide.kept])
        want, got = losses(network, tight), losses(network, wide)
        assert_close("losses", got, want, 1e-12)
        wanted, found = gradients(network, want.sum()), gradients(network, got.sum())
        for name, gradient in wanted.items():
            assert_close(name, found[name], gradient, 1e-9, least=ROUNDING)

    def test_a_batch_is_its_sentences(self, architecture: EncoderDecoder) -> None:
        network = randomised(StandaloneNetwork(architecture, SHAPE)).double()
        together = losses(network, batch(PAIRS))
        apart = [losses(network, batch([pair])) for pair in PAIRS]
        assert_close("losses", together, torch.cat(apart), 1e-12)
        whole = gradients(network, together.sum())
        parts = [gradients(network, each.sum()) for each in apart]
        for name, gradient in whole.items():
            added = torch.stack([each[name] for each in parts]).sum(0)
            assert_close(name, gradient, added, 1e-9, least=ROUNDING)

    def test_padding_is_never_looked_up_to_learn(self, architecture: EncoderDecoder) -> None:
        network = randomised(StandaloneNetwork(architecture, SHAPE))
        found = gradients(network, losses(network, batch(PAIRS)).sum())
        for name in ("outer.source_embedding.table", "outer.target_embedding.table"):
            assert not found[name][1].any()
            assert found[name][4:].any()

    def test_what_comes_later_changes_nothing_before(self, architecture: EncoderDecoder) -> None:
        network = randomised(StandaloneNetwork(architecture, SHAPE)).double()
        source = [4, 5, 6, 7, 2]
        before = [0, 8, 9, 10, 11]
        with torch.no_grad():
            want = network(batch([(source, before)]))
            for place in range(1, 5):
                after = [*before[:place], 12, *before[place + 1 :]]
                got = network(batch([(source, after)]))
                assert_close("scores", got[:place], want[:place], 1e-12)
                assert not torch.equal(got[place], want[place])


class TestDropout:
    def test_none_in_evaluation_and_none_at_zero(self) -> None:
        network = randomised(StandaloneNetwork(single(), SHAPE))
        with torch.no_grad():
            want = network.train()(batch(PAIRS))
            network.dropout = 0.5
            assert not torch.equal(network(batch(PAIRS)), want)
            assert torch.equal(network.eval()(batch(PAIRS)), want)

    def test_it_is_of_the_share_of_the_width(self, monkeypatch: pytest.MonkeyPatch) -> None:
        supernet = SUPERNETS[EVERY_CHOICE.name, "per_type"]
        asked = replace(typed(EVERY_CHOICE.extreme("smallest")), encoder_width=6, decoder_width=8)
        shares: list[float] = []
        real = functional.dropout

        def noted(x: Tensor, p: float, *rest: Any, **named: Any) -> Tensor:
            shares.append(p)
            return real(x, p, *rest, **named)

        monkeypatch.setattr(functional, "dropout", noted)
        monkeypatch.setattr(supernet, "dropout", 0.3, raising=False)
        supernet.train()(batch(PAIRS), asked)
        # Embedding and two branches of the encoder; embedding and three of the decoder.
        assert shares == [0.3 * 6 / 9] * 3 + [0.3 * 8 / 10] * 4
        shares.clear()
        alone = supernet.extract(asked)
        alone.dropout = 0.3
        alone(batch(PAIRS))
        assert shares == [0.3] * 7


class TestModule:
    def test_copies_and_pickles_give_the_same(self) -> None:
        network = randomised(StandaloneNetwork(single(cross="cosformer", span=2), SHAPE))
        with torch.no_grad():
            want = network(batch(PAIRS))
            for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
                assert torch.equal(other(batch(PAIRS)), want)
        supernet = SUPERNETS[SHARED_WIDTHS.name, "per_type"]
        asked = SHARED_WIDTHS.extreme("smallest")
        other = pickle.loads(pickle.dumps(supernet))
        assert torch.equal(other(batch(PAIRS), asked), supernet(batch(PAIRS), asked))

    def test_names_of_tensors_are_what_they_were(self) -> None:
        network = StandaloneNetwork(single(embeddings="separate", depth=1), SHAPE)
        projections = [f"{role}_{kind}" for role in "qkvo" for kind in ("weight", "bias")]
        ffn = ["in_weight", "in_bias", "out_weight", "out_bias"]
        names = [f"outer.{each}.table" for each in ("source_embedding", "target_embedding")]
        names += ["outer.output.table"]
        norms = ["outer.encoder_norm", "outer.decoder_norm"]
        for stack, depth in (("encoder", 3), ("decoder", 1)):
            for index in range(depth):
                at = f"{stack}.layers.{index}"
                sites = ["attention", "cross_attention"][: 1 + (stack == "decoder")]
                names += [f"{at}.{site}.{each}" for site in sites for each in projections]
                names += [f"{at}.ffn.{each}" for each in ffn]
                norms += [f"{at}.{each}_norm" for each in (*sites, "ffn")]
        names += [f"{each}.{kind}" for each in norms for kind in ("weight", "bias")]
        assert sorted(network.state_dict()) == sorted(names)
        supernet = SUPERNETS[SHARED_WIDTHS.name, "per_type"].state_dict()
        assert "decoder.layers.1.cross_attention.k_weight@cosformer" in supernet
        assert "outer.embedding.table@shared" in supernet

    def test_weights_are_read_back(self) -> None:
        network = randomised(StandaloneNetwork(single(), SHAPE))
        other = StandaloneNetwork(single(), SHAPE, seed=9)
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(batch(PAIRS)), network(batch(PAIRS)))

    def test_the_seed_decides_the_weights(self) -> None:
        one, same, other = (
            StandaloneNetwork(single(), SHAPE, seed).state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["outer.embedding.table"], other["outer.embedding.table"])

    def test_an_architecture_is_needed(self) -> None:
        with pytest.raises(SpecError, match="an architecture is needed, 'x' given"):
            SUPERNETS[SHARED_WIDTHS.name, "per_type"].run(batch(PAIRS), "x")  # type: ignore[arg-type]


def test_a_target_longer_than_any_that_is_written_is_scored() -> None:
    layer = {"attention": "cosformer", "heads": 2, "head_width": 4, "ffn_width": 9}
    cross = {"cross_attention": "cosformer", "cross_heads": 2, "cross_head_width": 4}
    architecture = EncoderDecoder.from_json(
        {
            "kind": "encoder_decoder",
            "encoder": {"width": 6, "layers": [layer]},
            "decoder": {"width": 6, "layers": [{**layer, **cross}]},
        }
    )
    network = randomised(StandaloneNetwork(architecture, SHAPE)).eval()
    # Of a source of one token at most ceil(1.25 + 2) = 4 are written.
    beyond, short = ([4], [0, 4, 5, 6, 7, 8, 9]), ([5, 6, 7, 4], [0, 8])
    with torch.no_grad():
        alone, together = network(batch([beyond])), network(batch([beyond, short]))
    assert alone.isfinite().all()
    assert_close("scores", together[:7], alone, 1e-5)
