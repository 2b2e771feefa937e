"""Every shipped space loads as published, and bad files get one clear message."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nas.errors import SpecError, UnknownName
from nas.operators.declaration import Choice
from nas.space.blueprint import tokens
from nas.space.loader import (
    load_space,
    space_names,
    space_schema,
)
from nas.space.reading import parse_yaml, read_yaml
from nas.space.task_shape import ImageShape
from tests.space.spaces import FOLDER, GIVEN, LAYERS, SHIPPED, encoder, small

SCHEMA = FOLDER / "schema.json"
RELPOS = Choice("softmax_relpos")


class TestShipped:
    def test_all_are_known_by_name(self) -> None:
        assert set(SHIPPED) >= {
            "autoformer_base",
            "autoformer_small",
            "autoformer_tiny",
            "cifar10",
            "cifar10_small",
            "digits_tiny",
            "hat_iwslt14_de_en",
            "hat_wmt14_en_de",
            "mixformer_cifar10",
            "mixformer_wmt14_en_de",
            "multi30k_small",
            "numbers_tiny",
            "wmt14_en_de",
        }
        assert space_names() == SHIPPED

    @pytest.mark.parametrize("name", SHIPPED)
    def test_it_loads_by_name_path_and_content(self, name: str) -> None:
        path = FOLDER / f"{name}.yaml"
        space = load_space(name)
        assert space.name == name
        assert space == load_space(path) == load_space(str(path)) == load_space(read_yaml(path))
        assert space.contains(space.sample(random.Random(0)))

    @pytest.mark.parametrize("name", SHIPPED)
    def test_it_is_described_and_fits_the_schema(self, name: str) -> None:
        content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        assert content["description"]
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(content)

    def test_mixformer_has_the_published_size(self) -> None:
        space = load_space("mixformer_cifar10")
        assert space.size == 3 * (45**12 + 45**13 + 45**14)
        assert space.stacks[0].layers[0]["head_width"] == (64,)
        assert space.network["pooling"] == ("mean_beside_class_token",)

    @pytest.mark.parametrize(
        ("name", "widths", "depths", "heads", "ratios"),
        [
            ("tiny", (192, 216, 240), (12, 13, 14), (3, 4), (3.5, 4)),
            ("small", (320, 384, 448), (12, 13, 14), (5, 6, 7), (3, 3.5, 4)),
            ("base", (528, 576, 624), (14, 15, 16), (9, 10), (3, 3.5, 4)),
        ],
    )
    def test_autoformer_has_the_published_choices(
        self,
        name: str,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        ratios: tuple[float, ...],
    ) -> None:
        space = load_space(f"autoformer_{name}")
        assert (space.network["width"], space.stacks[0].depth) == (widths, depths)
        assert space.network["patch_size"] == (16,)
        assert space.network["pooling"] == ("mean_beside_class_token",)
        for layer in space.stacks[0].layers:
            assert layer == {
                "attention": (RELPOS,),
                "heads": heads,
                "head_width": (64,),
                "mlp_ratio": ratios,
            }
        per_layer = len(heads) * len(ratios)
        assert space.size == len(widths) * sum(per_layer**depth for depth in depths)
        largest = encoder(space.extreme("largest"))
        assert {layer.ffn_width for layer in largest.layers} == {4 * widths[-1]}
        named = (largest.stem, largest.position, largest.norm)
        assert named == ("patch", "learned", "layernorm")

    def test_cifar10_small_is_where_the_attention_type_matters(self) -> None:
        space, shape = load_space("cifar10_small"), ImageShape(32, 3, 10)
        assert space.size >= 10**9
        assert {tokens(encoder(space.extreme(end)), shape) for end in ("smallest", "largest")} == {
            256
        }
        assert space.network["stem"] == ("conv",)
        assert space.stacks[0].depth == (2, 3, 4, 5, 6)
        widths = space.network["width"]
        assert (min(widths), max(widths)) == (48, 96)
        for layer in space.stacks[0].layers:
            assert set(layer["head_width"]) == {8, 16}
            assert RELPOS not in layer["attention"]

    def test_the_schema_in_the_repository_is_the_generated_one(self) -> None:
        assert SCHEMA.read_text() == json.dumps(space_schema(), indent=2) + "\n"
        jsonschema.Draft202012Validator.check_schema(space_schema())

    def test_the_readme_names_every_space(self) -> None:
        rows = re.findall(
            r"^\| `(\w+)` \| (\S+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE
        )
        assert dict(rows) == {name: rounded(load_space(name).size) for name in SHIPPED}

    def test_the_forms_in_the_readme_are_spaces(self) -> None:
        forms = re.findall(r"^```yaml\n(.*?)^```", (FOLDER / "README.md").read_text(), re.M | re.S)
        spaces = [load_space(parse_yaml(form, "README.md")) for form in forms]
        assert [space.kind for space in spaces] == ["encoder", "encoder_decoder"]


def rounded(count: int) -> str:
    """Two digits and the power of ten."""
    return re.sub(r"e\+0*", "e", f"{count:.1e}")


BAD_SIZES = [0, -1, 1.5, True, "a", 10**9, None, float("nan"), [1, 0], {"a": 1}]


class TestBadSpaces:
    @pytest.mark.parametrize("field", ["heads", "head_width", "ffn_width"])
    @pytest.mark.parametrize("value", BAD_SIZES)
    def test_sizes_of_layers(self, field: str, value: Any) -> None:
        with pytest.raises(SpecError, match=rf"^space: layers\.{field}: choice .* an integer from"):
            small(layers=LAYERS | {field: value})

    @pytest.mark.parametrize("field", ["patch_size", "width", "depth"])
    @pytest.mark.parametrize("value", BAD_SIZES)
    def test_sizes_of_networks(self, field: str, value: Any) -> None:
        with pytest.raises(SpecError, match=rf"^space: {field}: choice .* an integer from 1 to"):
            small(**{field: value})

    @pytest.mark.parametrize("value", [0, -1, True, "a", 65, float("nan"), float("inf"), None])
    def test_ratios(self, value: Any) -> None:
        layers = {**LAYERS, "mlp_ratio": [1, value]}
        del layers["ffn_width"]
        with pytest.raises(SpecError, match=r"layers\.mlp_ratio: choice 2: .* a number above 0"):
            small(layers=layers)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"width": []}, r"width: the list of choices is empty"),
            ({"width": [16, 16]}, r"width: a choice appears twice in \[16, 16\]"),
            ({"layers": LAYERS | {"attention": []}}, r"layers\.attention: the list of .* is empty"),
            (
                {"layers": LAYERS | {"attention": ["linear", {"type": "linear"}]}},
                r"layers\.attention: a choice appears twice",
            ),
            ({"widht": 16}, r"widht: unknown key; did you mean 'width'\? allowed: .*patch_size"),
            ({1: 2}, r"1: Keys should be strings"),
            (
                {"kind": "decoder"},
                r"kind: 'decoder' given; allowed: encoder, encoder_decoder, nas_bench_bert$",
            ),
            ({"kind": ["encoder"]}, r"kind: \['encoder'\] given; allowed: encoder, "),
            ({"name": "No Name"}, r"name: String should match pattern .* 'No Name' given"),
            ({"stem": "covn"}, r"stem: choice 1: unknown name 'covn'; did you mean 'conv'"),
            ({"norm": ["layernorn"]}, r"norm: choice 1: unknown norm .*did you mean 'layernorm'"),
            ({"layers": [1]}, r"layers: a mapping is required, \[1\] given"),
            ({"layers": LAYERS | {"head": 3}}, r"layers\.head: unknown key; did you .*'heads'"),
            (
                {"layers": LAYERS | {"attention": ["softmax", "sofmax"]}},
                r"layers\.attention: choice 2: unknown attention 'sofmax'; did you mean 'softmax'",
            ),
            (
                {"layers": LAYERS | {"attention": {"type": "linear", "feature_mpa": "relu"}}},
                r"layers\.attention: choice 1\.feature_mpa: unknown .*did you mean 'feature_map'",
            ),
            (
                {"layers": LAYERS | {"attention": {"type": "linear", "feature_map": "gelu"}}},
                r"layers\.attention: choice 1\.feature_map: 'gelu' is .* allowed: elu1, relu",
            ),
            (
                {"layers": LAYERS | {"mlp_ratio": 2}},
                "layers: give ffn_width or mlp_ratio",
            ),
            ({"layers": {"heads": 2}}, r"layers\.attention: is required"),
            ({"layers.2": {"heads": 2}}, r"layers\.2: the depth is at most 2"),
            ({"layers.00": {"heads": 2}}, r"layers\.00: unknown key"),
            ({"layers.1": {"head": 2}}, r"layers\.1\.head: unknown key; did you mean 'heads'"),
            ({"layers.1": {"heads": 0}}, r"layers\.1\.heads: choice 1: 0 given"),
            ({"layers.1": 3}, r"layers\.1: a mapping is required, 3 given"),
            (
                {"layers.1": {"mlp_ratio": [0.01]}},
                r"layers\.mlp_ratio at width 24: ffn_width: 0 given",
            ),
            (
                {"layers.1": {"mlp_ratio": [2, 2.01]}},
                r"layers\.mlp_ratio: .* at width 24 gives ffn_width \[48, 48\]; they must differ",
            ),
            (
                {"width": 1_000_000, "layers.1": {"mlp_ratio": 2}},
                r"layers\.mlp_ratio at width 1000000: ffn_width: 2000000 given, an integer from 1",
            ),
        ],
    )
    def test_the_message_says_what_and_where(self, changes: Any, message: str) -> None:
        with pytest.raises(SpecError, match=f"^space: (.*; )?({message})"):
            load_space(GIVEN | changes)

    @pytest.mark.parametrize("name", ["name", "patch_size", "width", "depth", "layers"])
    def test_what_is_missing(self, name: str) -> None:
        given = {key: value for key, value in GIVEN.items() if key != name}
        with pytest.raises(SpecError, match=f"^space: {name}: is required$"):
            load_space(given)

    def test_all_faults_are_said_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.safe_dump(GIVEN | {"width": 0, "stem": "x", "extra": 1}))
        with pytest.raises(SpecError, match=r"^.*bad\.yaml: ") as raised:
            load_space(path)
        assert [key in str(raised.value) for key in ("width: ", "stem: ", "extra: ")] == [True] * 3

    @pytest.mark.parametrize("given", [3, None, ["a"], 1.5])
    def test_what_cannot_name_a_space(self, given: Any) -> None:
        with pytest.raises(SpecError, match="a name, a path or a mapping is allowed"):
            load_space(given)

    @pytest.mark.parametrize("text", ["", "[]", "3", "digits_tiny"])
    def test_a_file_that_holds_no_mapping(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(SpecError, match=r"bad\.yaml: a mapping with name"):
            load_space(path)


class TestLookup:
    def test_the_users_folder_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "digits_tiny.yaml").write_text(yaml.safe_dump(GIVEN | {"name": "mine"}))
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(GIVEN | {"name": "own"}))
        shipped = load_space("digits_tiny")
        monkeypatch.setenv("NAS_SEARCH_SPACES", str(tmp_path))
        assert load_space("digits_tiny").name == "mine"
        assert load_space("own").name == "own"
        assert load_space("cifar10").name == "cifar10"
        assert space_names() == tuple(sorted({*SHIPPED, "own"}))
        monkeypatch.delenv("NAS_SEARCH_SPACES")
        assert load_space("digits_tiny") == shipped

    @pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
    def test_what_no_file_can_be_called_is_unknown(self, name: str) -> None:
        with pytest.raises(UnknownName, match="space: unknown name"):
            load_space(name)

    def test_what_looks_like_a_path_is_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for path in ("README.md", "digits.yml", "no/folder"):
            with pytest.raises(SpecError, match=f"^{path}: cannot be read") as raised:
                load_space(path)
            assert not isinstance(raised.value, UnknownName)
        with pytest.raises(SpecError, match=r"^digits_tiny: cannot be read"):
            load_space("./digits_tiny")
        Path("README.md").write_text("# Not a space\n")
        with pytest.raises(SpecError, match=r"^README\.md: a mapping with name, depth"):
            load_space("README.md")
        for name in ("own", "cifar10"):
            Path(name).write_text(yaml.safe_dump(GIVEN))
        assert load_space("own") == load_space(GIVEN)
        # A file that happens to lie there hides no space.
        assert load_space("cifar10").name == "cifar10"

    def test_an_unknown_name_lists_its_neighbours(self) -> None:
        with pytest.raises(UnknownName, match=r"'cifar_10'; did you mean 'cifar10'.* mixformer"):
            load_space("cifar_10")

    def test_loading_imports_no_torch_and_reads_nothing_at_import(self) -> None:
        program = (
            "import sys, nas.space.loader\n"
            "assert not [m for m in sys.modules if m.startswith('nas.operators.attention.')]\n"
            "nas.space.loader.load_space('mixformer_cifar10')\n"
            "nas.space.loader.space_schema()\n"
            "assert 'torch' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent, check=True)
