"""Does the cost predictor's benchmark measure what it says, on any table of the form?"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency_predictor
from nas.cost.predicted import Predictor

NAMES = "encoder_layer_num,encoder_ffn_avg,decoder_layer_num,decoder_ffn_avg,decoder_width"
TIMES = "latency_mean_encoder,latency_mean_decoder,latency_std_encoder,latency_std_decoder"


def lines(count: int = 120) -> list[str]:
    """Decoder layers take a time by their own width, and all else next to none."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        e, d = rng.integers(1, 7, 2)
        a, b, w = rng.uniform(1, 3, 3)
        noise = np.exp(rng.normal(0, 0.02))
        encoder, decoder = 0.1 * e * a, (5 + d * (3 + 2 * b)) * noise
        rows.append(f"{e},{a:.5f},{d},{b:.5f},{w:.5f},{encoder:.6f},{decoder:.6f},99,99")
    return [f"{NAMES},{TIMES}", *rows]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timings") / "table.csv"
    path.write_text("\n".join(lines()) + "\n")
    return path


def test_a_table_is_read_by_its_names(table: Path) -> None:
    read = latency_predictor.Timings.read(table)
    assert read.designs["means"].names == tuple(NAMES.split(","))
    products = read.designs["sums"].names[5:]
    assert products == (
        "encoder_ffn_avg x encoder_layer_num",
        "decoder_ffn_avg x decoder_layer_num",
        "decoder_width x decoder_layer_num",
    )
    first = list(map(float, lines()[1].split(",")))
    assert read.values[0] == pytest.approx(first[5] + first[6])
    assert read.designs["means"].matrix[0].tolist() == first[:5]


def test_figures_are_those_of_rows_not_trained_on(table: Path) -> None:
    read = latency_predictor.Timings.read(table)
    found = latency_predictor.measured(read, 60, 50, 2, 7)
    assert found["member"] == "sums"
    assert found["tau"] > 0.9
    taus, errors = [], []
    for known, other in latency_predictor.splits_of(read, 60, 50, 2, 7):
        assert not set(known) & set(other)
        assert (len(known), len(other)) == (60, 50)
        given = {name: each.take(known) for name, each in read.designs.items()}
        asked = {name: each.take(other) for name, each in read.designs.items()}
        shown = Predictor.fit(given, read.values[known], seed=7).predict(asked)
        errors.append(100 * np.abs(shown / read.values[other] - 1).mean())
        taus.append(np.corrcoef(shown, read.values[other])[0, 1])
    assert found["mape_percent"] == pytest.approx(np.mean(errors))
    assert min(taus) > 0.98


@pytest.mark.slow
def test_it_prints_one_object(table: Path) -> None:
    options = ["--train", "40", "--held-out", "30", "--splits", "1", "--seed", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "benchmarks/latency_predictor.py", str(table), *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = json.loads(done.stdout)
    assert {"tau", "mape_percent", "member", "splits", "seed"} <= set(shown)
    assert (shown["train"], shown["held_out"], shown["table"]) == (40, 30, "table.csv")


def test_bars_are_held_against_figures_at_100_rows() -> None:
    given = {"train": 100, "tau": 0.8, "mape_percent": 5.0}
    name = "hat_latency_wmt14ende_gpu_titanxp"
    assert latency_predictor.missed(name, given) == ["tau >= 0.82"]
    worse = {**given, "tau": 0.9, "mape_percent": 5.01}
    assert latency_predictor.missed(name, worse) == ["MAPE <= 5.0%"]
    assert latency_predictor.missed(name, {**given, "train": 50}) == []
    assert latency_predictor.missed("another", given) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a line of names"),
        ("a,b\n1,2\n", "latency_mean... and columns"),
        (f"{TIMES}\n1,2,3,4\n", "columns that tell networks"),
        ("a,latency_mean\n1,2\nx,3\n", "line 3, a: 'x' is no number"),
        ("a,latency_mean\n1,nan\n", "line 2, latency_mean: 'nan' is no number"),
        ("a,latency_mean\n1\n", "line 2: 1 fields for 2 names"),
        ("a,latency_mean\n1,2,3\n", "line 2: 3 fields for 2 names"),
        ("a,a,latency_mean\n1,2,3\n", "two columns have the same name"),
        ("a,latency_mean\n1,0\n", "line 2 took 0"),
        ("a,latency_mean,latency_mean_b\n1,1e308,1e308\n", "line 2 took inf"),
        ("a,latency_mean\n1,2\n", "200 held out, of 1 rows in all"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(SystemExit):
        latency_predictor.arguments([str(path)])
    assert said in capsys.readouterr().err
