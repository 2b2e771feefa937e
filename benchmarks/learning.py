"""How long does a plain transformer of ours take to learn to translate, alone, by a shipped recipe?

Bars, on two cores, training and translating the test set together: `numbers_en_de` at least 90%
exact match within 5 minutes; `multi30k_en_de` at least 20 BLEU within 20 minutes.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.options import whole
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.measuring.text import softmax_transformer
from nas import catalog
from nas.run.translating import translated
from nas.search.spec import load_spec
from nas.space.architecture import Architecture
from nas.task.task import data_root
from nas.train.standalone import load_standalone, standalone_file, train_standalone

SEARCHES = Path(__file__).parents[1] / "search_spaces" / "searches"


@dataclass(frozen=True)
class Lesson:
    """A request whose stand-alone recipe is taken, the network, and what is asked for."""

    request: str
    metric: str
    least: float
    minutes: float
    architecture: Architecture


LESSONS = {
    "numbers_en_de": Lesson(
        "numbers_demo.yaml", "exact_match", 0.9, 5, softmax_transformer((2, 2), 96, 3, 192, 32)
    ),
    "multi30k_en_de": Lesson(
        "multi30k_cpu.yaml", "bleu", 20, 20, softmax_transformer((4, 3), 192, 6, 384, 32)
    ),
}


def learn(lesson: Lesson, folder: Path) -> dict[str, Any]:
    """Seconds of training and of translating the test set, and how good the translations are."""
    spec = load_spec(SEARCHES / lesson.request)
    task = catalog.TASKS.load(spec.task.name)
    start = time.perf_counter()
    data = task.load(spec.task.configured(catalog.TASKS, "task"), data_root())
    architecture = lesson.architecture
    for done in train_standalone(architecture, spec, data, seed=0, folder=folder, device="cpu"):
        if done.saved:
            print(f"{spec.task.name}: step {done.step} of {done.steps}, loss {done.loss:.3f}")
    trained = time.perf_counter()
    network = load_standalone(architecture, spec, seed=0, folder=folder, device="cpu")
    test = data.test()
    with torch.inference_mode():
        texts = translated(network, data, test, spec.evaluation)
    ended = time.perf_counter()
    values, signatures = task.judged(texts, data.references(test))
    return {
        "training_s": trained - start,
        "translating_s": ended - trained,
        "values": values,
        "signatures": signatures,
        "params": sum(each.numel() for each in network.parameters()),
        "weights": str(standalone_file(folder, architecture, 0)),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--task", choices=LESSONS, action="append", help="by default all")
    arguments.add_argument("--threads", type=whole(1), default=2)
    arguments.add_argument("--keep", type=Path, help="a folder for the weights")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    figures: dict[str, Any] = {"machine": machine()}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.task or LESSONS:
            lesson = LESSONS[name]
            found = learn(lesson, given.keep or Path(scratch))
            value = found["values"][lesson.metric]
            minutes = (found["training_s"] + found["translating_s"]) / 60
            met = value >= lesson.least and minutes <= lesson.minutes
            figures[name] = {**found, "met": met}
            bar = f">= {lesson.least:g} within {lesson.minutes:g} min"
            told = f"{value:.3g} after {minutes:.1f} min"
            rows.append((f"{name}, {lesson.metric}", told, bar, "met" if met else "MISSED"))
    print_table("Learning alone", ("what", "figure", "bar", ""), rows)
    write(given.out, figures)


if __name__ == "__main__":
    main()
