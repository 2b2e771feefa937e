"""Is a table read as it was written, and is what is no table one clear error?"""

import json
from pathlib import Path
from typing import Any

import pytest

from nas import catalog
from nas.cost.analytic import PARAMS
from nas.cost.cost import exact_costs
from nas.errors import DataError, SpecError
from nas.search.spec import SearchSpec, load_spec
from nas.space.architecture import Architecture
from nas.space.listed import ListedSpace
from nas.space.loader import load_space
from nas.space.task_shape import TabledShape
from nas.task.tabled import NAS_BENCH_BERT, NasBenchBertOptions, Rows
from tests.task.small_bert_table import rows, write

GRID = load_space("nas_bench_bert")
REQUEST: dict[str, Any] = {
    "name": "table",
    "task": "nas_bench_bert",
    "space": "nas_bench_bert",
    "objectives": ["glue", "params"],
}


def read(file: Path) -> Rows:
    return NAS_BENCH_BERT.load(NasBenchBertOptions(path=file.name), file.parent)


def spec_of(**changes: Any) -> SearchSpec:
    return load_spec(REQUEST | changes)


def parameters(row: dict[str, Any]) -> int:
    """By hand: maps of the width, kernels, and the two maps of each FFN."""
    width, total = row["hidden_size"], 0
    for layer in row["layers"]:
        maps = {"SA": 4, "LT": 0, "DSC": 1}[layer["operation_type"]]
        total += maps * (width * width + width)
        if layer["operation_type"] == "DSC":
            total += width * int(layer["operation_parameter"])
        ffn = layer["feed_forward_dimension"]
        total += layer["num_feed_forward"] * (width * ffn + ffn + ffn * width + width)
    return total


class TestReading:
    def test_every_row_has_its_score_and_its_parameters(self, bert_table: Path) -> None:
        found, given = read(bert_table), rows()
        assert [each["glue"] for each in found.metrics.values()] == [row["glue"] for row in given]
        cost = exact_costs(TabledShape("nas_bench_bert"))
        for architecture, row in zip(found.metrics, given, strict=True):
            assert architecture.to_json()["width"] == row["hidden_size"]
            assert cost(architecture) == {"params": parameters(row)}
            assert Architecture.from_json(architecture.to_json()) == architecture
            assert GRID.contains(architecture)

    def test_twins_count_once_with_their_mean(self, tmp_path: Path) -> None:
        one, other = rows(2)
        file = write(tmp_path / "twins.json", [one, other, {**one, "glue": one["glue"] + 1}])
        assert [each["glue"] for each in read(file).metrics.values()] == [
            pytest.approx(one["glue"] + 0.5),
            other["glue"],
        ]

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("", "JSONDecodeError"),
            ("[]", "it has no rows"),
            ("{}", "it has no rows"),
            ("3", "TypeError"),
            ('[{"hidden_size": 128, "glue": 60}]', "layers"),
            ('[{"hidden_size": 128, "layers": [], "glue": 60}]', "at least one layer"),
            (json.dumps([{**rows(1)[0], "hidden_size": 0}]), "row.width: 0 given"),
            (json.dumps([{**rows(1)[0], "glue": None}]), "TypeError"),
            (json.dumps([{**rows(1)[0], "glue": 101}]), "points from 0 to 100"),
            ('[{"hidden_size": 128, "layers": [], "glue": NaN}]', "NAS-Bench-BERT"),
        ],
    )
    def test_another_file_is_one_error(self, bert_table: Path, text: str, part: str) -> None:
        bert_table.write_text(text)
        with pytest.raises(DataError, match=r"^task\.path: .*nas_bench_bert\.json .*" + part):
            spec_of()

    def test_a_missing_one_is_named_with_what_is_wanted(self, bert_table: Path) -> None:
        bert_table.unlink()
        with pytest.raises(DataError, match=rf"task\.path: there is no table {bert_table}; wanted"):
            spec_of()
        with pytest.raises(DataError, match="there is no table"):
            NAS_BENCH_BERT.prepare(NasBenchBertOptions(), bert_table.parent)

    def test_preparing_says_what_there_is(self, bert_table: Path) -> None:
        said = NAS_BENCH_BERT.prepare(NasBenchBertOptions(), bert_table.parent)
        assert said == f"nas_bench_bert: nothing to download; 60 networks in {bert_table}"


class TestRequest:
    def test_its_space_is_what_the_table_has(self, bert_table: Path) -> None:
        spec = spec_of()
        assert isinstance(spec.search_space, ListedSpace)
        assert [*spec.search_space.enumerate()] == [*read(bert_table).metrics]
        smallest = [PARAMS.bound(spec.search_space, spec.task_shape, "smallest")]
        assert smallest == [min(map(parameters, rows()))]

    def test_recorded_it_needs_no_table(self, bert_table: Path) -> None:
        spec = spec_of()
        bert_table.unlink()
        again = load_spec(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.search_space == spec.search_space

    def test_a_smaller_grid_takes_fewer_rows(self, bert_table: Path) -> None:
        space = spec_of(space={**GRID.to_json(), "depth": 2}).search_space
        held = [each for each in read(bert_table).metrics if each.depth == 2]
        assert [*space.enumerate()] == held

    @pytest.mark.usefixtures("bert_table")
    def test_seeds_share_a_table_and_strategies_are_compared_on_it(self) -> None:
        assert spec_of(seed=1).supernet_digest == spec_of(seed=2).supernet_digest

    @pytest.mark.usefixtures("bert_table")
    def test_a_space_that_the_table_has_nothing_of(self) -> None:
        space = {**GRID.to_json(), "width": 64}
        with pytest.raises(SpecError, match=r"space: none of the 60 networks of .* is of nas_ben"):
            spec_of(space=space)

    @pytest.mark.usefixtures("bert_table")
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"objectives": ["glue", "latency_ms"]}, "objectives: latency_ms is not known of the"),
            ({"objectives": ["glue", "flops"]}, "allowed: glue, params"),
            ({"objectives": ["glue", "accuracy"]}, "objectives: unknown metric 'accuracy'"),
            ({"constraints": ["flops <= 1e9"]}, "constraints: flops is not known"),
            ({"constraints": ["params <= 1000"]}, "smallest possible params is"),
            ({"supernet": {"steps": 9}}, "supernet.steps: nas_bench_bert looks its trials up"),
            ({"standalone": {"dropout": 0.1}}, "standalone.dropout: nas_bench_bert looks"),
            ({"evaluation": {"examples": 9}}, "evaluation.examples: nas_bench_bert looks"),
            ({"latency": {"threads": 2}}, "latency.threads: nas_bench_bert looks"),
            ({"fidelity": {"deferred": False}}, "fidelity.deferred: nas_bench_bert looks"),
            ({"gate": {"on_fail": "stop"}}, "gate.on_fail: nas_bench_bert looks"),
            ({"confirmation": {"members": 1}}, "confirmation.members: nas_bench_bert looks"),
            ({"space": "digits_tiny"}, "kind: encoder given; the task gives rows of a table"),
            ({"task": "digits"}, "kind: nas_bench_bert given; the task gives images"),
        ],
    )
    def test_what_no_table_can_give_is_refused(self, changes: Any, message: str) -> None:
        with pytest.raises(SpecError, match=message):
            spec_of(**changes)


def test_no_cost_is_made_up() -> None:
    architecture = GRID.extreme("largest")
    for name in ("flops", "activation_bytes"):
        with pytest.raises(SpecError, match=f"{name}: not known of networks of kind nas_bench"):
            catalog.COSTS.load(name).of(architecture, TabledShape("nas_bench_bert"))
