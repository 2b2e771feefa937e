"""Does the ranker's benchmark measure what it says, on any table of the form?"""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from torch import nn

from benchmarks import ranker
from nas.strategy.ranker import Ranker
from nas.strategy.ranker_members import MEMBERS

ROOT = Path(__file__).parents[2]
OPERATIONS: dict[str, list[Any]] = {"SA": ["SDP", "WMA"], "LT": ["DFT", "DCT"], "DSC": [5, 9]}


def network(rng: random.Random) -> dict[str, Any]:
    layers = []
    for _ in range(rng.choice((2, 4))):
        kind = rng.choice(tuple(OPERATIONS))
        layers.append(
            {
                "operation_type": kind,
                "operation_parameter": rng.choice(OPERATIONS[kind]),
                "num_operation_heads": rng.choice((2, 4)),
                "feed_forward_dimension": rng.choice((512, 1024)),
                "num_feed_forward": rng.choice((1, 3)),
            }
        )
    return {"hidden_size": rng.choice((128, 256)), "layers": layers}


def rows(count: int) -> list[dict[str, Any]]:
    """Self-attention in the first layer pays, in the last it does not."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        made = network(rng)
        first, last = made["layers"][0], made["layers"][-1]
        score = 70 + 3 * (first["operation_type"] == "SA") - 2 * (last["operation_type"] == "SA")
        score += made["hidden_size"] / 256 + rng.gauss(0, 0.3)
        found.append({"id": number, **made, "glue": score, "train_seconds": rng.random()})
    return found


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows(60)))
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *given: str) -> str:
    monkeypatch.setattr(sys, "argv", ["ranker.py", *given])
    ranker.main()
    return capsys.readouterr().out


@pytest.mark.slow
def test_it_runs_as_a_file_and_prints_one_json_object(table: Path) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    options = ["--train", "24", "--splits", "2", "--seed", "0", "--json"]
    done = subprocess.run(
        [sys.executable, "benchmarks/ranker.py", str(table), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["tau"] > figures["tau_params"] + 0.15
    assert figures["tau_sd"] >= 0
    assert figures["member"] in MEMBERS
    shown = {name: figures[name] for name in ("train", "held_out", "splits", "seed", "table")}
    assert shown == {
        "train": 24, "held_out": 36, "splits": 2, "seed": 0, "table": "table.json",
    }  # fmt: skip
    assert sum(figures["members_leading"].values()) == 2
    assert sum(figures["mean_weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1" + 400 * "0", "true", '"70"'])
def test_a_score_that_is_no_number_is_one_error(
    table: Path, tmp_path: Path, score: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = json.loads(table.read_text())
    given[6]["glue"] = "PLACE"
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(given).replace('"PLACE"', score))
    with pytest.raises(SystemExit) as ended:
        ranker.arguments([str(path)])
    assert ended.value.code == 2
    assert "row 6: glue is " in capsys.readouterr().err


def test_a_row_that_does_not_tell_its_parameters_is_said(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = json.loads(table.read_text())
    del given[3]["hidden_size"]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(given))
    assert ranker.Table.read(path, "glue", least=False).parameters is None
    assert "row 3 does not tell its parameters" in capsys.readouterr().err


def test_a_network_that_was_trained_on_is_never_held_out(table: Path) -> None:
    read = ranker.Table.read(table, "glue", least=False)
    twice = replace(
        read, codes=np.concatenate([read.codes] * 2), losses=np.concatenate([read.losses] * 2)
    )
    order = np.random.default_rng(0).permutation(120)
    held_out = ranker.unseen(twice, order[:40], order[40:])
    assert len(held_out)
    assert not {*(held_out % 60)} & {*(order[:40] % 60)}
    assert {*(held_out % 60)} | {*(order[:40] % 60)} == {*range(60)}


def test_the_figures_are_of_rows_that_were_not_trained_on(table: Path) -> None:
    read = ranker.Table.read(table, "glue", least=False)
    found = ranker.measured(read, 50, 2, 7, members=True)
    taus, counts = [], []
    for split in range(2):
        order = np.random.default_rng((7, split)).permutation(60)
        known, out = order[:50], order[50:]
        fitted = Ranker.fit(read.features, read.codes[known], read.losses[known], seed=7)
        scores = fitted.score(read.codes[out])
        given = [rows(60)[row] for row in out]
        taus.append(kendalltau(-scores, [row["glue"] for row in given]).statistic)
        sizes = [ranker.parameters(row) for row in given]
        counts.append(kendalltau(sizes, [row["glue"] for row in given]).statistic)
    assert found["tau"] == pytest.approx(np.mean(taus))
    assert found["tau_sd"] == pytest.approx(np.std(taus, ddof=1))
    assert found["tau_params"] == pytest.approx(np.mean(counts))
    assert found["tau_of_members"].keys() == MEMBERS.keys()


def test_parameters_are_those_of_the_authors_modules() -> None:
    rng = random.Random(1)
    for _ in range(20):
        given = network(rng)
        width = given["hidden_size"]
        tables = [nn.Embedding(size, 128) for size in (30522, 512, 2)]
        modules: list[nn.Module] = [*tables, nn.LayerNorm(128)]
        modules += [nn.Linear(128, width)] if width != 128 else []
        for layer in given["layers"]:
            kind, option = layer["operation_type"], layer["operation_parameter"]
            inner, heads = layer["feed_forward_dimension"], layer["num_operation_heads"]
            if kind == "SA":
                modules += [nn.Linear(width, width) for _ in "qkv"]
                modules += [nn.Linear(width, width, bias=False)] if option == "WMA" else []
            elif kind == "LT":
                modules.append(nn.Linear(width, width))
            else:
                kept = heads // 2 * (width // heads)
                modules += [nn.Linear(width, kept) for _ in ("q", "k", "v", "values")]
                modules.append(nn.Conv1d(width, width, option, groups=width, bias=False))
                modules.append(nn.Conv1d(width, kept, 1))
                modules.append(nn.Linear(kept, heads // 2 * option))
            if kind != "LT":
                modules += [nn.Linear(width, width), nn.LayerNorm(width)]
            modules.append(nn.Linear(width, inner))
            modules += [nn.Linear(inner, inner) for _ in range(layer["num_feed_forward"] - 1)]
            modules += [nn.Linear(inner, width), nn.LayerNorm(width)]
        counted = sum(p.numel() for module in modules for p in module.parameters())
        assert ranker.parameters(given) == counted


def test_the_table_names_what_is_missed(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = table.with_name("figures.json")
    shown = run(
        capsys, monkeypatch, str(table), "--train", "9", "25", "--splits", "1", "--out", str(out)
    )
    assert "1 splits, seed 0" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert [line[0] for line in lines if line and line[0] in ("9", "25")] == ["9", "25"]
    written = json.loads(out.read_text())
    assert [each["train"] for each in written["all"]] == [9, 25]
    figures = {"train": 100, "tau": 0.7, "tau_params": 0.5, "tau_of_members": {"a": 0.71}}
    assert ranker.missed(figures) == ["parameters + 0.25", "best single member - 0.005"]
    assert ranker.missed({**figures, "train": 25, "tau": 0.706}) == []
    assert ranker.missed({"train": 50, "tau": 0.2, "tau_params": None}) == []


def test_another_table_has_another_score_and_no_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        {"id": n, "blocks": [{"kind": "ab"[n >> i & 1]} for i in range(5)], "error": n & 1}
        for n in range(32)
    ]
    path = tmp_path / "other.json"
    path.write_text(json.dumps(given))
    options = ["--score", "error", "--least", "--train", "20", "--splits", "1", "--json"]
    figures = json.loads(run(capsys, monkeypatch, str(path), *options))
    assert figures["tau_params"] is None
    assert figures["tau"] > 0.6


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{table} --train 59", "--train: 59 given, of 60 rows at most 58 is allowed"),
        ("{table} --score bleu", "row 0: bleu is None, no finite number; --score names"),
        ("{table} --splits 0", "--splits: 0 given, expected a whole number from 1"),
        ("{table}.gone", "No such file"),
    ],
)
def test_a_bad_value_is_one_error(
    table: Path, given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        ranker.arguments(given.format(table=table).split())
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert told in errors[0]
