"""Does the cost predictor know how long networks take that it has not seen? On a table of timings.

    python benchmarks/latency_predictor.py TABLE.csv --train 100 --splits 10 --seed 0 --json

For each split a predictor is fitted to `--train` random rows, its member chosen by cross-validation
among them, and tried on `--held-out` other random rows: Kendall's tau-b and the mean absolute
percentage error (MAPE). `member` is the one that was chosen most often. TABLE.csv has a network a
line, as HAT's tables have them: columns `latency_mean_...`, whose sum is predicted, others
`latency_...`, which are left alone, and numbers that tell the network. Of these, `X_layer_num` is
the number of layers that all other columns `X_...` are of. Without it HAT's four tables are looked
for in NAS_DATA_DIR.

Bars at 100 rows: TITAN Xp En-De tau >= .82, MAPE <= 5.0%; Xeon En-De .88, 5.4%; TITAN Xp De-En .81,
5.6%; Raspberry Pi En-Fr .97, 1.0%.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.options import whole
from benchmarks.measuring.report import machine, parser, print_table, write
from nas.cost.members import Columns
from nas.cost.predicted import Designs, Predictor, means_and_sums
from nas.search.rank_correlation import kendall_tau
from nas.search.stages import FEWEST_TIMINGS
from nas.task.task import data_root

BARS = {
    "hat_latency_wmt14ende_gpu_titanxp": (0.82, 5.0),
    "hat_latency_wmt14ende_cpu_xeon": (0.88, 5.4),
    "hat_latency_iwslt14deen_gpu_titanxp": (0.81, 5.6),
    "hat_latency_wmt14enfr_cpu_raspberrypi": (0.97, 1.0),
}
BARS_AT = 100
DEPTH, TIMING, MEAN = "_layer_num", "latency_", "latency_mean"


@dataclass(frozen=True)
class Timings:
    """Networks as the members see them, and how long each took in ms."""

    networks: NDArray[np.float64]
    """What the table tells of them, a row each."""
    designs: Designs
    values: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Timings:
        """Raises ValueError naming the line and column that is wrong."""
        with path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
        if len(lines) < 2:
            raise ValueError(f"{path}: a line of names and a line a network are expected")
        names, rows = lines[0], [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: two columns have the same name")
        for line, fields in enumerate(lines[1:], 2):
            if len(fields) != len(names):
                raise ValueError(
                    f"{path}: line {line}: {len(fields)} fields for {len(names)} names"
                )
        means = [name for name in names if name.startswith(MEAN)]
        told = tuple(name for name in names if not name.startswith(TIMING))
        if not means or not told:
            raise ValueError(f"{path}: columns {MEAN}... and columns that tell networks expected")
        matrix = np.array(
            [[_number(path, i, row, name) for name in told] for i, row in rows_of(rows)]
        )
        values = np.array(
            [sum(_number(path, i, row, name) for name in means) for i, row in rows_of(rows)]
        )
        for line, value in enumerate(values, 2):
            if not 0 < value < math.inf:
                raise ValueError(f"{path}: line {line} took {value:g}")
        return cls(matrix, means_and_sums(Columns(told, matrix), depths_of(told)), values)


def rows_of(rows: Sequence[Mapping[str, Any]]) -> enumerate[Mapping[str, Any]]:
    """The rows with the numbers of their lines."""
    return enumerate(rows, 2)


def _number(path: Path, line: int, row: Mapping[str, Any], name: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}: line {line}, {name}: {row[name]!r} is no number")
    return value


def depths_of(names: Sequence[str]) -> dict[str, str]:
    """Which column has the number of layers that a column is about."""
    stacks = [name.removesuffix(DEPTH) for name in names if name.endswith(DEPTH)]
    return {
        name: f"{stack}{DEPTH}"
        for name in names
        for stack in stacks
        if name.startswith(f"{stack}_") and not name.endswith(DEPTH)
    }


def splits_of(
    timings: Timings, train: int, held_out: int, splits: int, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """By split the rows that are learnt from, and those of other networks that are predicted."""
    count = len(timings.values)
    if train + held_out > count:
        raise ValueError(f"--train: {train} and {held_out} held out, of {count} rows in all")
    orders = [np.random.default_rng((seed, split)).permutation(count) for split in range(splits)]
    return [(order[:train], unseen(timings, order, train)[:held_out]) for order in orders]


def unseen(timings: Timings, order: NDArray[np.intp], train: int) -> NDArray[np.intp]:
    """The rows after the first `train` whose network is in none of these: some are there twice."""
    seen = {timings.networks[row].tobytes() for row in order[:train]}
    return np.array([row for row in order[train:] if timings.networks[row].tobytes() not in seen])


def measured(timings: Timings, train: int, held_out: int, splits: int, seed: int) -> dict[str, Any]:
    """The figures of predictors fitted to `train` rows, over rows held out."""
    taus, errors, expected, seconds = list[float](), list[float](), list[float](), list[float]()
    chosen = Counter[str]()
    for known, other in splits_of(timings, train, held_out, splits, seed):
        given = {name: columns.take(known) for name, columns in timings.designs.items()}
        start = time.perf_counter()
        predictor = Predictor.fit(given, timings.values[known], seed=seed)
        seconds.append(time.perf_counter() - start)
        asked = {name: columns.take(other) for name, columns in timings.designs.items()}
        predicted, values = predictor.predict(asked), timings.values[other]
        taus.append(kendall_tau(predicted.tolist(), values.tolist()) or 0.0)
        errors.append(100 * float(np.mean(np.abs(predicted - values) / values)))
        expected.append(100 * predictor.errors.mape)
        chosen[predictor.member] += 1
    return {
        "tau": fmean(taus),
        "tau_sd": stdev(taus) if splits > 1 else 0.0,
        "mape_percent": fmean(errors),
        "mape_percent_sd": stdev(errors) if splits > 1 else 0.0,
        "mape_percent_cross_validated": fmean(expected),
        "member": chosen.most_common(1)[0][0],
        "members_chosen": dict(chosen.most_common()),
        "train": train,
        "held_out": held_out,
        "splits": splits,
        "seed": seed,
        "seconds_a_fit": fmean(seconds),
    }


def missed(table: str, figures: Mapping[str, Any]) -> list[str]:
    """The bars that these figures miss, where the table has some."""
    if table not in BARS or figures["train"] != BARS_AT:
        return []
    tau, error = BARS[table]
    found = [f"tau >= {tau}"] if figures["tau"] < tau else []
    return found + ([f"MAPE <= {error}%"] if figures["mape_percent"] > error else [])


def show(table: str, figures: Mapping[str, Any]) -> None:
    """Prints the figures as a table."""
    tau = f"{figures['tau']:.3f} ({figures['tau_sd']:.3f})"
    error = f"{figures['mape_percent']:.2f}% ({figures['mape_percent_sd']:.2f})"
    member = f"{figures['member']} ({figures['members_chosen'][figures['member']]})"
    bars = ", ".join(missed(table, figures)) or "none"
    print_table(
        f"{table}: {figures['held_out']} rows not trained on, {figures['splits']} splits, "
        f"seed {figures['seed']}",
        ("rows", "tau (sd)", "MAPE (sd)", "member (splits)", "bars missed"),
        [(str(figures["train"]), tau, error, member, bars)],
    )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; a table that cannot be read is one error."""
    made = parser(__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("table", type=Path, nargs="?", metavar="TABLE.csv")
    made.add_argument("--train", type=whole(FEWEST_TIMINGS), default=100)
    made.add_argument("--held-out", type=whole(2), default=200)
    made.add_argument("--splits", type=whole(1), default=10)
    made.add_argument("--seed", type=whole(0), default=0)
    made.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    found = made.parse_args(given)
    known = [data_root() / f"{name}.csv" for name in BARS]
    try:
        found.read = {
            path: Timings.read(path) for path in ([found.table] if found.table else known)
        }
        for timings in found.read.values():
            splits_of(timings, found.train, found.held_out, 1, 0)
    except (OSError, ValueError, csv.Error) as error:
        made.error(str(error))
    return found


def main() -> None:
    given = arguments()
    options = given.train, given.held_out, given.splits, given.seed
    found = [
        {"table": path.name, **measured(timings, *options)} for path, timings in given.read.items()
    ]
    shown = found[0] if given.table else {"tables": found}
    if given.json:
        print(json.dumps(shown, allow_nan=False))
    else:
        for figures in found:
            show(Path(figures["table"]).stem, figures)
    if given.out is not None:
        with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
            write(given.out, {"machine": machine(), **shown})


if __name__ == "__main__":
    main()
