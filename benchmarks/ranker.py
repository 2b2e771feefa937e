"""Does the ranker put networks in order that it has not seen? On a table of networks with scores.

    python benchmarks/ranker.py TABLE.json --train 100 --splits 20 --seed 0 --json

For each split a ranker is fitted to `--train` random rows, its members weighed by cross-validation
among them, and Kendall's tau-b is taken over all other rows. `member` is the one that most often
weighs most. TABLE.json is a list of networks as
NAS-Bench-BERT's `nas_bench_bert.json` has them: plain values and lists of layers, and beside them a
score (`--score`), an `id` and `..._seconds`, which are no part of the network. Without it the
table is looked for as `nas_bench_bert.json` in NAS_DATA_DIR.

Bars on NAS-Bench-BERT: at most .005 below the best single member on the same splits; above the
number of parameters by .15, from 100 rows up by .25.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.options import whole
from benchmarks.measuring.report import machine, parser, print_table, write
from nas.search.rank_correlation import kendall_tau
from nas.space.features import Features
from nas.space.population import Codes
from nas.strategy.ranker import Ranker, weights_of
from nas.strategy.ranker_members import MEMBERS
from nas.task.task import data_root

BELOW_BEST, ABOVE_PARAMETERS = 0.005, {1: 0.15, 100: 0.25}
VOCABULARY, POSITIONS, EMBEDDING = 30522, 512, 128


@dataclass(frozen=True)
class Table:
    """Networks in codes, with their losses and, where the rows say enough, their parameters."""

    features: Features
    codes: Codes
    losses: NDArray[np.float64]
    parameters: NDArray[np.float64] | None

    @classmethod
    def read(cls, path: Path, score: str, least: bool) -> Table:
        """Raises ValueError naming what is missing."""
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{path}: a list of networks is expected, each a mapping")
        for number, row in enumerate(rows):
            given = row.get(score)
            if type(given) not in (int, float) or not math.isfinite(_float(given)):
                raise ValueError(
                    f"{path}: row {number}: {score} is {given!r}, no finite number; --score names "
                    "the column"
                )
        networks = [
            {k: v for k, v in row.items() if k not in ("id", score) and not k.endswith("_seconds")}
            for row in rows
        ]
        features = Features.of_networks(networks)
        scores = np.array([row[score] for row in rows], dtype=np.float64)
        counts = _counts(networks)
        return cls(features, features.codes(networks), scores if least else -scores, counts)


def _float(value: float) -> float:
    """A number of JSON as a float; infinite where it has too many digits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _counts(networks: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """The networks' parameters; None, said on standard error, where some row does not tell them."""
    counts = []
    for number, row in enumerate(networks):
        try:
            counts.append(parameters(row))
        except (KeyError, TypeError, AttributeError) as error:
            what = f"row {number} does not tell its parameters ({error!r})"
            print(f"no figure of the parameters alone: {what}", file=sys.stderr)
            return None
    return np.array(counts, dtype=np.float64)


def parameters(network: Mapping[str, Any]) -> int:
    """Parameters of a NAS-Bench-BERT encoder, by its sizes, as its authors' model has them.

    Embeddings of width 128, mapped to the hidden size d where it is another. By layer: `SA` is Q,
    K, V, O and a norm, `WMA` d x d weights more; `LT` one map; `DSC` (ConvBERT's) Q, K, V, the
    convolution's kernels and values in width d / 2, O and a norm. Then the feed-forward layers of
    width f, between them `num_feed_forward` - 1 of f x f, and a norm. Maps have biases.
    """
    d = network["hidden_size"]
    total = (VOCABULARY + POSITIONS + 2 + 2) * EMBEDDING
    total += 0 if d == EMBEDDING else (EMBEDDING + 1) * d
    for layer in network["layers"]:
        kind, option = layer["operation_type"], layer["operation_parameter"]
        f, half, square = layer["feed_forward_dimension"], d // 2, (d + 1) * d
        if kind == "SA":
            total += 4 * square + 2 * d + (d * d if option == "WMA" else 0)
        elif kind == "LT":
            total += square
        else:
            separable = d * option + (d + 1) * half
            kernels = (half + 1) * layer["num_operation_heads"] // 2 * option
            total += 4 * (d + 1) * half + separable + kernels + square + 2 * d
        between = (layer["num_feed_forward"] - 1) * (f + 1) * f
        total += (d + 1) * f + between + (f + 1) * d + 2 * d
    return total


def splits_of(table: Table, train: int, splits: int, seed: int) -> list[NDArray[np.intp]]:
    """All rows in random order for each split; the first `train` are trained on."""
    count = len(table.losses)
    if train > count - 2:
        raise ValueError(f"--train: {train} given, of {count} rows at most {count - 2} is allowed")
    return [np.random.default_rng((seed, split)).permutation(count) for split in range(splits)]


def unseen(table: Table, known: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the other rows whose network is in no known row: some tables hold one twice."""
    seen = {table.codes[row].tobytes() for row in known}
    return others[[table.codes[row].tobytes() not in seen for row in others]]


def tau_of(scores: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Kendall's tau-b, 0 where the scores are all equal."""
    return kendall_tau(list(scores), list(losses)) or 0.0


def measured(table: Table, train: int, splits: int, seed: int, members: bool) -> dict[str, Any]:
    """The figures of rankers fitted to `train` rows, over all rows not trained on."""
    taus, expected, counted = list[float](), list[float](), list[float]()
    seconds, trusted = list[float](), 0
    chosen, shares = Counter[str](), defaultdict[str, float](float)
    single: dict[str, list[float]] = {name: [] for name in MEMBERS if members}
    for order in splits_of(table, train, splits, seed):
        known = order[:train]
        held_out = unseen(table, known, order[train:])
        codes, losses = table.codes[held_out], table.losses[held_out]
        given = table.features, table.codes[known], table.losses[known]
        baseline = None if table.parameters is None else table.parameters[known]
        start = time.perf_counter()
        ranker = Ranker.fit(*given, seed=seed, baseline=baseline)
        seconds.append(time.perf_counter() - start)
        taus.append(tau_of(ranker.score(codes), losses))
        weights = weights_of(ranker.member)
        for name, weight in weights.items():
            shares[name] += weight / splits
        chosen[max(weights, key=lambda name: weights[name], default=ranker.member)] += 1
        trusted += bool(ranker.trusted)
        if ranker.tau is not None:
            expected.append(ranker.tau)
        if table.parameters is not None:
            # More parameters are held to be better.
            counted.append(tau_of(-table.parameters[held_out], losses))
        for name, found in single.items():
            found.append(tau_of(Ranker.fit(*given, seed=seed, member=name).score(codes), losses))
    figures: dict[str, Any] = {
        "tau": fmean(taus),
        "tau_sd": stdev(taus) if splits > 1 else 0.0,
        "tau_params": fmean(counted) if counted else None,
        "tau_cross_validated": fmean(expected) if expected else None,
        "member": chosen.most_common(1)[0][0],
        "members_leading": dict(chosen.most_common()),
        "mean_weights": dict(shares),
        "trusted": trusted,
        "train": train,
        "held_out": len(table.losses) - train,
        "splits": splits,
        "seed": seed,
        "seconds_a_fit": fmean(seconds),
    }
    if members:
        figures["tau_of_members"] = {name: fmean(found) for name, found in single.items()}
    return figures


def missed(figures: Mapping[str, Any]) -> list[str]:
    """The bars that these figures miss, as far as they say."""
    found = []
    if (counted := figures["tau_params"]) is not None:
        above = max(bar for least, bar in ABOVE_PARAMETERS.items() if figures["train"] >= least)
        if figures["tau"] < counted + above:
            found.append(f"parameters + {above}")
    if "tau_of_members" in figures:
        best = max(figures["tau_of_members"].values())
        if figures["tau"] < best - BELOW_BEST:
            found.append(f"best single member - {BELOW_BEST}")
    return found


def show(path: Path, all_figures: Sequence[Mapping[str, Any]]) -> None:
    """Prints one line for each number of rows trained on."""
    singles = tuple(all_figures[0].get("tau_of_members", ()))
    lines = []
    for each in all_figures:
        counted = "-" if each["tau_params"] is None else f"{each['tau_params']:.3f}"
        line = [str(each["train"]), f"{each['tau']:.3f} ({each['tau_sd']:.3f})", counted]
        line += [f"{each['tau_of_members'][name]:.3f}" for name in singles]
        line += [f"{each['member']} ({each['members_leading'][each['member']]})"]
        lines.append([*line, ", ".join(missed(each)) or "none"])
    first = all_figures[0]
    heads = ("rows", "tau (sd)", "parameters", *singles, "weighs most in (splits)", "bars missed")
    print_table(
        f"{path.name}: Kendall's tau over all rows not trained on, {first['splits']} splits, "
        f"seed {first['seed']}",
        heads,
        lines,
    )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; a table that cannot be read is one error."""
    made = parser(__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    default = data_root() / "nas_bench_bert.json"
    made.add_argument("table", type=Path, nargs="?", default=default, metavar="TABLE.json")
    made.add_argument("--train", type=whole(1), nargs="+", default=[25, 50, 100, 200])
    made.add_argument("--splits", type=whole(1), default=20)
    made.add_argument("--seed", type=whole(0), default=0)
    made.add_argument("--score", default="glue", help="name of the score; larger is better")
    made.add_argument("--least", action="store_true", help="the score is better where it is less")
    made.add_argument("--members", action="store_true", help="also every single member's tau")
    made.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    found = made.parse_args(given)
    try:
        found.read = Table.read(found.table, found.score, found.least)
        for train in found.train:
            splits_of(found.read, train, 1, 0)
    except (OSError, ValueError) as error:
        made.error(str(error))
    return found


def main() -> None:
    given = arguments()
    all_figures = [
        measured(given.read, train, given.splits, given.seed, given.members)
        for train in given.train
    ]
    shown = {"table": given.table.name, **all_figures[-1]}
    if len(all_figures) > 1:
        shown["all"] = all_figures
    if given.json:
        print(json.dumps(shown, allow_nan=False))
    else:
        show(given.table, all_figures)
    if given.out is not None:
        with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
            write(given.out, {"machine": machine(), **shown})


if __name__ == "__main__":
    main()
