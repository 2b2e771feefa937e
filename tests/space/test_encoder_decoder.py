"""A translation network is a value, and its spaces are closed, counted and refused like others."""

import copy
import hashlib
import itertools
import json
import math
import pickle
import random
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture, Encoder, EncoderDecoder, load_architecture
from nas.space.blueprint import blueprint, check
from nas.space.gene import End
from nas.space.loader import load_space, space_schema
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TextShape

ENCODER_LAYER: dict[str, Any] = {
    "attention": "softmax",
    "heads": 8,
    "head_width": 64,
    "ffn_width": 2048,
}
DECODER_LAYER: dict[str, Any] = {
    "attention": "cosformer",
    "heads": 8,
    "head_width": 64,
    "cross_attention": "softmax",
    "cross_heads": 8,
    "cross_head_width": 64,
    "cross_span": 1,
    "ffn_width": 2048,
}
ISSUE: dict[str, Any] = {
    "kind": "encoder_decoder",
    "encoder": {"width": 512, "layers": [ENCODER_LAYER]},
    "decoder": {"width": 512, "layers": [DECODER_LAYER]},
}
WITHOUT_SPAN = {name: held for name, held in DECODER_LAYER.items() if name != "cross_span"}
FULL: dict[str, Any] = {
    "kind": "encoder_decoder",
    "norm": "rmsnorm",
    "activation": "gelu",
    "position": "none",
    "embeddings": "tied",
    "encoder": {
        "width": 640,
        "layers": [{**ENCODER_LAYER, "attention": {"type": "softmax_relpos", "max_distance": 7}}],
    },
    "decoder": {
        "width": 512,
        "layers": [
            {**DECODER_LAYER, "cross_attention": {"type": "linear", "feature_map": "relu"}}
            | {"cross_span": 3}
        ],
    },
}
DEFAULTS = {
    "norm": "layernorm",
    "activation": "relu",
    "position": "sinusoidal",
    "embeddings": "shared",
}
# Records of searches depend on them.
ISSUE_ID, FULL_ID = "bb9840f889f634e9", "cd8a74ecd2ec35ec"
SHAPE = TextShape(50, 50)
NO_KINDS: tuple[Any, ...] = ("decoder", None, 3, [], {})
ENDS: tuple[End, ...] = ("smallest", "largest")


def with_layers(encoder: Any = None, decoder: Any = None) -> dict[str, Any]:
    """The issue's architecture with a second layer in each stack that has these changes."""
    second = ENCODER_LAYER | (encoder or {}), DECODER_LAYER | (decoder or {})
    return {
        **ISSUE,
        "encoder": {"width": 512, "layers": [ENCODER_LAYER, second[0]]},
        "decoder": {"width": 512, "layers": [DECODER_LAYER, second[1]]},
    }


def without(form: dict[str, Any], *path: Any) -> dict[str, Any]:
    """The form without what stands there."""
    changed = copy.deepcopy(form)
    owner: Any = changed
    for step in path[:-1]:
        owner = owner[step]
    del owner[path[-1]]
    return changed


class TestForm:
    def test_the_issues_form_is_read_and_written_without_its_default(self) -> None:
        shown = Architecture.from_json(ISSUE).to_json()
        assert shown == {**ISSUE, "decoder": {"width": 512, "layers": [WITHOUT_SPAN]}}
        assert Architecture.from_json(shown) == Architecture.from_json(ISSUE)
        assert Architecture.from_json(FULL).to_json() == FULL

    def test_ids_are_what_they_were(self) -> None:
        assert Architecture.from_json(ISSUE).id == ISSUE_ID
        assert Architecture.from_json(FULL).id == FULL_ID
        text = json.dumps(FULL, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == FULL_ID

    def test_fields_at_their_default_are_left_out(self) -> None:
        encoder = {"width": 512, "layers": [{**ENCODER_LAYER, "ffn": "mlp"}]}
        decoder = {"width": 512, "layers": [{**DECODER_LAYER, "ffn": {"type": "mlp"}}]}
        explicit = {**ISSUE, **DEFAULTS, "encoder": encoder, "decoder": decoder}
        assert Architecture.from_json(explicit).id == ISSUE_ID

    def test_a_file_and_a_pickle_are_read(self, tmp_path: Any) -> None:
        (tmp_path / "a.json").write_text(json.dumps(FULL))
        read = load_architecture(tmp_path / "a.json")
        assert read == pickle.loads(pickle.dumps(read)) == Architecture.from_json(FULL)
        assert hash(read) == hash(Architecture.from_json(FULL))

    def test_stacks_and_sites_in_order(self) -> None:
        read = Architecture.from_json(FULL)
        assert isinstance(read, EncoderDecoder)
        assert (read.encoder_width, read.decoder_width, read.depth) == (640, 512, 2)
        assert [str(each) for each in read.attentions] == [
            "softmax_relpos(max_distance=7)",
            "cosformer",
            "linear(feature_map=relu)",
        ]
        assert read.single_attention is None
        alone = read.replace_attention(Choice("linear"))
        assert alone.single_attention == "linear"
        assert alone.replace_attention_like(read) == read


class TestRefusals:
    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({**ISSUE, "embedings": "tied"}, r"^architecture\.embedings: unk.*mean 'embeddings'"),
            ({**ISSUE, "width": 512}, r"^architecture\.width: unknown field;.*decoder, embed"),
            (
                {**ISSUE, "encoder": {**ISSUE["encoder"], "depth": 3}},
                r"^architecture\.encoder\.depth: unknown field;.*allowed: layers, width",
            ),
            (
                {**ISSUE, "encoder": {**ISSUE["encoder"], "norm": "rmsnorm"}},
                r"^architecture\.encoder\.norm: unknown field",
            ),
            (
                with_layers(encoder={"cross_span": 1}),
                r"^architecture\.encoder\.layers\.1\.cross_span: unknown field",
            ),
            (
                with_layers(decoder={"cross_head": 1}),
                r"^architecture\.decoder\.layers\.1\.cross_head: unknown .*mean 'cross_heads'",
            ),
            (without(ISSUE, "encoder"), r"^architecture: missing encoder"),
            (without(ISSUE, "decoder"), r"^architecture: missing decoder"),
            (without(ISSUE, "decoder", "width"), r"^architecture\.decoder: missing width"),
            (without(ISSUE, "encoder", "layers"), r"^architecture\.encoder\.layers: a list of at"),
            (
                {**ISSUE, "decoder": {"width": 8, "layers": []}},
                r"^architecture\.decoder\.layers: a list of at least one layer",
            ),
            (
                without(ISSUE, "decoder", "layers", 0, "cross_heads"),
                r"^architecture\.decoder\.layers\.0: missing cross_heads",
            ),
            ({**ISSUE, "encoder": 3}, r"^architecture\.encoder: a mapping .* 3 given"),
            (
                {**ISSUE, "encoder": {**ISSUE["encoder"], "width": 0}},
                r"^architecture\.encoder\.width: 0 given, an integer from 1",
            ),
            (
                with_layers(decoder={"cross_span": 17}),
                r"^architecture\.decoder\.layers\.1\.cross_span: 17 given, an integer from 1 to 16",
            ),
            (
                with_layers(decoder={"cross_attention": "softmax_relpos"}),
                r"^architecture\.decoder\.layers\.1\.cross_attention: attention 'softmax_relpos' "
                r"cannot stand at cross; its sites: decoder_self, encoder_self",
            ),
            ({**ISSUE, "embeddings": "both"}, r"^architecture\.embeddings: .*separate, shared, t"),
            ({**ISSUE, "position": "learned"}, r"^architecture\.position: .*none, sinusoidal"),
            ({**ISSUE, "kind": "encoder"}, r"^architecture\.layers: a list of at least one layer"),
            (without(ISSUE, "kind"), r"^architecture: missing kind; .* it is encoder_decoder$"),
            *(
                ({**ISSUE, "kind": kind}, r"^architecture\.kind: .* allowed: encoder, encoder_dec")
                for kind in NO_KINDS
            ),
        ],
    )
    def test_the_message_says_what_and_where(self, form: Any, message: str) -> None:
        with pytest.raises(SpecError, match=message):
            Architecture.from_json(form)

    def test_another_kind_than_the_one_asked_for(self) -> None:
        with pytest.raises(SpecError, match=r"kind: 'encoder_decoder' given; allowed: encoder$"):
            Encoder.from_json(ISSUE)

    @pytest.mark.parametrize("field", ["attention", "cross_attention"])
    def test_a_type_that_is_neither_causal_nor_looks_across(
        self, monkeypatch: pytest.MonkeyPatch, field: str
    ) -> None:
        own = {"encoder_only": "tests.space.encoder_only:ENCODER_ONLY"}
        entries = {**catalog.ATTENTIONS.entries, **own}
        monkeypatch.setitem(vars(catalog.ATTENTIONS), "entries", entries)
        Architecture.from_json(with_layers(encoder={"attention": "encoder_only"}))
        site = "cross" if field == "cross_attention" else "decoder_self"
        said = f"attention 'encoder_only' cannot stand at {site}; its sites: encoder_self$"
        with pytest.raises(SpecError, match=rf"^architecture\.decoder\.layers\.1\.{field}: {said}"):
            Architecture.from_json(with_layers(decoder={field: "encoder_only"}))
        with pytest.raises(SpecError, match=rf"^space: decoder\.layers\.{field}: choice 2: {said}"):
            small(decoder={"layers": {field: ["softmax", "encoder_only"]}})


# -- spaces ----------------------------------------------------------------------------------------

GIVEN: dict[str, Any] = {
    "name": "small_text",
    "kind": "encoder_decoder",
    "position": ["none", "sinusoidal"],
    "encoder": {
        "width": [12, 8],
        "depth": [1, 2],
        "layers": {
            "attention": ["softmax", "linear"],
            "heads": 2,
            "attention_width": [8, 4],
            "ffn_width": 8,
        },
    },
    "decoder": {
        "width": 8,
        "depth": [2, 1],
        "layers": {
            "attention": "softmax",
            "heads": [1, 2],
            "attention_width": 4,
            "cross_attention": "cosformer",
            "cross_heads": 1,
            "cross_head_width": 4,
            "cross_span": [1, 2],
            "mlp_ratio": 1,
        },
        "layers.1": {"attention": "linear", "heads": 2, "cross_span": 3, "mlp_ratio": [1, 2.5]},
    },
}


def small(**changes: Any) -> SearchSpace:
    """The small space with changes; those of the layers of a stack are merged, None removes."""
    given = copy.deepcopy(GIVEN)
    for key, change in changes.items():
        if key not in ("encoder", "decoder"):
            given[key] = change
            continue
        for name, held in change.items():
            layers = name == "layers" and isinstance(held, dict)
            given[key][name] = given[key]["layers"] | held if layers else held
            if layers:
                kept = {n: each for n, each in given[key][name].items() if each is not None}
                given[key][name] = kept
    return load_space(given)


SMALL = small()
TEXT = [
    "hat_iwslt14_de_en",
    "hat_wmt14_en_de",
    "mixformer_wmt14_en_de",
    "multi30k_small",
    "numbers_tiny",
    "wmt14_en_de",
]
SPACES = {"small_text": SMALL, **{name: load_space(name) for name in TEXT}}
spaces = st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__)
seeds = st.integers(0, 2**32)


class TestSpace:
    def test_its_size_is_that_of_its_enumeration(self) -> None:
        # Two positions, two widths; two, four or their square; four and what the second layer adds.
        assert SMALL.size == 2 * 2 * (4 + 16) * (4 + 4 * 2) == 960
        every = list(SMALL.enumerate())
        assert len({each.id for each in every}) == len(set(every)) == 960
        assert all(map(SMALL.contains, every))

    @given(spaces, seeds, st.floats(0, 1))
    def test_it_is_closed(self, space: SearchSpace, seed: int, probability: float) -> None:
        rng = random.Random(seed)
        one, other = space.sample(rng), space.sample(rng)
        mutant, child = space.mutate(one, rng, probability), space.cross(one, other, rng)
        for each in (one, mutant, child):
            genome = space.genome(each)
            assert space.build(genome) == each
            active = set(space.active(genome))
            assert all((held >= 0) == (i in active) for i, held in enumerate(genome))
            assert np.array_equal(
                space.encode(space.decode(space.encode(each))), space.encode(each)
            )
            assert space.decode(space.encode(each)) == each
            assert Architecture.from_json(json.loads(json.dumps(each.to_json()))) == each
            assert len(space.sites_of(each)) == len(each.attentions)
            pairs = zip(each.attentions, space.sites_of(each), strict=True)
            assert all(held in site for held, site in pairs)
        for gene, *parents in zip(*map(space.genome, (child, one, other)), strict=True):
            assert gene == -1 or gene in parents

    @pytest.mark.parametrize("name", SPACES)
    def test_every_choice_of_both_stacks_is_drawn(self, name: str) -> None:
        space, rng = SPACES[name], random.Random(0)
        drawn = [space.genome(space.sample(rng)) for _ in range(300)]
        for place, gene in enumerate(space.genes):
            assert {each[place] for each in drawn} >= {*range(len(gene.choices))}

    @pytest.mark.parametrize("name", SPACES)
    def test_its_canonical_form_is_read_back(self, name: str) -> None:
        space = SPACES[name]
        read = load_space(json.loads(json.dumps(space.to_json())))
        assert read == space
        assert read.digest == space.digest
        jsonschema.Draft202012Validator(space_schema()).validate(space.to_json())

    def test_the_digest_is_what_is_allowed(self) -> None:
        assert small(name="other").digest == SMALL.digest
        assert small(norm="layernorm", activation=["relu"]).digest == SMALL.digest
        for changed in (
            small(position="none"),
            small(decoder={"width": [8, 16]}),
            small(encoder={"layers.0": {"heads": 4}}),
            small(decoder={"layers": {"cross_span": 1}}),
        ):
            assert changed.digest != SMALL.digest
        assert SMALL.digest == "7ea5a62ab0e6156c"

    def test_extremes(self) -> None:
        smallest, largest = (SMALL.extreme(end) for end in ENDS)
        assert SMALL.contains(smallest)
        assert SMALL.contains(largest)
        assert smallest.to_json()["encoder"] == {
            "width": 8,
            "layers": [{"attention": "softmax", "heads": 2, "head_width": 2, "ffn_width": 8}],
        }
        second = largest.to_json()["decoder"]["layers"][1]
        assert second == {
            "attention": "linear",
            "heads": 2,
            "head_width": 2,
            "cross_attention": "cosformer",
            "cross_heads": 1,
            "cross_head_width": 4,
            "cross_span": 3,
            "ffn_width": 20,
        }
        assert (largest.depth, largest.to_json()["encoder"]["width"]) == (4, 12)

    @pytest.mark.parametrize("name", ["numbers_tiny", "multi30k_small", "wmt14_en_de"])
    def test_homogeneous_subspaces(self, name: str) -> None:
        space = SPACES[name]
        rng = random.Random(0)
        assert [str(each) for each in space.all_attentions] == ["softmax", "cosformer", "linear"]
        for choice in space.all_attentions:
            alone = space.homogeneous(choice)
            drawn = alone.sample(rng)
            assert drawn.single_attention == str(choice)
            assert space.contains(drawn)
            assert alone.contains(space.sample(rng).replace_attention(choice))
            assert space.size > alone.size > 1

    def test_what_cannot_stand_everywhere_makes_no_homogeneous_space(self) -> None:
        with pytest.raises(SpecError, match="not every site may have attention cosformer"):
            SMALL.homogeneous(Choice("cosformer"))

    @pytest.mark.parametrize("changes", [{}, {"embeddings": ["shared", "tied", "separate"]}])
    def test_the_covering_holds_the_tensors_of_every_architecture(
        self, changes: dict[str, Any]
    ) -> None:
        space = small(
            **changes,
            position="none",
            encoder={"depth": 1, "layers": {"heads": [1, 4]}},
            decoder={
                "depth": [1, 2],
                "layers": {
                    "attention": ["softmax", "cosformer"],
                    "cross_attention": ["linear", "cosformer"],
                    "cross_heads": [2, 1],
                    "cross_head_width": None,
                    "cross_attention_width": [4, 8],
                    "cross_span": 1,
                },
                "layers.0": {"heads": [2, 4, 1]},
            },
        )
        held: dict[tuple[str, str, str], tuple[int, ...]] = {}
        for architecture in space.covering():
            assert space.contains(architecture)
            for part in blueprint(architecture, SHAPE):
                for name, lengths in part.shapes.items():
                    key = part.path, part.variant, name
                    seen = held.get(key, lengths)
                    held[key] = tuple(map(max, zip(seen, lengths, strict=True)))
        rng = random.Random(0)
        for _ in range(300):
            for part in blueprint(space.sample(rng), SHAPE):
                for name, lengths in part.shapes.items():
                    whole = held[part.path, part.variant, name]
                    assert all(map(int.__le__, lengths, whole))

    def test_another_kind_is_not_contained(self) -> None:
        image = load_space("digits_tiny")
        assert not SMALL.contains(image.extreme("largest"))
        assert not image.contains(SMALL.extreme("largest"))

    def test_what_a_task_cannot_give(self) -> None:
        images = ImageShape(8, 3, 10)
        with pytest.raises(SpecError, match="encoder_decoder given; the task gives images"):
            check(SMALL, images)
        with pytest.raises(SpecError, match="encoder given; the task gives sentence pairs"):
            check(load_space("digits_tiny"), SHAPE)
        two = TextShape(50, 60)
        message = r"^space\.embeddings: shared needs one .* 50 source and 60 .*: tied, separate$"
        with pytest.raises(SpecError, match=message):
            check(small(embeddings=["tied", "shared"]), two)
        check(small(embeddings=["tied", "separate"]), two)
        # As large, and yet not the same pieces.
        two = TextShape(50, 50, one_vocabulary=False)
        with pytest.raises(SpecError, match="shared needs one"):
            check(small(embeddings=["tied", "shared"]), two)
        check(small(embeddings=["tied", "separate"]), two)


class TestSpaceRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"encoder": {"layers.3": {"heads": 4}}},
                r"encoder\.layers\.3: the depth is at most 2",
            ),
            ({"decoder": {"layers.0": {"head": 4}}}, r"decoder\.layers\.0\.head: unknown.*'heads'"),
            ({"encoder": {"layers.0": {"cross_span": 4}}}, r"encoder\.layers\.0\.cross_span: unkn"),
            ({"decoder": {"layers.0": {"heads": 0}}}, r"decoder\.layers\.0\.heads: choice 1: 0 g"),
            ({"decoder": {"layers.0": 3}}, r"decoder\.layers\.0: a mapping is required, 3 given"),
            ({"layers.0": {"heads": 4}}, r"layers\.0: unknown key"),
            ({"depth": 3}, r"depth: unknown key"),
            ({"encoder": {"widht": 3}}, r"encoder\.widht: unknown key; did you mean 'width'"),
            ({"encoder": {"width": 0}}, r"encoder\.width: choice 1: 0 given, an integer"),
            ({"encoder": {"depth": []}}, r"encoder\.depth: the list of choices is empty"),
            ({"encoder": {"layers": [1]}}, r"encoder\.layers: a mapping is required, \[1\] given"),
            (
                {"encoder": {"layers": {"heads": [2, 3]}}},
                r"encoder\.layers\.attention_width: 8 is no multiple of 3 heads",
            ),
            (
                {"decoder": {"layers.1": {"heads": 3}}},
                r"decoder\.layers\.attention_width: 4 is no multiple of 3 heads",
            ),
            (
                {"encoder": {"layers": {"head_width": 4}}},
                r"encoder\.layers: give head_width or attention_width, not both",
            ),
            (
                {"decoder": {"layers": {"ffn_width": 4}}},
                r"decoder\.layers: give ffn_width or mlp_ratio, not both",
            ),
            (
                {"decoder": {"layers": {"cross_attention_width": 4}}},
                r"decoder\.layers: give cross_head_width or cross_attention_width, not both",
            ),
            (
                {"decoder": {"layers": {"cross_heads": None}}},
                r"decoder\.layers\.cross_heads: is required",
            ),
            (
                {"decoder": {"width": [8, 1000], "layers": {"mlp_ratio": [1, 1.05]}}},
                r"decoder\.layers\.mlp_ratio: .* at width 8 gives ffn_width \[8, 8\]; they must",
            ),
            (
                {"decoder": {"layers": {"cross_attention": ["softmax", "softmax_relpos"]}}},
                r"decoder\.layers\.cross_attention: choice 2: attention 'softmax_relpos' cannot "
                r"stand at cross; its sites: decoder_self, encoder_self",
            ),
            ({"kind": []}, r"kind: \[\] given; allowed: encoder, encoder_decoder"),
            ({"kind": "encoder-decoder"}, r"kind: 'encoder-decoder' given; allowed: encoder, "),
            ({"embeddings": "both"}, r"embeddings: choice 1: unknown name 'both'; allowed: sep"),
        ],
    )
    def test_the_message_says_what_and_where(self, changes: Any, message: str) -> None:
        with pytest.raises(SpecError, match=f"^space: (.*; )?({message})"):
            small(**changes)

    @pytest.mark.parametrize("path", [("encoder",), ("decoder",), ("encoder", "width")])
    def test_what_is_missing(self, path: tuple[str, ...]) -> None:
        with pytest.raises(SpecError, match=rf"^space: {'.'.join(path)}: is required$"):
            load_space(without(GIVEN, *path))

    def test_a_ratio_is_one_of_its_own_stack(self) -> None:
        space = small(
            encoder={"width": [8, 16], "layers": {"ffn_width": None, "mlp_ratio": [0.5, 2]}}
        )
        found = space.extreme("largest").to_json()
        assert found["encoder"]["layers"][0]["ffn_width"] == 2 * 16
        assert found["decoder"]["layers"][0]["ffn_width"] == 8


# -- as published ----------------------------------------------------------------------------------


def hat(width: tuple[int, int], encoder: str, decoder: str) -> Architecture:
    """One of HAT's networks.

    In `encoder` heads of each layer; in `decoder` heads, cross heads, span and thousands of FFN
    units of each layer. FFNs of encoder layers have 3072 units, attention has 512.
    """

    def layer(heads: int, ffn: int) -> dict[str, Any]:
        sizes = {"heads": heads, "head_width": 512 // heads, "ffn_width": 1024 * ffn}
        return {"attention": "softmax", **sizes}

    def crossing(heads: int, cross: int, span: int, ffn: int) -> dict[str, Any]:
        sizes = {"cross_heads": cross, "cross_head_width": 512 // cross, "cross_span": span}
        return {**layer(heads, ffn), "cross_attention": "softmax", **sizes}

    decoder_layers = [crossing(*map(int, each)) for each in decoder.split()]
    return Architecture.from_json(
        {
            "kind": "encoder_decoder",
            "encoder": {"width": width[0], "layers": [layer(int(each), 3) for each in encoder]},
            "decoder": {"width": width[1], "layers": decoder_layers},
        }
    )


# Searched for a Titan Xp (Wang et al., HAT, ACL 2020, and its public code).
HAT = (
    hat((512, 512), "488888", "8823"),
    hat((512, 512), "488488", "8813 8823"),
    hat((512, 512), "448884", "8413 8823 8823"),
    hat((640, 640), "488844", "8413 8823 8823"),
    hat((512, 512), "848884", "8412 8822 8823 4823 8813"),
)


class TestPublished:
    @pytest.mark.parametrize("architecture", HAT, ids=lambda each: each.id)
    def test_hats_networks_are_in_its_space_and_in_ours(self, architecture: Architecture) -> None:
        for name in ("hat_wmt14_en_de", "wmt14_en_de"):
            assert SPACES[name].contains(architecture)
        assert not SPACES["hat_iwslt14_de_en"].contains(architecture)
        assert not SPACES["mixformer_wmt14_en_de"].contains(architecture)

    @pytest.mark.parametrize(
        ("name", "widths", "heads", "inner", "ffn"),
        [
            ("hat_wmt14_en_de", (512, 640), (4, 8), 512, (1024, 2048, 3072)),
            ("hat_iwslt14_de_en", (512, 640), (2, 4), 512, (512, 1024, 2048)),
            (
                "mixformer_wmt14_en_de",
                (640, 768, 1024),
                (4, 8, 16),
                1024,
                (2048, 3072, 4096, 5120),
            ),
        ],
    )
    def test_the_choices_are_the_published_ones(
        self,
        name: str,
        widths: tuple[int, ...],
        heads: tuple[int, ...],
        inner: int,
        ffn: tuple[int, ...],
    ) -> None:
        space = SPACES[name]
        encoder, decoder = space.stacks
        assert encoder.depth == (6,)
        assert decoder.depth == (1, 2, 3, 4, 5, 6)
        assert space.network["encoder_width"] == space.network["decoder_width"] == widths
        own = {"attention": (Choice("softmax"),), "heads": heads, "ffn_width": ffn}
        for layer in encoder.layers:
            assert layer == {**own, "attention_width": (inner,)}
        for layer in decoder.layers:
            assert layer == {
                **own,
                "attention_width": (inner,),
                "cross_attention": (Choice("softmax"),),
                "cross_heads": heads,
                "cross_attention_width": (inner,),
                "cross_span": (1, 2, 3),
            }
        per_layer = len(heads) * len(ffn)
        deep = [(per_layer * len(heads) * 3) ** depth for depth in range(1, 7)]
        assert space.size == len(widths) ** 2 * per_layer**6 * sum(deep)

    def test_sizes_as_the_papers_say(self) -> None:
        assert SPACES["mixformer_wmt14_en_de"].size == pytest.approx(4.3e19, rel=0.01)
        types = SPACES["wmt14_en_de"].size, SPACES["hat_wmt14_en_de"].size
        # Three types at 6 sites of the encoder, and twice for each of the decoder's layers.
        deep = [36**depth for depth in range(1, 7)]
        more = [36**depth * 9**depth for depth in range(1, 7)]
        assert types[0] * sum(deep) == types[1] * 3**6 * sum(more)
        assert math.isclose(types[1], 4.18e14, rel_tol=0.01)

    @pytest.mark.parametrize("name", TEXT)
    def test_every_end_has_its_parts(self, name: str) -> None:
        space = SPACES[name]
        for end, choice in itertools.product(ENDS, space.all_attentions):
            found = space.extreme(end, choice)
            assert space.contains(found)
            paths = [part.path for part in blueprint(found, SHAPE)]
            assert len(set(paths)) == len(paths)
