"""An architecture is a value with one JSON form and an id that never changes."""

import dataclasses
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import SpecError, UnknownName
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture, Encoder, load_architecture
from nas.space.layer import EncoderLayer
from nas.space.loader import load_space
from tests.space.spaces import SHIPPED, SMALL

ROOT = Path(__file__).resolve().parents[2]
LAYER: dict[str, Any] = {"attention": "cosformer", "heads": 4, "head_width": 32, "ffn_width": 256}
PLAIN: dict[str, Any] = {"kind": "encoder", "patch_size": 4, "width": 128, "layers": [LAYER]}
FULL: dict[str, Any] = {
    "kind": "encoder",
    "patch_size": 2,
    "width": 64,
    "stem": "conv",
    "norm": "rmsnorm",
    "activation": "relu",
    "pooling": "class_token",
    "position": "none",
    "layers": [
        {**LAYER, "attention": {"type": "linear", "feature_map": "relu"}},
        {**LAYER, "attention": {"type": "softmax_relpos", "max_distance": 7}},
    ],
}
# Printed once by hand from the canonical text below; a record of earlier searches depends on them.
PLAIN_TEXT = (
    '{"kind":"encoder","layers":[{"attention":"cosformer","ffn_width":256,"head_width":32,'
    '"heads":4}],"patch_size":4,"width":128}'
)
PLAIN_ID, FULL_ID = "6805d9bb50b857b2", "567388f8d7d8e8e0"
DEFAULTS = {
    "stem": "patch",
    "norm": "layernorm",
    "activation": "gelu",
    "pooling": "mean",
    "position": "learned",
}


class TestForm:
    @pytest.mark.parametrize("form", [PLAIN, FULL])
    def test_the_json_form_comes_back_as_given(self, form: dict[str, Any]) -> None:
        assert Architecture.from_json(form).to_json() == form

    def test_fields_at_their_default_are_left_out(self) -> None:
        layer = {**LAYER, "ffn": "mlp"}
        explicit = Architecture.from_json({**PLAIN, **DEFAULTS, "layers": [layer]})
        assert explicit.to_json() == PLAIN
        assert explicit == Architecture.from_json(PLAIN)

    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            ({"type": "cosformer"}, "cosformer"),
            ({"type": "linear", "feature_map": "elu1"}, "linear"),
            ({"type": "softmax_relpos", "max_distance": 14}, "softmax_relpos"),
        ],
    )
    def test_options_at_their_default_are_left_out(self, written: Any, kept: str) -> None:
        form = {**PLAIN, "layers": [{**LAYER, "attention": written}]}
        assert Architecture.from_json(form).to_json()["layers"][0]["attention"] == kept

    def test_defaults_never_change(self) -> None:
        found = {each.name: each.default for each in dataclasses.fields(Encoder)}
        assert {name: found[name] for name in DEFAULTS} == DEFAULTS
        (ffn,) = (each.default for each in dataclasses.fields(EncoderLayer) if each.name == "ffn")
        assert ffn == Choice("mlp")

    @given(st.sampled_from(SHIPPED), st.integers(0, 2**32))
    def test_every_architecture_survives_json(self, name: str, seed: int) -> None:
        architecture = load_space(name).sample(random.Random(seed))
        read = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
        assert read == architecture
        assert (read.id, hash(read)) == (architecture.id, hash(architecture))

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps(FULL))
        assert load_architecture(path) == Architecture.from_json(FULL)


class TestIdentity:
    def test_ids_are_what_they_were(self) -> None:
        assert Architecture.from_json(PLAIN).id == PLAIN_ID
        assert Architecture.from_json(FULL).id == FULL_ID

    def test_the_id_is_a_digest_of_the_canonical_text(self) -> None:
        assert hashlib.sha256(PLAIN_TEXT.encode()).hexdigest()[:16] == PLAIN_ID

    @pytest.mark.parametrize("field", [each.name for each in dataclasses.fields(EncoderLayer)])
    def test_every_field_of_a_layer_is_in_its_hash(self, field: str) -> None:
        (layer, _) = Encoder.from_json(FULL).layers
        held = getattr(layer, field)
        other: Any = Choice(f"other {held.type}") if isinstance(held, Choice) else held + 1
        assert hash(dataclasses.replace(layer)) == hash(layer)
        changes: dict[str, Any] = {field: other}
        assert hash(dataclasses.replace(layer, **changes)) != hash(layer)

    def test_the_order_of_keys_does_not_matter(self) -> None:
        turned = dict(reversed(FULL.items()))
        turned["layers"] = [dict(reversed(layer.items())) for layer in FULL["layers"]]
        assert Architecture.from_json(turned).id == FULL_ID

    def test_ids_tell_all_architectures_apart(self) -> None:
        for space in SMALL.values():
            every = list(space.enumerate())
            assert len({each.id for each in every}) == len(set(every)) == space.size

    def test_another_process_finds_a_pickled_one_equal(self) -> None:
        architecture = Architecture.from_json(FULL)
        hash(architecture)
        program = (
            "import pickle, sys\n"
            "from nas.space.architecture import Architecture\n"
            f"own = Architecture.from_json({FULL!r})\n"
            "other = pickle.loads(sys.stdin.buffer.read())\n"
            "assert other == own and other in {own} and other.layers[0] in {own.layers[0]}\n"
            "print(other.id)\n"
        )
        for seed in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                input=pickle.dumps(architecture),
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
                capture_output=True,
            )
            assert done.stdout.decode().strip() == FULL_ID, done.stderr.decode()

    def test_replacing_attention_keeps_the_rest(self) -> None:
        one, other = Choice("softmax"), Choice("linear")
        architecture = SMALL["overridden"].extreme("largest")
        mixed = architecture.replace_attention(one, other)
        assert [layer.attention for layer in mixed.layers] == [one, other, one]
        restored = mixed.replace_attention(*(each.attention for each in architecture.layers))
        assert restored == architecture


def with_layer(**changes: Any) -> dict[str, Any]:
    return {**PLAIN, "layers": [LAYER, LAYER | changes]}


class TestRefusals:
    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ([], r"architecture: a mapping .* \[\] given"),
            ({**PLAIN, "widht": 3}, r"architecture\.widht: unknown field; did you mean 'width'"),
            ({**PLAIN, "kind": "decoder"}, r"architecture\.kind: 'decoder' given; allowed: enc"),
            (
                {**PLAIN, "kind": ["encoder"]},
                r"architecture\.kind: \['encoder'\] given; allowed: enc",
            ),
            ({**PLAIN, "stem": "covn"}, r"architecture\.stem: .*did you mean 'conv'"),
            ({**PLAIN, "norm": "rms"}, r"architecture\.norm: unknown norm 'rms'.*rmsnorm"),
            ({"width": 8, "layers": [LAYER]}, "architecture: missing patch_size"),
            ({**PLAIN, "layers": []}, r"architecture\.layers: a list of at least one layer"),
            ({**PLAIN, "layers": LAYER}, r"architecture\.layers: a list of at least one layer"),
            ({**PLAIN, "layers": [LAYER] * 257}, r"architecture\.layers .*257 given.* to 256"),
            ({**PLAIN, "layers": [3]}, r"architecture\.layers\.0: a mapping .* 3 given"),
            ({**PLAIN, "layers": [{}]}, r"layers\.0: missing attention, heads, head_width, ffn"),
            (
                with_layer(head=3),
                r"architecture\.layers\.1\.head: unknown field; did .*'heads'",
            ),
            (with_layer(attention="sofmax"), r"layers\.1\.attention: unknown attention 'sofmax'"),
            (with_layer(attention=3), r"layers\.1\.attention: 3 given; NAME or \{type"),
            (with_layer(attention={"type": ["a"]}), r"layers\.1\.attention: unknown attention"),
            (
                with_layer(attention={"type": "linear", "feature_mpa": "relu", 3: 4}),
                r"layers\.1\.attention\.3: unknown option of attention 'linear'",
            ),
            (
                with_layer(attention={"type": "linear", "feature_map": "rleu"}),
                r"layers\.1\.attention\.feature_map: 'rleu' is not a choice; did you mean 'relu'",
            ),
            (
                with_layer(attention={"type": "softmax_relpos", "max_distance": 0}),
                r"layers\.1\.attention\.max_distance: 0 given, an integer >= 1",
            ),
        ],
    )
    def test_the_message_says_what_and_where(self, form: Any, message: str) -> None:
        with pytest.raises(SpecError, match=message):
            Architecture.from_json(form)

    @pytest.mark.parametrize("field", ["heads", "head_width", "ffn_width"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "a", None, 10**9, float("nan"), [1]])
    def test_sizes_are_positive_integers(self, field: str, value: Any) -> None:
        with pytest.raises(SpecError, match=rf"layers\.1\.{field}: .* an integer from 1 to"):
            Architecture.from_json(with_layer(**{field: value}))

    def test_unknown_names_are_key_errors_too(self) -> None:
        with pytest.raises(UnknownName, match="sofmax"):
            Architecture.from_json(with_layer(attention="sofmax"))

    @pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5_000, "\ud800"])
    def test_a_bad_file_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(text.encode(errors="surrogatepass"))
        with pytest.raises(SpecError, match=r"a\.json: not readable as JSON"):
            load_architecture(path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"none\.json: no such file"):
            load_architecture(tmp_path / "none.json")

    def test_a_bad_field_is_named_with_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps(with_layer(attention="sofmax")))
        with pytest.raises(UnknownName, match=r"a\.json: architecture\.layers\.1\.attention"):
            load_architecture(path)
