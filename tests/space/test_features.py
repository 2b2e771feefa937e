"""Do features tell architectures apart as they differ, whatever the space or table?"""

import json
import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture
from nas.space.feature_groups import Floats, Matrix
from nas.space.features import Column, Features
from nas.space.loader import load_space
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from tests.space.spaces import SHIPPED, SMALL
from tests.space.test_another_dimension import PLAIN, ROOT, WITH_A_GATE

SPACES = {**SMALL, **{name: load_space(name) for name in SHIPPED}}


def drawn(space: SearchSpace, count: int = 12) -> list[Architecture]:
    rng = random.Random(0)
    return [space.sample(rng) for _ in range(count)]


def named(names: tuple[str, ...], row: Matrix) -> dict[str, float]:
    return dict(zip(names, map(float, row), strict=True))


def plain_per_layer(features: Features, codes: list[int]) -> dict[str, float]:
    """The definition, one column after the other."""
    found: dict[str, float] = {}
    columns = features.columns
    depths = {
        c.stack: c.values[code] for c, code in zip(columns, codes, strict=True) if is_depth(c)
    }
    least = {c.stack: min(c.values) for c in columns if is_depth(c)}
    for column, code in zip(columns, codes, strict=True):
        if is_depth(column):
            found[column.name] = depths[column.stack]
            continue
        if column.layer is not None and column.layer >= least[column.stack]:
            place = f"{column.stack}.{column.layer}".lstrip(".")
            found[place] = float(column.layer < depths[column.stack])
        if len(column.values) > 1:
            found |= {f"{column.name}={v}": float(i == code) for i, v in enumerate(column.values)}
    for first, second in features.interactions:
        one, other = columns[first], columns[second]
        for i, a in enumerate(one.values):
            for j, b in enumerate(other.values):
                both = (codes[first], codes[second]) == (i, j)
                found[f"{one.name},{other.field}={a},{b}"] = float(both)
    return found


def plain_groups(features: Features, codes: list[int], place: bool) -> dict[str, float]:
    """Averages by definition, or averages times places."""
    groups: dict[str, list[tuple[Column, int]]] = {}
    for column, code in zip(features.columns, codes, strict=True):
        star = "" if column.layer is None else "*"
        name = ".".join(part for part in (column.stack, star, column.field) if part)
        groups.setdefault(name, []).append((column, code))
    found = {}
    for name, group in groups.items():
        every = [value for column, _ in group for value in column.values]
        if len(set(map(str, every))) == 1 or (place and group[0][0].layer is None):
            continue
        held = [column.values[code] for column, code in group if code >= 0]
        count = max(1, len(held))
        last = max(1, len(held) - 1)
        weights = [(2 * i / last - 1) * (len(held) > 1) if place else 1 for i in range(len(held))]
        if all(isinstance(value, int | float) for value in every):
            extent = max(every) - min(every) if place else 1
            terms = {name: [value / extent for value in held]}
        else:
            terms = {f"{name}={v}": [float(str(h) == str(v)) for h in held] for v in every}
        for each, values in terms.items():
            found[each] = sum(w * v for w, v in zip(weights, values, strict=True)) / count
    return found


def is_depth(column: Column) -> bool:
    return column.layer is None and column.field == "depth"


@pytest.mark.parametrize("name", SPACES)
def test_features_are_what_their_names_say(name: str) -> None:
    space = SPACES[name]
    features, architectures = Features.of_space(space), drawn(space)
    codes = features.codes(architectures)
    assert codes.dtype == np.int16
    assert [tuple(row) for row in codes.tolist()] == [space.genome(each) for each in architectures]
    matrices = {
        "per layer": (features.per_layer, features.per_layer_names),
        "averages": (features.averages, features.averages_names),
        "places": (features.places, features.places_names),
    }
    for kind, (make, names) in matrices.items():
        made = make(codes)
        assert made.dtype == np.float32
        assert made.shape == (len(codes), len(set(names)))
        for row, given in zip(made, codes.tolist(), strict=True):
            if kind == "per layer":
                want = plain_per_layer(features, given)
            else:
                want = plain_groups(features, given, kind == "places")
            assert named(names, row) == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_opposite_placement_is_seen_per_layer_and_in_places_but_not_in_averages() -> None:
    space = load_space("cifar10_small")
    base = space.extreme("largest")
    early, late = (
        base.replace_attention(*map(Choice, types))
        for types in (("softmax",) * 3 + ("linear",) * 3, ("linear",) * 3 + ("softmax",) * 3)
    )
    features = Features.of_space(space)
    codes = features.codes([early, late])
    averages, layers, places = (
        features.averages(codes),
        features.per_layer(codes),
        features.places(codes),
    )
    assert np.array_equal(averages[0], averages[1])
    assert not np.array_equal(layers[0], layers[1])
    # Three layers each, at -1, -3/5, -1/5 and their opposites.
    first, second = (named(features.places_names, row) for row in places)
    assert first["*.attention=softmax"] == pytest.approx(-0.3)
    assert second["*.attention=softmax"] == pytest.approx(0.3)
    assert first["*.heads"] == pytest.approx(0, abs=1e-6)


def test_absent_layers_are_zero_and_absent_is_no_choice() -> None:
    space = load_space("cifar10_small")
    features = Features.of_space(space)
    codes = features.codes([space.extreme("smallest")])
    row = named(features.per_layer_names, features.per_layer(codes)[0])
    assert row["depth"] == 2
    absent = {name: value for name, value in row.items() if name[0] in "2345"}
    assert len(absent) > 100
    assert set(absent.values()) == {0.0}
    assert row["0.heads=2"] == row["1.heads=2"] == 1


def test_operators_are_never_averaged_as_numbers() -> None:
    features = Features.of_networks(
        [{"layers": [{"kernel": 5}, {"kernel": "fourier"}]}, {"layers": [{"kernel": 9}] * 2}]
    )
    assert features.averages_names == (
        "layers.*.kernel=5",
        "layers.*.kernel=9",
        "layers.*.kernel=fourier",
    )


def test_each_site_is_crossed_with_its_own_heads() -> None:
    features = Features.of_space(load_space("multi30k_small"))
    crossed = {
        (features.columns[site].name, features.columns[heads].field)
        for site, heads in features.interactions
        if features.columns[site].layer == 0
    }
    varied = {column.name for column in features.columns if len(column.values) > 1}
    wanted = {
        ("encoder.0.attention", "heads"),
        ("decoder.0.attention", "heads"),
        ("decoder.0.cross_attention", "cross_heads"),
    }
    assert {pair for pair in wanted if pair[0] in varied} <= crossed
    assert all(
        site.split(".")[-1].startswith("cross") == field.startswith("cross")
        for site, field in crossed
    )


def test_a_width_of_all_heads_is_crossed_as_the_heads_are() -> None:
    layers = {"attention": ["softmax", "linear"], "heads": 2, "attention_width": [8, 16]}
    space = load_space({**PLAIN, "layers": {**layers, "ffn_width": 16}})
    features = Features.of_space(space)
    fields = {features.columns[second].field for _, second in features.interactions}
    assert fields == {"attention_width"}


def test_a_new_dimension_is_told_without_a_change() -> None:
    code = WITH_A_GATE.split("from tests")[0] + (
        "from nas.space.features import Features\n"
        "from tests.space.test_another_dimension import gated\n"
        "space = gated('none', 'sigmoid')\n"
        "features = Features.of_space(space)\n"
        "codes = features.codes(list(space.enumerate()))\n"
        "rows = {row.tobytes() for row in features.per_layer(codes)}\n"
        "print(json.dumps([len(rows), features.per_layer_names, features.averages_names]))\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    different, per_layer, averages = json.loads(done.stdout)
    assert different == 20
    assert {"0.gate=none", "1.gate=sigmoid"} <= set(per_layer)
    assert {"*.gate=none", "*.gate=sigmoid"} <= set(averages)


NETWORKS: list[dict[str, Any]] = [
    {
        "width": 16,
        "norm": "rms",
        "layers": [{"type": "SA", "heads": 2}, {"type": "LT", "heads": 4}],
    },
    {"width": 32, "norm": "layer", "layers": [{"type": "SA", "heads": 4}]},
    {"width": 16.0, "norm": None, "layers": [{"type": {"k": 5}, "heads": 2}]},
]


def test_a_table_gives_columns_of_the_values_that_occur() -> None:
    features = Features.of_networks(NETWORKS)
    types = ("LT", "SA", '{"k": 5}')
    assert {column.name: column.values for column in features.columns} == {
        "layers.depth": (1, 2),
        "width": (16, 32),
        "norm": ("layer", "rms", None),
        "layers.0.type": types,
        "layers.0.heads": (2, 4),
        "layers.1.type": types,
        "layers.1.heads": (2, 4),
    }
    codes = features.codes(NETWORKS)
    assert codes[1].tolist()[-2:] == [-1, -1]
    back = [
        [c.values[code] for c, code in zip(features.columns, row, strict=True) if code >= 0]
        for row in codes.tolist()
    ]
    assert back[0] == [2, 16, "rms", "SA", 2, "LT", 4]
    assert back[2] == [1, 16, None, '{"k": 5}', 2]
    assert {
        (features.columns[a].field, features.columns[b].field) for a, b in features.interactions
    } == {("type", "heads")}


def test_nested_stacks_and_fields_without_a_layer_are_read() -> None:
    given = [
        {
            "encoder": {"width": 8, "layers": [{"a": 1}]},
            "decoder": {"layers": [{"a": 1}, {"b": True}]},
        },
        {"encoder": {"width": 9, "layers": [{"a": 2}]}, "decoder": {"layers": []}},
    ]
    features = Features.of_networks(given)
    names = [column.name for column in features.columns]
    assert names[:3] == ["encoder.layers.depth", "decoder.layers.depth", "encoder.width"]
    codes = features.codes(given)
    second = {
        c.name: c.values[i] for c, i in zip(features.columns, codes[0], strict=True) if i >= 0
    }
    assert second["decoder.layers.1.b"] is True
    assert second["decoder.layers.1.a"] is None
    # A stack without layers has no averages.
    assert features.averages(codes)[1].tolist().count(0.0) >= 4
    assert np.isfinite(features.places(codes)).all()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"width": 64, "layers": [{"type": "SA", "heads": 2}]}, "width: 64 is none of"),
        ({"depth": 1, **NETWORKS[1]}, "depth: no name of the table's"),
        ({**NETWORKS[1], "layers": [{"size": 3}]}, "layers.size: no name of the table's"),
        ({**NETWORKS[1], "layers": [NETWORKS[0]["layers"][0]] * 3}, "layers.depth: 3 is none of"),
        ({**NETWORKS[1], "layers": [3]}, "layers: [3] given; a list of layers is one of mappings"),
        ({**NETWORKS[1], "width": float("nan")}, "width: nan given"),
        ({**NETWORKS[1], "layers": [{"heads": [2]}]}, "layers.0.heads: [2] given"),
    ],
)
def test_a_network_of_another_form_is_refused(network: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        Features.of_networks(NETWORKS).codes([network])


def test_what_is_not_the_spaces_is_refused() -> None:
    features = Features.of_space(SMALL["plain"])
    with pytest.raises(SpecError):
        features.codes([load_space("cifar10_small").extreme("smallest")])
    with pytest.raises(ValueError, match=r"codes of shape \(3, 2\)"):
        features.per_layer(np.zeros((3, 2), dtype=np.int16))
    with pytest.raises(ValueError, match="no networks given"):
        Features.of_networks([])


def test_rows_are_independent_of_those_beside_them() -> None:
    space = load_space("digits_tiny")
    features = Features.of_space(space)
    codes: Codes = np.tile(features.codes(drawn(space, 50)), (100, 1))
    cuts = [0, 1, 700, 2048, 2049, len(codes)]
    for make in (features.per_layer, features.averages, features.places):
        whole = make(codes)
        parts = [make(codes[start:end]) for start, end in pairwise(cuts)]
        assert np.array_equal(whole, np.vstack(parts))
        assert make(codes[:0]).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", [*SPACES, "table"])
def test_a_weighted_sum_is_that_of_the_features(name: str) -> None:
    features = Features.of_space(SPACES[name]) if name in SPACES else Features.of_networks(NETWORKS)
    codes = features.codes(drawn(SPACES[name], 60) if name in SPACES else NETWORKS)
    rng = np.random.default_rng(1)
    matrices = [made(codes) for made in (features.averages, features.per_layer, features.places)]
    weights: list[Floats] = [rng.normal(size=matrix.shape[1:]) for matrix in matrices]
    expected = [matrix @ each for matrix, each in zip(matrices, weights, strict=True)]
    assert features.weighted(*weights).of(codes) == pytest.approx(sum(expected), rel=1e-4, abs=1e-4)
    assert features.weighted(weights[0]).of(codes) == pytest.approx(expected[0], rel=1e-4, abs=1e-4)


def test_a_rows_weighted_sum_is_of_that_row_alone() -> None:
    features = Features.of_space(load_space("digits_tiny"))
    codes: Codes = np.tile(features.codes(drawn(load_space("digits_tiny"), 50)), (100, 1))
    sums = features.weighted(np.linspace(-1, 1, len(features.averages_names)))
    cuts = [0, 1, 700, 2048, 2049, len(codes)]
    parts = [sums.of(codes[start:end]) for start, end in pairwise(cuts)]
    assert np.array_equal(sums.of(codes), np.concatenate(parts))
    assert sums.of(codes[:0]).shape == (0,)


def test_equal_spaces_have_equal_features() -> None:
    one, other = (Features.of_space(load_space("digits_tiny")) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
